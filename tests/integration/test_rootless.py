# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A store and stacks of an ordinary user: the same modules, run by Ansible as a user without any rights of root."""

from __future__ import annotations

import io
import os
import shutil
import signal
import stat
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._linux.trust import OWN_SPACE
from ansible_collections.strata.overlay.plugins.module_utils._linux.userns import enter_own
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.ordinary_user import FIRST, ID, NAME, Ordinary, ordinary_user
from ansible_collections.strata.overlay.tests.integration.privileges import is_full_root

BASE = inline("base", etc__os="base", both="base")
APP = inline("app", bin__run="app", both="app")
FUSE = "fuse-overlayfs"
NEW = inline("app", bin__run="new", both="new")


@pytest.fixture
def user(host: Host, ansible: Ansible) -> Iterator[Ordinary]:
    if not is_full_root() or shutil.which("newuidmap") is None:
        pytest.skip("needs root of this machine, who can be any user, and newuidmap of the package uidmap")
    with ordinary_user(host.top, ansible) as person:
        yield person


def stack(user: Ordinary, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": user.path("web"), "layers": ["base", "app"], **options}


def well(result: dict[str, Any]) -> dict[str, Any]:
    assert "msg" not in result, result["msg"]
    return result


def read(user: Ordinary, keeper: int, name: str) -> str:
    done = user.inside(keeper, "cat", name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def owned(path: Path) -> None:
    """An archive with files of several owners."""
    with tarfile.open(path, "w") as archive:
        for name, uid in (("roots", 0), ("ones", 1), ("wwws", 33), ("last", 65536)):
            member = tarfile.TarInfo(name)
            member.uid = member.gid = uid
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))


@pytest.mark.parametrize(
    ("writable", "driver"),
    [
        *(("none", "overlay"), ("persistent", "overlay"), ("volatile", "overlay"), ("none", "copy")),
        *(("none", FUSE), ("persistent", FUSE), ("volatile", FUSE)),
    ],
)
def test_stack_of_a_user_is_made_upgraded_and_removed_as_announced(user: Ordinary, writable: str, driver: str) -> None:
    asked = {"layers": [BASE, APP], "stacks": [stack(user, writable=writable, driver=driver)]}
    announced = well(user.module("apply", check=True, **asked))
    assert announced["changed"]
    assert user.processes() == [], "check mode left a process"
    assert not os.path.exists(user.root)
    done = well(user.module("apply", **asked))
    assert "keeper" in done, (done, os.stat(user.root).st_uid)
    keeper = done["keeper"]
    assert announced["plan"] == done["plan"]
    servers = set(user.processes()) - {keeper}
    assert len(servers) == (driver == FUSE)
    assert os.listdir(user.path("web")) == [], "the mount is seen in the user's namespace alone"
    assert read(user, keeper, f"{user.path('web')}/both") == "app"
    again = well(user.module("apply", **asked))
    assert (again["changed"], again["keeper"]) == (False, keeper)
    upgraded = well(user.module("apply", layers=[NEW], stacks=[stack(user, writable=writable, driver=driver)]))
    assert upgraded["changed"]
    assert read(user, keeper, f"{user.path('web')}/both") == "new"
    gone = well(user.module("apply", stacks=[{"name": "web", "state": "absent"}]))
    assert gone["changed"]
    assert not os.path.exists(user.path("web"))
    assert not [mount for mount in mountinfo.read() if str(user.home) in mount.path]


def test_ansible_makes_a_stack_of_a_user_as_announced_and_removes_it(user: Ordinary) -> None:
    """The one that shows the way there; what modules do then is the same by any way."""
    archive = user.home / "owned.tar"
    owned(archive)
    layers = [{"name": "owned", "src": str(archive)}, APP]
    asked = {"layers": layers, "stacks": [stack(user, layers=["owned", "app"], writable="persistent")]}
    announced = well(user.by_ansible("apply", "--check", **asked))
    assert announced["changed"]
    assert user.processes() == [], "check mode left a process"
    done = well(user.by_ansible("apply", **asked))
    assert announced["plan"] == done["plan"]
    assert user.processes() == [done["keeper"]]
    assert read(user, done["keeper"], f"{user.path('web')}/both") == "app"
    again = well(user.by_ansible("apply", **asked))
    assert (again["changed"], again["keeper"]) == (False, done["keeper"])
    assert well(user.by_ansible("apply", stacks=[{"name": "web", "state": "absent"}]))["changed"]
    assert not os.path.exists(user.path("web"))


def test_noatime_on_a_stack_of_one_layer_is_refused_with_the_reason(user: Ordinary) -> None:
    """Where a stack is one directory, the kernel locks them; the message has to say which option it is."""
    asked = {"layers": [BASE], "stacks": [stack(user, layers=["base"], mount_options=["nodev", "noatime"])]}
    refused = user.module("apply", **asked)["msg"]
    assert "stack web: cannot mount" in refused
    assert "option 'mount_options': a user namespace cannot change" in refused
    assert "Leave out noatime" in refused
    assert "Nothing is mounted there" in refused
    asked["stacks"][0]["mount_options"].remove("noatime")
    well(user.module("apply", **asked))


def test_owners_are_mapped_to_subordinate_ids(user: Ordinary) -> None:
    archive = user.home / "owned.tar"
    owned(archive)
    layers = [{"name": "owned", "src": str(archive), "remote_src": True}, APP]
    done = well(user.module("apply", layers=layers, stacks=[stack(user, layers=["owned", "app"])]))
    shown = user.inside(
        done["keeper"], "stat", "-c", "%u", *(f"{user.path('web')}/{name}" for name in ("roots", "wwws"))
    )
    assert shown.stdout.split() == ["0", "33"]
    contents = Path(user.root, "content/sha256")
    on_disk = {path.name: path.lstat().st_uid for path in contents.glob("*/*")}
    assert (on_disk["roots"], on_disk["ones"], on_disk["wwws"]) == (ID, FIRST, FIRST + 32)
    assert on_disk["last"] == FIRST + 65535


def test_file_with_owner_beyond_the_subordinate_ids_is_refused_by_name(user: Ordinary) -> None:
    archive = user.home / "owned.tar"
    with tarfile.open(archive, "w") as made:
        member = tarfile.TarInfo("far")
        member.uid = 65537
        made.addfile(member)
    failed = user.module(
        "apply", layers=[{"name": "far", "src": str(archive), "remote_src": True}], stacks=[stack(user, layers=["far"])]
    )
    assert not failed["changed"]
    assert "far" in failed["msg"]
    assert "65537" in failed["msg"]
    assert "subuid(5)" in failed["msg"]


def test_device_file_is_refused_by_name(user: Ordinary) -> None:
    archive = user.home / "device.tar"
    with tarfile.open(archive, "w") as made:
        member = tarfile.TarInfo("null")
        member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
        made.addfile(member)
    failed = user.module(
        "apply", layers=[{"name": "dev", "src": str(archive), "remote_src": True}], stacks=[stack(user, layers=["dev"])]
    )
    assert not failed["changed"]
    assert "'null'" in failed["msg"]
    assert "root" in failed["msg"]


def test_fuse_server_keeps_the_namespaces_when_the_keeper_is_killed(user: Ordinary) -> None:
    """Or another run would mount the same writable layer in namespaces of its own."""
    asked = {"layers": [BASE, APP], "stacks": [stack(user, writable="persistent", driver=FUSE)]}
    keeper = well(user.module("apply", **asked))["keeper"]
    (server,) = set(user.processes()) - {keeper}
    os.kill(keeper, signal.SIGKILL)
    while keeper in user.processes():
        time.sleep(0.01)
    again = well(user.module("apply", **asked))
    assert (again["changed"], again["keeper"]) == (False, server)
    assert read(user, server, f"{user.path('web')}/both") == "app"


def test_mounts_are_restored_after_their_keeper_has_ended(user: Ordinary) -> None:
    asked = {"layers": [BASE, APP], "stacks": [stack(user, writable="persistent")]}
    keeper = well(user.module("apply", **asked))["keeper"]
    assert user.inside(keeper, "sh", "-c", f"echo kept > {user.path('web')}/new").returncode == 0
    user.end()
    again = well(user.module("apply", **asked))
    assert [step["action"] for step in again["plan"]] == ["mount"]
    assert again["keeper"] != keeper
    assert read(user, again["keeper"], f"{user.path('web')}/new") == "kept\n"
    told = well(user.module("stack_info", name="web", changes=True))
    assert [(change["kind"], change["path"]) for change in told["changes"]] == [("A", "/new")]
    kept = well(user.module("commit", stack="web", name="kept"))
    assert kept["changed"]
    assert read(user, again["keeper"], f"{user.path('web')}/new") == "kept\n"


def test_prune_check_and_info_work_on_a_store_of_a_user(user: Ordinary) -> None:
    keeper = well(user.module("apply", layers=[BASE, APP], stacks=[stack(user)]))["keeper"]
    first = well(user.module("prune"))
    assert (first["removed"], first["notes"]) == ([], [])
    well(user.module("apply", layers=[BASE, NEW], stacks=[stack(user, generations=1)]))
    pruned = well(user.module("prune"))
    assert {removal["kind"] for removal in pruned["removed"]} >= {"content", "layer"}, pruned
    assert well(user.module("store_check", deep=True))["findings"] == []
    assert well(user.module("store_info"))["keeper"] == keeper
    assert read(user, keeper, f"{user.path('web')}/both") == "new"


def test_two_runs_at_once_share_one_namespace(user: Ordinary) -> None:
    results: list[dict[str, Any]] = []

    def run(name: str) -> None:
        asked = {**stack(user), "name": name, "path": user.path(name)}
        results.append(user.module("apply", layers=[BASE, APP], stacks=[asked], lock_timeout=60))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (keeper,) = {well(result)["keeper"] for result in results}
    assert user.processes() == [keeper]
    for name in ("one", "two"):
        assert read(user, keeper, f"{user.path(name)}/both") == "app"


def test_process_that_keeps_namespaces_is_marked_before_the_next_run_may_look(user: Ordinary) -> None:
    process = os.fork()
    if process == 0:
        marked = False
        try:
            user.become()
            keeper = enter_own(user.root, keep=True)
            marked = Path(f"/proc/{keeper}/environ").read_bytes().startswith(f"{OWN_SPACE}=kept\0".encode())
        finally:
            os._exit(0 if marked else 1)
    assert os.waitpid(process, 0)[1] == 0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"root": "/var/lib/strata-of-root"}, f"is not for {NAME}, who cannot write to /var/lib. Run as root"),
        ({"services": ["strata-test"]}, "option 'services' needs systemd, which does not run this host or does not"),
        ({"size": "1m", "writable": "persistent"}, "option 'size' cannot limit a persistent layer"),
    ],
)
def test_options_impossible_for_a_user_are_refused_before_any_change(
    user: Ordinary, asked: dict[str, Any], told: str
) -> None:
    root = asked.pop("root", user.root)
    failed = user.module("apply", root=root, layers=[BASE, APP], stacks=[stack(user, **asked)])
    assert not failed["changed"]
    assert told in failed["msg"]
    assert not os.path.exists(root)


def test_user_without_subordinate_ids_is_refused_with_the_remedy(user: Ordinary) -> None:
    Path("/etc/subuid").write_text("")
    failed = user.module("apply", layers=[BASE, APP], stacks=[stack(user)])
    assert not failed["changed"]
    assert f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {NAME}" in failed["msg"]
    Path("/etc/subuid").write_text(f"{NAME}:{ID}:1\n")
    program = Path("/usr/bin/newuidmap")
    assert stat.S_IMODE(program.stat().st_mode) & stat.S_ISUID or os.getxattr(program, "security.capability")
    assert not os.path.exists(user.root)
    assert user.processes() == []


def test_boot_of_a_user_stack_is_reported_as_no_helper(user: Ordinary) -> None:
    done = well(user.module("apply", layers=[BASE, APP], stacks=[stack(user, boot=True)]))
    assert done["stacks"][0]["boot"] == "no_helper"
