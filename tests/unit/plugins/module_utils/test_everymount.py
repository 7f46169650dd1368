# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which parts of a store a mount table uses: tables written by hand, the store on the real disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._mount import namespaces
from ansible_collections.strata.overlay.plugins.module_utils._mount.in_use import InMounts
from ansible_collections.strata.overlay.plugins.module_utils._mount.namespaces import (
    Everywhere,
    Namespace,
    mounts_everywhere,
    used_by_mounts,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import root_on_device

LINK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LAYER = "0123456789abcdef" * 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "store/overlay2").mkdir(parents=True)
    return tmp_path / "store"


def uses(root: Path, *lines: str, namespace_root: str = "/proc/self/root") -> InMounts:
    table = "".join(f"{line}\n" for line in lines).encode()
    namespace = Namespace(namespace_root, tuple(mountinfo.parse(table)))
    return used_by_mounts(Everywhere((namespace,), ()), str(root))


def overlay(options: str) -> str:
    return f"50 1 0:50 / /srv/web rw - overlay overlay rw,{options}"


@pytest.mark.parametrize(
    ("lowers", "links"),
    [
        ("lowerdir=l/{link}", 1),
        ("lowerdir+=l/{link}", 1),
        ("lowerdir={root}/overlay2/l/{link}:{root}/overlay2/l/B", 2),
        ("lowerdir=/nowhere/that/exists/overlay2/l/{link}", 1),
        ("lowerdir=/usr:/etc", 0),
    ],
)
def test_store_links_among_the_lowers_of_a_mount_are_in_use(root: Path, lowers: str, links: int) -> None:
    used = uses(root, overlay(lowers.format(link=LINK, root=root)))
    assert len(used.links) == links
    assert (used.layers, used.contents) == (set(), set())


def test_layer_of_an_upper_directory_is_in_use(root: Path) -> None:
    for part in ("diff", "volatile/diff"):
        used = uses(root, overlay(f"lowerdir=l/{LINK},upperdir={root}/overlay2/{LAYER}/{part},workdir=/x"))
        assert used.layers == {LAYER}


def test_lower_of_another_directory_of_the_same_form_is_not_in_use(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other/overlay2").mkdir(parents=True)
    assert uses(root, overlay(f"lowerdir={tmp_path}/other/overlay2/l/{LINK}")).links == set()


def test_store_reached_under_another_path_is_in_use(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert uses(root, overlay(f"lowerdir={tmp_path}/alias/overlay2/l/{LINK}")).links == {LINK}
    assert uses(root, overlay(f"lowerdir=/overlay2/l/{LINK}"), namespace_root=str(root)).links == {LINK}


def test_content_of_a_bind_and_layer_of_an_inner_mount_are_in_use(root: Path) -> None:
    device, inner = root_on_device(mountinfo.read(), str(root))
    bind = f"60 1 {device} {inner}/content/sha256/{LAYER} /srv/one ro - ext4 /dev/x rw"
    assert uses(root, bind).contents == {LAYER}
    assert uses(root, bind.replace(device, "99:99")).contents == set()
    below = f"60 1 {device} {inner}/content/sha256/{LAYER}/usr/share /srv/one ro - ext4 /dev/x rw"
    assert uses(root, below).contents == {LAYER}
    whole = f"20 1 {device} {inner} /elsewhere rw - ext4 /dev/x rw"
    inside = f"61 20 0:61 / /elsewhere/overlay2/{LAYER}/volatile rw - tmpfs strata rw"
    assert uses(root, whole, inside).layers == {LAYER}


def test_inner_mount_is_found_where_the_whole_file_system_is_mounted(tmp_path: Path) -> None:
    """As most are: their root is `/`, and a path that begins with two slashes is not the one that begins with one."""
    place = next(mount for mount in mountinfo.read() if mount.path == "/proc")
    device, inner = root_on_device(mountinfo.read(), "/proc/sys")
    assert (device, place.root, inner) == (place.device, "/", "/sys")
    whole = f"20 1 {device} / /proc rw - proc proc rw"
    inside = f"61 20 0:61 / /proc/sys/overlay2/{LAYER}/volatile rw - tmpfs strata rw"
    assert uses(Path("/proc/sys"), whole, inside).layers == {LAYER}


def test_mounts_everywhere_include_those_of_this_process() -> None:
    found = mounts_everywhere()
    own = mountinfo.read()
    assert any({mount.path for mount in own} == {mount.path for mount in there.mounts} for there in found.namespaces)


def test_namespace_is_named_by_a_process_that_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 1 of some machines hides its namespaces from root; whoever has the same mounts lives in the same one."""
    own, view = str(os.getpid()), namespaces._view_of
    hidden = next(pid for pid in namespaces._processes() if pid != own and view(pid) == view(own))
    monkeypatch.setattr(namespaces, "_processes", lambda: [hidden, own])
    monkeypatch.setattr(namespaces, "_view_of", lambda pid: None if pid == hidden else view(pid))
    tables, _names, _unreadable = namespaces._tables_of_processes()
    assert [name for _pid, name in tables.values()] == [namespaces.namespace_of(own)]
