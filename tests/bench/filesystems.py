# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems of their own for what is measured, so that nothing else on the machine's own one counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.strata.overlay.tests.bench.measure import FailedError, call

ROOM = 4 << 30
"""Bytes of the file system that is made in memory; only what is written to it takes memory."""

ROOM_ON_DISK = 2 << 30
"""Bytes of the one on disk, which are written once before anything is measured."""


@contextlib.contextmanager
def in_memory(work: Path) -> Iterator[Path]:
    """An ext4 in memory: the file system's own work counts, and the disk's moods do not."""
    memory = work / "memory"
    memory.mkdir()
    call(["mount", "-t", "tmpfs", "-o", "mode=0755,size=100%", "tmpfs", memory])
    try:
        with (memory / "image").open("wb") as stream:
            stream.truncate(ROOM)
        call(["mkfs.ext4", "-q", memory / "image"])
        with mounted(memory / "image", work / "ram") as place:
            yield place
    finally:
        call(["umount", memory])


@contextlib.contextmanager
def on_disk(work: Path) -> Iterator[Path]:
    """An ext4 in a file that has its blocks already and whose pages nobody keeps.

    Straight on a disk that is told of every block that is free again (mount option discard), a run after the removal of
    another's tree was seen to take up to ten times as long.
    """
    image = work / "image"
    call(["dd", "if=/dev/zero", f"of={image}", "bs=1M", f"count={ROOM_ON_DISK >> 20}", "conv=fsync"])
    call(["mkfs.ext4", "-q", "-E", "nodiscard", image])
    with mounted(image, work / "disk") as place:
        device = call(["findmnt", "--noheadings", "--output", "SOURCE", "--mountpoint", place]).strip()
        with contextlib.suppress(FailedError):  # a temporary directory in memory knows nothing else
            call(["losetup", "--direct-io=on", device])
        yield place


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Its loop device goes with the mount. Names of places are short: podman takes no run directory over 50 bytes."""
    place.mkdir()
    call(["mount", "-o", "loop", image, place])
    try:
        yield place
    finally:
        call(["umount", place])
