# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same input is the same DiffID; and what is packed unpacks to what was there."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import Entry, TarReader
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.files import InlineFile
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import (
    EPOCH,
    ChunkReader,
    pack_directory,
    pack_files,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import remove_tree, unpack
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache, recall
from ansible_collections.strata.overlay.plugins.module_utils._source.source import read_source


def inline(path: str, state: str = "file", content: bytes = b"", **values: Any) -> InlineFile:
    given: dict[str, Any] = {"mode": None, "uid": 0, "gid": 0, "target": "", "opaque": False, **values}
    return InlineFile(path, state, content, **given)


def diff_id(chunks: Iterable[bytes]) -> str:
    return "sha256:" + hashlib.sha256(b"".join(chunks)).hexdigest()


def entries(chunks: Iterable[bytes]) -> list[Entry]:
    return list(TarReader(io.BytesIO(b"".join(chunks)).read))


FILES = [
    inline("etc/app.conf", content=b"port = 8080\n", mode=0o640, gid=33),
    inline("etc/old.conf", "absent"),
    inline("srv", "directory", opaque=True),
    inline("srv/current", "link", target="releases/2"),
    inline("srv-data", "directory", mode=0o700, uid=1000, gid=1000),
    inline("gone", "absent"),
    inline("a/" + "long" * 60, content=b"x"),
]


def test_diff_id_of_inline_files_is_pinned_in_any_order() -> None:
    """This literal may never change: hosts all over know these contents by it."""
    assert diff_id(pack_files(FILES)) == "sha256:fb40f91d28fd05ecedb85af8ab7c1e4ecb443ed0409d695694a2ce82c1c4d467"
    assert diff_id(pack_files(FILES[::-1])) == diff_id(pack_files(FILES))


def test_no_inline_files_give_the_empty_layer() -> None:
    empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    assert diff_id(pack_files([])) == empty


def test_inline_files_become_sorted_members_with_fixed_times() -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack_files(FILES)))) as archive:
        members = [(m.name, m.type, oct(m.mode), m.uid, m.gid, m.linkname, m.mtime) for m in archive]
    assert members == [
        ("a/" + "long" * 60, b"0", "0o644", 0, 0, "", EPOCH),
        ("etc/app.conf", b"0", "0o640", 0, 33, "", EPOCH),
        ("etc/.wh.old.conf", b"0", "0o600", 0, 0, "", EPOCH),
        (".wh.gone", b"0", "0o600", 0, 0, "", EPOCH),
        ("srv", b"5", "0o755", 0, 0, "", EPOCH),
        ("srv/.wh..wh..opq", b"0", "0o600", 0, 0, "", EPOCH),
        ("srv/current", b"2", "0o777", 0, 0, "releases/2", EPOCH),
        ("srv-data", b"5", "0o700", 1000, 1000, "", EPOCH),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make whiteouts and set owners")
def test_inline_files_unpack_to_files_whiteouts_and_opaque_directories(tmp_path: Path) -> None:
    unpack(ChunkReader(pack_files(FILES)).read, str(tmp_path), False)
    assert (tmp_path / "etc/app.conf").read_bytes() == b"port = 8080\n"
    assert stat.S_ISCHR((tmp_path / "gone").lstat().st_mode)
    assert os.getxattr(tmp_path / "srv", "trusted.overlay.opaque") == b"y"
    assert os.readlink(tmp_path / "srv/current") == "releases/2"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The same tree each time, made with other times and in another order than its twin."""
    top = tmp_path / "tree"
    for name in ("b/inner", "a.d", "a"):
        (top / name).mkdir(parents=True, mode=0o755)
        (top / name).chmod(0o755)
    (top / "b").chmod(0o755)
    for name, mode in (("b/inner/file", 0o600), ("a/x", 0o4755), ("a.d/x", 0o644)):
        (top / name).write_text(name)
        (top / name).chmod(mode)
    os.link(top / "a.d/x", top / "b/hard")
    os.symlink("nowhere", top / "link")
    (top / "a/.wh.gone").touch(mode=0o600)
    (top / "a/.wh.gone").chmod(0o600)
    return top


def test_diff_id_of_a_directory_is_pinned(tree: Path) -> None:
    """This literal may never change either."""
    assert (
        diff_id(pack_directory(str(tree))) == "sha256:52a2f21a76e9e7a587b956f5b346e88812787cacc745387f8bfcbc710c2d7e4f"
    )


def test_packed_names_are_sorted_by_bytes_directory_by_directory(tree: Path) -> None:
    assert [entry.name.decode() for entry in entries(pack_directory(str(tree)))] == [
        "a/", "a/.wh.gone", "a/x", "a.d/", "a.d/x", "b/", "b/hard", "b/inner/", "b/inner/file", "link",
    ]  # fmt: skip


def test_packed_directory_keeps_modes_and_links_but_no_owners_or_times(tree: Path) -> None:
    found = {entry.name: entry for entry in entries(pack_directory(str(tree)))}
    assert {(entry.uid, entry.gid, entry.mtime_ns) for entry in found.values()} == {(0, 0, EPOCH * 10**9)}
    assert found[b"a/x"].mode == 0o4755
    assert (found[b"b/hard"].kind, found[b"b/hard"].target) == ("hardlink", b"a.d/x")
    assert (found[b"link"].kind, found[b"link"].target) == ("symlink", b"nowhere")


def test_times_of_a_directory_do_not_change_its_diff_id(tree: Path) -> None:
    before = diff_id(pack_directory(str(tree)))
    for path in tree.rglob("*"):
        os.utime(path, ns=(5, 5), follow_symlinks=False)
    assert diff_id(pack_directory(str(tree))) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices and set capabilities")
def test_attributes_and_devices_round_trip(tree: Path, tmp_path: Path) -> None:
    (tree / "a/.wh.gone").unlink()  # it would come back as the device that it means
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(tree / "a/x", "security.capability", capability)
    os.setxattr(tree / "a", "user.note", b"kept")
    os.setxattr(tree / "a", "trusted.note", b"dropped")
    os.setxattr(tree / "b", "user.overlay.opaque", b"y")
    os.chown(tree / "a/x", 1000, 1000)
    os.setxattr(tree / "a/x", "security.capability", capability)
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(tree / "fifo")
    (tree / os.fsdecode(b"\xff")).write_text("x")
    first = b"".join(pack_directory(str(tree)))
    copy = tmp_path / "copy"
    copy.mkdir()
    unpack(io.BytesIO(first).read, str(copy), False)
    assert b"".join(pack_directory(str(copy))) == first
    assert os.listxattr(copy / "a") == ["user.note"]
    assert os.listxattr(copy / "b") == []
    assert os.getxattr(copy / "a/x", "security.capability") == capability
    assert (copy / "null").stat().st_rdev == os.makedev(1, 3)
    assert (copy / "a/x").stat().st_uid == 0
    remove_tree(str(copy))


def test_socket_is_left_out_and_noted(tree: Path) -> None:
    without = b"".join(pack_directory(str(tree)))
    for name in ("a/socket", "socket"):
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(tree / name))
        bound.close()
    left_out = LeftOut()
    assert b"".join(pack_directory(str(tree), left_out=left_out)) == without
    assert left_out.warnings() == ("2 sockets were left out, which no layer can hold: 'a/socket', 'socket'",)


def test_warnings_remembered_with_a_digest_are_given_again(tree: Path, tmp_path: Path) -> None:
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tree / "odd\nname\u2028"))
    bound.close()
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    source = Source("dir", str(tree))
    cache = DigestCache(str(tmp_path), keep=False)
    found = read_source(source, cache)
    assert found.left_out == (r"1 socket was left out, which no layer can hold: 'odd\nname\u2028'",)
    cache.put("key", found.facts())
    assert recall("key", cache) == found


@pytest.mark.parametrize("change", [b"longer than it was before, and so on", b""])
def test_file_that_changes_while_packed_is_refused(tree: Path, change: bytes) -> None:
    (tree / "a" / "x").write_bytes(b"y" * 10)
    chunks = pack_directory(str(tree))
    seen = b""
    while b"a/x\0" not in seen:
        seen = next(chunks)
    (tree / "a" / "x").write_bytes(change)
    with pytest.raises(StrataError, match="'a/x' changed while it was read"):
        list(chunks)


def test_packing_stopped_early_leaves_no_descriptor_open(tree: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    chunks = pack_directory(str(tree))
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [1, 3, 100])
def test_chunk_reader_gives_all_bytes_in_pieces_of_any_size(size: int) -> None:
    reader = ChunkReader(iter([b"", b"abc", b"", b"defgh", b""]))
    assert b"".join(iter(lambda: reader.read(size), b"")) == b"abcdefgh"
    assert reader.read(size) == b""


def test_chunk_reader_without_a_size_reads_the_rest() -> None:
    reader = ChunkReader(iter([b"abc", b"def"]))
    assert (reader.read(2), reader.read(-1), reader.read()) == (b"ab", b"cdef", b"")


def test_packing_a_directory_with_times_reports_the_fixed_time_archive(tree: Path) -> None:
    told: list[bytes] = []
    os.utime(tree, (5, 5))
    kept = b"".join(pack_directory(str(tree), True, told.append))
    assert b"".join(told) == b"".join(pack_directory(str(tree))) != kept


def test_times_of_a_directory_are_kept_to_the_nanosecond(tree: Path) -> None:
    path = next(path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink())
    os.utime(path, ns=(1, 1_500_000_000_123_456_789))
    found = {entry.name: entry.mtime_ns for entry in entries(pack_directory(str(tree), True))}
    assert found[os.fsencode(path.relative_to(tree))] == 1_500_000_000_123_456_789


def test_packing_inline_files_with_times_reports_the_fixed_time_archive() -> None:
    told: list[bytes] = []
    timed = [file._replace(time=1_500_000_000) for file in FILES]
    kept = b"".join(pack_files(timed, told.append))
    assert b"".join(told) == b"".join(pack_files(FILES)) != kept
