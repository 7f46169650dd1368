# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Sparse files in tar archives: the four formats GNU tar has used.

Source: GNU tar manual, appendix "Sparse Formats" (old GNU format, PAX formats 0.0, 0.1 and 1.0).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import (
    BLOCK,
    Extents,
    Record,
    read_decimal,
    read_number,
)

_MAX_EXTENTS = 2**20
"""Above a million pieces a map is a trap for memory, not a file."""


class SparseMap(NamedTuple):
    """:ivar size: bytes of the expanded file. :ivar used: stored bytes that were the map itself, before the data."""

    size: int
    extents: Extents
    used: int


def old_gnu_map(header: bytes, take: Callable[[int], bytes]) -> SparseMap:
    """The map of a type S header: four extents in it, 21 in each block that follows while a flag says so."""
    extents = _old_extents(header, 386, 4)
    extended = header[482]
    while extended:
        block = take(BLOCK)
        extents += _old_extents(block, 0, 21)
        extended = block[504]
        _limit(len(extents))
    return SparseMap(read_number(header[483:495]), extents, 0)


def _old_extents(block: bytes, start: int, count: int) -> Extents:
    pairs = []
    for at in range(start, start + 24 * count, 24):
        if block[at] == 0:
            break
        pairs.append((read_number(block[at : at + 12]), read_number(block[at + 12 : at + 24])))
    return pairs


def is_sparse(records: Sequence[Record]) -> bool:
    """Whether PAX records give or announce a map."""
    values = dict(records)
    return bool(values.get(b"GNU.sparse.major")) or b"GNU.sparse.map" in values or b"GNU.sparse.size" in values


def pax_map(records: Sequence[Record], take: Callable[[int], bytes], stored: int) -> SparseMap:
    """The map that PAX records give or announce.

    :param records: such that ``is_sparse``.
    :param take: reads exactly so many bytes of the member's stored data, where format 1.0 keeps its map.
    :param stored: bytes of stored data, which the map may not exceed.
    :raises ValueError: the map contradicts itself.
    """
    values = dict(records)
    if values.get(b"GNU.sparse.major"):
        version = (values[b"GNU.sparse.major"], values.get(b"GNU.sparse.minor"))
        if version != (b"1", b"0"):
            raise ValueError("its sparse format is not one of 0.0, 0.1 and 1.0")
        return _map_1_0(_size(values, b"GNU.sparse.realsize"), take, stored)
    if b"GNU.sparse.map" in values:
        numbers = [read_decimal(text) for text in values[b"GNU.sparse.map"].split(b",") if text]
        return SparseMap(_size(values, b"GNU.sparse.size"), _pairs(numbers), 0)
    wanted = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
    numbers = [read_decimal(value) for key, value in records if key in wanted]
    return SparseMap(_size(values, b"GNU.sparse.size"), _pairs(numbers), 0)


def _size(values: dict[bytes, bytes], key: bytes) -> int:
    if key not in values:
        raise ValueError("its sparse map comes without a size")
    return read_decimal(values[key])


def _map_1_0(size: int, take: Callable[[int], bytes], stored: int) -> SparseMap:
    """Decimal lines at the start of the data, a count and then so many pairs, padded to a whole block."""
    lines = _map_lines(take, stored)
    count, used = next(lines)
    _limit(count)
    rest = list(itertools.islice(lines, 2 * count))
    used = rest[-1][1] if rest else used
    return SparseMap(size, _pairs([number for number, _used in rest]), used)


def _map_lines(take: Callable[[int], bytes], stored: int) -> Iterator[tuple[int, int]]:
    """Each number, with how many bytes of whole blocks were read to come to it."""
    rest = b""
    for used in range(BLOCK, stored + 1, BLOCK):
        *lines, rest = (rest + take(BLOCK)).split(b"\n")
        if len(rest) > BLOCK:
            break  # no number is so long
        for line in lines:
            yield read_decimal(line), used
    raise ValueError("its sparse map does not end")


def _pairs(numbers: Sequence[int]) -> Extents:
    if len(numbers) % 2:
        raise ValueError("its sparse map has an odd number of numbers")
    _limit(len(numbers) // 2)
    return list(zip(numbers[::2], numbers[1::2]))


def _limit(count: int) -> None:
    if count > _MAX_EXTENTS:
        raise ValueError(f"its sparse map has more than {_MAX_EXTENTS} pieces")


def check_extents(sparse: SparseMap, stored: int) -> tuple[int, Extents]:
    """The expanded size and the extents that hold data, after proof that they ascend, fit and use all stored bytes.

    :raises ValueError: they do not.
    """
    end = 0
    for offset, length in sparse.extents:
        if offset < end or length < 0:
            raise ValueError("the pieces of its sparse map overlap or are out of order")
        end = offset + length
    if end > sparse.size:
        raise ValueError("its sparse map goes beyond its size")
    if sum(length for _offset, length in sparse.extents) != stored - sparse.used:
        raise ValueError("its sparse map and its stored size contradict each other")
    return sparse.size, [(offset, length) for offset, length in sparse.extents if length]
