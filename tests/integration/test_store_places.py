# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stores on file systems that cannot hold every kind of stack: what is promised can be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._info.store import store_info
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._mount.overlay import mount_at
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import mount_request
from ansible_collections.strata.overlay.plugins.module_utils._run import inspect
from ansible_collections.strata.overlay.tests.integration.disk import mounted_ext4, mounted_overlay
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root

pytestmark = pytest.mark.drivers("overlay")

BASE = inline("base", etc__os="base", both="base")
APP = inline("app", bin__run="app", both="app")
NEW = inline("app", bin__run="new", both="new")
SHOWN = {"bin/run": "app", "both": "app", "etc/os": "base"}


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app"], **options}


@pytest.fixture
def nested(host: Host, tmp_path: Path) -> Iterator[Host]:
    """A host whose store lies on an overlay, as in a container."""
    with mounted_overlay(tmp_path) as place:
        yield Host(place)


@pytest.fixture
def untyped(host: Host, tmp_path: Path) -> Iterator[Host]:
    """A host whose store lies on a file system without d_type."""
    with mounted_ext4(tmp_path, "-O", "^filetype") as place:
        yield Host(place)


@pytest.fixture
def served(host: Host, tmp_path: Path) -> Iterator[Host]:
    """A host whose store lies where a program serves it, of which nobody knows what an overlay thinks of it."""
    if not find_abilities().fuse_overlayfs:
        pytest.skip("no fuse-overlayfs")
    for name in ("lower", "upper", "work", "mounted"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["fuse-overlayfs", "-o", options, tmp_path / "mounted"], check=True, capture_output=True)
    try:
        yield Host(tmp_path / "mounted")
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", tmp_path / "mounted"], check=True)


def next_driver() -> str:
    return "fuse-overlayfs" if find_abilities().fuse_overlayfs else "copy"


def kinds(host: Host) -> set[str]:
    return {finding["kind"] for finding in host.check(deep=True)["findings"]}


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
def test_overlay_on_a_file_system_without_d_type_is_refused(untyped: Host, writable: str) -> None:
    wanted: dict[str, Any] = {"layers": [BASE, APP], "stacks": [stack(untyped, driver="overlay", writable=writable)]}
    for check in (True, False):
        with pytest.raises(
            DefinitionError, match=r"stack web: option 'driver': .* has no d_type .*mkfs.xfs -n ftype=1"
        ):
            untyped.run(check=check, **wanted)
    assert not untyped.root.exists()


def test_auto_on_a_file_system_without_d_type_takes_the_next_driver(untyped: Host) -> None:
    gone = {"name": "app", "files": [{"path": "etc/os", "state": "absent"}, {"path": "both", "content": "app"}]}
    done = untyped.four_steps(layers=[BASE, gone], stacks=[stack(untyped)])
    assert done["stacks"][0]["driver"] == next_driver()
    assert "has no d_type" in done["stacks"][0]["driver_reason"]
    assert os.listdir(f"{untyped.path('web')}/etc") == [], "what is deleted is not listed"
    assert kinds(untyped) == set(), "nothing there has a use for d_type"
    abilities = store_info(untyped.store)["abilities"]
    assert abilities["d_type"] is False
    assert "has no d_type" in abilities["faults"][0]


def test_role_host_reports_a_file_system_without_d_type(untyped: Host, ansible: Ansible) -> None:
    task = {"ansible.builtin.include_role": {"name": "strata.overlay.host"}}
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"overlay_root": str(untyped.root)}, "tasks": [task]}
    said = ansible.playbook(json.dumps([play]), "--check").stdout
    assert "has no d_type" in said
    assert "mkfs.xfs -n ftype=1" in said
    assert not untyped.root.exists()


def test_one_layer_on_a_file_system_without_d_type_is_mounted(untyped: Host) -> None:
    done = untyped.four_steps(layers=[BASE], stacks=[stack(untyped, layers=["base"])])
    assert done["stacks"][0]["driver"] == "overlay"
    assert kinds(untyped) == set()


def test_store_copied_to_a_file_system_without_d_type_is_reported(host: Host, tmp_path: Path) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host), stack(host, name="one", path=host.path("one"), layers=["base"])])
    unmount_all(host.top)
    with mounted_ext4(tmp_path, "-O", "^filetype") as place:
        subprocess.run(["cp", "-a", host.root, place], check=True)
        copied = Host(place)
        found = [finding["object"] for finding in copied.check()["findings"] if finding["kind"] == "d_type_missing"]
        assert found == ["stack web"]


def test_persistent_layer_on_an_overlay_is_refused_before_any_import(nested: Host) -> None:
    wanted: dict[str, Any] = {"layers": [BASE, APP], "stacks": [stack(nested, driver="overlay", writable="persistent")]}
    for check in (True, False):
        with pytest.raises(DefinitionError, match="stack web: option 'driver': .* is an overlay itself"):
            nested.run(check=check, **wanted)
    assert not nested.root.exists()


@pytest.mark.parametrize(
    ("options", "driver"),
    [
        ({}, "overlay"),
        ({"writable": "volatile"}, "overlay"),
        ({"layers": ["base"]}, "overlay"),
        ({"writable": "persistent"}, ""),
        ({"driver": "copy"}, "copy"),
        ({"driver": "copy", "writable": "persistent"}, "copy"),
    ],
)
def test_stack_in_a_store_on_an_overlay_is_made_kept_and_removed(
    nested: Host, options: dict[str, Any], driver: str
) -> None:
    """The whole life of each kind, and a prune in the middle of it."""
    done = nested.four_steps(layers=[BASE, APP], stacks=[stack(nested, **options)])
    assert done["stacks"][0]["driver"] == (driver or next_driver())
    shown = {"both": "base", "etc/os": "base"} if "layers" in options else SHOWN
    assert nested.tree("web") == shown
    (mount,) = store_info(nested.store)["mounts"]
    unions = {"overlay": "overlay", "fuse-overlayfs": "fuse-overlayfs", "copy": "bind"}
    bound = "layers" in options or done["stacks"][0]["driver"] == "copy"
    assert mount["type"] == ("bind" if bound else unions[done["stacks"][0]["driver"]])
    nested.prune()
    assert nested.tree("web") == shown
    assert kinds(nested) == set()
    nested.four_steps(stacks=[{"name": "web", "state": "absent"}])
    assert nested.mounts("web") == []
    assert kinds(nested) == set()


def test_file_system_unfit_for_a_persistent_layer_is_found_by_trying(served: Host) -> None:
    refused = stack(served, driver="overlay", writable="persistent")
    for check in (True, False):
        with pytest.raises(DefinitionError, match="stack web: option 'driver': the kernel puts no writable layer on"):
            served.run(check=check, layers=[BASE, APP], stacks=[refused])
    assert list(served.top.iterdir()) == [], "nothing is left of the attempt"
    done = served.four_steps(layers=[BASE, APP], stacks=[stack(served, writable="persistent")])
    assert done["stacks"][0]["driver"] == next_driver()
    assert list((served.root / "staging").iterdir()) == []
    other = stack(served, name="other", path=served.path("other"), writable="volatile")
    assert served.four_steps(stacks=[other])["stacks"][0]["driver"] == "overlay"
    assert kinds(served) == set()


def test_layer_with_a_whiteout_on_an_overlay_is_refused_with_the_reason(nested: Host) -> None:
    gone = {"name": "app", "files": [{"path": "etc/os", "state": "absent"}]}
    with pytest.raises(StrataError, match=r"layer app: .* 'etc/os' is deleted in it: .* an overlay itself"):
        nested.run(layers=[BASE, gone], stacks=[stack(nested)])
    assert nested.store.stacks() == {}
    assert nested.store.names() == []


def test_copy_on_an_overlay_is_switched_without_a_gap(nested: Host) -> None:
    nested.run(layers=[BASE, APP], stacks=[stack(nested, driver="copy")])
    with open(f"{nested.path('web')}/both", encoding="ascii"):
        switched = nested.run(layers=[BASE, NEW], stacks=[stack(nested, driver="copy")])
    assert [step["action"] for step in switched["plan"]][-1] == "switch"
    assert nested.store.stacks()["web"].left == (), "the device of the old tree is that of the whole store"
    assert nested.tree("web")["both"] == "new"


def test_prune_keeps_a_content_that_is_mounted_without_a_record(nested: Host) -> None:
    nested.run(layers=[BASE], stacks=[stack(nested, layers=["base"])])
    other = nested.top / "elsewhere"
    other.mkdir()
    syscalls.mount(nested.path("web"), str(other), None, mount_flags.MS_BIND)
    nested.run(stacks=[{"name": "web", "state": "absent"}], layers=[{"name": "base", "state": "absent"}])
    assert not [item for item in nested.prune()["removed"] if item["kind"] == "content"]
    assert (other / "both").read_text() == "base"


def test_change_in_a_read_only_store_is_refused_while_planning(host: Host) -> None:
    host.run(layers=[BASE], stacks=[stack(host, layers=["base"])])
    syscalls.mount(str(host.root), str(host.root), None, mount_flags.MS_BIND)
    syscalls.mount("", str(host.root), None, mount_flags.MS_REMOUNT | mount_flags.MS_BIND | mount_flags.MS_RDONLY)
    assert host.run(layers=[BASE], stacks=[stack(host, layers=["base"])])["changed"] is False
    for check in (True, False):
        with pytest.raises(DefinitionError, match="lies on a file system that is read-only"):
            host.run(check=check, layers=[BASE, APP], stacks=[stack(host)])


def test_missing_path_on_a_read_only_file_system_is_refused_while_planning(host: Host) -> None:
    top = host.top / "srv"
    (top / "there").mkdir(parents=True)
    syscalls.mount(str(top), str(top), None, mount_flags.MS_BIND)
    syscalls.mount("", str(top), None, mount_flags.MS_REMOUNT | mount_flags.MS_BIND | mount_flags.MS_RDONLY)
    for check in (True, False):
        with pytest.raises(DefinitionError, match=f"stack web: option 'path': {top}/web is missing, and cannot"):
            host.run(check=check, layers=[BASE, APP], stacks=[stack(host)])
    assert not host.root.exists()
    host.four_steps(layers=[BASE, APP], stacks=[stack(host, path=host.path("there"))])
    assert host.tree("there") == SHOWN


def test_process_without_the_right_to_mount_is_refused_while_planning(host: Host) -> None:
    """As root of a container that lacks CAP_SYS_ADMIN."""
    need_full_root("may mount in its own namespace")
    code = """
import sys
import tarfile
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.tests.integration.test_store_places import APP, BASE, stack
from ansible_collections.strata.overlay.tests.integration.host import Host
from pathlib import Path
host = Host(Path(sys.argv[1]))
try:
    host.run(layers=[BASE, APP], stacks=[stack(host)])
except DefinitionError as error:
    print(error)
"""
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", code, str(host.top)]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert "stack web: this process may not mount (Operation not permitted); run it as root" in said
    assert not host.root.exists()


@pytest.mark.parametrize("same_disk", [True, False])
def test_mount_inside_the_store_is_refused_and_named(host: Host, same_disk: bool) -> None:
    host.run(layers=[BASE, NEW])
    host.run(layers=[{"name": "app", "state": "absent"}])
    content = str(host.root / "content")
    if same_disk:
        syscalls.mount(content, content, None, mount_flags.MS_BIND)
    else:
        syscalls.mount("disk", content, "tmpfs", 0, "mode=0700")
        (host.root / "content/sha256").mkdir()
    for check in (True, False):
        with pytest.raises(DefinitionError, match=f"option 'root': something is mounted on {content} .* unmount"):
            host.run(check=check, layers=[BASE, APP])
    assert ("directory_apart", "content") in {
        (finding["kind"], finding["object"]) for finding in host.check()["findings"]
    }
    if same_disk:
        for check in (True, False):
            with pytest.raises(StrataError, match=f"Nothing was removed: something is mounted on {content} "):
                host.prune(check=check)
    assert host.store.removal_journals() == []
    unmount_all(host.top)
    assert host.run(layers=[BASE, APP])["changed"]
    assert kinds(host) == set()


RESTRICTIONS = mount_flags.MS_NOSUID | mount_flags.MS_NODEV | mount_flags.MS_NOEXEC


@pytest.fixture
def hardened(host: Host) -> Host:
    """A host whose store lies on a file system that is mounted as hardened ones have /var."""
    need_full_root("may not take away flags of what it has not mounted")
    host.root.mkdir()
    syscalls.mount(str(host.root), str(host.root), None, mount_flags.MS_BIND)
    syscalls.mount("", str(host.root), None, mount_flags.MS_REMOUNT | mount_flags.MS_BIND | RESTRICTIONS)
    return host


@pytest.mark.parametrize(
    ("driver", "writable", "layers"),
    [
        ("overlay", "none", ["base"]),
        ("overlay", "none", ["base", "app"]),
        ("overlay", "persistent", ["base"]),
        ("overlay", "volatile", ["base"]),
        ("copy", "none", ["base", "app"]),
        ("copy", "persistent", ["base", "app"]),
        ("fuse-overlayfs", "persistent", ["base", "app"]),
    ],
)
@pytest.mark.parametrize("asked", [[], ["nosuid", "dev"]])
def test_stacks_of_all_kinds_have_the_requested_mount_flags(
    hardened: Host, driver: str, writable: str, layers: list[str], asked: list[str]
) -> None:
    if driver == "fuse-overlayfs" and not find_abilities().fuse_overlayfs:
        pytest.skip("no fuse-overlayfs")

    def flags() -> set[str]:
        (mount,) = hardened.mounts("web")
        return {*mount.options} & {"nosuid", "nodev", "noexec"}

    wanted = stack(hardened, writable=writable, layers=layers, driver=driver, mount_options=asked)
    hardened.four_steps(layers=[BASE, APP], stacks=[wanted])
    assert flags() == ({"nosuid"} if asked else {"nodev"})
    if (driver, writable) == ("copy", "persistent"):
        return  # other layers cannot come below it
    newer = inline("base", etc__os="newer", both="newer")
    hardened.four_steps(layers=[newer, APP], stacks=[wanted])
    assert flags() == ({"nosuid"} if asked else {"nodev"}), "after a switch too"


@pytest.mark.parametrize(("asked", "works"), [([], False), (["dev"], True)])
@pytest.mark.parametrize("layers", [["base"], ["base", "app"]])
def test_device_files_of_layers_work_only_with_the_option_dev(
    host: Host, asked: list[str], works: bool, layers: list[str]
) -> None:
    need_full_root("makes no device files")
    archive = host.top / "base.tar"
    with tarfile.open(archive, "w") as tar:
        node = tarfile.TarInfo("null")
        node.type, node.mode, node.devmajor, node.devminor = tarfile.CHRTYPE, 0o666, 1, 3
        tar.addfile(node)
    base = {"name": "base", "src": str(archive)}
    host.four_steps(layers=[base, APP], stacks=[stack(host, layers=layers, mount_options=asked)])
    with nullcontext() if works else pytest.raises(PermissionError):
        Path(host.path("web"), "null").write_text("x")


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
@pytest.mark.parametrize("letters", ["back\\slash\\", "\\072:,=x", " \"#'\u00fc"])
def test_paths_with_special_characters_of_mount_options_are_accepted(host: Host, letters: str, writable: str) -> None:
    other = Host(host.top / letters)
    web = {"name": "web", "path": other.path(letters), "layers": ["base", "app"], "writable": writable}
    other.four_steps(layers=[BASE, APP], stacks=[web])
    if writable != "none":
        Path(other.path(letters), "mine").write_text("written")
    other.four_steps(layers=[BASE, NEW], stacks=[web])
    assert other.tree(letters)["both"] == "new"
    assert other.tree(letters).get("mine") == ("written" if writable == "persistent" else None)
    assert kinds(other) == set()
    other.four_steps(stacks=[{"name": "web", "state": "absent"}])
    assert other.mounts(letters) == []


@pytest.mark.parametrize("driver", ["auto", "fuse-overlayfs"])
def test_fuse_overlayfs_in_a_path_with_a_colon_is_refused_or_passed_over(
    host: Host, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not find_abilities().fuse_overlayfs:
        pytest.skip("no fuse-overlayfs")
    other = Host(host.top / "a:b")
    wanted = stack(other, driver=driver, writable="persistent")
    if driver == "auto":
        monkeypatch.setattr(inspect, "find_abilities", lambda: find_abilities()._replace(overlay=False))
        assert other.run(layers=[BASE, APP], stacks=[wanted])["stacks"][0]["driver"] == "copy"
        return
    with pytest.raises(DefinitionError, match="stack web: option 'driver': .* whose path has a colon"):
        other.run(layers=[BASE, APP], stacks=[wanted])
    assert not other.root.exists()


def unknown(host: Host) -> list[str]:
    return [finding["object"] for finding in host.check()["findings"] if finding["kind"] == "mount_unknown"]


@pytest.mark.parametrize("writable", ["none", "persistent"])
def test_store_reached_by_a_second_path_is_the_same_store(host: Host, writable: str) -> None:
    web = stack(host, writable=writable)
    host.run(layers=[BASE, APP], stacks=[web])
    second = host.top / "second"
    (second / "store").mkdir(parents=True)
    syscalls.mount(str(host.root), str(second / "store"), None, mount_flags.MS_BIND)
    other = Host(second)
    assert other.run(layers=[BASE, APP], stacks=[web])["changed"] is False
    assert kinds(other) == set()
    elsewhere = host.top / "elsewhere"
    elsewhere.mkdir()
    request = mount_request(host.store.home, host.store.stacks()["web"])
    mount_at(replace(request, upper="", work=""), str(elsewhere), find_abilities())
    assert (unknown(host), unknown(other)) == ([str(elsewhere)], [str(elsewhere)])
    other.run(layers=[NEW], stacks=[web])
    assert host.tree("web")["both"] == "new"
    other.run(stacks=[{"name": "web", "state": "absent"}])
    assert host.mounts("web") == []


def test_mounts_of_a_renamed_store_are_found(host: Host) -> None:
    one = stack(host, name="one", path=host.path("one"), layers=["base"])
    host.run(layers=[BASE, APP], stacks=[stack(host), one])
    host.root.rename(host.top / "renamed")
    (host.top / "other").mkdir()
    other = Host(host.top / "other")
    (host.top / "renamed").rename(other.root)
    assert unknown(other) == [host.path("web")], "a bind is known by device and root"
    other.run(layers=[{"name": name, "state": "absent"} for name in ("base", "app")])
    other.prune()
    assert host.tree("web") == SHOWN, "what is mounted stays"


def test_bind_mount_of_a_content_that_no_stack_has_is_unknown(host: Host) -> None:
    host.run(layers=[BASE, APP], stacks=[stack(host, layers=["base"])])
    places = [host.top / name for name in ("known", "inside", "unknown")]
    for place in places:
        place.mkdir()
    app = host.store.content(host.store.name_record("app").diff_ids[0])  # type: ignore[union-attr]
    for source, place in zip((host.path("web"), f"{host.path('web')}/etc", app), places, strict=True):
        syscalls.mount(source, str(place), None, mount_flags.MS_BIND)
    assert unknown(host) == [str(places[2])]
