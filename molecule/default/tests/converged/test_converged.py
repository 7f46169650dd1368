# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Version 1 is there, each stack as its definition says, on a host where nothing has failed."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host


def test_service_serves_version_1(host: Host) -> None:
    answer = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/version').read().decode().strip())"
    assert host.check_output("python3 -c %s", answer) == "1"
    assert host.check_output("/srv/web/bin/greet") == "greetings from version 1"
    assert host.file("/srv/web/lib/removed-by-2").exists
    config = host.file("/srv/web/etc/app.conf")
    assert (config.content_string, config.mode, config.user) == ("listen 8080\n", 0o640, "root")


@pytest.mark.parametrize(
    ("path", "options", "lowers"),
    [("/srv/web", "ro", 3), ("/srv/data", "rw", 2), ("/srv/scratch", "rw", 1)],
)
def test_each_stack_is_an_overlay_of_all_its_layers(host: Host, path: str, options: str, lowers: int) -> None:
    (line,) = [one for one in host.file("/proc/self/mountinfo").content_string.splitlines() if one.split()[4] == path]
    mount, superblock = line.split(" - ")
    assert superblock.split()[0] == "overlay"
    assert options in mount.split()[5].split(",")
    settings = superblock.split()[2].split(",")
    together = [entry.partition("=")[2] for entry in settings if entry.startswith("lowerdir")]
    assert len(":".join(together).split(":")) == lowers


def test_changes_stay_in_their_stack(host: Host) -> None:
    host.check_output("echo mine > /srv/data/mine && echo mine > /srv/scratch/mine")
    assert host.check_output("cat /srv/data/mine /srv/scratch/mine") == "mine\nmine"
    assert not host.file("/srv/web/mine").exists
    assert "Read-only file system" in host.run("touch /srv/web/mine").stderr


def test_persistent_stack_has_the_size_of_its_definition(host: Host) -> None:
    size = host.check_output("df --block-size=1 --output=size /srv/data").split()[-1]
    assert int(size) == 64 * 1024 * 1024


def test_store_is_on_its_own_disk_with_quota_and_no_unit_has_failed(host: Host) -> None:
    mount = host.mount_point("/var/lib/strata")
    expected = {"debian12": ("ext4", "prjquota"), "debian13": ("xfs", "prjquota")}[host.backend.host.name]
    assert (mount.filesystem, expected[1] in mount.options) == (expected[0], True)
    assert json.loads(host.check_output("systemctl --output=json --failed") or "[]") == []
