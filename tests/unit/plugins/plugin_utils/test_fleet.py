# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The model of a fleet, and its page as text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.plugin_utils._fleet import HostReport, fleet, number, real, text
from ansible_collections.strata.overlay.plugins.plugin_utils._page import disk, page, seconds_text
from ansible_collections.strata.overlay.tests.integration.report_data import digest, run, store, told
from hypothesis import given, settings
from hypothesis import strategies as st

TIME = "2026-11-24T10:00:00Z"
CHECKOUT = Path(__file__).resolve().parents[4]


def model(*hosts: HostReport) -> dict[str, Any]:
    return fleet(hosts, TIME, "Fleet")


def one(host: HostReport) -> dict[str, Any]:
    found: dict[str, Any] = model(host)["hosts"][0]
    return found


@pytest.mark.parametrize(
    ("host", "state", "message"),
    [
        (HostReport("a", store(1), {"plan": []}), "ok", ""),
        (HostReport("a", store(1)), "ok", "as on record; no definition to compare with"),
        (HostReport("a", store(1), {"skipped": True}), "ok", "as on record; no definition to compare with"),
        (HostReport("a", store(1, drift="it is not mounted"), {"plan": []}), "drift", "stack web: it is not mounted"),
        (HostReport("a", store(1), {"plan": [{"object": "stack api"}]}), "drift", "1 step away from its definition"),
        (HostReport("a", store(1), {"plan": [{}, {}]}), "drift", "2 steps away from its definition"),
        (HostReport("a", store(1), {"msg": "no."}), "unknown", "its definition could not be planned: no."),
        (HostReport("a", {"unreachable": True, "msg": "timed out"}), "unreachable", "timed out"),
        (HostReport("a", {"msg": "damaged"}), "failed", "damaged"),
        (HostReport("a", {"failed": False}), "failed", "its store could not be read"),
        (
            HostReport("a", {"exists": False, "engine": "strata", "stacks": []}, {"plan": []}),
            "empty",
            "it has no store",
        ),
        (HostReport("a", None, None, {"failed": True, "msg": "boom"}), "failed", "its last run failed: boom"),
        (HostReport("a"), "unreachable", "not looked at: it had failed or was unreachable before the report began"),
    ],
)
def test_state_and_message_of_a_host_follow_from_its_results(host: HostReport, state: str, message: str) -> None:
    found = one(host)
    assert (found["state"], found["message"]) == (state, message)


def test_hosts_are_sorted_worst_first_then_by_name() -> None:
    hosts = [
        HostReport("z", store(1), {"plan": []}),
        HostReport("b", store(1), {"plan": [{}]}),
        HostReport("y", {"unreachable": True}),
    ]
    assert [host["name"] for host in model(*hosts, HostReport("a", store(1), {"plan": []}))["hosts"]] == [
        "y",
        "b",
        "a",
        "z",
    ]


def test_pending_steps_are_counted_by_stack() -> None:
    plan = {"plan": [{"object": "stack api"}, {"object": "stack api"}, {"object": "layer base"}]}
    stacks = one(HostReport("a", store(1), plan))["stacks"]
    assert [(stack["name"], stack["pending"]) for stack in stacks][:2] == [("api", 2), ("batch", 0)]


def test_layers_count_each_host_once_and_no_unreachable_host() -> None:
    found = model(
        HostReport("a", store(1, 1)), HostReport("b", store(2, 2)), HostReport("c", {"unreachable": True, **store(3)})
    )
    layers = {layer["names"][0]: layer for layer in found["layers"]}
    assert (layers["debian-12"]["hosts"], layers["debian-12"]["stacks"]) == (2, 3)
    assert (layers["api-1.7"]["hosts"], layers["api-1.7"]["stacks"]) == (1, 1)
    assert [layer["hosts"] for layer in found["layers"]] == sorted((x["hosts"] for x in found["layers"]), reverse=True)


def test_stack_lists_how_many_hosts_have_each_chain() -> None:
    found = model(*(HostReport(f"h{host}", store(host, 1)) for host in (1, 2, 9)))["stacks"]
    (web,) = found
    old, new = (["debian-12", "runtime", f"web-1.{n}", "site-config"] for n in (6, 7))
    assert web["chains"] == [
        {"chain_id": digest(" ".join(new)), "hosts": 2, "layers": new},
        {"chain_id": digest(" ".join(old)), "hosts": 1, "layers": old},
    ]


def test_chains_and_layers_that_differ_only_in_times_count_as_one() -> None:
    def told(name: str, diff_id: str) -> HostReport:
        stack = {"name": "web", "layers": ["app"], "chain_id": diff_id, "source_chain_id": "s"}
        layer = {"diff_id": diff_id, "source_digest": "s", "size": 1, "stacks": ["web"]}
        named = {"name": "app", "diff_ids": [diff_id]}
        return HostReport(
            name, {"exists": True, "engine": "strata", "stacks": [stack], "layers": [layer], "names": [named]}
        )

    found = model(told("a", "x"), told("b", "y"), told("c", "y"))
    assert found["stacks"][0]["chains"] == [{"chain_id": "y", "hosts": 3, "layers": ["app"]}]
    assert found["layers"] == [{"diff_id": "y", "size": 1, "names": ["app"], "hosts": 3, "stacks": 3}]


def test_run_of_a_host_is_the_current_one_or_else_the_last_known() -> None:
    now = one(HostReport("a", store(1), None, run(5)))["run"]
    assert (now["time"], now["changed"], now["seconds"], now["bytes"]) == (TIME, True, 3.2, 10_000_000)
    assert (now["gap_ms"], now["steps"]) == (12.0, 3)
    assert fleet([HostReport("a", store(1), before=now)], "2027-01-01T00:00:00Z", "")["hosts"][0]["run"] == now
    assert one(HostReport("a", store(1)))["run"] is None
    away = one(HostReport("a", store(1), None, {"unreachable": True, "msg": "gone"}, now))["run"]
    assert (away["failed"], away["message"]) == (True, "gone")


def test_summary_adds_up() -> None:
    found = model(*told(200))
    summary = found["summary"]
    assert sum(summary["states"].values()) == summary["hosts"] == 200
    assert summary["usage"]["total_bytes"] == sum(host["usage"]["total_bytes"] for host in found["hosts"])
    assert summary["stacks"] == sum(stack["hosts"] for stack in found["stacks"])


def test_parts_of_disk_usage_add_up() -> None:
    usage = {"content_bytes": 100, "used_bytes": 60, "shared_bytes": 20, "reclaimable_bytes": 15, "writable_bytes": 7}
    assert disk(usage) == {"shared": 20, "single": 40, "kept": 25, "reclaim": 15, "writable": 7}


def test_values_of_hosts_are_converted_to_their_types() -> None:
    assert [text(value) for value in (None, 3, ["x"], "a\x1b[31m\u202eb", "\ud800")] == [
        "",
        "",
        "",
        "a\ufffd[31m\ufffdb",
        "?",
    ]
    assert len(text("x" * 100_000)) < 1000
    assert [number(value) for value in (True, "3", -1, 2**80, 3, None)] == [0, 0, 0, 2**63 - 1, 3, 0]
    assert [real(value) for value in (float("nan"), float("inf"), -1, True, "x", 2)] == [0, 0, 0, 0, 0, 2.0]
    assert [seconds_text(value) for value in (0.35, 4.21, 185)] == ["350 ms", "4.2 s", "3 min 5 s"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "stacks",
                    "layers",
                    "usage",
                    "abilities",
                    "plan",
                    "name",
                    "names",
                    "generations",
                    "diff_id",
                    "msg",
                    "size",
                    "drift",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["stacks", "layers", "usage", "engine", "exists"]), _JSON), _JSON, _JSON)
def test_report_is_written_with_any_answer_of_a_host(said: dict[str, Any], plan: Any, before: Any) -> None:
    tables = [value if isinstance(value, dict) else None for value in (plan, before)]
    found = model(HostReport("a", said, tables[0], tables[1], tables[1]), HostReport("b", store(1)))
    json.dumps(found, allow_nan=False).encode()
    "".join(page(found)).encode()


class Reader(HTMLParser):
    """Notes every element, and that elements are closed in order."""

    VOID = ("meta", "link", "use", "rect", "path", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for key, value in attrs if key in ("href", "src", "action", "xlink:href")]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self.open.pop() == tag, tag


@pytest.mark.parametrize("count", [0, 1, 3, 120])
def test_page_is_well_formed_and_has_no_external_links(count: int) -> None:
    reader = Reader()
    shown = "".join(page(model(*told(count))))
    reader.feed(shown)
    assert reader.open == []
    assert not reader.seen & {"script", "img", "iframe", "object", "form"}
    assert all(link.startswith("#") or link == "data:," for link in reader.links)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert "http" not in shown.replace("GET http://127.0.0.1/", "").replace("http-equiv", "")


def test_script_in_a_name_is_shown_as_text() -> None:
    evil = "</details><script>alert(1)</script>\" onload='x'"
    hostile = store(1, drift=evil)
    for stack in hostile["stacks"]:
        stack.update(name=evil, path=evil, layers=[evil], chain_id=evil)
    reader = Reader()
    shown = "".join(page(model(HostReport(evil, hostile, {"plan": [{"text": evil}]}, {"failed": True, "msg": evil}))))
    reader.feed(shown)
    assert reader.open == []
    assert "script" not in reader.seen
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown


def test_every_key_of_the_json_is_documented() -> None:
    described = (CHECKOUT / "docs/report.md").read_text()

    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(keys(inner) for inner in value.values()))
        return set().union(*(keys(inner) for inner in value)) if isinstance(value, list) else set()

    assert [key for key in sorted(keys(model(*told(120)))) if f"`{key}`" not in described] == []
