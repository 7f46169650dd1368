# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records that a later release has written, with more in them, on a host where this one works."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._boot import mount_strata
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline

BASE, APP = inline("base", etc__os="base"), inline("app", bin__run="app")


def test_what_a_later_release_recorded_outlives_changes_and_the_mount_helper(host: Host) -> None:
    web = {"name": "web", "path": host.path("web"), "layers": ["base", "app"], "writable": "persistent", "boot": False}
    host.run(layers=[BASE, APP], stacks=[web])
    for path in host.root.glob("strata/*/*.json"):
        if path.parent.name != "sources":
            add(path)
    assert host.run(layers=[BASE, APP], stacks=[web])["changed"] is False
    host.run(layers=[BASE, inline("app", bin__run="new")], stacks=[{**web, "mount_options": ["noatime"]}])
    stack, name = host.root / "strata/stacks/web.json", host.root / "strata/names/app.json"
    data = json.loads(stack.read_text())
    assert [generation.get("seal") for generation in data["history"]] == [None, "kept"]
    assert [data["version"], data["seal"], data["style"]["seal"]] == [2, "kept", "kept"]
    assert [data["style"]["options"], json.loads(name.read_text())["seal"]] == [["noatime"], "kept"]
    before = stack.read_text()
    syscalls.umount(host.path("web"))
    assert mount_strata.main(["web", host.path("web"), "-o", f"root={host.root}"]) == 0
    assert Path(host.path("web"), "bin/run").read_text() == "new"
    assert stack.read_text() == before
    assert host.check()["findings"] == []


def add(path: Path) -> None:
    """What a later release has to say, at every depth."""
    data = json.loads(path.read_text())
    for part in [data, *([data["style"], *data["history"]] if "history" in data else [])]:
        part["seal"] = "kept"
    path.write_text(json.dumps({**data, "version": 2}))
