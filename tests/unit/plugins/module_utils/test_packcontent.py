# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A content packed is the archive that unpacks to it."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, Entry, TarReader
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.clone import clone_tree
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import pack_content
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest, unpack
from ansible_collections.strata.overlay.tests.integration.trees import Tree, assert_same, tree_of
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import member

OPAQUE = "trusted.overlay.opaque"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="trusted attributes, devices and owners need root")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One of everything that a layer can have."""
    top = tmp_path / "tree"
    (top / "etc/opaque").mkdir(parents=True)
    (top / "etc/file").write_bytes(b"content\n")
    os.chown(top / "etc/file", 1234, 3_000_000)
    (top / "etc/file").chmod(0o4750)
    os.link(top / "etc/file", top / "z-hard")
    os.setxattr(top / "etc/file", "user.note", b"\x00\xff\n=")
    (top / ("long" * 50)).mkdir()
    (top / ("long" * 50) / ("name" * 30)).write_bytes(b"x" * 700_000)
    os.symlink("../target", top / "link")
    os.chown(top / "link", 7, 8, follow_symlinks=False)
    os.mkfifo(top / "pipe", 0o640)
    os.mknod(top / "null", 0o020666, os.makedev(1, 3))
    os.mknod(top / "disk", 0o060660, os.makedev(7, 300))
    os.mknod(top / "etc/gone", 0o020000, os.makedev(0, 0))
    os.link(top / "etc/gone", top / "etc/a-gone")  # as the kernel does it
    (top / "etc/opaque/new").write_bytes(b"")
    os.setxattr(top / "etc/opaque", OPAQUE, b"y")
    os.setxattr(top / "etc", "trusted.overlay.impure", b"y")
    os.setxattr(top / "etc/file", "trusted.overlay.origin", b"\x00\xfb")
    with open(os.fsencode(top) + b"/not-utf8-\xff", "wb"):
        pass
    os.utime(top / "etc/file", ns=(1, 1_600_000_000_123_456_789))
    os.utime(top / "null", ns=(1, 946_684_800_000_000_001))
    os.utime(top / "link", ns=(1, 5_000_000_007), follow_symlinks=False)
    os.utime(top / "etc", ns=(1, 1_500_000_000_000_000_009))
    return top


def packed(top: Path) -> bytes:
    return b"".join(pack_content(str(top), userxattr=False))


def unpacked(archive: bytes, target: Path) -> Path:
    target.mkdir()
    unpack(io.BytesIO(archive).read, str(target), userxattr=False)
    return target


def without_whiteouts(top: Path) -> Tree:
    """The kernel gives all whiteouts one inode, and their time says nothing."""
    return {name: facts for name, facts in tree_of(top).items() if not name.endswith(b"gone")}


def entries(archive: bytes) -> list[Entry]:
    return list(TarReader(io.BytesIO(archive).read))


def test_packed_content_unpacks_to_the_same_tree(tree: Path, tmp_path: Path) -> None:
    archive = packed(tree)
    copy = unpacked(archive, tmp_path / "copy")
    assert_same(without_whiteouts(tree), without_whiteouts(copy))
    assert packed(copy) == archive
    assert os.lstat(copy / "etc/gone").st_rdev == 0
    assert os.getxattr(copy / "etc/opaque", OPAQUE) == b"y"
    assert os.stat(copy / "etc").st_mtime_ns == 1_500_000_000_000_000_009
    assert os.listxattr(copy / "etc") == []
    assert "trusted.overlay.origin" not in os.listxattr(copy / "etc/file")


def test_attributes_of_file_system_and_host_are_left_out(tree: Path, tmp_path: Path) -> None:
    archive = packed(tree)
    for name in ("trusted.SGI_ACL_FILE", "security.selinux"):
        os.setxattr(tree / "etc/file", name, b"x")
    assert packed(tree) == archive
    clone_tree(str(tree), str(tmp_path / "clone"))
    assert "trusted.SGI_ACL_FILE" not in os.listxattr(tmp_path / "clone/etc/file")
    found = digest(io.BytesIO(member(b"f", xattrs={"system.nfs4_acl": b"x", "btrfs.compression": b"y"}) + END).read)
    (words,) = found.left_out
    assert words.startswith("2 attributes were left out, which belong to the file system that the archive was made on")
    assert words.endswith(": 'btrfs.compression', 'system.nfs4_acl'")
    twice = {"system.posix_acl_access": b"x", "trusted.SGI_ACL_FILE": b"x"}
    assert digest(io.BytesIO(member(b"f", xattrs=twice) + END).read).left_out == ()
    with_them = member(b"f", xattrs={"trusted.SGI_ACL_FILE": b"x", "btrfs.compression": b"zstd", "user.a": b"b"})
    assert os.listxattr(unpacked(with_them + END, tmp_path / "top") / "f") == ["user.a"]


def test_packed_names_are_in_order_and_whiteouts_are_not_hard_links(tree: Path) -> None:
    names = [entry.name for entry in entries(packed(tree))]
    start = names.index(b"etc/")
    assert names[start : start + 6] == [
        b"etc/",
        b"etc/.wh.a-gone",
        b"etc/.wh.gone",
        b"etc/file",
        b"etc/opaque/",
        b"etc/opaque/.wh..wh..opq",
    ]
    assert [entry.target for entry in entries(packed(tree)) if entry.kind == "hardlink"] == [b"etc/file"]


def test_top_directory_is_packed_only_with_unusual_mode_owner_or_mark(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir(mode=0o755)
    assert entries(packed(top)) == []
    top.chmod(0o1777)
    os.chown(top, 5, 6)
    os.setxattr(top, OPAQUE, b"y")
    first, second = entries(packed(top))
    assert (first.kind, first.mode, first.uid, first.gid, first.mtime_ns) == ("directory", 0o1777, 5, 6, 0)
    assert second.name == b".wh..wh..opq"
    copy = unpacked(packed(top), tmp_path / "copy")
    facts = copy.stat()
    assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o1777, 5, 6)
    assert os.getxattr(copy, OPAQUE) == b"y"


def _socket(top: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "etc/socket"))


@contextlib.contextmanager
def chattr(flag: str, *paths: Path) -> Iterator[None]:
    """Protected by the real program; skips the test where the file system or this user cannot."""
    done = subprocess.run(["chattr", f"+{flag}", *paths], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be protected here: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{flag}", *paths], check=True)


def test_protected_files_of_a_live_tree_are_noted(tmp_path: Path) -> None:
    """Linux before 5.14 protects the file of the writable layer itself, later ones note it in an attribute."""
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    for number in range(12):
        (top / f"etc/f{number:02}").write_text("x")
    for number in range(1, 12):
        os.setxattr(top / f"etc/f{number:02}", "trusted.overlay.protattr", b"i")
    left_out = LeftOut()
    with chattr("i", top / "etc/f00", top / "etc"), chattr("a", top):
        list(pack_content(str(top), userxattr=False, live=True, left_out=left_out))
        stored = LeftOut()
        list(pack_content(str(top), userxattr=False, left_out=stored))
    assert stored.warnings() == (), "whoever protects a store says nothing about its layers"
    (words,) = left_out.warnings()
    assert words.startswith("14 paths are immutable or append-only (chattr +i, +a), and no layer can hold that: '.', ")
    assert words.endswith("'etc/f07' and 4 more")


def _mark(top: Path) -> None:
    (top / "etc/.wh.file").write_bytes(b"")


def _renamed(top: Path) -> None:
    os.setxattr(top / "etc", "trusted.overlay.redirect", b"/opt")


def _metacopy(top: Path) -> None:
    os.setxattr(top / "etc/file", "trusted.overlay.metacopy", b"")


def _nested(top: Path) -> None:
    os.setxattr(top / "etc", "trusted.overlay.overlay.opaque", b"y")


def _foreign(top: Path) -> None:
    os.setxattr(top / "etc", "user.overlay.opaque", b"y")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_socket, r"'etc/socket' is a socket"),
        (_mark, r"'etc/\.wh\.file': in a layer this name would hide another file"),
        (_renamed, r"'etc': it is a renamed directory whose files are in a layer below"),
        (_metacopy, r"'etc/file': its bytes are in a layer below"),
        (_nested, r"'etc': its attribute trusted\.overlay\.overlay\.opaque is that of an overlay inside"),
        (_foreign, r"'etc': its attribute user\.overlay\.opaque is that of an overlay inside"),
    ],
)
def test_content_that_no_archive_can_hold_is_refused(tree: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(tree)
    with pytest.raises(StrataError, match=words):
        packed(tree)


def _append(top: Path) -> None:
    with open(top / "big", "ab") as stream:
        stream.write(b"more")


def _rewrite(top: Path) -> None:
    with open(top / "big", "r+b") as stream:
        stream.write(b"other")


def _replace_by_link(top: Path) -> None:
    (top / "sub/file").unlink()
    (top / "sub").rmdir()
    os.symlink("/etc", top / "sub")


def _add(top: Path) -> None:
    (top / "another").write_bytes(b"")


def _remove(top: Path) -> None:
    (top / "sub/file").unlink()


@pytest.mark.parametrize("meddle", [_append, _rewrite, _replace_by_link, _add, _remove])
def test_tree_that_changes_while_packed_is_refused(tmp_path: Path, meddle: Callable[[Path], None]) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub/file").write_bytes(b"x")
    (top / "big").write_bytes(b"y" * (3 << 20))
    chunks = pack_content(str(top), userxattr=False, live=True)
    while len(next(chunks)) < 1 << 20:
        pass
    meddle(top)
    with pytest.raises(StrataError, match="changed while it was read"):
        list(chunks)


def test_packing_leaves_no_descriptor_open(tree: Path) -> None:
    before = os.listdir("/proc/self/fd")
    packed(tree)
    half = pack_content(str(tree), userxattr=False, live=True)
    next(half)
    half.close()  # type: ignore[attr-defined]
    assert os.listdir("/proc/self/fd") == before


def test_live_tree_is_packed_without_its_sockets(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    _socket(top)
    left_out = LeftOut()
    archive = b"".join(pack_content(str(top), userxattr=False, live=True, left_out=left_out))
    assert [entry.name for entry in entries(archive)] == [b"etc/"]
    assert left_out.warnings() == ("1 socket was left out, which no layer can hold: 'etc/socket'",)


def test_marks_of_fuse_overlayfs_are_not_part_of_the_tree(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "etc/opaque").mkdir(parents=True)
    for name in ("etc/.wh.gone", "etc/opaque/.wh..wh..opq", "etc/file"):
        (top / name).write_text("")
    os.mknod(top / "etc/opaque/.wh..opq", stat.S_IFCHR, 0)
    os.setxattr(top / "etc/opaque", "user.fuseoverlayfs.opaque", b"y")
    os.setxattr(top / "etc/file", "user.fuseoverlayfs.origin", b"etc/file")
    archive = b"".join(pack_content(str(top), userxattr=False, fuse=True))
    found = {entry.name: entry.xattrs for entry in entries(archive)}
    assert [*found] == [b"etc/", b"etc/.wh.gone", b"etc/file", b"etc/opaque/", b"etc/opaque/.wh..wh..opq"]
    assert found[b"etc/file"] == found[b"etc/opaque/"] == {}
    with pytest.raises(StrataError, match="this name would hide another file"):
        packed(top)
