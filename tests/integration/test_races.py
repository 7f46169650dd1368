# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Eight programs at work on one store at once, each again and again: none fails, and nothing is lost."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._info.store import store_info
from ansible_collections.strata.overlay.plugins.module_utils._run import reconcile
from ansible_collections.strata.overlay.plugins.module_utils._run.stage import stage_contents
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline

# RACE=600 goes on for ten minutes.
SECONDS = float(os.environ.get("RACE", "8"))

PATIENT: dict[str, Any] = {"lock_timeout": 300}
"""As the modules have it without the option."""

Turn = Callable[[int], None]
"""One piece of a program's work; how many it has done before."""


def definition(host: Host, name: str, writable: str, version: int, **options: Any) -> dict[str, Any]:
    """A stack of two layers that all have, and one of its own, which is another one each time."""
    layers = [inline("base", os="base"), inline("lib", lib="lib"), inline(f"{name}-app", version=f"{version}")]
    chain = ["base", "lib", f"{name}-app"]
    stack = {"name": name, "path": host.path(name), "layers": chain, "writable": writable, "generations": 2, **options}
    return {"layers": layers, "stacks": [stack]}


def tree(version: int) -> dict[str, str]:
    return {"os": "base", "lib": "lib", "version": f"{version}"}


def apply(host: Host, name: str, writable: str, number: int) -> None:
    """Other layers each time, and what was there before again now and then."""
    version = number % 7
    host.run(**definition(host, name, writable, version), **PATIENT)
    assert host.tree(name) == tree(version)
    assert host.run(**definition(host, name, writable, version), **PATIENT)["changed"] is False


def apply_and_prune(host: Host, number: int) -> None:
    """As a deployment does it that cleans up behind itself, and takes the stack away now and then."""
    if number % 5 == 4:
        host.run(
            stacks=[{"name": "own", "state": "absent"}],
            layers=[{"name": "own-app", "state": "absent"}],
            prune={},
            **PATIENT,
        )
    else:
        host.run(**definition(host, "own", "none", number % 3), prune={"unused_for": "0s"}, **PATIENT)
        assert host.tree("own") == tree(number % 3)


def prune(host: Host, number: int) -> None:
    host.prune(check=number % 3 == 0)


def check(host: Host, number: int) -> None:
    found = host.check(deep=number % 4 == 0)["findings"]
    # Mounts are looked at in one moment and records in another, but never those of one stack in the middle of a change.
    assert [item for item in found if item["kind"] != "leftover"] == []


def repair(host: Host, _number: int) -> None:
    found = host.check(repair=True)["findings"]
    assert [item for item in found if item["kind"] != "leftover"] == []


def info(host: Host, number: int) -> None:
    told = store_info(host.store, size=number % 2 == 0)
    assert {"base", "lib"} <= {item["name"] for item in told["names"]}


def work(turn: Turn, until: float, writer: int) -> None:
    """A program: turns until it is time, or until one fails; says how many there were, or what went wrong."""
    said: Any = 0
    try:
        while time.monotonic() < until:
            turn(said)
            said += 1
    except BaseException:  # noqa: BLE001  it is told in the other process
        said = traceback.format_exc()
    with open(writer, "w", encoding="utf-8") as stream:
        json.dump(said, stream)


def at_once(turns: dict[str, Turn], seconds: float) -> dict[str, Any]:
    """What each program says in the end."""
    until = time.monotonic() + seconds
    readers = {}
    processes = []
    for name, turn in turns.items():
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                work(turn, until, writer)
            finally:
                os._exit(0)
        os.close(writer)
        readers[name] = reader
        processes.append(process)
    said = {name: json.load(open(reader, encoding="utf-8")) for name, reader in readers.items()}  # noqa: SIM115
    for process in processes:
        os.waitpid(process, 0)
    return said


def test_eight_programs_at_once_do_not_fail_and_lose_nothing(host: Host) -> None:
    for name, writable in (("web", "none"), ("data", "persistent"), ("own", "none")):
        host.run(**definition(host, name, writable, 0))
    turns: dict[str, Turn] = {
        "apply read-only": partial(apply, host, "web", "none"),
        "apply persistent": partial(apply, host, "data", "persistent"),
        "apply and prune": partial(apply_and_prune, host),
        "prune": partial(prune, host),
        "prune too": partial(prune, host),
        "store_check": partial(check, host),
        "store_check with repair": partial(repair, host),
        "store_info": partial(info, host),
    }
    said = at_once(turns, SECONDS)
    wrong = [f"{name}: {text}" for name, text in said.items() if isinstance(text, str)]
    assert not wrong, "\n".join(wrong)
    assert min(said.values()) > 0, said
    print(f"turns in {SECONDS:g} s: {said}")
    for name, writable in (("web", "none"), ("data", "persistent"), ("own", "none")):
        host.run(**definition(host, name, writable, 1))
        assert host.tree(name) == tree(1)
    host.prune()
    assert host.check(deep=True)["findings"] == []
    assert host.prune()["removed"] == []


def in_between(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Do something while a run unpacks: after its first look, and before it has the lock."""
    done: list[object] = []

    def stage_late(*arguments: Any, **options: Any) -> Any:
        if not done:
            done.append("begun")
            work()
        return stage_contents(*arguments, **options)

    monkeypatch.setattr(reconcile, "stage_contents", stage_late)


def test_steps_done_by_a_concurrent_run_are_not_reported(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = definition(host, "web", "none", 1)
    others: list[dict[str, Any]] = []
    in_between(monkeypatch, lambda: others.append(host.run(**wanted)))
    done = host.run(**wanted)
    assert (others[0]["changed"], [step["action"] for step in others[0]["plan"]][-1]) == (True, "mount")
    assert [step["action"] for step in done["plan"]] == ["create_store"]
    in_between(monkeypatch, lambda: others.append(host.run(**definition(host, "web", "none", 2))))
    done = host.run(**definition(host, "web", "none", 2))
    assert (others[1]["changed"], done["changed"], done["plan"]) == (True, False, [])


def test_content_pruned_while_a_run_unpacks_is_imported_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(**definition(host, "web", "none", 1))
    host.run(stacks=[{"name": "web", "state": "absent"}], layers=[{"name": "web-app", "state": "absent"}])

    def prune_it() -> None:
        assert {item["kind"] for item in host.prune()["removed"]} - {"source"} == {"content", "layer"}

    in_between(monkeypatch, prune_it)
    done = host.run(**definition(host, "web", "none", 1))
    assert "import_content" in [step["action"] for step in done["plan"]]
    assert host.tree("web") == tree(1)
    assert host.check()["findings"] == []
