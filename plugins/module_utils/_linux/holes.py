# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Sparse files: skips holes when reading, makes holes when writing zeros.

Where a file has data is asked of the file system (SEEK_DATA and SEEK_HOLE, lseek(2)); one that cannot say calls
everything data. What a hole adds to a CRC-32 is computed: zeros advance the register by a power of x, so the checksum
is that of all the bytes (zlib's crc32_combine).
"""

from __future__ import annotations

import errno
import functools
import heapq
import os
from collections.abc import Iterable, Iterator
from typing import IO
from zlib import crc32

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import write_all

ZEROS = bytes(1 << 20)
"""What is given for a hole, over and over, and always this very object: whoever writes it may leave a hole there."""

_SMALLEST = 1 << 16
"""Bytes of a file, and of zeros in a row, below which a hole is not worth the looking."""

_RUN = bytes(_SMALLEST)
_PIECE = 1 << 18
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
"""x to the power of 0 in the CRC's own order of bits, in which the highest bit is the lowest power."""


def data_ranges(descriptor: int, status: os.stat_result) -> Iterator[tuple[int, int]]:
    """Begin and end of each part of a file that holds data, ascending; the position of the descriptor is changed.

    :param status: of the file. Most files have as many blocks as bytes; those are one part, and nothing is asked.
    :raises OSError: as the kernel says.
    """
    size, end = status.st_size, 0
    if size < _SMALLEST or status.st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        yield from [(0, size)] if size else []
        return
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole from here on
            if error.errno != errno.EINVAL:
                raise
            start, stop = end, size  # a file system that knows of no such question
        if start >= size:
            return
        end = min(stop, size)
        yield start, end


def read_file(descriptor: int, status: os.stat_result) -> Iterator[bytes]:
    """The bytes of a file, with `ZEROS` or the beginning of it for holes; fewer where it has been cut short meanwhile.

    :param status: of the file, which says how many.
    :raises OSError: it cannot be read.
    """
    at = 0
    for start, end in data_ranges(descriptor, status):
        yield from _zeros(start - at)
        at = start
        while at < end:
            piece = os.pread(descriptor, min(len(ZEROS), end - at), at)
            if not piece:
                return
            at += len(piece)
            yield piece
    yield from _zeros(status.st_size - at)


def _zeros(length: int) -> Iterator[bytes]:
    for _whole in range(length // len(ZEROS)):
        yield ZEROS
    if length % len(ZEROS):
        yield ZEROS[: length % len(ZEROS)]


def file_crc32(descriptor: int) -> int:
    """The CRC-32 of all bytes of an open file."""
    status = os.fstat(descriptor)
    found = at = 0
    for start, end in data_ranges(descriptor, status):
        found = crc32_of_zeros(start - at, found)
        at = start
        while at < end:
            piece = os.pread(descriptor, min(len(ZEROS), end - at), at)
            if not piece:
                return found
            at += len(piece)
            found = crc32(piece, found)
    return crc32_of_zeros(status.st_size - at, found)


def same_bytes(one: int, other: int) -> bool:
    """Whether two open files have the same bytes, whatever of them is holes; their positions are changed.

    :raises OSError: as the kernel says.
    """
    facts = [os.fstat(descriptor) for descriptor in (one, other)]
    if facts[0].st_size != facts[1].st_size:
        return False
    at = 0
    for start, end in heapq.merge(data_ranges(one, facts[0]), data_ranges(other, facts[1])):
        at = max(at, start)
        while at < end:
            pieces = [os.pread(descriptor, min(_PIECE, end - at), at) for descriptor in (one, other)]
            if pieces[0] != pieces[1] or not pieces[0]:
                return False
            at += len(pieces[0])
    return True


class HoleWriter:
    """Writes a file from its beginning on, and leaves holes where long runs of zeros come.

    :param summed: whether a checksum is wanted.
    :ivar checksum: CRC-32 of all that was given, when it is finished.
    """

    def __init__(self, descriptor: int, summed: bool = True) -> None:
        self.checksum = 0
        self._summed = summed
        self._descriptor = descriptor
        self._zeros = 0
        """That have come since the last bytes were written."""

    def write(self, chunk: memoryview) -> None:
        """:raises OSError: as the kernel says."""
        if len(chunk) < _SMALLEST:
            self._write_data(chunk)
            return
        begun = 0
        for at in range(0, len(chunk), _SMALLEST):
            piece = chunk[at : at + _SMALLEST]
            # Two bytes nearly always show that it is not a hole.
            if not piece[0] and not piece[-1] and len(piece) == _SMALLEST and bytes(piece) == _RUN:
                self._write_data(chunk[begun:at])
                begun = at + _SMALLEST
                self._zeros += _SMALLEST
        self._write_data(chunk[begun:])

    def finish(self) -> None:
        """Nothing more comes: a hole at the end is made too."""
        if self._zeros:
            os.ftruncate(self._descriptor, self._skip())

    def _write_data(self, chunk: memoryview) -> None:
        if chunk:
            if self._zeros:
                self._skip()
            if self._summed:
                self.checksum = crc32(chunk, self.checksum)
            write_all(self._descriptor, chunk)

    def _skip(self) -> int:
        """Go beyond the zeros; the position behind them."""
        self.checksum = crc32_of_zeros(self._zeros, self.checksum)
        position = os.lseek(self._descriptor, self._zeros, os.SEEK_CUR)
        self._zeros = 0
        return position


def write_stream(stream: IO[bytes], chunks: Iterable[bytes]) -> None:
    """Write chunks such as `read_file` gives: holes of what was read become holes of what is written.

    :param stream: of a new file, which ends where the chunks do.
    """
    for chunk in chunks:
        if chunk is ZEROS:
            stream.seek(len(chunk), os.SEEK_CUR)
        else:
            stream.write(chunk)
    stream.truncate()


def crc32_of_zeros(length: int, before: int = 0) -> int:
    """What the CRC-32 of some bytes becomes when so many zeros follow; in no more time for many than for few."""
    return _multiply(_advance(length), before ^ 0xFFFFFFFF) ^ 0xFFFFFFFF if length else before


@functools.lru_cache(maxsize=256)
def _advance(length: int) -> int:
    """x to the power of the bits of so many bytes, modulo the polynomial."""
    found = _ONE
    for place in range(length.bit_length()):
        if length >> place & 1:
            found = _multiply(found, _power(place))
    return found


@functools.lru_cache(maxsize=64)
def _power(place: int) -> int:
    """x to the power of the bits of 2 ** place bytes."""
    half = _power(place - 1) if place else 0
    return _multiply(half, half) if place else _ONE >> 8


def _multiply(one: int, other: int) -> int:
    """Two polynomials over two elements, modulo that of the CRC-32."""
    product = 0
    while one:
        if one & _ONE:
            product ^= other
        one = (one << 1) & 0xFFFFFFFF
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product
