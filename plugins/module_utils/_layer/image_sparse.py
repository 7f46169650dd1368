# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Sparse files in an image: which chunks lie in the archive, which are holes, which are copied. Pure.

An EROFS chunk has one address, so one that is partly a hole, or that lies in the archive off its blocks, is written
once more behind the archive. The smaller the chunks the less of that, and the larger the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Extents
from ansible_collections.strata.overlay.plugins.module_utils._layer.erofs import BLOCK, BLOCK_BITS, MAX_CHUNK_BITS

_ADDRESS = 4
"""Bytes of a chunk in the table."""


class Run(NamedTuple):
    """Chunks in a row.

    :ivar stored: where the first of them lies in the file's stored bytes; -1 for holes, -2 for copies.
    """

    chunks: int
    stored: int


class Piece(NamedTuple):
    """Bytes of copied chunks. :ivar at: where they go, from the first copy on. :ivar stored: where they lie now."""

    at: int
    stored: int
    length: int


HOLES, COPIES = -1, -2


def chunk_bits(size: int, extents: Extents) -> int:
    """How large a file's chunks are: blocks, as a power of two; such that table and copies are small together."""
    grain = 0
    for offset, length in extents:
        grain |= offset | (offset + length if offset + length != size else 0)
    most = min(MAX_CHUNK_BITS, max(0, size.bit_length() - BLOCK_BITS))
    aligned = min(most, (grain & -grain).bit_length() - 1 - BLOCK_BITS) if grain else most

    def cost(bits: int) -> int:
        count = chunk_count(size, bits)
        copied = 0 if bits <= aligned else min(2 * len(extents), count)
        return count * _ADDRESS + copied * (BLOCK << bits)

    return min(range(max(0, aligned), most + 1), key=cost)


def chunk_count(size: int, bits: int) -> int:
    chunk = BLOCK << bits
    return -(-size // chunk)


def copied_chunks(size: int, extents: Extents, bits: int) -> int:
    return sum(run.chunks for run in runs(size, extents, bits) if run.stored == COPIES)


def runs(size: int, extents: Extents, bits: int) -> Iterator[Run]:
    """All chunks of a file, in order."""
    chunk, count = BLOCK << bits, chunk_count(size, bits)
    done = stored = 0
    for offset, length in extents:
        first, whole, over, last = _chunks_of(offset, length, size, chunk, stored)
        if first > done:
            yield Run(first - done, HOLES)
        begun = max(first, done)
        if whole > begun:
            yield Run(whole - begun, COPIES)
        if over > whole:
            yield Run(over - whole, stored + whole * chunk - offset)
        if last > max(over, begun):
            yield Run(last - max(over, begun), COPIES)
        done = max(done, last)
        stored += length
    if count > done:
        yield Run(count - done, HOLES)


def pieces(size: int, extents: Extents, bits: int) -> Iterator[Piece]:
    """What the copied chunks are made of; all else in them is zeros."""
    chunk = BLOCK << bits
    done = stored = copies = 0
    for offset, length in extents:
        first, whole, over, last = _chunks_of(offset, length, size, chunk, stored)
        end = offset + length
        begun = max(first, done)
        # The chunk that the extent before has begun is the last copy so far.
        copied = copies - (begun - first)
        if whole > first:
            yield Piece(copied * chunk + offset - first * chunk, stored, min(whole * chunk, end) - offset)
        copies += max(0, whole - begun)
        tail = max(over, whole)
        if last > tail:
            yield Piece(copies * chunk, stored + tail * chunk - offset, end - tail * chunk)
            copies += last - tail
        done = max(done, last)
        stored += length


def _chunks_of(offset: int, length: int, size: int, chunk: int, stored: int) -> tuple[int, int, int, int]:
    """The first chunk that an extent touches, the first that lies in the archive as it is, and those behind the last of
    these and behind the last that it touches.
    """
    end = offset + length
    first, last = offset // chunk, -(-end // chunk)
    whole, over = -(-offset // chunk), last if end == size else end // chunk
    if (stored - offset) % BLOCK or over <= whole:
        whole = over = last
    return first, whole, over, last
