# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long archives take beside each other is guessed from what the kernel has in memory, never by reading a disk."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._run.effort import ENTRY, effort


def archive(path: Path, files: int, size: int) -> Blob:
    with tarfile.open(path, "w") as tar:
        for number in range(files):
            member = tarfile.TarInfo(f"directory/{number}")
            member.size = size
            tar.addfile(member, io.BytesIO(os.urandom(size)))
    return whole(path)


def whole(path: Path) -> Blob:
    return Blob(str(path), 0, path.stat().st_size)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the file system tells what of a file is in memory."""
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    with probe.open("rb") as stream:
        try:
            os.preadv(stream.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError:
            pytest.skip("the temporary directory's file system knows no RWF_NOWAIT")
    return tmp_path


@pytest.mark.parametrize(("files", "size"), [(1, 100), (5000, 10), (3000, 2000), (300, 300_000)])
def test_effort_estimated_from_parts_is_right_within_a_factor_of_two(place: Path, files: int, size: int) -> None:
    blob = archive(place / "a.tar", files, size)
    assert 0.5 < effort(blob) / (blob.size + files * ENTRY) < 2


def test_many_small_files_take_longer_than_a_large_one(place: Path) -> None:
    small, large = archive(place / "small.tar", 2000, 1000), archive(place / "large.tar", 1, 20_000_000)
    assert small.size < large.size
    assert effort(small) > effort(large)


def test_archive_inside_another_has_the_same_effort(place: Path) -> None:
    inner = archive(place / "a.tar", 500, 3000)
    outer = place / "outer.tar"
    around = b"ustar" * (1 << 18)
    outer.write_bytes(around + Path(inner.path).read_bytes() + around)
    assert effort(Blob(str(outer), len(around), inner.size)) == effort(inner)
    for odd in (1, 511, 4095):
        outer.write_bytes(around[:odd] + Path(inner.path).read_bytes() + around)
        assert effort(Blob(str(outer), odd, inner.size)) == effort(inner)


def forget(blob: Blob, size: int = 0) -> None:
    """Have the kernel give up the file's first bytes, all of them without a size."""
    with Path(blob.path).open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, size, os.POSIX_FADV_DONTNEED)


def in_memory(blob: Blob) -> int:
    """Bytes of the file that the kernel has in memory, as util-linux counts them."""
    if not shutil.which("fincore"):
        pytest.skip("needs fincore of util-linux-extra")
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", blob.path]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_uncached_archive_counts_by_its_size_without_being_read(place: Path) -> None:
    blob = archive(place / "a.tar", 3000, 2000)
    forget(blob)
    if in_memory(blob):
        pytest.skip("the temporary directory's file system keeps in memory what it may forget")
    assert effort(blob) == blob.size
    assert in_memory(blob) == 0, "nor is the kernel made to begin reading"


def test_cached_parts_of_an_archive_stand_for_the_whole(place: Path) -> None:
    blob = archive(place / "a.tar", 9000, 2000)
    whole_in_memory = effort(blob)
    forget(blob, 8 << 20)
    assert 0.7 < effort(blob) / whole_in_memory < 1.4


@pytest.mark.parametrize("left", [0, 1, 100, 4096, 1_000_000])
def test_archive_truncated_meanwhile_still_gets_a_plausible_effort(place: Path, left: int) -> None:
    blob = archive(place / "a.tar", 3000, 2000)
    os.truncate(blob.path, left)
    assert blob.size <= effort(blob) < 2 * (blob.size + 3000 * ENTRY)


def test_compressed_archives_count_by_their_size(place: Path) -> None:
    blob = archive(place / "a.tar", 100, 10_000)
    packed = place / "a.tar.gz"
    packed.write_bytes(gzip.compress(Path(blob.path).read_bytes()))
    assert effort(whole(packed)) == packed.stat().st_size


def test_archive_that_cannot_be_opened_counts_by_its_size(place: Path) -> None:
    assert effort(Blob(str(place / "missing"), 0, 4096)) == 4096


def test_pipe_without_a_writer_is_not_waited_for(place: Path) -> None:
    os.mkfifo(place / "pipe")
    assert effort(whole(place / "pipe")) == 0
