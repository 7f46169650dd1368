# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A persistent layer is in one mount only, also where its tree is mounted elsewhere: in this namespace, in another, or
nowhere any more.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import main as mount_strata
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import BusyError, DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._mount import upper_use
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter
from ansible_collections.strata.overlay.plugins.module_utils._mount.upper_use import in_use, left_by_all
from ansible_collections.strata.overlay.plugins.module_utils._run import inspect
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root

pytestmark = pytest.mark.drivers("overlay")

BASE = inline("base", etc__os="base", both="base")
APP = inline("app", bin__run="app", both="app")
NEW = inline("app", bin__run="new", both="new")

CHANGES: dict[str, dict[str, Any]] = {
    "layers": {"layers": [BASE, NEW]},
    "flags": {"layers": [BASE, APP], "mount_options": ["nosuid"]},
    "reset": {"layers": [BASE, NEW], "on_change": "reset"},
    "generation": {"generation": 1},
    "absent": {"state": "absent"},
    "absent-detached": {"state": "absent", "on_busy": "detach"},
    "unmounted": {"layers": [BASE, APP], "state": "unmounted"},
}


def definition(host: Host, layers: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
    stack = {
        "name": "web",
        "path": host.path("web"),
        "layers": ["base", "app"],
        "writable": "persistent",
        "boot": False,
    }
    if options.get("state") == "absent":
        return {"stacks": [{"name": "web", **options}]}
    if "generation" in options:
        return {"stacks": [{"name": "web", "writable": "persistent", "path": host.path("web"), **options}]}
    return {"layers": layers, "stacks": [{**stack, "boot": False, **options}]}


@pytest.fixture
def web(host: Host) -> Host:
    """A persistent stack of two generations with a change of its own."""
    host.run(**definition(host, [BASE, NEW]))
    host.run(**definition(host, [BASE, APP]))
    Path(host.path("web"), "note").write_text("mine")
    return host


def test_change_of_a_written_stack_probes_once_and_reads_all_mount_tables_four_times(
    web: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any) -> Any:
            called.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    counted(upper_use, "mounts_everywhere")
    counted(inspect, "find_abilities")
    counted(inspect, "find_store_faults")
    web.run(**definition(web, [BASE, NEW]))
    # While planning, right before the unmount, right after it, and right before the mount.
    assert Counter(called) == {"mounts_everywhere": 4, "find_abilities": 1, "find_store_faults": 1}


@contextlib.contextmanager
def bound(host: Host, name: str = "elsewhere") -> Iterator[str]:
    """The tree, bound to another directory in this mount namespace."""
    place = host.top / name
    place.mkdir(exist_ok=True)
    syscalls.mount(host.path("web"), str(place), None, mount_flags.MS_BIND)
    try:
        yield str(place)
    finally:
        syscalls.umount(str(place), syscalls.MNT_DETACH)


@contextlib.contextmanager
def container(propagation: str = "private") -> Iterator[subprocess.Popen[str]]:
    """A process in a mount namespace of its own, which has every mount of this one as `docker run -v` has some."""
    command = ["unshare", "--mount", "--propagation", propagation, "sh", "-c", "echo there; exec sleep 600"]
    with subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def refused(host: Host, **changed: Any) -> str:
    """The message with which a change is refused, foreseen and done; nothing is otherwise afterwards."""
    before = host.store.stacks()["web"]
    lines = host.mounts("web")
    messages = set()
    for check in (True, False):
        with pytest.raises(BusyError) as failure:
            host.run(check=check, **changed)
        messages.add(str(failure.value))
    assert host.store.stacks()["web"] == before
    assert host.mounts("web") == lines
    assert len(messages) == 1
    return messages.pop()


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_a_tree_bound_elsewhere_is_refused(web: Host, change: str) -> None:
    with bound(web) as place:
        message = refused(web, **definition(web, **CHANGES[change]))
        assert f"it is mounted at {place} too (in this mount namespace, {os.readlink('/proc/self/ns/mnt')})" in message
        Path(place, "note").write_text("of the container")
        assert web.tree("web")["note"] == "of the container"
    if change != "generation":  # it is at generation 2, and goes on with what it is
        assert web.run(**definition(web, **CHANGES[change]))["changed"]


@pytest.mark.parametrize("change", ["layers", "absent"])
def test_change_of_a_tree_mounted_in_a_container_is_refused(web: Host, change: str) -> None:
    with container() as process:
        namespace = os.readlink(f"/proc/{process.pid}/ns/mnt")
        message = refused(web, **definition(web, **CHANGES[change]))
        expected = f"sleep (process {process.pid}) has it mounted at {web.path('web')} in mount namespace {namespace}"
        assert expected in message
    web.four_steps(**definition(web, **CHANGES[change]))


def test_commit_with_restack_of_a_tree_bound_elsewhere_is_refused(web: Host) -> None:
    options = {"root": str(web.root), "stack": "web", "name": "kept", "restack": True}
    with bound(web) as place:
        with pytest.raises(BusyError, match=f"mounted at {place} too"):
            commit(options, False)
        Path(place, "note").write_text("of the container")
        assert web.tree("web")["note"] == "of the container"
    assert commit(options, False)["changed"]
    assert web.tree("web")["note"] == "of the container"


def test_propagated_mounts_of_services_do_not_block_a_change(web: Host) -> None:
    """What systemd gives services of their own, such as PrivateTmp."""
    web.run(**definition(web, [BASE, APP], state="unmounted"))
    syscalls.mount(str(web.top), str(web.top), None, mount_flags.MS_BIND)
    syscalls.mount("", str(web.top), None, mount_flags.MS_SHARED)
    try:
        web.run(**definition(web, [BASE, APP]))
        with container("slave"), container("shared"):
            web.four_steps(**definition(web, [BASE, NEW]))
        assert web.tree("web")["note"] == "mine"
    finally:
        unmount_all(web.top)
        syscalls.umount(str(web.top), syscalls.MNT_DETACH)


def test_bind_mount_made_during_unmount_brings_the_same_tree_back(web: Host) -> None:
    record, path = web.store.stacks()["web"], web.path("web")
    device = web.mounts("web")[0].device
    with contextlib.ExitStack() as elsewhere:

        def unmount_and_bind() -> str:
            with left_by_all(str(web.root), record, path):
                place = elsewhere.enter_context(bound(web))
                syscalls.umount(path)
            return place

        with pytest.raises(BusyError, match="Its tree is mounted there again"):
            unmount_and_bind()
        place = web.top / "elsewhere"
        assert [line.device for line in web.mounts("web")] == [device], "a second overlay of this layer"
        (place / "note").write_text("of the container")
        assert web.tree("web")["note"] == "of the container"


def test_tree_unmounted_while_open_is_not_mounted_a_second_time(web: Host, capsys: pytest.CaptureFixture[str]) -> None:
    if not find_abilities().beneath or syscalls.in_user_namespace():
        pytest.skip("the kernel cannot be asked here")
    web.run(**definition(web, [BASE, APP]))
    with subprocess.Popen(["sleep", "600"], cwd=f"{web.path('web')}/bin") as holder:
        try:
            web.run(**definition(web, [BASE, APP], state="unmounted", on_busy="detach"))
            message = refused(web, **definition(web, [BASE, APP]))
            assert "unmounted while it was open" in message
            assert f"sleep (process {holder.pid}) holds /bin" in message
            with pytest.raises(BusyError, match="It was not mounted"):
                Mounter(web.store, "", find_abilities()).mount(web.store.stacks()["web"])
            assert mount_strata(["web", web.path("web"), "-o", f"root={web.root}"]) == 32
            assert f"sleep (process {holder.pid})" in capsys.readouterr().err
            assert web.mounts("web") == []
        finally:
            holder.kill()
    web.run(**definition(web, [BASE, APP]))
    assert web.tree("web")["note"] == "mine"


def test_mount_strata_refuses_a_layer_that_is_mounted_elsewhere(web: Host, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["web", web.path("web"), "-o", f"root={web.root}"]
    with container() as process:
        unmount_all(web.top)
        assert mount_strata(arguments) == 32
        assert f"sleep (process {process.pid}) has it mounted at {web.path('web')}" in capsys.readouterr().err
        assert web.mounts("web") == []
    assert mount_strata(arguments) == 0


def test_empty_upper_that_a_container_still_mounts_is_not_deleted(web: Host) -> None:
    web.run(**definition(web, [BASE, NEW], on_change="reset"))
    upper = Path(web.store.layer(web.store.stacks()["web"].stack_id))
    with container() as process:
        unmount_all(web.top)
        seen = snapshot(web.root)
        for check in (True, False):
            with pytest.raises(BusyError, match=f"sleep .process {process.pid}. has it mounted"):
                web.run(check=check, **definition(web, state="absent"))
        assert snapshot(web.root) == seen
    web.run(**definition(web, state="absent"))
    assert not upper.exists()


def test_detach_without_reset_is_refused_while_planning(web: Host) -> None:
    with subprocess.Popen(["sleep", "600"], cwd=web.path("web")) as holder:
        try:
            seen = snapshot(web.root)
            for check in (True, False):
                with pytest.raises(DefinitionError, match="on_change: reset, which begins with a new writable layer"):
                    web.run(check=check, **definition(web, [BASE, NEW], on_busy="detach"))
            assert snapshot(web.root) == seen
            Path(f"/proc/{holder.pid}/cwd/bin/run").write_text("its first copy-up")
        finally:
            holder.kill()


def test_processes_in_a_detached_tree_keep_writing(web: Host) -> None:
    need_full_root("a process of another namespace is looked at")
    web.run(**definition(web, [BASE, APP], on_change="reset"))
    with subprocess.Popen(["sleep", "600"], cwd=web.path("web")) as holder:
        try:
            web.run(**definition(web, state="absent", on_busy="detach"))
            assert web.mounts("web") == []
            for file in ("both", "bin/run", "new"):
                Path(f"/proc/{holder.pid}/cwd/{file}").write_text("still")
        finally:
            holder.kill()


def test_upper_in_use_is_detected_despite_leftovers_of_a_killed_run(web: Host) -> None:
    need_full_root("asks the kernel with a directory in /run")
    upper = f"{web.store.layer(web.store.stacks()['web'].stack_id)}/diff"
    left = Path("/run/strata-probe")
    left.mkdir(mode=0o700, exist_ok=True)
    (left / "upper" / "old").mkdir(parents=True, exist_ok=True)
    assert in_use(upper)
    syscalls.umount(web.path("web"))
    assert not in_use(upper)
