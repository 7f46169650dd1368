# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holes are neither read nor written, and everything comes out as if they were."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._layer.clone import clone_tree
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import ChunkReader, pack_directory
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest, unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import (
    ZEROS,
    HoleWriter,
    crc32_of_zeros,
    data_ranges,
    file_crc32,
    read_file,
    same_bytes,
    write_stream,
)
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import member, sparse
from hypothesis import given, settings
from hypothesis import strategies as st

MANY = 8 << 30
"""Bytes of a hole that takes many seconds to read."""

PAGE = 1 << 12
BLOCK = 1 << 16
LAYOUTS: dict[str, list[bytes | int]] = {
    "empty": [],
    "data": [b"x" * 300_000],
    "hole": [3 << 20],
    "hole before data": [(2 << 20) + 5, b"end"],
    "hole behind data": [b"begin", (2 << 20) + 5],
    "hole between": [b"a" * PAGE, 5 << 20, b"b" * 70_000, 1 << 20, b"c"],
    "zeros that are data": [b"a" * BLOCK, bytes(BLOCK), b"b" * BLOCK],
}


def write_layout(path: Path, parts: list[bytes | int]) -> None:
    """A file of bytes and, where a number stands, holes of so many."""
    with path.open("wb") as stream:
        for part in parts:
            if isinstance(part, int):
                stream.seek(part, os.SEEK_CUR)
            else:
                stream.write(part)
        stream.truncate()


def bytes_of(parts: list[bytes | int]) -> bytes:
    """All that is in such a file."""
    return b"".join(bytes(part) if isinstance(part, int) else part for part in parts)


def bytes_read() -> int:
    """By this process, from whatever it has open."""
    return int(Path("/proc/self/io").read_text().split()[1])


@given(st.integers(0, 1 << 21), st.integers(0, (1 << 32) - 1))
@settings(max_examples=50, deadline=None)
def test_checksum_of_zeros_is_that_of_zlib(length: int, before: int) -> None:
    assert crc32_of_zeros(length, before) == zlib.crc32(bytes(length), before)


@pytest.mark.parametrize("name", LAYOUTS)
def test_file_with_holes_reads_as_its_bytes(name: str, tmp_path: Path) -> None:
    write_layout(tmp_path / "file", LAYOUTS[name])
    whole = bytes_of(LAYOUTS[name])
    with (tmp_path / "file").open("rb") as stream:
        descriptor = stream.fileno()
        assert b"".join(read_file(descriptor, os.fstat(descriptor))) == whole
        assert file_crc32(descriptor) == zlib.crc32(whole)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("step", [1 << 20, BLOCK, 10_001])
def test_zeros_are_written_as_holes(name: str, step: int, tmp_path: Path) -> None:
    whole = bytes_of(LAYOUTS[name])
    with (tmp_path / "file").open("wb", buffering=0) as stream:
        writer = HoleWriter(stream.fileno())
        for at in range(0, len(whole), step):
            writer.write(memoryview(whole)[at : at + step])
        writer.finish()
    assert (tmp_path / "file").read_bytes() == whole
    assert writer.checksum == zlib.crc32(whole)
    if step >= BLOCK:
        data = sum(len(part) for part in LAYOUTS[name] if isinstance(part, bytes))
        pieces = len(LAYOUTS[name])
        assert (tmp_path / "file").stat().st_blocks * 512 <= data + pieces * 2 * BLOCK


def test_hole_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    write_layout(tree / "lastlog", [MANY, b"end"])
    before = bytes_read()
    found = tree_digest(str(tree))
    clone_tree(str(tree), str(tmp_path / "clone"))
    assert tree_digest(str(tmp_path / "clone")).digest == found.digest
    assert bytes_read() - before < 1 << 20
    assert (tmp_path / "clone/lastlog").stat().st_blocks < 100


def test_digest_does_not_depend_on_holes(tmp_path: Path) -> None:
    for name in ("sparse", "dense"):
        (tmp_path / name).mkdir()
    write_layout(tmp_path / "sparse/file", LAYOUTS["hole between"])
    (tmp_path / "dense/file").write_bytes(bytes_of(LAYOUTS["hole between"]))
    for name in ("sparse/file", "dense/file", "sparse", "dense"):
        os.utime(tmp_path / name, ns=(1, 1))
    assert (tmp_path / "sparse/file").stat().st_blocks < (tmp_path / "dense/file").stat().st_blocks
    assert tree_digest(str(tmp_path / "sparse")).digest == tree_digest(str(tmp_path / "dense")).digest
    packed = [b"".join(pack_directory(str(tmp_path / name))) for name in ("sparse", "dense")]
    assert packed[0] == packed[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set owners")
def test_sparse_entry_is_unpacked_without_reading_its_hole(tmp_path: Path) -> None:
    before = bytes_read()
    found = unpack(io.BytesIO(sparse(b"lastlog", MANY) + END).read, str(tmp_path), False)
    assert found.size == MANY
    assert (tmp_path / "lastlog").stat().st_size == MANY
    assert found.allocated < 1 << 20
    assert bytes_read() - before < 1 << 20
    assert found.digest == tree_digest(str(tmp_path)).digest


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set owners")
def test_packed_hole_is_a_hole_when_it_is_unpacked(tmp_path: Path) -> None:
    for name in ("tree", "again"):
        (tmp_path / name).mkdir()
    write_layout(tmp_path / "tree/file", [b"begin", 64 << 20, b"end", 1 << 20])
    whole = bytes_of([b"begin", 64 << 20, b"end", 1 << 20])
    before = bytes_read()
    found = unpack(ChunkReader(pack_directory(str(tmp_path / "tree"))).read, str(tmp_path / "again"), False)
    assert bytes_read() - before < 1 << 20
    assert (tmp_path / "again/file").stat().st_blocks * 512 < 1 << 20
    assert (tmp_path / "again/file").read_bytes() == whole
    dense = member(b"file", whole, mtime_ns=315532800 * 10**9) + END
    assert found.diff_id == digest(io.BytesIO(dense).read).diff_id, "the archive is what it has been before"
    assert found.digest == tree_digest(str(tmp_path / "again")).digest


def test_files_are_compared_without_reading_their_holes(tmp_path: Path) -> None:
    layouts: dict[str, list[bytes | int]] = {
        "sparse": [MANY, b"end", 1 << 20],
        "dense at its end": [MANY, b"end", bytes(1 << 20)],
        "other in a hole": [MANY - 5, b"other", b"end", 1 << 20],
        "longer": [MANY, b"end", (1 << 20) + 1],
    }
    for name, layout in layouts.items():
        write_layout(tmp_path / name, layout)
    before = bytes_read()
    for one in layouts:
        for other in layouts:
            with (tmp_path / one).open("rb") as first, (tmp_path / other).open("rb") as second:
                same = one == other or {one, other} == {"sparse", "dense at its end"}
                assert same_bytes(first.fileno(), second.fileno()) == same
    assert bytes_read() - before < 32 << 20


def test_written_archive_has_holes(tmp_path: Path) -> None:
    for last in (b"end", ZEROS):
        with (tmp_path / "archive").open("wb") as stream:
            write_stream(stream, [b"begin", *[ZEROS] * 8, last])
        assert (tmp_path / "archive").read_bytes() == b"begin" + bytes(8 << 20) + last
        assert (tmp_path / "archive").stat().st_blocks * 512 < 1 << 20


def test_file_that_shrinks_while_it_is_read_gives_fewer_bytes(tmp_path: Path) -> None:
    write_layout(tmp_path / "file", [b"x" * (3 << 20)])
    with (tmp_path / "file").open("rb") as stream:
        status = os.fstat(stream.fileno())
        os.truncate(tmp_path / "file", 1 << 20)
        assert sum(map(len, read_file(stream.fileno(), status))) == 1 << 20


def test_file_without_holes_is_one_data_range(tmp_path: Path) -> None:
    write_layout(tmp_path / "file", [b"x" * (1 << 20)])
    with (tmp_path / "file").open("rb") as stream:
        os.fsync(stream.fileno())
        assert list(data_ranges(stream.fileno(), os.fstat(stream.fileno()))) == [(0, 1 << 20)]
