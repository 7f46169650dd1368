# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks that change while they are read."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import Tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.quota import quota_fault
from ansible_collections.strata.overlay.plugins.module_utils._mount import overlay as overlay_module
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import MountRequest
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered
from ansible_collections.strata.overlay.tests.integration.privileges import is_full_root
from ansible_collections.strata.overlay.tests.integration.readers import Readers

BASE = inline("base", etc__os="base", both="base")
APP = inline("app", bin__run="app", both="app")
NEW = inline("app", bin__run="new", both="new")

beneath = pytest.mark.skipif(not find_abilities().beneath, reason="this kernel puts no mount beneath another (6.5)")


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app"], **options}


@beneath
@pytest.mark.parametrize("writable", ["none", "volatile"])
def test_readers_always_see_the_whole_old_or_the_whole_new_tree(host: Host, writable: str) -> None:
    base = [layer["name"] for layer in numbered(60)]
    generations = [inline(f"v{number}", one=str(number), two=str(number)) for number in range(2)]
    layers = [*numbered(60), *generations]

    def show(number: int) -> dict[str, Any]:
        return host.run(layers=layers, stacks=[stack(host, layers=[*base, f"v{number}"], writable=writable)])

    show(0)
    with Readers(host.path("web"), ("one", "two"), processes=4) as readers:
        gaps = [show(number % 2)["stacks"][0]["gap_ms"] for number in range(1, 21)]
        reads = readers.stop()
    assert gaps == [0] * 20
    assert reads.errors == []
    assert reads.mixed == 0
    assert reads.count > 100
    assert len(host.mounts("web")) == 1


def test_single_layer_is_switched_without_a_gap(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, layers=["base"])])
    for names in (["app"], ["base", "app"], ["base"]):
        done = host.four_steps(layers=[BASE, APP], stacks=[stack(host, layers=names)])
        assert [step["action"] for step in done["plan"] if "mount" in step["action"]] == []
        assert done["stacks"][0]["gap_ms"] == 0
        assert len(host.mounts("web")) == 1


def without(monkeypatch: pytest.MonkeyPatch, **abilities: Any) -> None:
    """Let the kernel seem older than it is."""
    found = find_abilities()._replace(**abilities)
    module = "ansible_collections.strata.overlay.plugins.module_utils._run.inspect"
    monkeypatch.setattr(f"{module}.find_abilities", lambda: found)


@pytest.mark.parametrize("writable", ["none", "volatile"])
def test_switch_without_mounting_beneath_has_a_gap(host: Host, writable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, beneath=False)
    host.run(layers=[BASE, APP], stacks=[stack(host, writable=writable)])
    done = host.four_steps(layers=[BASE, NEW], stacks=[stack(host, writable=writable)])
    assert done["stacks"][0]["gap_ms"] > 0
    assert host.tree("web")["both"] == "new"
    assert len(host.mounts("web")) == 1


@beneath
@pytest.mark.parametrize("writable", ["none", "volatile"])
def test_switch_without_lowerdir_append_has_no_gap(host: Host, writable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, lowerdir_append=False)
    host.run(layers=[BASE, APP], stacks=[stack(host, writable=writable)])
    done = host.four_steps(layers=[BASE, NEW], stacks=[stack(host, writable=writable)])
    assert done["stacks"][0]["gap_ms"] == 0
    assert host.tree("web")["both"] == "new"
    assert len(host.mounts("web")) == 1
    assert not list((host.root / "staging").iterdir())


@beneath
@pytest.mark.parametrize("layers", [["base"], ["base", "app"]])
def test_switch_below_a_shared_mount_reaches_other_namespaces(host: Host, layers: list[str]) -> None:
    """As systemd has it: `/` is shared, and services with a namespace of their own are its slaves."""
    shared = host.top / "srv"
    shared.mkdir()
    syscalls.mount("shared", str(shared), "tmpfs", 0)
    syscalls.mount("", str(shared), None, mount_flags.MS_SHARED)
    host.run(layers=[BASE, APP], stacks=[stack(host, layers=layers)])
    with subprocess.Popen(["unshare", "--mount", "--propagation", "slave", "sleep", "600"]) as service:
        try:
            theirs = Path(f"/proc/{service.pid}/root{host.path('web')}/both")
            here = os.readlink("/proc/self/ns/mnt")
            until(lambda: os.readlink(f"/proc/{service.pid}/ns/mnt") != here and theirs.exists())
            assert theirs.read_text() == layers[-1]
            done = host.four_steps(layers=[BASE, NEW], stacks=[stack(host)])
            assert done["stacks"][0]["gap_ms"] == 0
            assert theirs.read_text() == "new"
            table = Path(f"/proc/{service.pid}/mountinfo").read_text()
            assert table.count(host.path("web")) == 1
            host.run(layers=[BASE, NEW], stacks=[stack(host, propagation="private")])
            assert [mount.optional for mount in host.mounts("web")] == [()]
            assert Path(f"/proc/{service.pid}/mountinfo").read_text().count(host.path("web")) == 1
        finally:
            service.kill()


def until(true: Callable[[], bool]) -> None:
    for _attempt in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come true")


@pytest.mark.drivers("overlay")
@beneath
def test_old_tree_stays_when_the_new_one_shows_other_layers(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    before = host.store.stacks()["web"]
    real = overlay_module.build

    def lose_a_layer(request: MountRequest, scratch: str, abilities: Abilities) -> Tree:
        return real(replace(request, lowers=request.lowers[::-1]), scratch, abilities)

    monkeypatch.setattr(overlay_module, "build", lose_a_layer)
    with pytest.raises(StrataError, match="mounted something else than it was asked for: it shows other layers"):
        host.run(layers=[BASE, NEW], stacks=[stack(host)])
    monkeypatch.undo()
    assert host.tree("web")["both"] == "app"
    assert len(host.mounts("web")) == 1
    assert host.store.stacks()["web"] == before
    assert not host.run("stack", name="web")["changed"]


@beneath
def test_failed_volatile_switch_leaves_only_the_old_layer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="volatile")])
    before = host.store.stacks()["web"]
    Path(host.path("web"), "note").write_text("mine")

    def refuse(_request: MountRequest, _scratch: str, _abilities: Abilities) -> Tree:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(overlay_module, "build", refuse)
    with pytest.raises(StrataError, match="cannot switch"):
        host.run(layers=[BASE, NEW], stacks=[stack(host, writable="volatile")])
    monkeypatch.undo()
    assert host.tree("web")["note"] == "mine"
    assert host.store.stacks()["web"] == before
    assert list((host.root / "strata/aside").iterdir()) == []
    assert os.listdir(host.root / "image/overlay2/layerdb/mounts") == [before.stack_id]
    host.run(layers=[BASE, NEW], stacks=[stack(host, writable="volatile")])
    assert list((host.root / "strata/aside").iterdir()) == []
    assert len(os.listdir(host.root / "image/overlay2/layerdb/mounts")) == 1


# Kills.


@beneath
@pytest.mark.parametrize("writable", ["none", "volatile"])
@pytest.mark.parametrize("at", ["build", "Tree.attach", "umount"])
def test_killed_switch_is_finished_by_the_next_run(host: Host, writable: str, at: str) -> None:
    """In a process of its own, which really ends there."""
    definition: dict[str, Any] = {"layers": [BASE, NEW], "stacks": [stack(host, writable=writable)]}
    host.run(layers=[BASE, APP], stacks=[stack(host, writable=writable)])
    child = os.fork()
    if child == 0:
        _run_and_die(host, at, definition)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert host.tree("web")["both"] in ("app", "new")
    assert host.run(**definition)["changed"]
    assert host.tree("web")["both"] == "new"
    assert len(host.mounts("web")) == 1
    again = host.run(**definition)
    assert (again["changed"], again["plan"]) == (False, [])


def _run_and_die(host: Host, at: str, definition: dict[str, Any]) -> None:
    def die(*_arguments: object, **_named: object) -> NoReturn:
        os._exit(9)

    try:
        if at == "Tree.attach":
            Tree.attach = die  # type: ignore[method-assign]
        else:
            setattr(overlay_module if at == "build" else syscalls, at, die)
        host.run(**definition)
    finally:
        os._exit(1)


# Generations.


def test_stack_goes_back_to_earlier_generations_and_forward_again(host: Host) -> None:
    old: dict[str, Any] = {"layers": [BASE, APP], "stacks": [stack(host, writable="persistent", generations=4)]}
    new: dict[str, Any] = {**old, "layers": [BASE, NEW]}
    host.run(**old)
    Path(host.path("web"), "note").write_text("mine")
    host.run(**new)
    back = host.four_steps("stack", name="web", generation="previous")
    assert back["stacks"][0]["generation"] == 3
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base", "note": "mine"}
    record = host.store.stacks()["web"]
    assert [(one.number, one.back_to) for one in record.history] == [(3, 1), (2, 0), (1, 0)]
    assert (record.writable, record.keep, record.mounted) == ("persistent", 4, True)
    # The definition is the truth.
    assert host.four_steps(**new)["stacks"][0]["generation"] == 4
    assert host.tree("web")["both"] == "new"
    host.four_steps("stack", name="web", generation="1")
    assert host.tree("web")["both"] == "app"
    host.run(**new)
    assert [one.number for one in host.store.stacks()["web"].history] == [6, 5, 4, 3]
    with pytest.raises(DefinitionError, match=r"has no generation 1; there are: 6 \(base, app\), 5 \(base, app\), 4"):
        host.run("stack", name="web", generation="1")


def test_generation_with_unlinked_layers_is_linked_again(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    top = host.run(layers=[BASE, APP], stacks=[stack(host)])["stacks"][0]["chain_id"][7:]
    host.run(layers=[BASE, NEW], stacks=[stack(host)])
    for part in (f"overlay2/{top}", f"image/overlay2/layerdb/sha256/{top}"):
        subprocess.run(["rm", "-r", str(host.root / part)], check=True)
    done = host.four_steps("stack", name="web", generation="previous")
    assert "link_layer" in [step["action"] for step in done["plan"]]
    assert host.tree("web")["both"] == "app"


def test_stack_of_one_generation_cannot_go_back(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    with pytest.raises(DefinitionError, match=r"has no generation before this one; there is: 1 \(base, app\)"):
        host.run("stack", name="web", generation="previous")


# Writable layers.


def test_reset_keeps_the_old_writable_layer_as_a_detached_upper(host: Host) -> None:
    options: dict[str, Any] = {"writable": "persistent", "on_change": "reset"}
    host.run(layers=[BASE, APP], stacks=[stack(host, **options)])
    first = host.store.stacks()["web"].stack_id
    Path(host.path("web"), "note").write_text("mine")
    assert not host.run(layers=[BASE, APP], stacks=[stack(host, **options)])["changed"]
    host.four_steps(layers=[BASE, NEW], stacks=[stack(host, **options)])
    assert host.tree("web") == {"bin/run": "new", "both": "new", "etc/os": "base"}
    assert (host.root / "overlay2" / first / "diff/note").read_text() == "mine"
    assert (host.root / "strata/aside" / f"{first}.json").exists()


def test_persistent_size_without_project_quota_is_refused(host: Host) -> None:
    if not quota_fault(str(host.top)):
        pytest.skip("this file system has project quota")
    with pytest.raises(DefinitionError, match="option 'size' cannot limit a persistent layer in .* no project quota"):
        host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent", size="10m")])
    assert not host.root.exists()


# How a mount is.


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
@pytest.mark.parametrize("layers", [["base"], ["base", "app"]])
def test_mount_options_are_set_restored_and_removed(host: Host, writable: str, layers: list[str]) -> None:
    options = ["nosuid", "nodev", "noexec", "noatime"]
    if not is_full_root():
        options.remove("noatime")  # of a file system that it has not mounted itself, this root may not change it
    asked: dict[str, Any] = {"mount_options": options, "propagation": "private"}
    definition: dict[str, Any] = {
        "layers": [BASE, APP],
        "stacks": [stack(host, writable=writable, layers=layers, **asked)],
    }
    host.four_steps(**definition)
    (mount,) = host.mounts("web")
    assert set(options) <= set(mount.options)
    syscalls.mount("", host.path("web"), None, mount_flags.MS_SHARED)
    told = host.four_steps(**definition)["plan"]
    assert any("without propagation private" in step["text"] for step in told)
    read_only = 0 if writable != "none" else mount_flags.MS_RDONLY
    syscalls.mount(
        "", host.path("web"), None, mount_flags.MS_REMOUNT | mount_flags.MS_BIND | read_only | mount_flags.MS_NODEV
    )
    told = host.four_steps(**definition)["plan"]
    assert any("without noexec, nosuid" in step["text"] for step in told)
    without_them: dict[str, Any] = {"layers": [BASE, APP], "stacks": [stack(host, writable=writable, layers=layers)]}
    host.four_steps(**without_them)
    assert "nosuid" not in host.mounts("web")[0].options


@pytest.mark.parametrize("writable", ["persistent", "volatile"])
def test_owner_and_mode_of_the_top_directory_are_set_and_restored(host: Host, writable: str) -> None:
    if syscalls.in_user_namespace():
        pytest.skip("a user namespace of one user cannot change owners")
    asked: dict[str, Any] = {"owner": 1000, "group": 1001, "mode": "0750", "writable": writable}

    def top() -> tuple[int, int, int]:
        facts = os.stat(host.path("web"))
        return facts.st_uid, facts.st_gid, facts.st_mode & 0o7777

    host.four_steps(layers=[BASE, APP], stacks=[stack(host, **asked)])
    assert top() == (1000, 1001, 0o750)
    os.chmod(host.path("web"), 0o700)
    os.chown(host.path("web"), 0, 0)
    done = host.four_steps(layers=[BASE, APP], stacks=[stack(host, **asked)])
    assert [step["text"] for step in done["plan"]] == [f"set owner 1000, group 1001, mode 0750 of {host.path('web')}"]
    assert top() == (1000, 1001, 0o750)
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, **{**asked, "mode": "1777"})])
    assert top() == (1000, 1001, 0o1777)


def test_mode_of_a_read_only_stack_is_refused(host: Host) -> None:
    with pytest.raises(DefinitionError, match="options 'owner', 'group' and 'mode' need writable"):
        host.run(layers=[BASE, APP], stacks=[stack(host, mode="0750")])
    assert not host.root.exists()


def test_context_without_selinux_is_refused(host: Host) -> None:
    if find_abilities().selinux:
        pytest.skip("SELinux is in force here")
    with pytest.raises(DefinitionError, match="option 'context' needs SELinux"):
        host.run(layers=[BASE, APP], stacks=[stack(host, context="system_u:object_r:container_file_t:s0")])


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
@pytest.mark.parametrize("layers", [["base"], ["base", "app"]])
def test_idmap_maps_the_owners_of_layers(host: Host, writable: str, layers: list[str]) -> None:
    host.needs_idmap()
    asked: dict[str, Any] = {
        "idmap": {"uid": "0:100000:65536", "gid": "0:200000:65536"},
        "writable": writable,
        "layers": layers,
    }
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, **asked)])
    facts = os.stat(f"{host.path('web')}/both")
    assert (facts.st_uid, facts.st_gid) == (100000, 200000)
    assert os.stat(host.root / "content").st_uid == 0
    assert len(host.mounts("web")) == 1
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, **{**asked, "idmap": None})])
    assert os.stat(f"{host.path('web')}/both").st_uid == 0


@pytest.mark.drivers("overlay")
def test_missing_idmap_is_reported_and_restored(host: Host) -> None:
    host.needs_idmap()
    definition: dict[str, Any] = {
        "layers": [BASE, APP],
        "stacks": [stack(host, idmap={"uid": "0:100000:65536", "gid": "0:200000:65536"})],
    }
    host.run(**definition)
    (mount,) = host.mounts("web")
    syscalls.umount(host.path("web"))
    request = MountRequest(host.store.home, tuple(mount.lowers()), "", "", "")
    overlay_module.mount_at(request, host.path("web"), find_abilities())
    told = host.four_steps(**definition)["plan"]
    assert "the owners of its files are not mapped as they should be" in told[0]["text"]
