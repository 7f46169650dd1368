# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks that fuse-overlayfs shows: the same trees as the kernel's overlay, the same care; and servers may end."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import Call
from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import mount as mount_by_helper
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_info
from ansible_collections.strata.overlay.plugins.module_utils._info.store import store_info
from ansible_collections.strata.overlay.plugins.module_utils._layer.changes import find_changes
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._mount import fuse as fuse_module
from ansible_collections.strata.overlay.plugins.module_utils._run import inspect
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import lower_trees
from ansible_collections.strata.overlay.tests.integration.host import Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered
from ansible_collections.strata.overlay.tests.integration.random_changes import run_script, scripts, tar_layers
from ansible_collections.strata.overlay.tests.integration.readers import Readers
from ansible_collections.strata.overlay.tests.integration.test_copy_driver import comes_back_at_boot
from ansible_collections.strata.overlay.tests.integration.trees import assert_same, tree_of
from hypothesis import HealthCheck, given, settings

BASE = inline("base", etc__os="base", both="base", gone__deep="base")
APP = inline("app", bin__run="app", both="app")
NEW = inline("app", bin__run="new", both="new")
TIMES = int(os.environ.get("FUZZ", "1"))
FUSE = "fuse-overlayfs"

pytestmark = pytest.mark.skipif(
    not find_abilities().fuse_overlayfs, reason="fuse-overlayfs is not installed, or /dev/fuse cannot be used"
)


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app"], "driver": FUSE, **options}


def servers(host: Host) -> list[int]:
    """Processes that serve stacks of a store."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            open_files = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if words[0].endswith(b"/fuse-overlayfs") and any(name.startswith(str(host.root)) for name in open_files):
            found.append(int(pid))
    return found


def wait_for_servers(host: Host, count: int) -> None:
    """They end by themselves, a moment after their mounts."""
    until = time.monotonic() + 60
    while len(servers(host)) != count and time.monotonic() < until:
        time.sleep(0.05)
    assert len(servers(host)) == count


@pytest.fixture(autouse=True)
def _no_server_stays(host: Host) -> Iterator[None]:
    yield
    unmount_all(host.top)
    wait_for_servers(host, 0)


def test_check_mode_announces_each_step_and_second_run_changes_nothing(host: Host) -> None:
    done = host.four_steps(layers=[BASE, APP], stacks=[stack(host)])
    assert (done["stacks"][0]["driver"], done["stacks"][0]["driver_reason"]) == (FUSE, "the definition asks for it")
    assert host.tree("web") == {"bin/run": "app", "both": "app", "etc/os": "base", "gone/deep": "base"}
    assert [mount.fstype for mount in host.mounts("web")] == ["fuse.fuse-overlayfs"]
    with pytest.raises(OSError, match="Read-only file system"):
        Path(host.path("web"), "new").write_text("x")
    told = store_info(host.store)
    assert [(item["type"], item["layers"]) for item in told["mounts"]] == [(FUSE, 2)]
    upgraded = host.four_steps(layers=[BASE, NEW], stacks=[stack(host)])
    assert host.tree("web")["both"] == "new"
    assert (upgraded["stacks"][0]["gap_ms"] > 0) == (not find_abilities().beneath)
    wait_for_servers(host, 1)
    host.four_steps(stacks=[stack(host, state="unmounted")])
    wait_for_servers(host, 0)
    kept = host.four_steps(stacks=[{"name": "web"}])
    assert (kept["stacks"][0]["driver"], kept["stacks"][0]["driver_reason"]) == (FUSE, "it is what the stack has")
    assert stack_info(host.store, "web")["drift"] == ""
    assert host.check(deep=True)["findings"] == []
    host.four_steps(stacks=[{"name": "web", "state": "absent"}])
    assert host.mounts("web") == []


def test_stack_of_one_layer_needs_no_server(host: Host) -> None:
    host.four_steps(layers=[BASE], stacks=[stack(host, layers=["base"])])
    assert servers(host) == []
    assert host.tree("web")["both"] == "base"


@pytest.mark.parametrize("writable", ["persistent", "volatile"])
def test_changes_are_reported_and_survive_new_layers_if_persistent(host: Host, writable: str) -> None:
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, writable=writable)])
    top = Path(host.path("web"))
    (top / "both").write_text("written")
    (top / "new").write_text("new")
    shutil.rmtree(top / "gone")
    (top / "gone").mkdir()
    (top / "gone/other").write_text("other")
    found = [(change["path"], change["kind"]) for change in stack_info(host.store, "web", changes=True)["changes"]]
    assert found == [
        ("/both", "C"),
        ("/gone", "C"),
        ("/gone/deep", "D"),
        ("/gone/other", "A"),
        ("/new", "A"),
    ]
    # First the layer: what the written files hide of it can only be foreseen when it is there.
    host.run(layers=[BASE, NEW])
    host.four_steps(stacks=[stack(host, writable=writable)])
    tree = host.tree("web")
    assert (tree["both"], tree["bin/run"]) == ("written" if writable == "persistent" else "new", "new")
    assert ("gone/deep" in tree, "gone/other" in tree) == (writable == "volatile", writable == "persistent")
    assert host.check(deep=True)["findings"] == []
    host.four_steps(stacks=[stack(host, state="absent")])


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=scripts)
def test_committed_layer_shows_the_same_tree_with_every_driver(host: Host, script: list[Any]) -> None:
    """Above three layers one of random changes: as seen where they were made, as a layer by the kernel, by
    fuse-overlayfs and as a copy; and what is told of them beside what is told of the layer, which has no marks.
    """
    layers = tar_layers(host.top)
    names = [layer["name"] for layer in layers]
    web = stack(host, layers=names, writable="persistent")
    below = host.run(layers=layers, stacks=[web])["diff_ids"]
    for change in script:
        try:
            run_script(Path(host.path("web")), [change])
        except OSError as error:
            if error.errno != errno.EIO:  # its answer to whoever changes a pipe or a device of a layer
                raise
    # While it is mounted, fuse-overlayfs goes on to show two names of a lower file as one where one has been written.
    for state in ("unmounted", "mounted"):
        host.run(stacks=[{**web, "state": state}])
    seen = tree_of(Path(host.path("web")))
    changes = [tuple(change.values()) for change in stack_info(host.store, "web", changes=True)["changes"]]
    made = commit({"root": str(host.root), "stack": "web", "name": "kept"}, False)
    shown = [
        {"name": driver, "path": host.path(driver), "layers": [*names, "kept"], "driver": driver}
        for driver in ("overlay", FUSE, "copy")
    ]
    host.run(stacks=shown)
    for driver in ("overlay", FUSE, "copy"):
        assert_same(tree_of(Path(host.path(driver))), seen)
    lowers = lower_trees(host.store, tuple(below))
    assert changes == [tuple(change) for change in find_changes(host.store.content(made["diff_id"]), lowers, False)]
    assert host.check(deep=True)["findings"] == []
    unmount_all(host.top)
    shutil.rmtree(host.root)


def test_stack_switches_drivers_and_layers_without_a_gap(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    with Readers(host.path("web"), ["both"], 2) as readers:
        for driver in ("overlay", FUSE, "copy", FUSE):
            moved = host.four_steps(stacks=[stack(host, driver=driver)])
            assert moved["stacks"][0]["generation"] == 1
        for layer in (NEW, APP, NEW, APP):
            host.run(layers=[BASE, layer], stacks=[stack(host)])
        seen = readers.stop()
    if find_abilities().beneath:
        assert (seen.mixed, seen.errors) == (0, [])
    wait_for_servers(host, 1)


def test_process_in_the_old_tree_keeps_it_after_an_upgrade(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    with subprocess.Popen(["sleep", "1000"], cwd=f"{host.path('web')}/bin") as user:
        host.run(layers=[BASE, NEW], stacks=[stack(host, on_busy="detach")])
        assert host.tree("web")["both"] == "new"
        assert Path(f"/proc/{user.pid}/cwd/run").read_text() == "app"
        assert [holder["pid"] for holder in stack_info(host.store, "web")["held_by"]] == [user.pid]
        wait_for_servers(host, 2)
        user.kill()
    wait_for_servers(host, 1)


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
def test_stack_with_ended_server_is_reported_and_mounted_again(host: Host, writable: str) -> None:
    web = stack(host, writable=writable)
    host.run(layers=[BASE, APP], stacks=[web])
    if writable != "none":
        Path(host.path("web"), "new").write_text("kept")
    for pid in servers(host):
        os.kill(pid, signal.SIGKILL)
    wait_for_servers(host, 0)
    with pytest.raises(OSError, match="not connected"):
        os.listdir(host.path("web"))
    ended = "the program that served it has ended"
    assert stack_info(host.store, "web")["drift"] == ended
    assert [finding["kind"] for finding in host.check()["findings"]] == ["mount_wrong"]
    with pytest.raises(StrataError, match=f"{ended}. Unmount it first, or run"):
        mount_by_helper(Call("web", host.path("web"), str(host.root)))
    mended = host.four_steps(stacks=[web])
    assert any(ended in step["text"] for step in mended["plan"]), mended["plan"]
    assert host.tree("web")["both"] == "app"
    assert ("new" in host.tree("web")) == (writable == "persistent")
    assert host.check(deep=True)["findings"] == []


def test_server_keeps_no_environment_of_the_run_that_started_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may live for months, and the ``environment`` of a play may hold passwords."""
    monkeypatch.setenv("PASSWORD_OF_A_PLAY", "hunter2")
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    (server,) = servers(host)
    names = {line.partition(b"=")[0] for line in Path(f"/proc/{server}/environ").read_bytes().split(b"\0") if line}
    assert b"PATH" in names
    assert b"PASSWORD_OF_A_PLAY" not in names
    assert names <= {b"PATH", b"STRATA_NAMESPACES", b"INVOCATION_ID", b"SYSTEMD_EXEC_PID"}


def test_stack_with_ended_server_is_removed(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    for pid in servers(host):
        os.kill(pid, signal.SIGKILL)
    wait_for_servers(host, 0)
    host.four_steps(stacks=[{"name": "web", "state": "absent"}])
    assert host.mounts("web") == []


def test_prune_keeps_layers_of_a_mount_without_a_record(host: Host) -> None:
    """Also where only the mount tells of it."""
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent")])
    Path(host.path("web"), "new").write_text("kept")
    record = Path(host.store.stack_file("web"))
    text = record.read_text()
    record.unlink()
    for name in ("base", "app"):
        host.run(layers=[{"name": name, "state": "absent"}])
    assert [item["kind"] for item in host.prune()["removed"]] == []
    assert host.tree("web")["new"] == "kept"
    found = {finding["kind"] for finding in host.check()["findings"]}
    assert "mount_unknown" in found, found
    record.write_text(text)
    assert not host.run(stacks=[{"name": "web"}])["changed"]
    host.run(stacks=[{"name": "web", "state": "absent"}])
    assert "content" in [item["kind"] for item in host.prune()["removed"]]


def test_mount_of_another_stack_at_the_path_is_noticed_and_replaced(host: Host) -> None:
    """A mount of another stack, at the path of this one, is seen to be another."""
    other = {**stack(host, writable="persistent"), "name": "other", "path": host.path("other")}
    host.run(layers=[BASE, APP], stacks=[stack(host, writable="persistent"), other])
    unmount_all(host.top / "srv")
    syscalls.mount("x", host.path("web"), "tmpfs", 0)
    with pytest.raises(DefinitionError, match="is the mount point of another file system"):
        host.run(stacks=[stack(host, writable="persistent")])
    syscalls.umount(host.path("web"))
    host.run(stacks=[other])
    syscalls.mount(host.path("other"), host.path("web"), None, mount_flags.MS_BIND)
    assert stack_info(host.store, "web")["drift"] == "it has another writable layer"
    host.four_steps(stacks=[stack(host, writable="persistent")])
    assert stack_info(host.store, "web")["drift"] == ""


def test_stack_is_mounted_by_the_helper_at_boot(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    comes_back_at_boot(host, stack(host))


def test_stack_is_mounted_on_a_kernel_without_the_new_mount_api(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.2: by mount(2)."""

    def missing(_fstype: str) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fuse_module, "FsContext", missing)
    monkeypatch.setattr(inspect, "find_abilities", lambda: find_abilities()._replace(beneath=False))
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, writable="persistent", mount_options=["nodev"])])
    assert host.tree("web")["both"] == "app"
    upgraded = host.four_steps(layers=[BASE, NEW], stacks=[stack(host, writable="persistent", mount_options=["nodev"])])
    assert upgraded["stacks"][0]["gap_ms"] > 0
    host.run(stacks=[stack(host)])
    assert [mount.read_only for mount in host.mounts("web")] == [True]


def test_server_that_does_not_start_leaves_the_old_tree(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old tree stays, or is there again; no mount that nobody serves is left."""
    host.run(layers=[BASE, APP], stacks=[stack(host)])
    wrong = host.top / "fuse-overlayfs"
    wrong.write_text("#!/bin/sh\necho it is broken; exit 3\n")
    wrong.chmod(0o755)
    monkeypatch.setattr(fuse_module, "find_fuse_overlayfs", lambda: str(wrong))
    with pytest.raises(StrataError, match="fuse-overlayfs: it is broken. It shows the tree that was there before"):
        host.run(layers=[BASE, NEW], stacks=[stack(host)])
    assert host.tree("web")["both"] == "app"
    host.run(stacks=[stack(host, state="unmounted")])
    with pytest.raises(StrataError, match="fuse-overlayfs: it is broken. Nothing is mounted there"):
        host.run(stacks=[stack(host)])
    assert host.mounts("web") == []


def test_overlay_is_refused_for_changes_written_with_fuse_overlayfs(host: Host) -> None:
    web = stack(host, writable="persistent")
    host.run(layers=[BASE, APP], stacks=[{**web, "driver": "overlay"}])
    Path(host.path("web"), "new").write_text("kept")
    shutil.rmtree(f"{host.path('web')}/gone")
    host.four_steps(stacks=[web])
    tree = host.tree("web")
    assert (tree["new"], "gone/deep" in tree) == ("kept", False)
    with pytest.raises(DefinitionError, match="written with fuse-overlayfs .* cannot be shown by overlay"):
        host.run(stacks=[{**web, "driver": "overlay"}])
    kept = host.run(stacks=[{**web, "driver": "auto"}])
    assert (kept["changed"], kept["stacks"][0]["driver"]) == (False, FUSE)
    assert kept["stacks"][0]["driver_reason"] == "its persistent layer was written with it"
    anew = host.four_steps(layers=[BASE, NEW], stacks=[{**web, "driver": "overlay", "on_change": "reset"}])
    assert anew["stacks"][0]["driver"] == "overlay"
    assert "new" not in host.tree("web")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"idmap": {"uid": "0:1000:10", "gid": "0:1000:10"}}, "'context' and 'idmap' need driver: overlay"),
        ({"driver": "fuse"}, "'driver'"),
    ],
)
def test_unsupported_options_are_refused_before_any_change(host: Host, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        host.run(layers=[BASE, APP], stacks=[stack(host, **options)])
    assert not host.root.exists()


def test_auto_driver_without_kernel_overlay_is_fuse_overlayfs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the host answers is another here; in the machines of the tests it is a kernel without overlay."""
    program = [True]

    def poor() -> Abilities:
        return find_abilities()._replace(overlay=False, lowerdir_append=False, fuse_overlayfs=program[0])

    monkeypatch.setattr(inspect, "find_abilities", poor)
    auto = stack(host, driver="auto", writable="volatile")
    done = host.four_steps(layers=[BASE, APP], stacks=[auto])
    assert done["stacks"][0]["driver"] == FUSE
    assert done["stacks"][0]["driver_reason"] == "this kernel has no overlay file system, and fuse-overlayfs is there"
    host.run(stacks=[{**auto, "state": "absent"}])
    program[0] = False
    with pytest.raises(DefinitionError, match="'driver': the program fuse-overlayfs is not installed on this host, or"):
        host.run(stacks=[stack(host)])
    with pytest.raises(DefinitionError, match="load or build it, install fuse-overlayfs, or use driver: copy"):
        host.run(stacks=[auto])


def test_stack_of_500_layers_is_mounted(host: Host) -> None:
    names = [f"n{number}" for number in range(500)]
    host.run(layers=numbered(500), stacks=[stack(host, layers=names)])
    assert host.tree("web")["top"] == "499"
    assert len(host.tree("web")) == 501


def test_stack_is_writable_in_namespaces_of_an_ordinary_user(host: Host) -> None:
    """Marks are in user.overlay there, and devices cannot be made."""
    script = f"""
import sys; sys.path[:0] = {[path for path in sys.path if path]!r}
from pathlib import Path
from ansible_collections.strata.overlay.tests.integration import test_fuse_driver as here
host = here.Host(Path({str(host.top)!r}))
here.test_changes_are_reported_and_survive_new_layers_if_persistent(host, "persistent")
"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
