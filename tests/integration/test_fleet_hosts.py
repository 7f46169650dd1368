# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person checks on the hosts of the fleet, by testinfra over SSH: as a user of them, and as root."""

from __future__ import annotations

from typing import Any

from ansible_collections.strata.overlay.tests.integration.fleet import USER, Fleet
from ansible_collections.strata.overlay.tests.integration.ssh_login import login
from ansible_collections.strata.overlay.tests.integration.test_fleet import definition

ACCESS = {"/srv/web": "ro", "/srv/tools": "ro", "/srv/jobs": "rw", "/srv/test": "rw"}
SERVED = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080').read().decode().strip())"
DEPLOY = 2001


def with_secrets() -> dict[str, Any]:
    """The four stacks, and a layer on one of them with files that not everybody may read."""
    files = [
        {"path": "etc/secret", "content": "for root\n", "mode": "0600"},
        {"path": "etc/token", "content": "for deploy\n", "mode": "0640", "group": DEPLOY},
        {"path": "bin/run", "content": "#!/bin/sh\necho runs\n", "mode": "0755"},
    ]
    found = definition("one")
    found["overlay_layers"].append({"name": "secrets", "files": files})
    found["overlay_stacks"][0]["layers"].append("secrets")
    return found


def overlays(host: Any) -> dict[str, list[str]]:
    """Options of each overlay below /srv, by path."""
    mounts = host.mount_point.get_mountpoints()
    return {one.path: one.options for one in mounts if one.filesystem == "overlay" and one.path.startswith("/srv/")}


def test_mounts_files_and_permissions_are_as_defined_on_every_host(fleet: Fleet) -> None:
    fleet.play("strata.overlay.site", variables=with_secrets()).check()
    for one in fleet.hosts:
        host = login(fleet, one)
        assert {path: host.mount_point(path).exists for path in ACCESS} == dict.fromkeys(ACCESS, True), one.name
        assert {path: access for path in ACCESS for access in ("ro", "rw") if access in options(host, path)} == ACCESS
        written = [path for path in ACCESS if any(one.startswith("upperdir=") for one in options(host, path))]
        assert written == ["/srv/jobs", "/srv/test"]
        check_files(host)
        assert host.socket("tcp://0.0.0.0:8080").is_listening
        assert host.check_output("python3 -c %s", SERVED) == "one"


def options(host: Any, path: str) -> list[str]:
    found: list[str] = host.mount_point(path).options
    return found


def check_files(host: Any) -> None:
    """As the user that logs in has them, who is not root."""
    assert host.user().name == USER
    release, secret, token = (host.file(f"/srv/web/{name}") for name in ("release", "etc/secret", "etc/token"))
    assert (release.content_string, release.mode, release.user, release.group) == ("one\n", 0o644, "root", "root")
    assert (secret.mode, secret.user, secret.group) == (0o600, "root", "root")
    assert "Permission denied" in host.run("cat /srv/web/etc/secret").stderr
    assert (token.content_string, token.mode, token.gid) == ("for deploy\n", 0o640, DEPLOY)
    assert host.check_output("/srv/web/bin/run") == "runs"
    assert host.file("/srv/strata").mode == 0o711
    assert "Permission denied" in host.run("ls /srv/strata").stderr, "the store is nobody's but root's"


def test_writes_reach_writable_stacks_and_only_persistent_ones_keep_them(fleet: Fleet) -> None:
    fleet.play("strata.overlay.site", "--limit", "h1", variables=definition("one")).check()
    root = login(fleet, fleet.hosts[0], sudo=True)
    for path, access in ACCESS.items():
        said = root.run("echo mine > %s/mine", path)
        assert ("Read-only file system" in said.stderr) == (access == "ro")
        assert root.file(f"{path}/mine").exists == (access == "rw")
    fleet.play("strata.overlay.site", "--limit", "h1", variables=definition("two")).check()
    assert root.file("/srv/jobs/mine").content_string == "mine\n", "persistent"
    assert root.file("/srv/test/release").content_string == "two\n"
    assert not root.file("/srv/test/mine").exists, "volatile"


def test_nothing_is_left_after_decommission(fleet: Fleet) -> None:
    everything = "find /srv /etc /run -not -path '/srv/home/.ansible*' -not -path '/run/sudo*'"
    hosts = {one.name: login(fleet, one, sudo=True) for one in fleet.hosts}
    before = {name: set(host.check_output(everything).splitlines()) for name, host in hosts.items()}
    fleet.play("strata.overlay.rollout", variables=definition("one")).check()
    for host in hosts.values():
        assert set(overlays(host)) == set(ACCESS) - {"/srv/tools"}, "one layer is bound, and is no overlay"
        host.check_output("echo mine > /srv/jobs/mine")
    gone = {"overlay_layers": [], "overlay_stacks": [], "overlay_exclusive": True, "overlay_prune": {}}
    fleet.play("strata.overlay.site", variables=gone).check()
    for name, host in hosts.items():
        assert [one.path for one in host.mount_point.get_mountpoints() if one.path in ACCESS] == []
        left = set(host.check_output(everything).splitlines()) - before[name]
        assert {path for path in left if not path.startswith("/srv/strata")} == set()
        for part in ("content/sha256", "overlay2/l", "staging", "trash"):
            assert host.file(f"/srv/strata/{part}").listdir() == []
        assert host.check_output("find /srv/strata -type f -not -name lock") == "", "directories, and no file in them"
        assert host.check_output("find /srv/home/.ansible/tmp -mindepth 1") == ""
        assert len(host.process.filter(comm="python3")) == 1, "the site, and nothing of Ansible"
    again = fleet.play("strata.overlay.site", variables=gone).check()
    assert set(again.counts("changed").values()) == {0}
