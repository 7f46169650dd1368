# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks over a fleet of twelve: rollouts that go well, stop in time, go on; and what hosts see meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from ansible_collections.strata.overlay.tests.integration.fleet import COUNT, Fleet, FleetHost, Played

HEALTH = {"url": "http://127.0.0.1:8080/", "retries": 2, "delay": 1}


def release(text: str) -> dict[str, Any]:
    return {"name": "app", "files": [{"path": "release", "content": f"{text}\n"}]}


def definition(text: str) -> dict[str, Any]:
    """Four stacks over layers that they share; ``web`` is what each host serves and asks for its health."""
    return {
        "overlay_layers": [
            {"name": "base", "files": [{"path": f"lib/{number}", "content": "x" * 1000} for number in range(5)]},
            {"name": "config", "files": [{"path": "etc/app.conf", "content": "port = 8080\n"}]},
            release(text),
        ],
        "overlay_stacks": [{"name": "web", "path": "/srv/web", "layers": ["base", "app"], "health": HEALTH}],
        "overlay_stacks__tools": [
            {"name": "tools", "path": "/srv/tools", "layers": ["base"]},
            {"name": "jobs", "path": "/srv/jobs", "layers": ["base", "config"], "writable": "persistent"},
            {"name": "test", "path": "/srv/test", "layers": ["base", "config", "app"], "writable": "volatile"},
        ],
    }


def releases(fleet: Fleet) -> list[str]:
    """What each host has mounted; "" where nothing is."""
    return [_read(host) for host in fleet.hosts]


def _read(host: FleetHost) -> str:
    try:
        return host.file("/srv/web/release").read_text().strip()
    except OSError:
        return ""


@contextlib.contextmanager
def dying(fleet: Fleet, victim: FleetHost, other: FleetHost, text: str) -> Iterator[None]:
    """A host's power is cut as soon as another one has a release, while a play goes on."""

    def watch() -> None:
        limit = time.monotonic() + 300
        while _read(other) != text and time.monotonic() < limit:
            time.sleep(0.02)
        fleet.kill(victim)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_fleet_is_upgraded_under_readers_and_rolled_back(fleet: Fleet) -> None:
    first = fleet.play("strata.overlay.rollout", variables=definition("one")).check()
    assert set(first.counts("changed").values()) == {2}, "staged, then switched"
    assert releases(fleet) == ["one"] * COUNT
    host = fleet.hosts[7]
    assert host.file("/srv/jobs/etc/app.conf").read_text() == "port = 8080\n"
    assert host.run("find", "/srv/strata/content/sha256", "-mindepth", "1", "-maxdepth", "1").count("\n") == 3
    with fleet.clients() as clients:
        upgraded = fleet.play("strata.overlay.rollout", variables=definition("two"))
    upgraded.check()
    assert releases(fleet) == ["two"] * COUNT
    assert clients.said == {host.name: ["200 one", "200 two"] for host in fleet.hosts}, clients.asked
    again = fleet.play("strata.overlay.site", "-vvv", variables=definition("two")).check()
    assert set(again.counts("changed").values()) == {0}
    executed = re.findall(r"^<(\S+)> EXEC .*AnsiballZ_(\w+)\.py", again.output, re.MULTILINE)
    modules = re.findall(r"Using module file .*plugins/modules/(\w+)\.py", again.output)
    assert modules == ["plan"] * COUNT, executed
    back = fleet.play("strata.overlay.rollback", variables={**definition("two"), "overlay_stack": "web"}).check()
    assert set(back.counts("changed").values()) == {1}
    assert releases(fleet) == ["one"] * COUNT
    twice = fleet.play("strata.overlay.rollback", variables={**definition("two"), "overlay_stack": "web"}).check()
    assert set(twice.counts("changed").values()) == {0}


def test_rollback_reaches_one_host_or_a_given_generation_everywhere(fleet: Fleet) -> None:
    for text in ("one", "two", "three"):
        fleet.play("strata.overlay.site", variables=definition(text)).check()
    back = fleet.play("strata.overlay.rollback", "--limit", "h2", variables=definition("three")).check()
    assert back.counts("changed") == {"h2": 1}
    assert releases(fleet) == ["three", "two", *["three"] * 10]
    host = fleet.hosts[1]
    assert host.file("/srv/test/release").read_text() == "two\n", "every stack that has had another generation"
    second = {**definition("three"), "overlay_stack": "web", "overlay_generation": 2}
    fleet.play("strata.overlay.rollback", variables=second).check()
    assert releases(fleet) == ["two"] * COUNT
    assert fleet.hosts[0].file("/srv/test/release").read_text() == "three\n", "another stack than that"
    missing = fleet.play("strata.overlay.rollback", "--limit", "h1", variables={**second, "overlay_generation": 9})
    assert missing.code != 0
    assert "stack web: option 'generation': the stack has no generation 9" in missing.text
    never = fleet.play("strata.overlay.rollback", "--limit", "h1", variables={**second, "overlay_stack": "tools"})
    assert "stack tools: option 'generation'" in never.text, "asked for by name, it has to have one"


def test_rollout_of_a_bad_release_stops_at_the_fifth_host(fleet: Fleet) -> None:
    fleet.play("strata.overlay.site", variables=definition("one")).check()
    bad = definition("bad on h5")
    stopped = fleet.play("strata.overlay.rollout", variables={**bad, "overlay_serial": 1})
    assert stopped.code != 0
    assert releases(fleet) == ["bad on h5"] * 4 + ["one"] * 8
    (said,) = set(re.findall(r"The rollout has stopped at h5: .*? run the rollout again", stopped.text))
    assert "Done and on the new release: h1 h2 h3 h4 ." in said
    assert "Not touched: h6 h7 h8 h9 h10 h11 h12 ." in said
    assert "stack web" in said
    mended = fleet.play("strata.overlay.rollout", variables={**definition("two"), "overlay_serial": [1, "100%"]})
    mended.check()
    assert releases(fleet) == ["two"] * COUNT


def test_rollout_stops_at_a_dead_host_and_goes_on_when_it_is_back(fleet: Fleet) -> None:
    fleet.play("strata.overlay.site", variables=definition("one")).check()
    victim = fleet.hosts[2]
    fleet.kill(victim)
    unstaged = fleet.play("strata.overlay.rollout", variables=definition("two"))
    assert unstaged.code != 0
    assert "Switch in batches" not in unstaged.output, "not every host had the bytes"
    fleet.start(victim)
    staged = fleet.play("strata.overlay.rollout", "--tags", "stage", variables=definition("two"))
    staged.check()
    assert releases(fleet) == ["one", "one", "", *["one"] * 9], "down: nothing mounts its stacks at boot here"
    with dying(fleet, victim, fleet.hosts[1], "two"):
        stopped = fleet.play(
            "strata.overlay.rollout", "--tags", "switch", variables={**definition("two"), "overlay_serial": 1}
        )
    assert stopped.code != 0
    assert "The rollout has stopped at h3: It could not be reached" in stopped.text
    assert "Done and on the new release: h1 h2 ." in stopped.text
    fleet.start(victim)
    rest = fleet.play("strata.overlay.rollout", variables=definition("two")).check()
    assert rest.counts("changed") == {host.name: int(host.name not in ("h1", "h2")) for host in fleet.hosts}
    assert releases(fleet) == ["two"] * COUNT


def test_two_controllers_at_once_change_each_host_only_once(fleet: Fleet) -> None:
    variables = definition("one")
    played: list[Played] = []

    def play() -> None:
        played.append(fleet.play("strata.overlay.site", variables=variables))

    threads = [threading.Thread(target=play) for _number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in played:
        one.check()
    assert releases(fleet) == ["one"] * COUNT
    for host in fleet.hosts:
        found = json.loads(host.run("cat", "/srv/strata/strata/stacks/web.json"))
        assert len(found["history"]) == 1, "the second of them has changed nothing"


def test_check_and_diff_over_the_fleet_show_the_plan_of_the_run(fleet: Fleet) -> None:
    before = [host.run("find", "/srv", "-not", "-path", "/srv/home*") for host in fleet.hosts]
    announced = fleet.play("strata.overlay.site", "--check", "--diff", variables=definition("one")).check()
    assert set(announced.counts("changed").values()) == {1}
    assert [host.run("find", "/srv", "-not", "-path", "/srv/home*") for host in fleet.hosts] == before
    done = fleet.play("strata.overlay.site", "--diff", variables=definition("one")).check()
    plans = [re.findall(r"^[+-]? *# \d+\. .*", played.output, re.MULTILINE) for played in (announced, done)]
    assert plans[0]
    assert sorted(plans[0]) == sorted(plans[1])


def test_stack_in_two_variables_is_refused(fleet: Fleet) -> None:
    variables = {**definition("one"), "overlay_stacks__more": [{"name": "web", "path": "/srv/w", "layers": ["base"]}]}
    done = fleet.play("strata.overlay.site", "--limit", "h1", variables=variables)
    assert done.code != 0
    assert "web is in overlay_stacks and in overlay_stacks__more" in done.text
    assert not fleet.hosts[0].file("/srv/strata").exists()
