# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prune on the real kernel: what goes, what stays, and that every byte is accounted for."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot
from ansible_collections.strata.overlay.tests.integration.layers import numbered

DAY = 86400


def kinds(result: dict[str, Any]) -> dict[str, int]:
    """How many of each kind were removed."""
    found: dict[str, int] = {}
    for removal in result["removed"]:
        found[removal["kind"]] = found.get(removal["kind"], 0) + 1
    return found


def ids(result: dict[str, Any], kind: str) -> set[str]:
    return {removal["id"] for removal in result["removed"] if removal["kind"] == kind}


def prune_in_four_steps(host: Host, **options: Any) -> dict[str, Any]:
    """Check, do, again, check again; what was announced is what went."""
    before = snapshot(host.root)
    announced = host.prune(check=True, **options)
    assert snapshot(host.root) == before, "check mode changes nothing"
    done = host.prune(**options)
    again = host.prune(**options)
    checked = host.prune(check=True, **options)
    assert announced["removed"] == done["removed"]
    assert announced["reclaimed_bytes"] == done["reclaimed_bytes"] == sum(item["bytes"] for item in done["removed"])
    assert announced["changed"] == done["changed"] == bool(done["removed"])
    assert (again["changed"], again["removed"], again["reclaimed_bytes"]) == (False, [], 0)
    assert (checked["changed"], checked["removed"]) == (False, [])
    assert list((host.root / "trash").iterdir()) == []
    assert list((host.root / "staging").iterdir()) == []
    return done


def stack(host: Host, *layers: str, name: str = "web", **options: Any) -> dict[str, Any]:
    return {"name": name, "path": host.path(name), "layers": list(layers), **options}


def age(host: Host, days: float) -> None:
    """Everything in the store was last used that long ago."""
    then = time.time() - days * DAY
    for directory in ("strata/names", "strata/contents", "strata/aside", "image/overlay2/layerdb/sha256"):
        for path in (host.root / directory).iterdir():
            os.utime(path, (then, then))


def test_a_host_without_a_store(host: Host) -> None:
    for check in (True, False):
        assert host.prune(check=check)["changed"] is False
    assert not host.root.exists()


def test_what_nothing_refers_to_goes_and_all_else_stays(host: Host) -> None:
    host.run(layers=numbered(4), stacks=[stack(host, "n0", "n1"), stack(host, "n0", "n2", name="other")])
    assert prune_in_four_steps(host)["removed"] == []
    diff_ids = {name: record[0] for name, record in host.run(check=True, layers=numbered(4))["layers"].items()}
    host.run(layers=[{"name": "n1", "state": "absent"}, {"name": "n3", "state": "absent"}])
    done = prune_in_four_steps(host)
    assert kinds(done) == {"content": 1}, "n1 is part of a stack still"
    assert ids(done, "content") == {diff_ids["n3"]}
    host.run(stacks=[{"name": "web", "state": "absent"}])
    done = prune_in_four_steps(host)
    assert kinds(done) == {"content": 1, "layer": 1}, "the base layer is the other stack's too"
    assert ids(done, "content") == {diff_ids["n1"]}
    assert host.tree("other")["file2"] == "2"
    host.run(stacks=[{"name": "other", "state": "absent"}])
    assert kinds(prune_in_four_steps(host)) == {"layer": 1}, "names keep contents; the other layer is a name's too"
