# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks whose layers are one copied tree: the same tree as the kernel's overlay, and the same care for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import Call
from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import mount as mount_by_helper
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import copy_id, hex_of
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import (
    DefinitionError,
    StrataError,
    UnhealthyError,
)
from ansible_collections.strata.overlay.plugins.module_utils._export.export import export
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_info
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._run import inspect
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered
from ansible_collections.strata.overlay.tests.integration.random_changes import run_script, scripts, tar_layers
from ansible_collections.strata.overlay.tests.integration.readers import Readers
from ansible_collections.strata.overlay.tests.integration.trees import assert_same, tree_of
from hypothesis import HealthCheck, given, settings

BASE = inline("base", etc__os="base", both="base")
APP = inline("app", bin__run="app", both="app")
NEW = inline("app", bin__run="new", both="new")
TIMES = int(os.environ.get("FUZZ", "1"))


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app"], "driver": "copy", **options}


def copy_of(result: dict[str, Any]) -> str:
    """The content that is the copy of the layers of a result's only stack."""
    return copy_id(result["diff_ids"])


def test_check_mode_announces_each_step_and_second_run_changes_nothing(host: Host) -> None:
    done = host.four_steps(layers=[BASE, APP], stacks=[stack(host)])
    assert [step["action"] for step in done["plan"]].count("import_content") == 3
    assert (done["stacks"][0]["driver"], done["stacks"][0]["driver_reason"]) == ("copy", "the definition asks for it")
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base"}
    assert [mount.fstype == "overlay" for mount in host.mounts("web")] == [False]
    with pytest.raises(OSError, match="Read-only file system"):
        Path(host.path("web"), "new").write_text("x")
    upgraded = host.four_steps(layers=[BASE, NEW], stacks=[stack(host)])
    assert host.tree("web") == {"bin/run": "new", "both": "new", "etc/os": "base"}
    assert (upgraded["stacks"][0]["gap_ms"] > 0) == (not find_abilities().beneath)
    host.four_steps(stacks=[stack(host, state="unmounted")])
    assert host.mounts("web") == []
    kept = host.four_steps(stacks=[{"name": "web"}])
    assert (kept["stacks"][0]["driver"], kept["stacks"][0]["driver_reason"]) == ("copy", "it is what the stack has")
    assert host.tree("web") == {"bin/run": "new", "both": "new", "etc/os": "base"}
    assert stack_info(host.store, "web")["driver"] == "copy", "what is left out stays as it is"
    host.four_steps(stacks=[{"name": "web", "state": "absent"}])
    assert host.mounts("web") == []
    assert not list((host.root / "staging").iterdir())
    assert not list((host.root / "trash").iterdir())


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=scripts)
def test_copy_shows_the_same_tree_as_overlay(host: Host, script: list[Any]) -> None:
    """Whiteouts, opaque directories, hard links, devices, attributes: above three layers one of random changes."""
    layers = tar_layers(host.top)
    names = [layer["name"] for layer in layers]
    web = {"name": "web", "path": host.path("web"), "layers": names, "writable": "persistent"}
    host.run(layers=layers, stacks=[web])
    run_script(Path(host.path("web")), script)
    commit({"root": str(host.root), "stack": "web", "name": "kept"}, False)
    both = [
        {"name": driver, "path": host.path(driver), "layers": [*names, "kept"], "driver": driver}
        for driver in ("overlay", "copy")
    ]
    host.run(stacks=both)
    assert_same(tree_of(Path(host.path("copy"))), tree_of(Path(host.path("overlay"))))
    assert host.check(deep=True)["findings"] == []
    unmount_all(host.top)
    shutil.rmtree(host.root)


def test_switch_between_copy_and_overlay_keeps_the_generation(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, driver="overlay")])
    with Readers(host.path("web"), ["both"], 2) as readers:
        for driver in ("copy", "overlay", "copy"):
            moved = host.four_steps(stacks=[stack(host, driver=driver)])
            assert moved["stacks"][0]["generation"] == 1
            assert [mount.fstype == "overlay" for mount in host.mounts("web")] == [driver == "overlay"]
        seen = readers.stop()
    if find_abilities().beneath:
        assert (seen.mixed, seen.errors) == (0, [])


def test_prune_keeps_only_the_copy_that_is_shown(host: Host) -> None:
    first = host.run(layers=[BASE, APP], stacks=[stack(host)])
    assert not host.prune()["changed"]
    second = host.run(layers=[BASE, NEW], stacks=[stack(host)])
    removed = {removal["id"] for removal in host.prune()["removed"]}
    assert copy_of(first) in removed, "a copy of an old generation can be made again"
    assert not {copy_of(second), *second["diff_ids"], *first["diff_ids"]} & removed
    assert host.tree("web")["both"] == "new"
    assert host.check(deep=True)["findings"] == []
    back = host.run("stack", name="web", generation="previous")
    assert back["stacks"][0]["driver"] == "copy"
    assert host.tree("web")["both"] == "app"
    host.run(stacks=[stack(host, state="absent")])
    assert {copy_of(first), copy_of(second)} <= {removal["id"] for removal in host.prune()["removed"]}


def test_prune_in_the_run_that_mounts_a_copy_keeps_it(host: Host) -> None:
    done = host.run(layers=[BASE, APP], stacks=[stack(host)], prune={})
    assert done["removed"] == []
    assert host.tree("web")["both"] == "app"
    host.run(stacks=[stack(host, state="absent")])
    for check in (True, False):
        again = host.run(check=check, stacks=[stack(host)], prune={})
        assert again["changed"]
        assert again["removed"] == [], "it is used again"
    assert host.tree("web")["both"] == "app"


def test_lost_copy_is_found_and_made_again(host: Host) -> None:
    done = host.run(layers=[BASE, APP], stacks=[stack(host)])
    unmount_all(host.top)
    shutil.rmtree(host.store.content(copy_of(done)))
    findings = host.check()["findings"]
    assert ("content_missing", copy_of(done)) in [(finding["kind"], finding["object"]) for finding in findings]
    host.four_steps(stacks=[stack(host)])
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base"}
    assert host.check(deep=True)["findings"] == []


def test_lost_layer_of_a_copy_is_found_and_repaired(host: Host) -> None:
    done = host.run(layers=[BASE, APP], stacks=[stack(host)])
    unmount_all(host.top)
    for path in (host.store.layer(hex_of(copy_of(done))), host.store.layerdb(copy_of(done))):
        shutil.rmtree(path)
    kinds = {finding["kind"] for finding in host.check()["findings"]}
    assert "layer_missing" in kinds, kinds
    host.check(repair=True)
    assert {finding["kind"] for finding in host.check(deep=True)["findings"]} == {"mount_missing"}
    assert [step["action"] for step in host.run(stacks=[stack(host)])["plan"]] == ["mount"]


def comes_back_at_boot(host: Host, web: dict[str, Any]) -> Call:
    """What the helper mounts is right, and stays; returns its call."""
    unmount_all(host.top)
    call = Call("web", host.path("web"), str(host.root))
    mount_by_helper(call)
    assert host.tree("web")["both"] == "app"
    assert not host.run(stacks=[web])["changed"]
    assert "already" in mount_by_helper(call)
    return call


def test_copy_is_mounted_at_boot_and_refused_when_lost(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    call = comes_back_at_boot(host, stack(host))
    unmount_all(host.top)
    shutil.rmtree(host.store.content(host.store.stacks()["web"].shown[0]))
    with pytest.raises(StrataError, match=r"is missing from the store; run strata\.overlay\.apply"):
        mount_by_helper(call)


def test_failed_health_check_brings_the_copy_back(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    health = {"command": ["grep", "-q", "app", f"{host.path('web')}/both"], "retries": 0}
    with pytest.raises(UnhealthyError, match="went back to the generation before"):
        host.run(layers=[BASE, NEW], stacks=[stack(host, health=health)])
    assert host.tree("web")["both"] == "app"
    with pytest.raises(UnhealthyError, match="went back to the generation before"):
        host.run(layers=[BASE, NEW], stacks=[stack(host, health=health, driver="overlay")])
    assert host.tree("web")["both"] == "app"
    assert host.check(deep=True)["findings"] == []


def test_stack_of_one_layer_needs_no_copy(host: Host) -> None:
    done = host.four_steps(layers=[BASE], stacks=[stack(host, layers=["base"])])
    assert [step["action"] for step in done["plan"]].count("import_content") == 1
    assert len(list((host.root / "content/sha256").iterdir())) == 1
    other = host.four_steps(stacks=[stack(host, layers=["base"], driver="overlay")])
    assert [step["action"] for step in other["plan"]] == ["write_stack"], "the same directory is shown"


def test_copy_of_300_layers_is_mounted_and_600_are_refused(host: Host) -> None:
    """More than one mount of many kernels can have."""
    names = [f"n{number}" for number in range(600)]
    with pytest.raises(DefinitionError, match="600 layers; the kernel takes at most 500"):
        host.run(layers=numbered(600), stacks=[stack(host, layers=names)])
    host.run(layers=numbered(300), stacks=[stack(host, layers=names[:300])])
    assert len(host.tree("web")) == 301
    assert host.tree("web")["top"] == "299"


def test_volatile_copy_is_refused(host: Host) -> None:
    with pytest.raises(DefinitionError, match="stack web: option 'writable': volatile: driver: copy has no changes in"):
        host.run(layers=[BASE, APP], stacks=[stack(host, writable="volatile")])
    assert not host.root.exists()


def kept(host: Host, **options: Any) -> dict[str, Any]:
    return stack(host, writable="persistent", **options)


def test_writable_copy_is_private_to_its_stack_and_keeps_changes(host: Host) -> None:
    done = host.four_steps(layers=[BASE, APP, inline("more", more="more")], stacks=[kept(host)])
    assert [step["action"] for step in done["plan"]].count("copy_layers") == 1
    assert len(list((host.root / "content/sha256").iterdir())) == 3, "the copy is the stack's alone"
    other = {**kept(host), "name": "other", "path": host.path("other")}
    host.four_steps(stacks=[other])
    top = Path(host.path("web"))
    (top / "both").write_text("written")
    (top / "new").write_text("new")
    shutil.rmtree(top / "bin")
    found = [(change["path"], change["kind"]) for change in stack_info(host.store, "web", changes=True)["changes"]]
    assert found == [("/bin", "D"), ("/both", "C"), ("/new", "A")]
    assert stack_info(host.store, "other", changes=True)["changes"] == []
    assert host.tree("other") == {"bin/run": "app", "both": "app", "etc/os": "base"}
    assert host.check(deep=True)["findings"] == []
    assert host.prune(unused_for="0s", keep=["base", "app"])["changed"], "the third layer goes"
    unmount_all(host.top)
    mount_by_helper(Call("web", host.path("web"), str(host.root)))
    host.four_steps(stacks=[kept(host), other])
    assert host.tree("web") == {"both": "written", "etc/os": "base", "new": "new"}


def test_mapped_owners_of_a_writable_copy_are_stored_unmapped(host: Host) -> None:
    host.needs_idmap()
    host.run(layers=[BASE, APP], stacks=[kept(host, idmap={"uid": "0:1000:10", "gid": "0:1000:10"})])
    top = Path(host.path("web"))
    assert (top / "both").stat().st_uid == 1000
    os.chown(top / "both", 1003, 1003)
    stack_id = host.store.stacks()["web"].stack_id
    assert Path(host.store.layer(stack_id), "diff/both").stat().st_uid == 3
    changes = stack_info(host.store, "web", changes=True)["changes"]
    assert [(change["path"], change["kind"]) for change in changes] == [("/both", "C")]


def test_new_layers_of_a_written_copy_are_refused_without_reset(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[kept(host)])
    Path(host.path("web"), "new").write_text("kept")
    before = snapshot(host.root)
    with pytest.raises(DefinitionError, match="'layers': the stack is a copy that can be .* on_change: reset"):
        host.run(layers=[BASE, NEW], stacks=[kept(host)])
    assert snapshot(host.root) == before
    anew = host.four_steps(layers=[BASE, NEW], stacks=[kept(host, on_change="reset")])
    assert [step["action"] for step in anew["plan"]][-4:] == ["unmount", "set_aside", "write_stack", "mount"]
    assert host.tree("web") == {"bin/run": "new", "both": "new", "etc/os": "base"}
    assert host.check(deep=True)["findings"] == []
    (aside,) = host.store.detached_uppers()
    assert Path(host.store.layer(aside.stack_id), "diff/new").read_text() == "kept"
    with pytest.raises(DefinitionError, match="on_change: reset"):
        host.run("stack", name="web", generation="previous")
    host.run("stack", name="web", generation="previous", on_change="reset")
    assert host.tree("web")["both"] == "app"


def test_failed_health_check_restores_the_layers_of_a_written_copy(host: Host) -> None:
    """As layers: what was written before is set aside, as by any change with ``reset``."""
    host.run(layers=[BASE, APP], stacks=[kept(host)])
    health = {"command": ["grep", "-q", "app", f"{host.path('web')}/both"], "retries": 0}
    with pytest.raises(UnhealthyError, match="went back to the generation before"):
        host.run(layers=[BASE, NEW], stacks=[kept(host, health=health, on_change="reset")])
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base"}
    assert host.check(deep=True)["findings"] == []


@pytest.mark.parametrize("options", [{"driver": "overlay", "writable": "persistent"}, {"writable": "none"}])
def test_written_copy_can_become_read_only_but_not_overlay(host: Host, options: dict[str, Any]) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, **options)])
    host.four_steps(stacks=[kept(host)])
    assert host.tree("web")["both"] == "app"
    Path(host.path("web"), "new").write_text("kept")
    if options["writable"] == "persistent":
        with pytest.raises(DefinitionError, match="written with copy .* cannot be shown by overlay"):
            host.run(stacks=[stack(host, **options)])
        return
    host.four_steps(stacks=[stack(host, **options)])
    assert len(host.store.detached_uppers()) == 1
    assert "new" not in host.tree("web")


def test_stack_written_with_overlay_is_refused_as_copy(host: Host) -> None:
    web = kept(host, driver="overlay")
    host.run(layers=[BASE, APP], stacks=[web])
    Path(host.path("web"), "new").write_text("kept")
    before = snapshot(host.root)
    with pytest.raises(DefinitionError, match="written with overlay into the persistent layer cannot be shown by copy"):
        host.run(stacks=[kept(host)])
    assert snapshot(host.root) == before
    assert host.run(stacks=[{**web, "driver": "auto"}])["changed"] is False


def test_lost_written_copy_is_refused_at_boot_and_made_again_by_a_run(host: Host) -> None:
    """It is never shown empty."""
    host.run(layers=[BASE, APP], stacks=[kept(host)])
    unmount_all(host.top)
    shutil.rmtree(f"{host.store.layer(host.store.stacks()['web'].stack_id)}/diff")
    kinds = {finding["kind"] for finding in host.check(repair=True)["findings"]}
    assert "writable_missing" in kinds, kinds
    with pytest.raises(StrataError, match="has gone with all changes"):
        mount_by_helper(Call("web", host.path("web"), str(host.root)))
    again = host.four_steps(stacks=[kept(host)])
    assert "copy_layers" in [step["action"] for step in again["plan"]]
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base"}
    assert host.check(deep=True)["findings"] == []


def test_commit_export_and_size_limit_of_a_written_copy_are_refused(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[kept(host)])
    with pytest.raises(DefinitionError, match="commit of stack web: the stack is a copy of its layers"):
        commit({"root": str(host.root), "stack": "web", "name": "more"}, False)
    with pytest.raises(StrataError, match="'changes': stack web is a copy of its layers"):
        export(
            {
                "root": str(host.root),
                "name": "web:1",
                "state": "exported",
                "stack": "web",
                "changes": True,
                "dest": str(host.top / "out.tar"),
            },
            False,
        )
    with pytest.raises(DefinitionError, match="'size' cannot limit a copy"):
        host.run(stacks=[kept(host, size="1m")])


def test_failed_copy_on_a_full_disk_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of it."""
    host.root.mkdir()
    syscalls.mount("tmpfs", str(host.root), "tmpfs", 0, "size=5m,mode=0711")
    big = {**inline("big", big="x" * 3_000_000), "limits": {"reserve": "0"}}
    host.run(layers=[BASE, APP, big])
    contents = sorted((host.root / "content/sha256").iterdir())
    with pytest.raises(StrataError, match="stack web: cannot copy the layers base, big: No space left on device"):
        host.run(layers=[big], stacks=[stack(host, layers=["base", "big"])])
    syscalls.mount("tmpfs", str(host.root), None, mount_flags.MS_REMOUNT, "size=20m")
    assert sorted((host.root / "content/sha256").iterdir()) == contents
    assert host.store.stacks() == {}
    host.run(stacks=[stack(host, layers=["base", "big"])])
    assert host.tree("web")["both"] == "base"


def test_auto_driver_without_kernel_overlay_is_copy(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the kernel answers is another here; in the machines of the tests it is a kernel without overlay."""

    def poor() -> Abilities:
        return find_abilities()._replace(overlay=False, lowerdir_append=False, fuse_overlayfs=False)

    monkeypatch.setattr(inspect, "find_abilities", poor)
    auto = stack(host, driver="auto")
    done = host.four_steps(layers=[BASE, APP], stacks=[auto])
    assert done["stacks"][0]["driver"] == "copy"
    assert done["stacks"][0]["driver_reason"] == (
        "this kernel has no overlay file system, and fuse-overlayfs cannot be used"
    )
    with pytest.raises(DefinitionError, match="'writable': volatile: this kernel .* has no overlay file system"):
        host.run(stacks=[{**auto, "writable": "volatile"}])
    with pytest.raises(DefinitionError, match="has no overlay file system; load or build it, install fuse-overlayfs"):
        host.run(stacks=[stack(host, driver="overlay")])
    monkeypatch.undo()
    moved = host.four_steps(stacks=[auto])
    assert (moved["stacks"][0]["driver"], moved["stacks"][0]["driver_reason"]) == ("overlay", "the kernel has it")
