# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks that change while they are read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._abilities import find_abilities
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered
from ansible_collections.strata.overlay.tests.integration.readers import Readers

BASE = inline("base", etc__os="base", both="base")
APP = inline("app", bin__run="app", both="app")
NEW = inline("app", bin__run="new", both="new")

beneath = pytest.mark.skipif(not find_abilities().beneath, reason="this kernel puts no mount beneath another (6.5)")


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app"], **options}


@beneath
@pytest.mark.parametrize("writable", ["none", "volatile"])
def test_readers_see_all_old_or_all_new_and_never_nothing(host: Host, writable: str) -> None:
    base = [layer["name"] for layer in numbered(60)]
    generations = [inline(f"v{number}", one=str(number), two=str(number)) for number in range(2)]
    layers = [*numbered(60), *generations]

    def show(number: int) -> dict[str, Any]:
        return host.run(layers=layers, stacks=[stack(host, layers=[*base, f"v{number}"], writable=writable)])

    show(0)
    with Readers(host.path("web"), ("one", "two"), processes=4) as readers:
        gaps = [show(number % 2)["stacks"][0]["gap_ms"] for number in range(1, 21)]
        reads = readers.stop()
    assert gaps == [0] * 20
    assert reads.errors == []
    assert reads.mixed == 0
    assert reads.count > 100
    assert len(host.mounts("web")) == 1
