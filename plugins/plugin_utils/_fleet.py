# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What the hosts of a fleet have told -> one plain model of it, which is the report as JSON. Pure: no file, no clock.

What hosts say is not trusted: every value is brought to its type, texts are cut, and what cannot be read counts as
not said. Time and memory are linear in what the hosts have told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORMAT = 1
"""Of the JSON: goes up when a key changes its meaning or goes; keys may be added without."""

STATES = ("unreachable", "failed", "drift", "unknown", "empty", "ok")
"""Of a host, the worst first: the order of the hosts in the report."""

ATTENTION = STATES[:4]
"""Those in which somebody has to look after a host."""

USAGE = (
    "content_bytes",
    "used_bytes",
    "shared_bytes",
    "reclaimable_bytes",
    "writable_bytes",
    "total_bytes",
)

_LONGEST = 600
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class HostReport:
    """What is known of one host; each is a task's result or None where there was no such task.

    :ivar store: of ``store_info``.
    :ivar plan: of ``plan``; None where the host has no definition.
    :ivar run: of ``apply``, from the same run of Ansible.
    :ivar before: the host's ``run`` in the report before this one.
    """

    name: str
    store: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    run: Mapping[str, Any] | None = None
    before: Mapping[str, Any] | None = None


def fleet(hosts: Sequence[HostReport], time: str, title: str) -> dict[str, Any]:
    """The report as JSON has it; docs/report.md lists its keys.

    :param time: of the report, ISO 8601 in UTC.
    """
    found = sorted(
        (_host(reported, time) for reported in hosts), key=lambda host: (STATES.index(host["state"]), host["name"])
    )
    return {
        "format": FORMAT,
        "time": time,
        "title": title,
        "summary": _summary(found),
        "stacks": _stacks(found),
        "layers": _layers(hosts, found),
        "hosts": found,
    }


# One host.


def _host(reported: HostReport, time: str) -> dict[str, Any]:
    store, plan = reported.store or {}, _plan(reported.plan)
    stacks = [_stack(entry, plan["steps"]) for entry in _entries(store, "stacks")]
    runs = _run(reported, time)
    state, message = _state(reported, plan, stacks)
    usage = _table(store, "usage")
    return {
        "name": text(reported.name),
        "state": state,
        "message": message,
        "engine": text(store.get("engine")),
        "kernel": text(_table(store, "abilities").get("release")),
        "usage": {key: number(usage.get(key)) for key in USAGE},
        "layers": len({text(layer.get("diff_id")) for layer in _entries(store, "layers")}),
        "stacks": sorted(stacks, key=lambda stack: (not stack["drift"] and not stack["pending"], stack["name"])),
        "plan": plan,
        "run": runs,
    }


def _state(reported: HostReport, plan: Mapping[str, Any], stacks: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A host's state, and in words why it is that."""
    if reported.store is None:
        if reported.run and reported.run.get("failed"):
            return "failed", f"its last run failed: {text(reported.run.get('msg'))}"
        return "unreachable", "not looked at: it had failed or was unreachable before the report began"
    if reported.store.get("unreachable"):
        return "unreachable", text(reported.store.get("msg")) or "no connection"
    if "stacks" not in reported.store and "engine" not in reported.store:
        return "failed", text(reported.store.get("msg")) or "its store could not be read"
    drifted = [f"stack {stack['name']}: {stack['drift']}" for stack in stacks if stack["drift"]]
    if drifted:
        return "drift", f"{drifted[0]}; and {len(drifted) - 1} more" if len(drifted) > 1 else drifted[0]
    if plan["steps"]:
        return "drift", f"{len(plan['steps'])} step{'s' if len(plan['steps']) != 1 else ''} away from its definition"
    if plan["message"]:
        return "unknown", f"its definition could not be planned: {plan['message']}"
    if not reported.store.get("exists"):
        return "empty", "it has no store"
    return "ok", "" if plan["known"] else "as on record; no definition to compare with"


def _stack(entry: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    generations = _entries(entry, "generations")
    name = text(entry.get("name"))
    return {
        "name": name,
        "path": text(entry.get("path")),
        "state": text(entry.get("state")),
        "writable": text(entry.get("writable")),
        "generation": number(entry.get("generation")),
        "since": text(generations[0].get("time")) if generations else "",
        "rolled_back_to": number(generations[0].get("back_to")) if generations else 0,
        "layers": _texts(entry, "layers"),
        "chain_id": text(entry.get("chain_id")),
        "source_chain_id": text(entry.get("source_chain_id")) or text(entry.get("chain_id")),
        "writable_bytes": number(entry.get("writable_bytes")),
        "drift": text(entry.get("drift")),
        "pending": sum(step["object"] == f"stack {name}" for step in steps),
        "generations": [
            {
                "number": number(generation.get("number")),
                "time": text(generation.get("time")),
                "layers": _texts(generation, "layers"),
                "back_to": number(generation.get("back_to")),
            }
            for generation in generations
        ],
    }


def _plan(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """The steps between a host and its definition; ``known`` says whether they could be found out."""
    if result is None or result.get("skipped") or result.get("unreachable"):
        return {"known": False, "steps": [], "bytes": 0, "message": ""}
    if "plan" not in result:
        return {"known": False, "steps": [], "bytes": 0, "message": text(result.get("msg")) or "no answer"}
    steps = [
        {
            "action": text(step.get("action")),
            "object": text(step.get("object")),
            "text": text(step.get("text")),
            "bytes": number(step.get("bytes")),
        }
        for step in _entries(result, "plan")
    ]
    return {"known": True, "steps": steps, "bytes": number(result.get("bytes")), "message": ""}


def _run(reported: HostReport, time: str) -> dict[str, Any] | None:
    """A host's last run: what it said itself, else what the report before this one had."""
    if reported.run is None or reported.run.get("skipped"):
        return _normal_run(reported.before, text(reported.before.get("time"))) if reported.before else None
    if reported.run.get("unreachable"):
        return _normal_run({"failed": True, "message": reported.run.get("msg")}, time)
    return _normal_run(
        {**reported.run, "steps": len(_entries(reported.run, "plan")), "message": reported.run.get("msg")}, time
    )


def _normal_run(run: Mapping[str, Any], time: str) -> dict[str, Any]:
    stacks: list[dict[str, Any]] = [
        {
            "name": text(stack.get("name")),
            "gap_ms": real(stack.get("gap_ms")),
            "health": text(stack.get("health")),
        }
        for stack in _entries(run, "stacks")
    ]
    return {
        "time": time,
        "changed": bool(run.get("changed")),
        "failed": bool(run.get("failed")),
        "message": text(run.get("message")) if run.get("failed") else "",
        "seconds": real(run.get("seconds")),
        "bytes": number(run.get("bytes")),
        "steps": number(run.get("steps")),
        "gap_ms": max((stack["gap_ms"] for stack in stacks), default=0.0),
        "stacks": stacks,
    }


# All of them.


def _summary(hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    states = Counter(host["state"] for host in hosts)
    stacks = [stack for host in hosts for stack in host["stacks"]]
    runs = [host["run"] for host in hosts if host["run"]]
    return {
        "hosts": len(hosts),
        "states": {state: states[state] for state in STATES},
        "stacks": len(stacks),
        "mounted": sum(stack["state"] == "mounted" for stack in stacks),
        "drifted": sum(bool(stack["drift"] or stack["pending"]) for stack in stacks),
        "usage": {key: sum(host["usage"][key] for host in hosts) for key in USAGE},
        "run": {
            "hosts": len(runs),
            "changed": sum(run["changed"] for run in runs),
            "failed": sum(run["failed"] for run in runs),
            "bytes": sum(run["bytes"] for run in runs),
            "longest_seconds": max((run["seconds"] for run in runs), default=0.0),
            "longest_gap_ms": max((run["gap_ms"] for run in runs), default=0.0),
        },
    }


def _stacks(hosts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every stack of the fleet, with the chains that it has and on how many hosts, the commonest first. Chains that
    differ in the times of files only are one, with the ChainID that most hosts have.
    """
    chains: dict[str, Counter[str]] = {}
    chain_ids: dict[str, Counter[str]] = {}
    layers: dict[str, list[str]] = {}
    mounted: Counter[str] = Counter()
    drifted: Counter[str] = Counter()
    for host in hosts:
        for stack in host["stacks"]:
            source = stack["source_chain_id"]
            chains.setdefault(stack["name"], Counter())[source] += 1
            chain_ids.setdefault(source, Counter())[stack["chain_id"]] += 1
            layers.setdefault(source, stack["layers"])
            mounted[stack["name"]] += stack["state"] == "mounted"
            drifted[stack["name"]] += bool(stack["drift"] or stack["pending"])
    return [
        {
            "name": name,
            "hosts": sum(counts.values()),
            "mounted": mounted[name],
            "drifted": drifted[name],
            "chains": [
                {"chain_id": _commonest(chain_ids[source]), "hosts": count, "layers": layers[source]}
                for source, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            ],
        }
        for name, counts in sorted(chains.items())
    ]


def _layers(reported: Sequence[HostReport], hosts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every content of the fleet, with how many hosts have it, the most widely shared first. Those that differ in the
    times of files only are one, with the DiffID that most hosts have.
    """
    known = {host["name"] for host in hosts if host["state"] not in ("unreachable", "failed")}
    count: Counter[str] = Counter()
    users: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    names: dict[str, set[str]] = {}
    diff_ids: dict[str, Counter[str]] = {}
    for one in reported:
        here: dict[str, set[str]] = {}
        sources: dict[str, str] = {}
        store = (one.store or {}) if text(one.name) in known else {}
        for layer in _entries(store, "layers"):
            diff_id = text(layer.get("diff_id"))
            source = sources.setdefault(diff_id, text(layer.get("source_digest")) or diff_id)
            sizes[source] = max(sizes.get(source, 0), number(layer.get("size")))
            here.setdefault(source, set()).update(_texts(layer, "stacks"))
        for diff_id, source in sources.items():
            diff_ids.setdefault(source, Counter())[diff_id] += 1
        for entry in _entries(store, "names"):
            chain = _texts(entry, "diff_ids")
            if chain:
                names.setdefault(sources.get(chain[-1], chain[-1]), set()).add(text(entry.get("name")))
        for source, stacks in here.items():
            count[source] += 1
            users[source] += len(stacks)
    return [
        {
            "diff_id": _commonest(diff_ids[source]),
            "size": sizes[source],
            "names": sorted(names.get(source, ())),
            "hosts": hosts_with,
            "stacks": users[source],
        }
        for source, hosts_with in sorted(count.items(), key=lambda item: (-item[1], -sizes[item[0]], item[0]))
    ]


def _commonest(counts: Counter[str]) -> str:
    return min(counts, key=lambda each: (-counts[each], each))


# Values that hosts have said -> values of a known type.


def text(value: Any) -> str:
    """A text that any file can hold, cut where it is very long; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    plain = value.encode("utf-8", "replace").decode("utf-8")
    plain = "".join(mark if mark.isprintable() or mark == "\n" else "\ufffd" for mark in plain[: _LONGEST + 1])
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."


def number(value: Any) -> int:
    """A count or a number of bytes, 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(int(value), 0), _LARGEST)


def real(value: Any) -> float:
    """Seconds or milliseconds, 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
        return 0.0
    return float(value)


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _entries(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _texts(value: Mapping[str, Any], key: str) -> list[str]:
    found = value.get(key)
    return [text(entry) for entry in found if isinstance(entry, str)] if isinstance(found, list) else []
