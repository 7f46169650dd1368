# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services as users write them, and what a plan does with them around a change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec
from ansible_collections.strata.overlay.plugins.module_utils._definition.service import Service
from ansible_collections.strata.overlay.plugins.module_utils._definition.services import read_services
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired, DesiredStack
from ansible_collections.strata.overlay.plugins.module_utils._plan.host_steps import CheckHealth, ServiceStep
from ansible_collections.strata.overlay.plugins.module_utils._plan.services import with_services
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import HostFacts
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Mount, Step, Switch, Unmount, WriteStack
from ansible_collections.strata.overlay.plugins.module_utils._services.units import UnitState, service_problems
from ansible_collections.strata.overlay.plugins.module_utils._store.records import (
    ChangeRecord,
    Generation,
    StackRecord,
    dump,
    load,
)

A, B = (f"sha256:{letter * 64}" for letter in "ab")
HEALTH = HealthSpec(url="http://127.0.0.1/", retries=0)


# As users write them.


def read(*written: Any) -> tuple[Service, ...]:
    errors: list[str] = []
    services = read_services("stack web", list(written), errors)
    assert errors == []
    return services


def test_services_are_read_from_names_and_dictionaries() -> None:
    assert read("db", "app@1.service", {"name": "nginx", "action": "reload"}, "app.socket") == (
        Service("db.service"),
        Service("app@1.service"),
        Service("nginx.service", "reload"),
        Service("app.socket"),
    )


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("a b", "no name of a systemd unit"),
        ("-x", "no name of a systemd unit"),
        ("a;reboot", "no name of a systemd unit"),
        ("../x", "no name of a systemd unit"),
        (7, "must be a dictionary"),
        ({"action": "reload"}, "option 'name' is missing"),
        ({"name": "x", "action": "stop"}, "must be one of restart, reload"),
        ({"name": "x", "aktion": "reload"}, "did you mean 'action'"),
    ],
)
def test_malformed_service_is_reported_with_its_number(written: Any, told: str) -> None:
    errors: list[str] = []
    read_services("stack web", [written], errors)
    assert told in errors[0]
    assert errors[0].startswith("stack web: service 1: ")


def test_unit_named_twice_is_reported() -> None:
    errors: list[str] = []
    read_services("stack web", ["app", "app.service"], errors)
    assert errors == ["stack web: option 'services' names app.service more than once"]


def test_unknown_unit_or_host_without_systemd_is_reported() -> None:
    services = read("app", "db")
    states = {"app.service": UnitState("not-found", "inactive"), "db.service": UnitState("loaded", "active")}
    assert service_problems("stack web", services, True, {**states, "app.service": states["db.service"]}) == []
    (missing,) = service_problems("stack web", services, True, states)
    assert missing.startswith("stack web: option 'services': app.service: systemd knows no such unit")
    (none,) = service_problems("stack web", services, False, {})
    assert "needs systemd" in none
    assert service_problems("stack web", (), False, {}) == []


# Around a change.

RUNNING = UnitState("loaded", "active", "enabled")
STOPPED = UnitState("loaded", "inactive", "disabled")
ENABLED = UnitState("loaded", "inactive", "enabled")


def stack(services: tuple[Service, ...] = (), health: HealthSpec | None = None, state: str = "mounted") -> DesiredStack:
    spec = StackSpec("web", "/srv/web", (), "persistent", 0, False, "fail", 3, state, services, health)
    return DesiredStack(spec, (B,), ("new",))


def planned(target: DesiredStack, facts: HostFacts, *steps: Step, returning: bool = False) -> list[Step]:
    names = frozenset({"web"}) if returning else frozenset[str]()
    return with_services(steps, Desired({}, (), (target,), {}, {}, returning=names), facts)


def words(steps: list[Step]) -> list[str]:
    return [step.describe() for step in steps]


UNMOUNT = Unmount("web", "/srv/web", 1, False, "its layers change")
RECORD = StackRecord("web", "/srv/web", "persistent", 0, "5" * 64, True, False, (Generation(1, (A,), ("old",), "x"),))


def mount(target: DesiredStack) -> Mount:
    return Mount(target)


def test_only_running_services_stop_in_reverse_and_start_in_order() -> None:
    target = stack(read("db", "app", "idle", {"name": "nginx", "action": "reload"}), HEALTH)
    units = {"db.service": RUNNING, "app.service": RUNNING, "idle.service": ENABLED, "nginx.service": RUNNING}
    write = WriteStack(target, RECORD, "5" * 64, True, ("x",))
    steps = planned(target, HostFacts(True, units), write, UNMOUNT, mount(target))
    assert words(steps)[1:] == [
        "stop app.service, db.service",
        UNMOUNT.describe(),
        mount(target).describe(),
        "start db.service, start app.service, reload nginx.service",
        "check the health of stack web: GET http://127.0.0.1/",
    ]
    (change,) = {step.change for step in steps if isinstance(step, ServiceStep)}
    assert change == ChangeRecord("web", ("app.service", "db.service", "nginx.service"), True, (A,), ("old",))


def test_services_of_an_unchanged_stack_are_not_touched() -> None:
    target = stack(read("app"), HEALTH)
    write = WriteStack(target, RECORD, "5" * 64, False, ("2 generations are kept",))
    facts = HostFacts(True, {"app.service": RUNNING})
    assert planned(target, facts) == []
    assert planned(target, facts, write) == [write]


def test_first_mount_starts_only_enabled_services() -> None:
    target = stack(read("app", "manual"), HEALTH)
    facts = HostFacts(True, {"app.service": ENABLED, "manual.service": STOPPED})
    steps = planned(target, facts, mount(target))
    assert words(steps)[1:] == ["start app.service", "check the health of stack web: GET http://127.0.0.1/"]
    # Back from there: what runs only since then is stopped, and nothing is started.
    unmounted = stack(read("app", "manual"), HEALTH, "unmounted")
    noted = ChangeRecord("web", (), False)
    facts = HostFacts(True, {"app.service": RUNNING, "manual.service": STOPPED}, {"web": noted})
    assert words(planned(unmounted, facts, UNMOUNT, returning=True)) == ["stop app.service", UNMOUNT.describe()]
    # Had one run before on the bare directory, it would run again.
    facts = facts._replace(changes={"web": replace(noted, running=("app.service",))})
    steps = planned(unmounted, facts, UNMOUNT, returning=True)
    assert words(steps) == ["stop app.service", UNMOUNT.describe(), "start app.service"]


def test_unmounted_stack_starts_no_service_and_checks_no_health() -> None:
    target = stack(read("app"), HEALTH, "unmounted")
    steps = planned(target, HostFacts(True, {"app.service": RUNNING}), UNMOUNT)
    assert words(steps) == ["stop app.service", UNMOUNT.describe()]


def test_stack_taken_down_stops_the_services_of_its_definition() -> None:
    desired = Desired({}, (), (), {"web": False}, {}, dropped_services={"web": read("app")})
    steps = with_services([UNMOUNT], desired, HostFacts(True, {"app.service": RUNNING}))
    assert words(steps) == ["stop app.service", UNMOUNT.describe()]


def test_interrupted_change_of_services_is_finished() -> None:
    target = stack(read("app", "db", "idle"), HEALTH)
    noted = ChangeRecord("web", ("app.service", "db.service"), True, (A,), ("old",))
    units = {"app.service": STOPPED, "db.service": RUNNING, "idle.service": ENABLED}
    steps = planned(target, HostFacts(True, units, {"web": noted}))
    assert words(steps) == [
        "start app.service, restart db.service",
        "check the health of stack web: GET http://127.0.0.1/",
    ]
    assert isinstance(steps[1], CheckHealth)
    assert steps[1].change == noted, "the way back is still known"
    # The user has gone back already: there is no way back from there.
    steps = planned(target._replace(diff_ids=(A,)), HostFacts(True, units, {"web": noted}))
    assert isinstance(steps[1], CheckHealth)
    assert steps[1].change.back == ()


def test_shared_services_start_once_after_all_their_stacks_are_mounted() -> None:
    web = stack(read("app", "web-only"), HEALTH)
    data = web._replace(spec=replace(web.spec, name="data", path="/srv/data", services=read("app"), health=None))
    units = {"app.service": ENABLED, "web-only.service": ENABLED}
    desired = Desired({}, (), (web, data), {}, {})
    first, second = Mount(web), Mount(data)
    assert words(with_services([first, second], desired, HostFacts(True, units))) == [
        first.describe(),
        second.describe(),
        "start app.service, start web-only.service",
        "check the health of stack web: GET http://127.0.0.1/",
    ]


def test_gapless_switch_stops_no_service() -> None:
    target = stack(read("app", "idle", {"name": "nginx", "action": "reload"}))
    units = {"app.service": RUNNING, "idle.service": STOPPED, "nginx.service": RUNNING}
    switch = Switch(target, RECORD, 1, "its layers change", gapless=True)
    assert words(planned(target, HostFacts(True, units), switch)) == [
        switch.describe(),
        "restart app.service, reload nginx.service",
    ]
    gap = replace(switch, gapless=False)
    assert words(planned(target, HostFacts(True, units), gap)) == [
        "stop app.service",
        gap.describe(),
        "start app.service, reload nginx.service",
    ]


def test_change_record_is_read_as_written() -> None:
    change = ChangeRecord("web", ("app.service",), True, (A,), ("old",))
    assert load(ChangeRecord, dump(change), "x") == change
