# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks on the real kernel: each kind, each change, each thing in the way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import (
    BusyError,
    DefinitionError,
    StrataError,
)
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_info
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import Tree
from ansible_collections.strata.overlay.plugins.module_utils._mount import overlay as overlay_module
from ansible_collections.strata.overlay.plugins.module_utils._mount.overlay import mount_at
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import MountRequest
from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered

BASE = inline("base", etc__os="base", both="base")
APP = inline("app", bin__run="app", both="app")
NEW = inline("app", bin__run="new", both="new")


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app"], **options}


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
def test_stack_is_made_upgraded_unmounted_and_removed_as_announced(host: Host, writable: str) -> None:
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, writable=writable)])
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base"}
    upgraded = host.four_steps(layers=[BASE, NEW], stacks=[stack(host, writable=writable)])
    assert host.tree("web") == {"bin/run": "new", "both": "new", "etc/os": "base"}
    assert upgraded["stacks"][0]["generation"] == 2
    assert (upgraded["stacks"][0]["gap_ms"] > 0) == (writable == "persistent" or not find_abilities().beneath)
    host.four_steps(stacks=[stack(host, writable=writable, state="unmounted")])
    assert host.mounts("web") == []
    host.four_steps(stacks=[{"name": "web", "writable": writable}])
    assert host.tree("web") == {"bin/run": "new", "both": "new", "etc/os": "base"}
    host.four_steps(stacks=[{"name": "web", "state": "absent"}])
    assert host.mounts("web") == []
    assert not os.path.exists(host.path("web")), "the mount point was made for the stack"
    assert not list((host.root / "staging").iterdir())
    assert not list((host.root / "trash").iterdir())


def test_check_mode_before_the_first_run_leaves_nothing(host: Host) -> None:
    announced = host.run(check=True, layers=[BASE, APP], stacks=[stack(host)])
    assert announced["changed"]
    assert list(host.top.iterdir()) == []


def test_writing_to_a_read_only_stack_fails(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    with pytest.raises(OSError, match="Read-only file system"):
        Path(host.path("web"), "new").write_text("x")


@pytest.mark.drivers("overlay")
def test_stack_of_one_layer_is_a_read_only_bind_mount(host: Host) -> None:
    host.four_steps(layers=[BASE], stacks=[stack(host, layers=["base"])])
    (mount,) = host.mounts("web")
    assert mount.fstype != "overlay"
    assert mount.read_only
    with pytest.raises(OSError, match="Read-only file system"):
        Path(host.path("web"), "new").write_text("x")
    host.four_steps(layers=[BASE, APP], stacks=[stack(host)])
    assert host.mounts("web")[0].fstype == "overlay"
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, layers=["base"])])
    assert host.tree("web") == {"both": "base", "etc/os": "base"}


def test_persistent_layer_survives_an_upgrade_and_contents_stay_unchanged(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    below = snapshot(host.root / "content")
    Path(host.path("web"), "note").write_text("mine")
    Path(host.path("web"), "both").write_text("changed")
    Path(host.path("web"), "etc/os").unlink()
    assert snapshot(host.root / "content") == below
    host.run(layers=[BASE, NEW], stacks=[stack(host, writable="persistent")])
    assert host.tree("web") == {"bin/run": "new", "both": "changed", "note": "mine"}


def test_volatile_layer_is_limited_in_size_and_lost_at_an_upgrade(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="volatile", size="1m")])
    Path(host.path("web"), "note").write_text("mine")
    with pytest.raises(OSError, match="No space left"):
        Path(host.path("web"), "big").write_bytes(b"x" * (2 << 20))
    host.run(layers=[BASE, NEW], stacks=[stack(host, writable="volatile", size="1m")])
    assert "note" not in host.tree("web")


def test_written_layer_of_a_removed_stack_is_kept_as_a_detached_upper(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    Path(host.path("web"), "note").write_text("mine")
    stack_id = host.store.stacks()["web"].stack_id
    done = host.four_steps(stacks=[{"name": "web", "state": "absent"}])
    assert "set_aside" in [step["action"] for step in done["plan"]]
    assert (host.root / "overlay2" / stack_id / "diff/note").read_text() == "mine"
    assert (host.root / "strata/aside" / f"{stack_id}.json").exists()
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    assert "note" not in host.tree("web"), "a new stack of the old name begins empty"


@pytest.mark.parametrize("becomes", ["none", "volatile"])
def test_changed_kind_of_writable_layer_starts_empty(host: Host, becomes: str) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    Path(host.path("web"), "note").write_text("mine")
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, writable=becomes)])
    assert "note" not in host.tree("web")
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base"}


def test_stack_with_a_new_path_is_moved(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, path=host.path("elsewhere"))])
    assert host.mounts("web") == []
    assert host.tree("elsewhere")["both"] == "app"


def test_two_stacks_can_swap_paths(host: Host) -> None:
    def both(first: str, second: str) -> list[dict[str, Any]]:
        return [
            {"name": "one", "path": host.path(first), "layers": ["base"]},
            {"name": "two", "path": host.path(second), "layers": ["app"]},
        ]

    host.run(layers=[BASE, APP], stacks=both("a", "b"))
    host.four_steps(layers=[BASE, APP], stacks=both("b", "a"))
    assert host.tree("b") == {"both": "base", "etc/os": "base"}
    assert host.tree("a") == {"bin/run": "app", "both": "app"}


def test_exclusive_removes_undefined_stacks_and_names(host: Host) -> None:
    other = {"name": "other", "path": host.path("other"), "layers": ["base"]}
    host.run(layers=[BASE, APP], stacks=[stack(host), other])
    host.four_steps(layers=[BASE], stacks=[other], exclusive=True)
    assert host.mounts("web") == []
    assert host.tree("other")["both"] == "base"
    assert host.store.names() == ["base"]
    assert list(host.store.stacks()) == ["other"]


def test_whiteouts_and_opaque_directories_hide_the_layers_below(host: Host) -> None:
    hiding = {
        "name": "hiding",
        "files": [
            {"path": "both", "state": "absent"},
            {"path": "etc", "state": "directory", "opaque": True},
            {"path": "etc/only", "content": "this"},
        ],
    }
    host.four_steps(layers=[BASE, hiding], stacks=[stack(host, layers=["base", "hiding"])])
    assert host.tree("web") == {"etc/only": "this"}


# Drift: what someone else has done to a mount.


def test_stack_unmounted_by_hand_is_mounted_again(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    syscalls.umount(host.path("web"))
    done = host.four_steps(layers=[BASE, APP], stacks=[stack(host)])
    assert [step["action"] for step in done["plan"]] == ["mount"]


@pytest.mark.drivers("overlay")
def test_stack_mounted_twice_is_reduced_to_one_mount(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    (mount,) = host.mounts("web")
    again = MountRequest(host.store.home, tuple(mount.lowers()), "", "", "")
    mount_at(again, host.path("web"), find_abilities())
    assert len(host.mounts("web")) == 2
    host.four_steps(layers=[BASE, APP], stacks=[stack(host)])
    assert len(host.mounts("web")) == 1


@pytest.mark.drivers("overlay")
def test_stack_mounted_with_other_layers_is_corrected(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    (mount,) = host.mounts("web")
    syscalls.umount(host.path("web"))
    swapped = MountRequest(host.store.home, tuple(reversed(mount.lowers())), "", "", "")
    mount_at(swapped, host.path("web"), find_abilities())
    assert host.tree("web")["both"] == "base"
    done = host.four_steps(layers=[BASE, APP], stacks=[stack(host)])
    assert "not what the record says" in done["plan"][0]["text"]
    assert host.tree("web")["both"] == "app"


def test_stack_with_another_file_system_mounted_over_it_is_refused(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    syscalls.mount("other", host.path("web"), "tmpfs", 0)
    with pytest.raises(DefinitionError, match=r"another file system \(tmpfs other\) is mounted over the stack"):
        host.run(layers=[BASE, APP], stacks=[stack(host)])
    assert len(host.mounts("web")) == 2


@pytest.mark.parametrize(
    "damage",
    [
        "rm overlay2/{top}/link",
        ": > overlay2/{top}/link",
        ": > overlay2/{top}/lower",
        "rm overlay2/{top}/diff",
        "rm -r overlay2/{top}",
        "rm -r overlay2/{top}/work",
        "rm overlay2/{base}/committed",
        "rm overlay2/l/*",
        "cd overlay2/l && for link in *; do ln -sfn ../nowhere $link; done",
        "rm -r image/overlay2/layerdb/sha256/{top}",
        ": > image/overlay2/layerdb/sha256/{top}/cache-id",
        "rm overlay2/{stack}/upper",
        ": > overlay2/{stack}/lower",
        "rm -r image/overlay2/layerdb/mounts/{stack}",
    ],
)
def test_damage_to_the_store_is_repaired_and_changes_are_kept(host: Host, damage: str) -> None:
    definition: dict[str, Any] = {"layers": [BASE, APP], "stacks": [stack(host, writable="persistent")]}
    result = host.run(**definition)
    Path(host.path("web"), "note").write_text("mine")
    names = {
        "top": result["stacks"][0]["chain_id"][7:],
        "base": result["diff_ids"][0][7:],
        "stack": host.store.stacks()["web"].stack_id,
    }
    subprocess.run(["sh", "-ec", damage.format(**names)], cwd=host.root, check=True)
    syscalls.umount(host.path("web"))
    host.four_steps(**definition)
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base", "note": "mine"}


def test_lost_content_is_imported_again(host: Host) -> None:
    result = host.run(layers=[BASE, APP], stacks=[stack(host)])
    unmount_all(host.top)
    lost = host.root / "content/sha256" / result["diff_ids"][1][7:]
    subprocess.run(["rm", "-r", str(lost)], check=True)
    with pytest.raises(DefinitionError, match="is missing from the store; define its layer with a source again"):
        host.run("stack", name="web")
    host.four_steps(layers=[BASE, APP], stacks=[stack(host)])
    assert host.tree("web")["both"] == "app"


# Busy.


def test_busy_stack_is_refused_with_the_process_that_holds_it(host: Host) -> None:
    def changed(**options: Any) -> dict[str, Any]:
        return {"layers": [BASE, NEW], "stacks": [stack(host, writable="persistent", **options)]}

    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    with subprocess.Popen(["sleep", "600"], cwd=host.path("web")) as holder:
        try:
            for check in (True, False):
                with pytest.raises(BusyError) as failure:
                    host.run(check=check, **changed())
                assert f"sleep (process {holder.pid}) holds {host.path('web')}" in str(failure.value)
            assert host.tree("web")["both"] == "app"
            assert host.store.stacks()["web"].generation == 1
            assert "on_busy: detach" not in str(failure.value), "it would be refused"
            result = host.run(**changed(on_busy="detach", on_change="reset"))
            assert host.tree("web")["both"] == "new"
            assert [held["pid"] for held in result["stacks"][0]["held_by"]] == [holder.pid]
            assert Path(f"/proc/{holder.pid}/cwd/both").read_text() == "app", "it keeps the tree it had"
            Path(f"/proc/{holder.pid}/cwd/both").write_text("kept")
        finally:
            holder.kill()


@pytest.mark.drivers("overlay", "fuse-overlayfs")
@pytest.mark.parametrize("writable", ["none", "volatile"])
def test_processes_in_a_read_only_or_volatile_stack_keep_the_old_tree(host: Host, writable: str) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, writable=writable)])
    with subprocess.Popen(["sleep", "600"], cwd=host.path("web")) as holder:
        try:
            result = host.run(layers=[BASE, NEW], stacks=[stack(host, writable=writable)])
            assert host.tree("web")["both"] == "new"
            assert [held["pid"] for held in result["stacks"][0]["held_by"]] == [holder.pid]
            assert Path(f"/proc/{holder.pid}/cwd/both").read_text() == "app"
            told = stack_info(host.store, "web")
            assert [(held["pid"], held["command"]) for held in told["held_by"]] == [(holder.pid, "sleep")]
            assert (told["mounted"], told["drift"], told["generation"]) == (True, "", 2)
        finally:
            holder.kill()


def test_stack_with_a_mount_inside_is_refused(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    inside = f"{host.path('web')}/etc"
    syscalls.mount("inner", inside, "tmpfs", 0)
    with pytest.raises(BusyError, match=f"mount of tmpfs inner on {inside}"):
        host.run(layers=[BASE, NEW], stacks=[stack(host)])
    syscalls.umount(inside)
    host.run(layers=[BASE, NEW], stacks=[stack(host)])
    assert host.tree("web")["both"] == "new"


# Depth.


@pytest.mark.drivers("overlay")
@pytest.mark.parametrize("depth", [1, 2, 63, 64, 128, 135, 136, 250, 500])
def test_stack_of_any_depth_shows_all_its_layers(host: Host, depth: int) -> None:
    if depth > find_abilities().layer_limit():
        pytest.skip(f"this kernel mounts at most {find_abilities().layer_limit()} layers")
    layers = numbered(depth)
    names = [layer["name"] for layer in layers]
    host.run(layers=layers, stacks=[stack(host, layers=names)])
    assert host.tree("web") == {"top": str(depth - 1), **{f"file{number}": str(number) for number in range(depth)}}
    assert len(host.mounts("web")[0].lowers()) == (depth if depth > 1 else 0)
    assert not host.run(layers=layers, stacks=[stack(host, layers=names)])["changed"]


def test_stack_of_501_layers_is_refused_and_changes_nothing(host: Host) -> None:
    names = ["base", "app"] * 250
    with pytest.raises(DefinitionError, match="option 'layers' has 501 layers; the kernel takes at most 500"):
        host.run(layers=[BASE, APP], stacks=[stack(host, layers=[*names, "base"])])
    assert not host.root.exists()


@pytest.mark.parametrize("writable", ["none", "persistent"])
def test_kernel_without_lowerdir_append_mounts_up_to_its_layer_limit(
    host: Host, writable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    abilities = find_abilities()
    old = Abilities(abilities.release, True, False, abilities.userxattr, abilities.page_size)
    module = "ansible_collections.strata.overlay.plugins.module_utils._run.inspect"
    monkeypatch.setattr(f"{module}.find_abilities", lambda: old)
    limit = old.layer_limit()
    # As root of a user namespace, the option userxattr takes the room of one more.
    assert limit == 135 - abilities.userxattr if abilities.page_size == 4096 else limit > 135
    layers = numbered(limit + 1)
    names = [layer["name"] for layer in layers]
    host.run(layers=layers, stacks=[stack(host, layers=names[:limit], writable=writable)])
    assert len(host.mounts("web")[0].lowers()) == limit
    assert not host.run(layers=layers, stacks=[stack(host, layers=names[:limit], writable=writable)])["changed"]
    with pytest.raises(DefinitionError, match=f"has {limit + 1} layers; this kernel .* mounts at most {limit}"):
        host.run(layers=layers, stacks=[stack(host, layers=names, writable=writable)])


# When the kernel says no.


def test_stack_whose_new_tree_cannot_be_mounted_shows_the_old_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    before = host.store.stacks()["web"]
    real = overlay_module.build

    def refuse_the_new_one(request: MountRequest, scratch: str, abilities: Abilities) -> Tree:
        if Path(request.lowers[0], "both").read_text() == "new":
            raise OSError(5, "Input/output error", request.lowers[0])
        return real(request, scratch, abilities)

    monkeypatch.setattr(overlay_module, "build", refuse_the_new_one)
    with pytest.raises(StrataError, match="stack web: cannot switch .*: Input/output error .* shows the tree"):
        host.run(layers=[BASE, NEW], stacks=[stack(host)])
    assert host.tree("web")["both"] == "app"
    assert host.store.stacks()["web"] == before
    monkeypatch.undo()
    host.run(layers=[BASE, NEW], stacks=[stack(host)])
    assert host.tree("web")["both"] == "new"


@pytest.mark.drivers("overlay", "fuse-overlayfs")
def test_persistent_stack_whose_new_tree_fails_gets_the_old_one_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    before = host.store.stacks()["web"]
    real = overlay_module.mount_at

    def refuse_the_new_one(request: MountRequest, target: str, abilities: Abilities) -> None:
        if Path(request.lowers[0], "both").read_text() == "new":
            raise OSError(5, "Input/output error", request.lowers[0])
        real(request, target, abilities)

    monkeypatch.setattr(overlay_module, "mount_at", refuse_the_new_one)
    with pytest.raises(StrataError, match="stack web: cannot mount .*: Input/output error .* is mounted again"):
        host.run(layers=[BASE, NEW], stacks=[stack(host, writable="persistent")])
    assert host.tree("web")["both"] == "app"
    assert host.store.stacks()["web"] == before
    monkeypatch.undo()
    host.run(layers=[BASE, NEW], stacks=[stack(host, writable="persistent")])
    assert host.tree("web")["both"] == "new"
