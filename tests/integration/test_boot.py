# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks come back after a reboot, by units of a real systemd and by a helper of a real mount(8)."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered
from ansible_collections.strata.overlay.tests.integration.systemd_machine import Machine, install_app

BASE = inline("base", etc__os="base", version="base")
APP = inline("app", version="new")
UNITS = "/etc/systemd/system"


def stack(**options: Any) -> dict[str, Any]:
    return {"name": "web", "path": "/srv/web", "layers": ["base", "app"], **options}


def define(box: Machine, check: bool = False, **options: Any) -> dict[str, Any]:
    return box.run(check=check, layers=[BASE, APP], stacks=[stack(**options)])


def left_behind(box: Machine) -> str:
    """Everything of ours that systemd or mount(8) would read."""
    return box.call("sh", "-c", f"find {UNITS} -name '*srv-*'; grep -s strata /etc/fstab").stdout


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
def test_stack_is_mounted_after_reboot_before_its_service_starts(box: Machine, writable: str) -> None:
    box.install_helper()
    install_app(box)
    box.do("systemctl", "enable", "app")
    announced = define(box, check=True, writable=writable, services=["app"])
    done = define(box, writable=writable, services=["app"])
    assert announced["plan"] == done["plan"]
    assert [step["text"] for step in done["plan"]][-1] == "write srv-web.mount, which mounts stack web at boot"
    assert done["stacks"][0]["boot"] == "unit"
    assert define(box, writable=writable, services=["app"])["changed"] is False
    assert box.do("systemctl", "is-enabled", "srv-web.mount") == "enabled"
    assert box.active("srv-web.mount") == "active", "systemd takes the mount for the unit's"
    if writable != "none":
        box.write("/srv/web/note", "mine")
    box.reboot()
    assert box.active("srv-web.mount") == box.active("app.service") == "active", box.console()
    assert box.read("/run/app") == "new"
    assert box.exists("/srv/web/note") is (writable == "persistent")
    again = define(box, writable=writable, services=["app"])
    assert again["plan"] == [], "a reboot changes nothing"
    assert box.do("systemctl", "is-system-running") == "running"


def test_mount_and_systemctl_mount_the_stack_by_hand(box: Machine) -> None:
    box.install_helper()
    define(box, writable="volatile")
    box.do("umount", "/srv/web")
    box.do("mount", "-t", "strata", "web", "/srv/web")
    assert box.read("/srv/web/version") == "new"
    box.do("mount", "-t", "strata", "web", "/srv/web", "-o", "root=/var/lib/strata")
    assert box.read("/proc/1/mountinfo").count(" /srv/web ") == 1, "mounted already is fine"
    box.do("umount", "/srv/web")
    box.do("systemctl", "start", "srv-web.mount")
    assert box.read("/srv/web/version") == "new"
    box.do("systemctl", "stop", "srv-web.mount")
    assert not box.exists("/srv/web/version")
    box.unit(
        "user.service", "[Unit]", "RequiresMountsFor=/srv/web/etc", "[Service]", "ExecStart=/bin/cat /srv/web/etc/os"
    )
    box.do("systemctl", "start", "user.service")
    assert box.active("srv-web.mount") == "active"
    assert define(box, writable="volatile")["changed"] is False


def test_service_without_its_tree_does_not_start_and_boot_goes_on(box: Machine) -> None:
    box.install_helper()
    install_app(box)
    box.do("systemctl", "enable", "app")
    define(box, services=["app"])
    for content in (box.store / "content/sha256").iterdir():
        content.rename(content.with_suffix(".lost"))
    box.reboot()
    assert box.active("multi-user.target") == "active"
    assert box.active("app.service") == "inactive"
    assert box.active("srv-web.mount") == "failed"
    assert "is missing from the store" in box.call("journalctl", "--unit=srv-web.mount").stdout
    for content in (box.store / "content/sha256").iterdir():
        content.rename(content.with_suffix(""))
    box.do("systemctl", "start", "app")
    assert box.read("/run/app") == "new"


def test_stack_with_lost_short_links_is_mounted_at_boot(box: Machine) -> None:
    box.install_helper()
    define(box)
    for link in (box.store / "overlay2/l").iterdir():
        link.unlink()
    box.reboot()
    assert box.read("/srv/web/version") == "new"


def test_run_after_reboot_during_health_check_can_still_roll_back(box: Machine) -> None:
    box.install_helper()
    install_app(box)
    box.do("systemctl", "enable", "app")
    options: dict[str, Any] = {"writable": "persistent", "services": ["app"]}
    define(box, **options)
    bad = [BASE, inline("app", version="bad")]
    slow = {"command": ["sh", "-c", "touch /run/asked; sleep 600"], "timeout": 600, "retries": 0}
    killed = box.start(layers=bad, stacks=[stack(**options, health=slow)])
    box.wait_for("/run/asked")
    box.reboot()
    killed.wait()
    assert box.read("/run/app") == "bad", "the record says so, and a boot does not judge"
    quick = {"command": ["sh", "-c", "test $(cat /run/app) != bad"], "retries": 0}
    failed = box.run(layers=bad, stacks=[stack(**options, health=quick)])
    assert "The stack went back to the generation before (base, app)" in failed["error"]
    assert box.read("/run/app") == "new"


def test_boot_units_are_removed_when_no_longer_needed(box: Machine) -> None:
    box.install_helper()
    install_app(box)
    done = define(box, services=["app"])
    without = define(box, services=["app"], boot=False)
    assert [step["action"] for step in without["plan"]] == ["remove_unit", "write_stack"]
    assert (done["stacks"][0]["boot"], without["stacks"][0]["boot"]) == ("unit", "off")
    assert box.read("/srv/web/version") == "new", "it stays mounted"
    assert_nothing_is_left(box)
    define(box, services=["app"], state="unmounted")
    assert_nothing_is_left(box)
    define(box, services=["app"])
    box.run(stacks=[{"name": "web", "state": "absent"}])
    assert_nothing_is_left(box)
    define(box, services=["app"])
    box.run(layers=[BASE, APP], exclusive=True)
    assert_nothing_is_left(box)
    define(box, services=["app"])
    define(box, services=["app"], path="/srv/other")
    assert "srv-other.mount" in left_behind(box)
    define(box, services=["app"], path="/srv/other", boot=False)
    assert_nothing_is_left(box)
    define(box, services=["app"])
    assert f"{UNITS}/app.service.requires/srv-web.mount" in left_behind(box)
    box.do("rm", "/sbin/mount.strata")
    assert define(box, services=["app"])["stacks"][0]["boot"] == "no_helper"
    assert_nothing_is_left(box)


def assert_nothing_is_left(box: Machine) -> None:
    assert left_behind(box) == ""
    assert "enabled" not in box.call("systemctl", "list-unit-files", "srv-*").stdout


def test_without_helper_no_unit_is_written_and_run_succeeds(box: Machine) -> None:
    done = define(box)
    assert done["stacks"][0]["boot"] == "no_helper"
    assert left_behind(box) == ""
    box.install_helper()
    assert [step["action"] for step in define(box)["plan"]] == ["write_unit"]


def test_foreign_unit_of_same_name_is_refused_and_kept(box: Machine) -> None:
    box.install_helper()
    box.unit("srv-web.mount", "[Mount]", "What=tmpfs", "Type=tmpfs", "Where=/srv/web")
    failed = define(box)
    assert "srv-web.mount is there already and was not written for this stack" in failed["error"]
    assert define(box, boot=False)["changed"]
    assert "What=tmpfs" in box.read(f"{UNITS}/srv-web.mount")


def test_unit_for_stack_over_another_file_system_is_refused(box: Machine) -> None:
    box.install_helper()
    box.do("mkdir", "-p", "/srv/web")
    box.do("mount", "-t", "tmpfs", "mine", "/srv/web")
    failed = define(box, cover=True)
    assert "at /srv/web, tmpfs mine is mounted too" in failed["error"]
    assert define(box, cover=True, boot=False)["changed"]
    assert define(box, cover=True, boot=False)["changed"] is False


def test_many_stacks_are_all_mounted_at_boot(box: Machine) -> None:
    box.install_helper()
    layers = numbered(20)
    stacks = [
        {"name": f"s{number}", "path": f"/srv/s {number}%", "layers": [layer["name"] for layer in layers]}
        for number in range(8)
    ]
    box.run(layers=layers, stacks=stacks)
    box.reboot()
    assert [box.read(f"/srv/s {number}%/top") for number in range(8)] == ["19"] * 8
    assert box.run(layers=layers, stacks=stacks)["changed"] is False


def test_without_systemd_fstab_line_mounts_the_stack(box: Machine) -> None:
    """The same machine, seen as one of another init system: mount -a is what such a one does at boot."""
    box.install_helper()
    box.write("/etc/fstab", "# mine\ntmpfs /mnt tmpfs defaults 0 0")
    other = ("mount", "-t", "tmpfs", "none", "/run/systemd")
    box.do(*other)
    box.do("ln", "-sf", "/bin/false", "/usr/sbin/init")
    done = define(box)
    assert done["stacks"][0]["boot"] == "fstab"
    assert done["plan"][-1]["text"] == "write the line of stack web into /etc/fstab"
    assert "web /srv/web strata root=/var/lib/strata 0 0\n" in box.read("/etc/fstab")
    assert define(box)["changed"] is False
    refused = define(box, services=["app"])
    assert "needs systemd" in refused["error"]
    box.do("umount", "/srv/web")
    box.do("mount", "-a")
    assert box.read("/srv/web/version") == "new"
    box.do("umount", "/srv/web")
    box.do("mount", "/srv/web")
    assert box.read("/srv/web/version") == "new"
    define(box, state="unmounted")
    assert box.read("/etc/fstab") == "# mine\ntmpfs /mnt tmpfs defaults 0 0\n"
