# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a reboot all is back, in order, and nothing complains."""

from __future__ import annotations

import pytest
from testinfra.host import Host

STACKS = ("one", "five", "most", "kept", "fleeting")


def moments(host: Host, unit: str) -> tuple[int, int]:
    """When systemd began to start a unit, and when it was there, in microseconds of this boot."""
    said = host.check_output(
        "systemctl show --property=InactiveExitTimestampMonotonic --property=ActiveEnterTimestampMonotonic %s", unit
    )
    found = dict(line.split("=") for line in said.splitlines())
    return int(found["InactiveExitTimestampMonotonic"]), int(found["ActiveEnterTimestampMonotonic"])


def test_host_has_rebooted(host: Host) -> None:
    assert host.check_output("cat /proc/sys/kernel/random/boot_id") != host.check_output("cat /root/boot-before")


def test_system_is_running_and_no_unit_has_failed(host: Host) -> None:
    assert host.run("systemctl is-system-running --wait").stdout.strip() == "running"
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


@pytest.mark.parametrize("name", STACKS)
def test_every_stack_is_mounted_once_by_its_unit(host: Host, name: str) -> None:
    assert host.check_output("systemctl is-active %s", f"srv-{name}.mount") == "active"
    assert host.check_output("findmnt --noheadings --output TARGET %s", f"/srv/{name}").split() == [f"/srv/{name}"]


def test_trees_of_read_only_stacks_are_the_same_after_the_reboot(host: Host) -> None:
    assert host.file("/srv/one/base").content_string == "base\n"
    assert host.file("/srv/five/top").content_string == "b\n"
    assert host.file("/srv/most/top").content_string == "b\n"
    assert sorted(host.file("/srv/five").listdir()) == ["a", "b", "base", "c", "top", "version"]


def test_persistent_stack_keeps_its_changes(host: Host) -> None:
    assert sorted(host.file("/srv/kept").listdir()) == ["base", "c", "renamed", "top", "version", "written"]
    assert host.file("/srv/kept/written").content_string == "by a user\n"
    assert host.file("/srv/kept/renamed").content_string == "b\n"


def test_volatile_stack_shows_only_its_layers_and_is_writable(host: Host) -> None:
    assert host.file("/srv/fleeting").listdir() == ["base"]
    host.check_output("touch /srv/fleeting/new && rm /srv/fleeting/new")


def test_writing_to_read_only_stacks_fails(host: Host) -> None:
    for name in ("one", "five", "most"):
        assert "Read-only" in host.run("touch %s", f"/srv/{name}/new").stderr


def test_services_found_their_trees_at_their_start(host: Host) -> None:
    assert host.file("/run/site").content_string == "1\n"
    assert host.file("/run/writer").content_string == "1\nby a user\n"
    assert host.file("/run/stranger").content_string == "b\nbase\n"


@pytest.mark.parametrize(("stack", "service"), [("five", "site"), ("kept", "writer"), ("most", "stranger")])
def test_store_is_mounted_before_stack_and_stack_before_service(host: Host, stack: str, service: str) -> None:
    _began, store = moments(host, "var-lib-strata.mount")
    began, mounted = moments(host, f"srv-{stack}.mount")
    starts, _active = moments(host, f"{service}.service")
    assert 0 < store <= began <= mounted <= starts
