# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What another user may change on the way to a stack leads no mount and no unmount of root's elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import main as mount_strata
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._mount.mount_point import mount_point, unmount_line
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter
from ansible_collections.strata.overlay.tests.integration.host import Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root

BASE = inline("base", both="base")
APP = inline("app", both="app")
ALICE = 1000


@pytest.fixture
def home(host: Host) -> Path:
    """A directory that another user owns, with what stacks are to be mounted at in it."""
    need_full_root("gives directories to another user")
    home = host.top / "srv" / "alice"
    (home / "web" / "tree").mkdir(parents=True)
    return home


def stacks(host: Host, home: Path, **options: Any) -> dict[str, Any]:
    web = {"name": "web", "path": f"{home}/web/tree", "layers": ["base", "app"], "boot": False, **options}
    other = {"name": "other", "path": host.path("other"), "layers": ["app", "base"], "boot": False}
    return {"layers": [BASE, APP], "stacks": [web, other]}


def give(home: Path) -> None:
    os.chown(home, ALICE, ALICE)


def test_directory_of_another_user_is_refused_by_module_and_helper(
    host: Host, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(home)
    for check in (True, False):
        with pytest.raises(DefinitionError, match=f"the directory {home} belongs to someone other than root"):
            host.run(check=check, **stacks(host, home))
    assert not host.root.exists()
    os.chown(home, 0, 0)
    host.run(**stacks(host, home))
    unmount_all(host.top / "srv")
    give(home)
    assert mount_strata(["web", f"{home}/web/tree", "-o", f"root={host.root}"]) == 32
    assert f"{home} on the way to {home}/web/tree could be changed by others than root" in capsys.readouterr().err
    with pytest.raises(StrataError, match="could be changed by others"):
        Mounter(host.store, "", find_abilities()).mount(host.store.stacks()["web"])
    assert host.mounts("alice/web/tree") == []


@pytest.mark.drivers("overlay", "copy")
@pytest.mark.parametrize("state", ["absent", "unmounted"])
@pytest.mark.parametrize("led", ["link", "renamed"])
def test_path_redirected_to_another_stack_does_not_unmount_it(host: Host, home: Path, led: str, state: str) -> None:
    host.run(**stacks(host, home))
    unmount_all(home)
    give(home)
    (home / "web").rename(home / "away")
    if led == "link":
        (home / "web").mkdir()
        (home / "web" / "tree").symlink_to(host.path("other"))
    else:
        (home / "web" / "tree").mkdir(parents=True)
        syscalls.mount(host.path("other"), f"{home}/web/tree", None, mount_flags.MS_BIND)
    path = f"{home}/web/tree"
    options: dict[str, Any] = {} if state == "absent" else {"path": path, "layers": ["base", "app"], "boot": False}
    host.run(stacks=[{"name": "web", "state": state, **options}])
    assert host.tree("other") == {"both": "base"}
    assert len(host.mounts("other")) == 1
    assert len(host.mounts("alice/web/tree")) == 1


def test_stack_below_a_directory_given_to_another_user_can_be_removed(host: Host, home: Path) -> None:
    host.run(**stacks(host, home))
    give(home)
    assert host.run(stacks=[{"name": "web", "state": "absent"}])["changed"]
    assert host.mounts("alice/web/tree") == []


def test_mount_goes_where_the_path_led_when_it_was_checked(host: Host, home: Path) -> None:
    """Whoever may rename the directories meanwhile leads it nowhere else."""
    with mount_point(f"{home}/web/tree") as place:
        (home / "web").rename(home / "away")
        (home / "web").symlink_to("/usr")
        syscalls.mount("strata", place.at, "tmpfs", 0)
        top = place.top()
    assert top is not None
    assert top.path == f"{home}/away/tree"
    with pytest.raises(StrataError, match="something else has been mounted over"):
        _over(top.path, top.mount_id)
    unmount_line(top.mount_id, False)
    with pytest.raises(StrataError, match="has been unmounted by others"):
        unmount_line(top.mount_id, False)


def _over(path: str, mount_id: int) -> None:
    syscalls.mount("other", path, "tmpfs", 0)
    try:
        unmount_line(mount_id, False)
    finally:
        syscalls.umount(path)
