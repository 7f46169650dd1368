# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A clone is the same in everything that can be asked, and never the same file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._layer.clone import clone_tree
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import remove_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set owners, devices and trusted attributes")


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    groups: dict[int, str] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        name = str(path.relative_to(top))
        content: object = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        if path.is_symlink():
            content = os.readlink(path)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
        }
        group = name if path.is_dir() and not path.is_symlink() else groups.setdefault(status.st_ino, name)
        found[name] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev, content, group, xattrs,
        )  # fmt: skip
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "d" / "e").mkdir(parents=True)
    (top / "d" / "file").write_bytes(os.urandom(3_000_000))
    os.link(top / "d" / "file", top / "hard")
    os.symlink("../outside", top / "link")
    os.link(top / "link", top / "d" / "link too", follow_symlinks=False)
    os.mknod(top / "whiteout", stat.S_IFCHR, 0)
    os.mkfifo(top / "fifo")
    (top / "suid").write_text("x")
    os.chown(top / "suid", 1, 2)
    (top / "suid").chmod(0o4711)
    os.setxattr(top / "suid", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(top / "d", "trusted.overlay.opaque", b"y")
    os.setxattr(top / "link", "trusted.note", b"on a link", follow_symlinks=False)
    (top / os.fsdecode(b"\xff")).touch()
    with open(top / "sparse", "wb") as sparse:
        sparse.seek(8_000_000)
        sparse.write(b"middle")
        sparse.truncate(20_000_000)
    with open(top / "hole", "wb") as hole:
        hole.truncate(1_000_000)
    (top / "d" / "e").chmod(0o555)
    for number, path in enumerate([*top.rglob("*"), top]):
        os.utime(path, ns=(1, 10**18 + number), follow_symlinks=False)
    return top


@pytest.fixture(params=["as it comes", "no reflink", "no copy_file_range"])
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_arguments: Any) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    if request.param != "as it comes":
        monkeypatch.setattr(fcntl, "ioctl", unsupported)
    if request.param == "no copy_file_range":
        monkeypatch.setattr(os, "copy_file_range", unsupported)


def test_clone_equals_its_source_and_shares_no_inode(tree: Path, tmp_path: Path, means: None) -> None:
    before = facts(tree)
    copy = tmp_path / "copy"
    clone_tree(str(tree), str(copy))
    assert facts(copy) == before
    assert facts(tree) == before
    assert (copy / "sparse").stat().st_blocks <= (tree / "sparse").stat().st_blocks
    assert {path.lstat().st_ino for path in copy.rglob("*")}.isdisjoint(path.lstat().st_ino for path in tree.rglob("*"))
    remove_tree(str(copy))


def test_clone_to_an_existing_target_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError):
        clone_tree(str(tree), str(tmp_path / "copy"))
    assert not os.listdir(tmp_path / "copy")


def test_clone_of_a_symlink_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tree)
    with pytest.raises(OSError, match="directory|symbolic"):
        clone_tree(str(tmp_path / "alias"), str(tmp_path / "copy"))


def test_clone_on_a_full_disk_fails_without_a_fallback(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(fcntl, "ioctl", full)
    with pytest.raises(OSError, match="full"):
        clone_tree(str(tree), str(tmp_path / "copy"))
