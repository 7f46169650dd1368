# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What store_info tells of a store of ours, against du(1) and the mount table."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._info.store import store_info
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered


def disk_use(path: Path | str) -> int:
    done = subprocess.run(
        ["du", "--summarize", "--one-file-system", "--block-size=1", path], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[0])


def big(name: str, size: int) -> dict[str, Any]:
    return inline(name, **{name: name * (size // len(name))})


def test_info_of_a_host_without_a_store_is_empty(host: Host) -> None:
    found = store_info(host.store)
    assert (found["exists"], found["layers"], found["names"], found["mounts"]) == (False, [], [], [])
    assert found["usage"]["total_bytes"] == 0


def test_usage_counts_every_byte_once(host: Host) -> None:
    layers = [big("base", 100_000), big("app", 50_000), big("tool", 20_000), big("gone", 70_000)]
    stacks = [
        {"name": "web", "path": host.path("web"), "layers": ["base", "app"], "writable": "persistent"},
        {"name": "job", "path": host.path("job"), "layers": ["base"]},
    ]
    host.run(layers=[*layers, {**layers[2], "name": "same"}], stacks=stacks)
    host.run(layers=[{"name": "gone", "state": "absent"}])
    Path(host.path("web"), "written").write_bytes(os.urandom(200_000))
    os.sync()
    size = {
        name: disk_use(host.store.content(chain[0]))
        for name, chain in host.run(check=True, layers=layers)["layers"].items()
    }
    found = store_info(host.store)
    usage = found["usage"]
    assert usage["total_bytes"] == disk_use(host.root)
    assert usage["content_bytes"] == sum(size.values())
    assert usage["used_bytes"] == size["base"] + size["app"]
    assert usage["shared_bytes"] == size["base"]
    assert usage["reclaimable_bytes"] == size["gone"]
    stack_id = host.store.stacks()["web"].stack_id
    assert usage["writable_bytes"] == disk_use(host.root / "overlay2" / stack_id / "diff")
    names = {name["name"]: name for name in found["names"]}
    assert names["base"]["bytes"] == size["base"]
    returned = {"name", "diff_ids", "labels", "source", "image_id", "manifest_digest", "bytes", "unique_bytes"}
    assert set(names["base"]) == returned
    assert names["base"]["unique_bytes"] == 0, "stacks need it"
    assert names["tool"]["unique_bytes"] == 0, "it has another name"
    host.run(layers=[{"name": "same", "state": "absent"}])
    tool = next(name for name in store_info(host.store)["names"] if name["name"] == "tool")
    assert tool["unique_bytes"] == size["tool"]
    unmeasured = store_info(host.store, size=False)["usage"]
    assert (unmeasured["total_bytes"], unmeasured["writable_bytes"]) == (None, None)
    assert unmeasured["content_bytes"] == usage["content_bytes"]


def test_mounts_are_listed_with_their_stack_type_and_layers(host: Host) -> None:
    stacks = [
        {"name": "one", "path": host.path("one"), "layers": ["n0"]},
        {"name": "two", "path": host.path("two"), "layers": ["n0", "n1"], "writable": "persistent"},
    ]
    host.run(layers=numbered(2), stacks=stacks)
    strange = host.top / "strange"
    strange.mkdir()
    subprocess.run(["mount", "--bind", host.path("two"), strange], check=True)
    found = {mount.pop("path"): mount for mount in store_info(host.store)["mounts"]}
    assert found == {
        host.path("one"): {"stack": "one", "type": "bind", "read_only": True, "layers": 1},
        host.path("two"): {
            "stack": "two",
            "type": "overlay",
            "read_only": False,
            "layers": 2,
        },
        str(strange): {"stack": "", "type": "overlay", "read_only": False, "layers": 2},
    }
