# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trees that no path reaches, and trees that change while they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.clone import clone_tree
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import ChunkReader
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import pack_content, snapshot
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest, unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.walk import Item, shown_path, walk
from ansible_collections.strata.overlay.plugins.module_utils._source.flatten import merge_trees
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.trees import make_deep


def names(top: Path, unread: list[str] | None = None) -> list[str]:
    """Depth and name of all that is found."""
    return [f"{item.depth} {item.name}" for item in items(top, unread)]


def items(top: Path, unread: list[str] | None = None) -> Iterator[Item]:
    told: list[str] = [] if unread is None else unread
    descriptor = os.open(top, os.O_RDONLY)
    try:
        yield from walk(descriptor, lambda path, why: told.append(f"{path}: {why}"))
    finally:
        os.close(descriptor)


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """A directory that is emptied whatever was made in it."""
    path = tmp_path / "top"
    path.mkdir()
    yield path
    for name in os.listdir(tmp_path):
        remove_tree(str(tmp_path / name))


def test_entries_are_sorted_and_directories_come_before_their_entries(top: Path) -> None:
    for name in ("b/two", "b/one", "a/x/y"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    assert names(top) == ["1 a", "1 b", "2 x", "3 y", "2 one", "2 two"]


def test_link_is_listed_and_not_followed(top: Path) -> None:
    (top / "link").symlink_to("/etc")
    assert names(top) == ["1 link"]


def test_deep_tree_is_walked_with_few_descriptors(top: Path) -> None:
    make_deep(top, "d", 600, beside=True)
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    count = 0
    for item in items(top):
        count += 1
        if item.depth % 100 == 0:
            most = max(most, len(os.listdir("/proc/self/fd")))
    assert count == 1_200
    assert most < before + 25
    assert len(os.listdir("/proc/self/fd")) == before


def test_directory_moved_during_the_walk_is_reported_and_the_rest_walked(top: Path) -> None:
    make_deep(top, "d", 30, beside=True)
    (top / "z").mkdir()
    (top / "z" / "last").touch()
    twentieth = top.joinpath(*["d"] * 20)
    unread: list[str] = []
    found = []
    for item in items(top, unread):
        found.append(item.name)
        if item.depth == 30 and twentieth.exists():
            os.rename(twentieth, top.parent / "elsewhere")
    assert "last" in found
    assert all("moved" in words for words in unread)


def test_unreadable_directory_is_reported_and_the_rest_walked(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "open"):
        (top / name).mkdir()
        (top / name / "file").touch()
    (top / "closed").chmod(0)
    top.chmod(0o755)
    monkeypatch.chdir(top)
    unread: list[str] = []
    measure = Measure()
    os.seteuid(65534)
    try:
        found = names(Path(), unread)
        measure.tree(".")
    finally:
        os.seteuid(0)
    assert found == ["1 closed", "1 open", "2 file"]
    assert unread == ["closed: Permission denied"]
    assert measure.missed == ["./closed is not measured: Permission denied"]


def test_long_path_is_shown_by_both_its_ends() -> None:
    shown = shown_path(["a" * 200] * 30)
    assert len(shown) < 400
    assert "6029 bytes" in shown


def test_path_beyond_the_kernel_limit_is_measured_and_refused_as_a_layer(top: Path) -> None:
    make_deep(top, "n" * 250, 20, beside=True)
    measure = Measure()
    assert measure.tree(str(top)) >= 20 * 4096
    assert measure.missed == []
    assert len(snapshot(str(top))) == 32
    stream = ChunkReader(pack_content(str(top), userxattr=False))
    with pytest.raises(StrataError, match="its name is too long: 4095 bytes"):
        digest(stream.read)


def test_longest_possible_path_is_packed_unpacked_cloned_and_merged(top: Path) -> None:
    make_deep(top, "n" * 254, 16, beside=True)
    stream = ChunkReader(pack_content(str(top), userxattr=False))
    again = top.parent / "again"
    again.mkdir()
    unpacked = unpack(stream.read, str(again), userxattr=False)
    assert unpacked.entries == 32
    clone_tree(str(again), str(top.parent / "clone"))
    merge_trees([str(again)], str(top.parent / "merged"))
    assert tree_digest(str(top.parent / "clone")).digest == unpacked.digest
    assert tree_digest(str(top.parent / "merged")).digest == unpacked.digest
