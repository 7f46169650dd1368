# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services and health around a change, on a machine that a real systemd boots."""

from __future__ import annotations

from typing import Any

from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.systemd_machine import Machine, install_app

BASE = inline("base", etc__os="base", version="base")
OLD = inline("app", version="old")
NEW = inline("app", version="new")
BAD = inline("app", version="bad")

HEALTH = {"command": ["sh", "-c", "test $(cat /run/app) != bad"], "retries": 1, "delay": 0}


def stack(**options: Any) -> dict[str, Any]:
    return {"name": "web", "path": "/srv/web", "layers": ["base", "app"], "writable": "persistent", **options}


def define(box: Machine, app: dict[str, Any], check: bool = False, **options: Any) -> dict[str, Any]:
    """Bring the machine to one stack."""
    return box.run(check=check, layers=[BASE, app], stacks=[stack(**options)])


def actions(result: dict[str, Any]) -> list[str]:
    assert "error" not in result, result["error"]
    return [step["action"] for step in result["plan"]]


# Services.


def test_services_stop_before_the_unmount_and_start_after_the_mount(box: Machine) -> None:
    define(box, OLD)
    install_app(box)
    install_app(box, "worker.service", "ExecStop=/bin/sh -c 'echo stop worker >> /run/order'")
    install_app(box, "idle.service")
    box.do("systemctl", "start", "app", "worker")
    box.write("/run/order", "")
    services = ["app", "worker", "idle"]
    assert actions(define(box, OLD, services=services)) == ["write_stack"]
    before = box.main_pid("app.service")
    announced = define(box, NEW, check=True, services=services)
    assert box.main_pid("app.service") == before, "check mode touches nothing"
    done = define(box, NEW, services=services)
    assert announced["plan"] == done["plan"]
    assert [step["text"] for step in done["plan"] if "services" in step["action"]] == [
        "stop worker.service, app.service",
        "start app.service, start worker.service",
    ]
    assert box.read("/run/order").splitlines() == ["stop worker", "app.service", "worker.service"]
    assert box.read("/run/app") == box.read("/run/worker") == "new"
    assert box.active("idle.service") == "inactive", "what did not run is not started"
    pid = box.main_pid("app.service")
    assert define(box, NEW, services=services)["changed"] is False
    assert box.main_pid("app.service") == pid


def test_services_restart_or_reload_after_a_switch_without_a_gap(box: Machine) -> None:
    define(box, OLD, writable="none")
    install_app(box)
    install_app(box, "front.service", "ExecReload=/bin/sh -c 'cp /srv/web/version /run/reloaded'")
    box.do("systemctl", "start", "app", "front")
    options: dict[str, Any] = {"writable": "none", "services": ["app", {"name": "front", "action": "reload"}]}
    app, front = box.main_pid("app.service"), box.main_pid("front.service")
    assert actions(define(box, NEW, **options))[-2:] == ["switch", "start_services"]
    assert box.main_pid("app.service") != app
    assert box.main_pid("front.service") == front
    assert (box.read("/run/app"), box.read("/run/reloaded")) == ("new", "new")
    failed = define(box, BAD, **options, health=HEALTH)
    assert "The stack went back to the generation before (base, app)" in failed["error"]
    assert box.main_pid("front.service") == front
    assert (box.read("/run/app"), box.read("/run/reloaded")) == ("new", "new")


def test_service_that_does_not_stop_leaves_stack_and_services_unchanged(box: Machine) -> None:
    define(box, OLD, writable="persistent")
    install_app(box)
    install_app(box, "stubborn.service", "[Unit]", "RefuseManualStop=yes")
    box.do("systemctl", "start", "app", "stubborn")
    failed = define(box, NEW, services=["stubborn", "app"])
    assert "stubborn" in failed["error"]
    assert failed["error"].endswith("It stays mounted. Running again: stubborn.service, app.service.")
    assert not list((box.store / "strata/changes").iterdir())
    box.do("systemctl", "is-active", "stubborn")
    assert actions(define(box, OLD)) == ["set_name"], "nothing is left to be finished"
    assert box.active("app.service") == "active"
    assert box.read("/srv/web/version") == "old"


def test_tree_held_by_others_is_refused_and_services_keep_running(box: Machine) -> None:
    define(box, OLD)
    install_app(box)
    install_app(box, "other.service")
    box.do("systemctl", "start", "app", "other")
    pid = box.main_pid("app.service")
    failed = define(box, NEW, services=["app"])
    assert f"(process {box.main_pid('other.service')})" in failed["error"]
    assert f"(process {pid})" not in failed["error"], "what is stopped first is no reason"
    assert box.main_pid("app.service") == pid
    assert box.read("/srv/web/version") == "old"


def test_unknown_unit_is_refused_before_any_change(box: Machine) -> None:
    define(box, OLD)
    failed = define(box, NEW, services=["app"])
    assert "stack web: option 'services': app.service: systemd knows no such unit" in failed["error"]
    assert box.read("/srv/web/version") == "old"


def test_services_of_an_unmounted_or_absent_stack_are_stopped(box: Machine) -> None:
    define(box, OLD)
    install_app(box)
    box.do("systemctl", "start", "app")
    assert actions(define(box, OLD, services=["app"], state="unmounted")) == ["write_stack", "stop_services", "unmount"]
    assert box.active("app.service") == "inactive"
    box.do("systemctl", "enable", "app")
    assert actions(define(box, OLD, services=["app"])) == ["write_stack", "mount", "start_services"]
    assert box.active("app.service") == "active"
    done = box.run(stacks=[{"name": "web", "state": "absent", "services": ["app"]}])
    assert actions(done)[:2] == ["stop_services", "unmount"]
    assert box.active("app.service") == "inactive"


def test_stack_given_only_by_name_uses_the_services_on_record(box: Machine) -> None:
    define(box, OLD)
    install_app(box)
    box.do("systemctl", "start", "app")
    define(box, NEW, services=["app"])
    back = box.run("stack", name="web", generation="previous")
    assert "start_services" in actions(back)
    assert (box.read("/run/app"), box.active("app.service")) == ("old", "active")
    assert box.run("stack", name="web", generation="previous")["changed"] is False
    done = box.run(layers=[BASE, NEW], exclusive=True)
    assert actions(done)[:2] == ["stop_services", "unmount"]
    assert box.active("app.service") == "inactive"


# Health.


def test_change_that_fails_its_health_check_is_rolled_back(box: Machine) -> None:
    define(box, OLD)
    install_app(box)
    box.do("systemctl", "start", "app")
    good = define(box, NEW, services=["app"], health=HEALTH)
    assert good["stacks"][0]["health"] == "run sh: right after 1 try"
    failed = define(box, BAD, services=["app"], health=HEALTH)
    assert failed["error"] == (
        "stack web: the health check failed: run sh: it ended with 1 (2 tries). The stack went back to the generation "
        "before (base, app), and running as before: app.service. The health check passes again."
    )
    assert (box.read("/srv/web/version"), box.read("/run/app")) == ("new", "new")
    assert box.active("app.service") == "active"
    assert not list((box.store / "strata/changes").iterdir())
    assert actions(define(box, NEW, services=["app"], health=HEALTH)) == ["set_name"], "only the name went on"
    assert define(box, NEW, services=["app"], health=HEALTH)["changed"] is False


def test_first_mount_that_fails_its_health_check_is_unmounted_again(box: Machine) -> None:
    box.write("/srv/web/version", "bare")
    install_app(box)
    box.do("systemctl", "enable", "app")
    failed = define(box, BAD, services=["app"], health=HEALTH, cover=True)
    assert failed["error"].endswith("Nothing was mounted at /srv/web before, so it was unmounted again.")
    assert box.active("app.service") == "inactive", "it was started for the new tree only"
    assert box.read("/srv/web/version") == "bare"
    done = define(box, NEW, services=["app"], health=HEALTH, cover=True)
    assert actions(done)[-2:] == ["start_services", "check_health"]
    assert box.read("/run/app") == "new"


def test_change_on_which_a_service_does_not_start_is_rolled_back(box: Machine) -> None:
    define(box, OLD)
    install_app(box, "app.service", "ExecStartPre=/bin/sh -c '! grep bad /srv/web/version'")
    box.do("systemctl", "start", "app")
    failed = define(box, BAD, services=["app"])
    assert "stack web: 'systemctl start app.service' failed: Job for app.service failed" in failed["error"]
    assert "The stack went back to the generation before" in failed["error"]
    assert (box.active("app.service"), box.read("/run/app")) == ("active", "old")


def test_run_killed_during_the_health_check_is_finished_by_the_next(box: Machine) -> None:
    define(box, OLD)
    install_app(box)
    box.do("systemctl", "start", "app")
    slow = {"command": ["sh", "-c", "touch /run/asked; sleep 600"], "timeout": 600, "retries": 0}
    killed = box.start(layers=[BASE, BAD], stacks=[stack(services=["app"], health=slow)])
    box.wait_for("/run/asked")
    box.kill(killed)
    failed = define(box, BAD, services=["app"], health=HEALTH)
    assert "The stack went back to the generation before" in failed["error"]
    assert (box.active("app.service"), box.read("/run/app")) == ("active", "old")
