# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What waits for an archive's end: as much of it as an archive may choose, in bounded memory and without counting in
squares."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import Entry
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_directories import PendingDirectories
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_links import LateLinks
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place


def entry(name: bytes, mode: int = 0o755, **values: object) -> Entry:
    found = Entry(name, "directory", mode)
    for key, value in values.items():
        setattr(found, key, value)
    return found


ENTRIES = [
    entry(b"plain"),
    entry(b"far", 0o7777, uid=2**32 - 2, gid=2**32 - 2, mtime_ns=2**63 * 10**9 - 1),
    entry(b"past", mtime_ns=-1),
    entry(b"long past", mtime_ns=-(2**63) * 10**9 + 1),
    entry(b"attributes", xattrs={"user.a=b%3D": b"\0=\n", "user.empty": b"", "user.\udcff": b"x" * 65536}),
]


def test_pending_directories_are_read_back_unchanged(tmp_path: Path) -> None:
    with PendingDirectories(str(tmp_path)) as pending:
        for one in ENTRIES:
            pending.add(one.name, one)
        assert dict(pending) == {one.name: one for one in ENTRIES}
    assert not list(tmp_path.iterdir())


def test_pending_children_come_first_and_the_later_entry_counts(tmp_path: Path) -> None:
    with PendingDirectories(str(tmp_path)) as pending:
        for number, path in enumerate((b"", b"a", b"a/b", b"a-b", b"a/b/c", b"a")):
            pending.add(path, entry(path, number))
        found = list(pending)
        paths = [path for path, _entry in found]
        assert sorted(paths) == [b"", b"a", b"a-b", b"a/b", b"a/b/c"]
        assert paths.index(b"a/b/c") < paths.index(b"a/b") < paths.index(b"a") < paths.index(b"")
        assert dict(found)[b"a"].mode == 5


def test_removed_directories_are_gone_and_later_ones_are_kept(tmp_path: Path) -> None:
    with PendingDirectories(str(tmp_path)) as pending:
        for path in (b"a", b"a/b", b"a/b/c", b"a-b", b"ab"):
            pending.add(path, entry(path, 0o700))
        pending.remove(b"a")
        pending.add(b"a/b", entry(b"a/b", 0o711))
        pending.remove(b"ab")
        pending.remove(b"nothing")
        assert [(path, found.mode) for path, found in pending] == [(b"a/b", 0o711), (b"a-b", 0o700)]


def test_attributes_of_pending_directories_are_not_kept_in_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with PendingDirectories(str(tmp_path)) as pending:
            for number in range(500):
                pending.add(b"%d" % number, entry(b"x", xattrs={"user.a": bytes([number % 251]) * 65536}))
            assert sum(len(found.xattrs["user.a"]) for _path, found in pending) == 500 * 65536
            assert all(found.xattrs["user.a"][0] == int(path) % 251 for path, found in pending)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20, "32 MiB of attributes came in"
    assert not list(tmp_path.iterdir())


class Tree:
    """Names that exist, and links made onto them; counts how often it was asked."""

    def __init__(self, *names: bytes, aliases: dict[bytes, bytes] | None = None) -> None:
        self.names = set(names)
        self.aliases = aliases or {}
        self.asked = 0

    def link(self, entry: Entry, where: Place) -> bool:
        self.asked += 1
        parent, slash, name = entry.target.rpartition(b"/")
        if slash and parent not in self.aliases:
            return False
        if self.aliases.get(parent, b"") + name not in self.names:
            return False
        self.names.add(where.path)
        if where.path.startswith(b"alias"):
            self.aliases[where.path] = b""
        return True


def waiting(*links: tuple[bytes, bytes]) -> LateLinks:
    found = LateLinks()
    for path, target in links:
        found.add(path, Entry(path, "hardlink", target=target, xattrs={"user.a": b"x"}))
    return found


@pytest.mark.parametrize("step", [1, -1, 7])
def test_chain_of_late_links_is_walked_once(step: int) -> None:
    count = 5000
    order = [number * step % count for number in range(count)]
    tree = Tree(b"%d" % count)
    waiting(*[(b"%d" % n, b"%d" % (n + 1)) for n in order]).make(tree.link)
    assert len(tree.names) == count + 1
    assert tree.asked <= 2 * count


def test_late_link_whose_path_is_replaced_is_dropped() -> None:
    links = waiting((b"a", b"nothing"), (b"b", b"f"))
    links.replaced(b"a")
    links.replaced(b"unknown")
    tree = Tree(b"f")
    links.make(tree.link)
    assert tree.names == {b"f", b"b"}


def test_late_link_through_other_late_links_is_made() -> None:
    tree = Tree(b"f")
    waiting(
        (b"z", b"alias2/y"), (b"y", b"alias1/x"), (b"x", b"f"), (b"alias2", b"x"), (b"alias1", b"y2"), (b"y2", b"x")
    ).make(tree.link)
    assert tree.names == {b"f", b"x", b"y", b"y2", b"z", b"alias1", b"alias2"}


def test_circle_of_late_links_is_refused() -> None:
    ring = [(b"r%d" % n, b"r%d" % ((n + 1) % 1000)) for n in range(1000)]
    tree = Tree(b"f")
    with pytest.raises(StrataError, match="entry 'r0': hard link to 'r1': the layer has no such file"):
        waiting((b"good", b"f"), *ring).make(tree.link)
    assert tree.asked <= 2100


def test_late_links_that_need_too_many_rounds_are_refused() -> None:
    """Each link names its target by way of another name of the top, so that it is not known for whom it waits."""
    tree = Tree(b"5000", aliases={b"top": b""})
    with pytest.raises(StrataError, match="hard link to 'top/.*too often"):
        waiting(*[(b"%d" % n, b"top/%d" % (n + 1)) for n in range(5000)]).make(tree.link)
    assert tree.asked <= 100 * 5000
