# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role `host`: a disk for the store on a host of the fleet, and a timer that prunes under a real systemd."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.fleet import Fleet, Played
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.ssh_login import login
from ansible_collections.strata.overlay.tests.integration.systemd_machine import COLLECTIONS, Machine
from ansible_collections.strata.overlay.tests.integration.test_fleet import definition

# A disk of its own.


@contextlib.contextmanager
def disk(path: Path) -> Iterator[str]:
    """A blank device upon a sparse file: its name."""
    with path.open("wb") as file:
        file.truncate(64 << 20)
    command = ["losetup", "--find", "--show", str(path)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def give(fleet: Fleet, top: Path, device: str) -> Played:
    """The role's part that deals with devices, on the first host."""
    playbook = top / "device.yml"
    task = {"ansible.builtin.include_role": {"name": "strata.overlay.host", "tasks_from": "device.yml"}}
    playbook.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": [task]}]))
    return fleet.play(str(playbook), variables={"overlay_device": device, "overlay_device_options": "noatime"})


def test_store_disk_is_set_up_once_and_mounted_again_with_its_data(fleet: Fleet, tmp_path: Path) -> None:
    host = fleet.hosts[0]
    with disk(tmp_path / "disk") as device:
        try:
            assert give(fleet, tmp_path, device).check().counts("changed") == {"h1": 4}
            assert give(fleet, tmp_path, device).check().counts("changed") == {"h1": 0}
            person = login(fleet, host, sudo=True)
            mount = person.mount_point("/srv/strata")
            assert (mount.device, mount.filesystem, "noatime" in mount.options) == (device, "ext4", True)
            (line,) = [line for line in person.file("/etc/fstab").content_string.splitlines() if "/srv/strata" in line]
            assert line == f"{device} /srv/strata ext4 noatime 0 2"
            fleet.play("strata.overlay.site", "--limit", "h1", variables=definition("one")).check()
            fleet.kill(host)
            fleet.start(host)
            (host.top / "srv/strata/in-the-way").touch()
            refused = give(fleet, tmp_path, device)
            assert "/srv/strata is not empty" in refused.text
            host.run("rm", "/srv/strata/in-the-way")
            assert give(fleet, tmp_path, device).check().counts("changed") == {"h1": 1}, "mounted as it is"
            again = fleet.play("strata.overlay.site", "--limit", "h1", variables=definition("one")).check()
            assert "import" not in again.output
            assert login(fleet, host).file("/srv/web/release").content_string == "one\n"
        finally:
            gone = {"overlay_exclusive": True}
            fleet.play("strata.overlay.site", "--limit", "h1", variables=gone).check()
            host.run("umount", "/srv/strata")
            host.run("sed", "-i", "/srv.strata/d", "/etc/fstab")


# A timer.

LEFT = "find /etc/systemd /usr/local -name 'strata-prune*'"


def prepare(box: Machine, *flags: str, **variables: Any) -> int:
    """The role, by an Ansible that runs in the machine: how many tasks have changed something."""
    role = {"role": "strata.overlay.host", **variables}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": [role]}
    box.write("/root/play.yml", json.dumps([play]))
    own = ("LC_ALL=C.UTF-8", "HOME=/root", f"ANSIBLE_COLLECTIONS_PATH={COLLECTIONS}", "ANSIBLE_NOCOLOR=1")
    arguments = ("-e", "ansible_python_interpreter=/usr/bin/python3", "/root/play.yml", *flags)
    said = box.do("env", *own, "python3", "-c", "from ansible.cli.playbook import main; main()", *arguments)
    (changed,) = re.findall(r"changed=(\d+)", said)
    return int(changed)


def contents(box: Machine) -> int:
    return len(list((box.store / "content/sha256").iterdir()))


@pytest.fixture
def pruned(box: Machine) -> Machine:
    """A machine with a timer."""
    variables: dict[str, Any] = {"overlay_prune_timer": "weekly", "overlay_prune": {"keep": ["spare*"]}}
    assert prepare(box, "--check", **variables) > 0
    assert box.do("sh", "-c", LEFT) == ""
    assert prepare(box, **variables) > 0
    return box


def test_timer_prunes_without_ansible(pruned: Machine) -> None:
    again = prepare(pruned, overlay_prune_timer="weekly", overlay_prune={"keep": ["spare*"]})
    assert again == 0
    assert pruned.do("systemctl", "is-enabled", "strata-prune.timer") == "enabled"
    assert pruned.active("strata-prune.timer") == "active"
    layers = [inline(name, version=name) for name in ("base", "app", "spare-1", "old")]
    stack = {"name": "web", "path": "/srv/web", "layers": ["base", "app"]}
    pruned.run(layers=layers, stacks=[stack])
    pruned.run(layers=[{"name": "old", "state": "absent"}])
    assert contents(pruned) == 4
    pruned.do("systemctl", "start", "strata-prune.service")
    assert contents(pruned) == 3, "only what had no name any more"
    assert pruned.read("/srv/web/version") == "app"
    pruned.write("/var/lib/strata/strata/stacks/web.json", "{")
    assert pruned.call("systemctl", "start", "strata-prune.service").returncode != 0, "it does not guess"
    assert contents(pruned) == 3


def test_removed_timer_leaves_nothing(pruned: Machine) -> None:
    assert len(pruned.do("sh", "-c", LEFT).splitlines()) == 5, "program, its directory, two units and a link"
    assert prepare(pruned) > 0
    assert pruned.do("sh", "-c", LEFT) == ""
    assert pruned.active("strata-prune.timer") == "inactive"
    assert prepare(pruned) == 0
