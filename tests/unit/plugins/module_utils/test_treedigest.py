# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest of a tree: every change is seen, and what an import has at hand gives the same as reading all of it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._layer import tree_writer
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import (
    directory,
    hardlink,
    member,
    sparse,
    symlink,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set owners and make whiteouts")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "etc/empty").mkdir(parents=True)
    (top / "etc/conf").write_text("one")
    (top / "etc/other").write_text("two")
    (top / "etc/link").symlink_to("conf")
    (top / "etc/hard").hardlink_to(top / "etc/conf")
    os.setxattr(top / "etc/other", "user.origin", b"here")
    return top


def _same_size_and_time(path: Path) -> None:
    facts = path.stat()
    path.write_text("six")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], None]] = {
    "a byte": lambda top: _same_size_and_time(top / "etc/conf"),
    "a mode": lambda top: (top / "etc/conf").chmod(0o640),
    "a time": lambda top: os.utime(top / "etc/conf", ns=(1, 1)),
    "an attribute": lambda top: os.setxattr(top / "etc/other", "user.origin", b"there"),
    "an attribute more": lambda top: os.setxattr(top / "etc/conf", "user.origin", b"there"),
    "a name": lambda top: os.rename(top / "etc/other", top / "etc/another"),
    "a directory less": lambda top: (top / "etc/empty").rmdir(),
    "a file more": lambda top: (top / "etc/empty/new").touch(),
    "the top": lambda top: top.chmod(0o700),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_tree_changes_its_digest(tree: Path, change: str) -> None:
    before = tree_digest(str(tree)).digest
    assert tree_digest(str(tree)).digest == before
    CHANGES[change](tree)
    assert tree_digest(str(tree)).digest != before


@needs_root
def test_attributes_of_file_system_and_host_are_not_in_the_digest(tmp_path: Path) -> None:
    """XFS lists access lists once more, and a host gives labels; records of trees with such know the digest with all
    of them.
    """
    top = tmp_path / "tree"
    top.mkdir(mode=0o755)
    (top / "f").write_text("x")
    (top / "f").chmod(0o644)
    os.setxattr(top / "f", "user.note", b"kept")
    for path in (top / "f", top):
        os.utime(path, ns=(1, 1))
    without = tree_digest(str(top))
    assert without.with_all == without.digest
    os.setxattr(top / "f", "trusted.SGI_ACL_FILE", b"acl")
    os.setxattr(top, "security.selinux", b"system_u:object_r:var_lib_t:s0\0")
    found = tree_digest(str(top))
    assert found.digest == without.digest
    assert found.with_all == "b5b7d83cbb3c9c506a9d3986cdce661a94c49c257384fe5f2d3328810580ad53"


@needs_root
def test_another_owner_or_link_target_changes_the_digest(tree: Path) -> None:
    before = tree_digest(str(tree)).digest
    os.chown(tree / "etc/link", 7, 7, follow_symlinks=False)
    changed = tree_digest(str(tree)).digest
    (tree / "etc/link").unlink()
    (tree / "etc/link").symlink_to("other")
    os.chown(tree / "etc/link", 7, 7, follow_symlinks=False)
    assert len({before, changed, tree_digest(str(tree)).digest}) == 3


def test_tree_digest_has_entries_size_inode_and_allocated_bytes(tree: Path) -> None:
    found = tree_digest(str(tree))
    assert (found.entries, found.size, found.inode) == (6, 6, tree.stat().st_ino)
    assert found.allocated == Measure().tree(str(tree))


@needs_root
@pytest.mark.parametrize("most", [200_000, 2])
def test_unpack_gives_the_tree_digest_without_reading_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(tree_writer, "_MOST_CHECKSUMS", most)
    members = (
        directory(b"etc"),
        hardlink(b"etc/late", b"etc/conf"),
        member(b"etc/conf", b"old"),
        member(b"etc/conf", b"new and longer"),
        member(b"etc/empty"),
        member(b"etc/big", os.urandom(3 << 20)),
        member(b"etc/gone", b"a file"),
        directory(b"etc/gone"),
        sparse(b"etc/holes", 1 << 20),
        symlink(b"etc/link", b"conf"),
        member(b"etc/.wh.hidden"),
    )
    target = tmp_path / "content"
    target.mkdir()
    found = unpack(io.BytesIO(b"".join([*members, END])).read, str(target), userxattr=False)
    read = tree_digest(str(target))
    assert (found.allocated, found.digest) == (read.allocated, read.digest)


@needs_root
@pytest.mark.parametrize("most", [200_000, 5])
def test_unpack_with_reused_inode_numbers_gives_the_tree_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """File systems give the number of a file that was removed to the next one that is made."""
    monkeypatch.setattr(tree_writer, "_MOST_CHECKSUMS", most)
    names = [b"file%d" % number for number in range(40)]
    members = [
        *(member(name, b"old") for name in names),
        *(sparse(name, 1 << 16) for name in names[::2]),
        *(member(name, b"new and longer") for name in names[1::2]),
    ]
    target = tmp_path / "content"
    target.mkdir()
    found = unpack(io.BytesIO(b"".join([*members, END])).read, str(target), userxattr=False)
    assert found.digest == tree_digest(str(target)).digest


def test_tree_with_paths_longer_than_the_kernel_takes_is_digested(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_DIRECTORY)
    for _step in range(18):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    before = tree_digest(str(tmp_path))
    assert before.entries == 19
    os.chmod("file", 0o600, dir_fd=here)
    assert tree_digest(str(tmp_path)).digest != before.digest
    os.close(here)
