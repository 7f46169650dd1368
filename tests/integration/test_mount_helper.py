# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mount helper: installed by its module, called by the mount(8) of this machine.

What the host has in its directories of programs and settings is covered, in the namespace of the tests, by overlays
that are gone with the test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.programs import (
    HelperFiles,
    helper_files,
    install,
    is_installed,
    present,
    refuse_open,
    remove,
    sources,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered
from ansible_collections.strata.overlay.tests.integration.module_process import call_module
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root

BASE = inline("base", etc__os="base")
APP = inline("app", bin__run="app")


@pytest.fixture
def covered(host: Host) -> Iterator[Host]:
    """Whatever is written to programs and settings goes into the test's directory."""
    need_full_root("cannot write to programs and settings, in a copy neither")
    places = [os.path.realpath("/sbin"), "/usr/local", "/etc"]
    for number, place in enumerate(places):
        upper, work = host.top / f"upper{number}", host.top / f"work{number}"
        upper.mkdir()
        work.mkdir()
        marks = ",userxattr" if syscalls.in_user_namespace() else ""
        options = f"lowerdir={place},upperdir={upper},workdir={work}{marks}"
        syscalls.mount("overlay", place, "overlay", 0, options)
    yield host
    unmount_all(host.top)
    for place in places:
        syscalls.umount(place, syscalls.MNT_DETACH)


@pytest.fixture
def files(covered: Host) -> HelperFiles:
    """The helper, installed."""
    made = helper_files()
    install(made)
    assert covered.root.parent.is_dir()
    return made


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False, cwd="/")


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app"], "boot": False, **options}


def unmounted(host: Host, **options: Any) -> tuple[str, ...]:
    """A stack on record that is not mounted; the arguments that mount it."""
    host.run(layers=[BASE, APP], stacks=[stack(host, **options)])
    unmount_all(host.top / "srv")
    assert host.mounts("web") == []
    return ("-t", "strata", "web", host.path("web"), "-o", f"root={host.root}")


# Installing.


def test_module_installs_and_removes_helper_and_second_run_changes_nothing(covered: Host) -> None:
    program = os.path.realpath("/sbin/mount.strata")
    announced = call_module("mount_helper", {"state": "present"}, check=True)
    assert announced["changed"]
    assert "# Written by strata.overlay" in json.dumps(announced["diff"])
    assert not os.path.exists(program)
    done = call_module("mount_helper", {"state": "present"})
    assert (done["changed"], done["program"]) == (True, program)
    assert done == announced
    assert os.path.isdir(done["library"])
    for check in (False, True):
        assert call_module("mount_helper", {"state": "present"}, check)["changed"] is False
    arguments = unmounted(covered)
    assert mount(*arguments).stderr == ""
    assert covered.tree("web") == {"bin/run": "app", "etc/os": "base"}
    assert call_module("mount_helper", {"state": "absent"}, check=True)["changed"]
    assert os.path.exists(program)
    assert call_module("mount_helper", {"state": "absent"})["changed"]
    assert not os.path.lexists(program)
    assert not os.path.lexists(os.path.dirname(done["library"]))
    assert call_module("mount_helper", {"state": "absent"})["changed"] is False


def test_role_installs_and_removes_the_helper(covered: Host, ansible: Ansible) -> None:
    play = f"""
- hosts: localhost
  gather_facts: false
  vars:
    overlay_root: {covered.root}
  roles:
    - strata.overlay.host
"""
    first = ansible.playbook(play)
    assert "changed=2 " in first.stdout, first.stdout + first.stderr
    assert "changed=0 " in ansible.playbook(play).stdout
    assert "changed=0 " in ansible.playbook(play, "--check").stdout
    assert os.access("/sbin/mount.strata", os.X_OK)
    assert covered.root.stat().st_mode & 0o777 == 0o711
    gone = ansible.playbook(play, "-e", "{overlay_mount_helper: false}")
    assert "changed=1 " in gone.stdout
    assert not os.path.lexists("/sbin/mount.strata")


def test_damaged_helper_is_reinstalled_and_older_code_is_removed(files: HelperFiles) -> None:
    library = Path(files.directory).parent
    (library / "0123456789abcdef").mkdir()
    for damaged in (Path(files.program), Path(next(iter(files.code)))):
        damaged.write_text("#!/bin/false\n" if damaged == Path(files.program) else "")
        assert not is_installed(files)
        if damaged == Path(files.program):
            damaged.unlink()
        install(files)
        assert is_installed(files)
    assert [path.name for path in library.iterdir()] == [Path(files.directory).name]
    remove(files)
    assert not present(files)


def test_program_not_written_by_the_collection_is_not_replaced(covered: Host) -> None:
    program = Path(os.path.realpath("/sbin/mount.strata"))
    program.write_text("#!/bin/sh\n")
    for state in ("present", "absent"):
        assert "was not written by strata.overlay" in call_module("mount_helper", {"state": state})["msg"]
    assert program.read_text() == "#!/bin/sh\n"


def test_helper_code_is_small_and_imports_nothing_from_ansible() -> None:
    modules = sources()
    assert {"_boot.mount_strata", "_mount.mounter", "_store.store"} <= set(modules)
    assert not [name for name, text in modules.items() if "import ansible" in text or "from ansible." in text]
    assert not {"_run.engine", "_services.health", "_layer.unpack", "_source.download"} & set(modules), (
        "it is small: it need not be quick to read only"
    )


# Mounting.


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
@pytest.mark.parametrize("layers", [["base", "app"], ["base"]])
def test_helper_mounts_as_the_modules_do(covered: Host, files: HelperFiles, writable: str, layers: list[str]) -> None:
    stacks = [stack(covered, writable=writable, layers=layers)]
    arguments = unmounted(covered, writable=writable, layers=layers)
    assert mount(*arguments).stderr == ""
    (line,) = covered.mounts("web")
    assert line.read_only is (writable == "none")
    assert covered.run(check=True, layers=[BASE, APP], stacks=stacks)["plan"] == []
    again = mount(*arguments, "-v")
    assert "is mounted at" in again.stdout
    assert len(covered.mounts("web")) == 1
    assert Path(files.program).exists()


@pytest.mark.drivers("overlay")
def test_helper_mounts_a_stack_of_140_layers(covered: Host, files: HelperFiles) -> None:
    layers = numbered(140)
    long = stack(covered, layers=[layer["name"] for layer in layers])
    covered.run(layers=layers, stacks=[long])
    unmount_all(covered.top / "srv")
    done = mount("-v", "-t", "strata", "web", covered.path("web"), "-o", f"root={covered.root}")
    assert "140 layers" in done.stdout
    assert len(covered.mounts("web")[0].lowers()) == 140
    assert covered.run(check=True, layers=layers, stacks=[long])["plan"] == []
    assert Path(files.program).exists()


@pytest.mark.usefixtures("files")
def test_helper_accepts_the_flags_of_mount(covered: Host) -> None:
    arguments = unmounted(covered)
    assert mount("-f", *arguments).returncode == 0
    assert covered.mounts("web") == [], "fake"
    assert mount("-n", "-s", *arguments[:-1], f"{arguments[-1]},_netdev,nofail,unheard-of").stderr == ""
    assert len(covered.mounts("web")) == 1
    subprocess.run(["umount", covered.path("web")], check=True)
    assert mount("--read-only", *arguments).returncode == 0, "it is read-only anyway"


@pytest.mark.usefixtures("files")
def test_directory_in_cwd_with_the_name_of_the_stack_is_ignored(covered: Host) -> None:
    arguments = unmounted(covered)
    (covered.top / "web").mkdir()
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False, cwd=covered.top)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(covered.mounts("web")) == 1


@pytest.mark.usefixtures("files")
def test_wrong_arguments_are_reported_and_nothing_is_mounted(covered: Host) -> None:
    arguments = unmounted(covered, writable="persistent")
    path, root = arguments[3], arguments[5]

    def told(*call: str) -> tuple[int, str]:
        done = mount("-t", "strata", *call)
        assert covered.mounts("web") == []
        return done.returncode, done.stderr

    code, text = told("wep", path, "-o", root)
    assert code == 32
    assert text == f"mount.strata: the store {covered.root} has no stack 'wep'; it has: web\n"
    assert f"belongs at {path} and not at /mnt" in told("web", "/mnt", "-o", root)[1]
    assert "there is no store at /nowhere" in told("web", path, "-o", "root=/nowhere")[1]
    assert "is not mounted read-only" in told("web", path, "-o", f"{root},ro")[1]
    code, text = told("web", path, "-o", f"{root},noexec")
    assert code == 1
    assert "option 'noexec' is not for a stack" in text
    helper = os.path.realpath("/sbin/mount.strata")
    alone = subprocess.run([helper, "web"], capture_output=True, text=True, check=False)
    assert (alone.returncode, "the path are needed" in alone.stderr) == (1, True)


@pytest.mark.drivers("overlay", "fuse-overlayfs")
@pytest.mark.usefixtures("files")
def test_helper_repairs_or_reports_damage(covered: Host) -> None:
    arguments = unmounted(covered)
    for name in ("lower", "link"):
        for path in (covered.root / "overlay2").glob(f"*/{name}"):
            path.write_text("damaged")
    assert mount(*arguments).stderr == ""
    assert covered.tree("web") == {"bin/run": "app", "etc/os": "base"}
    assert covered.run(layers=[BASE, APP], stacks=[stack(covered)])["changed"] is False
    unmount_all(covered.top / "srv")
    content = next((covered.root / "content/sha256").iterdir())
    content.rename(covered.top / "taken")
    assert f"the content sha256:{content.name} of one of its layers is missing" in mount(*arguments).stderr
    record = covered.root / "strata/stacks/web.json"
    record.write_text(record.read_text()[:50])
    assert f"The record {record} is damaged" in mount(*arguments).stderr
    assert covered.mounts("web") == []


@pytest.mark.usefixtures("files")
def test_lost_writable_layer_is_reported_and_not_recreated(covered: Host) -> None:
    arguments = unmounted(covered, writable="persistent")
    stack_id = covered.store.stacks()["web"].stack_id
    (covered.root / "overlay2" / stack_id).rename(covered.top / "taken")
    assert "has gone with all changes" in mount(*arguments).stderr
    assert covered.mounts("web") == []


@pytest.mark.usefixtures("files")
def test_another_tree_at_the_mount_point_is_reported(covered: Host) -> None:
    arguments = unmounted(covered)
    content = next((covered.root / "content/sha256").iterdir())
    syscalls.mount(str(content), covered.path("web"), None, mount_flags.MS_BIND)
    assert "is not what the store's record says" in mount(*arguments).stderr
    assert len(covered.mounts("web")) == 1


@pytest.mark.parametrize("open_to", ["owner", "group"])
def test_python_that_others_can_change_is_refused(covered: Host, open_to: str) -> None:
    home = covered.top / "home"
    home.mkdir()
    python = home / "python3"
    python.symlink_to(os.path.realpath(sys.executable))
    refuse_open(helper_files(str(python)))
    if open_to == "owner":
        os.chown(home, 1000, 1000)
    else:
        home.chmod(0o775)
    with pytest.raises(StrataError, match=f"{python} could be changed by others.*ansible_python_interpreter"):
        refuse_open(helper_files(str(python)))


def test_helper_code_that_became_writable_by_others_is_not_run(covered: Host, files: HelperFiles) -> None:
    command = unmounted(covered)
    code = Path(files.directory)
    code.chmod(0o777)
    done = mount(*command)
    assert done.returncode != 0
    assert f"{code} could be changed by others than root" in done.stderr
    with pytest.raises(StrataError, match=f"{code} could be changed by others.*chown root"):
        refuse_open(files)
    code.chmod(0o755)
    assert mount(*command).returncode == 0
