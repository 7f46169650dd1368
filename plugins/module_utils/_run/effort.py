# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Estimates how long an archive takes to unpack, so that the longest starts first."""

from __future__ import annotations

import ctypes
import mmap
import os

from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ

ENTRY = 1 << 16
"""Bytes of data that take as long as one entry does: some 100 µs against 1.7 ms for a megabyte, measured."""

_PARTS = 32
_PART = 1 << 14
_APART = 1 << 20
_MAGIC = b"ustar"
"""In every header of a tar since 1988, and hardly anywhere else."""

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


def effort(blob: Blob) -> int:
    """Bytes of data that would take as long as the archive: many small files take longer than their size says.

    The number of entries is reckoned from the headers in some parts of a plain archive. Only what is in the kernel's
    memory anyway is looked at, and no disk is asked for the rest, so this takes a millisecond; what is not there, and
    what is compressed, counts by its size.
    """
    return blob.size + ENTRY * _entries(blob) if blob.size and _NOWAIT else blob.size


def _entries(blob: Blob) -> int:
    step = max(blob.size // _PARTS, _APART)
    seen = read = 0
    try:
        descriptor = os.open(blob.path, READ)
    except OSError:
        return 0  # whoever unpacks it says what is wrong
    try:
        # In the middle of each step: an archive mostly begins with more headers than it goes on with.
        for at in range(max(0, min(step, blob.size) - _PART) // 2, blob.size, step):
            part = _in_memory(descriptor, blob.offset + at, min(_PART, blob.size - at))
            seen += part.count(_MAGIC)
            read += len(part)
    finally:
        os.close(descriptor)
    return seen * blob.size // read if read else 0


def _in_memory(descriptor: int, at: int, length: int) -> bytes:
    """``length`` bytes of a file from ``at`` on, or none where the kernel has not all of them in memory: mincore(2).

    RWF_NOWAIT alone waits for none that are not there, but has the kernel begin to read them. It is for those that are
    gone a moment later, and for whoever neither owns the file nor may write to it: to them mincore always says yes.
    """
    before = at % mmap.PAGESIZE
    part = bytearray(length)
    try:
        view = mmap.mmap(descriptor, before + length, access=mmap.ACCESS_COPY, offset=at - before)
        pages = (ctypes.c_ubyte * -(-len(view) // mmap.PAGESIZE))()
        syscalls.libc("mincore", ctypes.byref(ctypes.c_char.from_buffer(view)), ctypes.c_size_t(len(view)), pages)
        there = all(page & 1 for page in pages)
        return bytes(part[: os.preadv(descriptor, [part], at, _NOWAIT)]) if there else b""
    except (OSError, ValueError):  # ValueError: the file has become shorter
        return b""
