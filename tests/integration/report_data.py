# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fleet of any size would tell the report: made up, but of the shape that the modules return."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from ansible_collections.strata.overlay.plugins.plugin_utils._fleet import HostReport


def digest(name: str) -> str:
    return "sha256:" + sha256(name.encode()).hexdigest()


def store(host: int, stacks: int = 4, drift: str = "") -> dict[str, Any]:
    """A result of ``store_info``: stacks of three layers over two that all have."""
    release = 7 if host % 9 else 6
    entries: list[dict[str, Any]] = []
    names = ["web", "api", "metrics-collector", "batch"]
    for index in range(stacks):
        layers = ["debian-12", "runtime", f"{names[index % 4]}-1.{release}", "site-config"]
        entries.append(
            {
                "name": names[index % 4] + ("" if index < 4 else str(index)),
                "path": f"/srv/{names[index % 4]}{index}",
                "state": "unmounted" if drift and index == 0 else "mounted",
                "drift": drift if index == 0 else "",
                "writable": "persistent" if index % 2 else "none",
                "layers": layers,
                "chain_id": digest(" ".join(layers)),
                "generation": release,
                "generations": [
                    {"number": n, "time": "2026-11-20T10:00:00Z", "layers": layers, "back_to": 0}
                    for n in range(release, release - 3, -1)
                ],
                "writable_bytes": 3_000_000 * (index % 2),
            }
        )
    layers = sorted({name for entry in entries for name in entry["layers"]})
    content = 900_000_000 + host % 50 * 11_000_000
    return {
        "exists": True,
        "engine": "strata",
        "stacks": entries,
        "layers": [
            {
                "diff_id": digest(name),
                "chain_id": digest(name + "chain"),
                "size": 1_000_000 * (1 + len(name)) ** 2,
                "names": [],
                "stacks": [entry["name"] for entry in entries if name in entry["layers"]],
            }
            for name in layers
        ],
        "names": [{"name": name, "diff_ids": [digest(name)]} for name in layers],
        "usage": {
            "content_bytes": content,
            "used_bytes": content * 6 // 10,
            "shared_bytes": content * 4 // 10,
            "reclaimable_bytes": content // 10 if host % 4 == 0 else 0,
            "writable_bytes": 6_000_000 * (host % 11),
            "total_bytes": content + 70_000_000,
        },
        "abilities": {"release": "6.12.48-amd64"},
    }


def run(host: int) -> dict[str, Any]:
    """A result of ``apply``."""
    return {
        "changed": host % 5 == 0,
        "plan": [{}] * 3,
        "bytes": 10_000_000 if host % 5 == 0 else 0,
        "seconds": 1.2 + host % 7 * 0.4,
        "stacks": [{"name": "web", "gap_ms": 12.0 * (host % 5 == 0), "health": "GET http://127.0.0.1/: right at once"}],
    }


def told(count: int) -> list[HostReport]:
    """A fleet in which one host in 50 is out of reach, one in 40 has drifted, and one in 110 fails."""
    hosts = []
    for host in range(1, count + 1):
        name = f"web-{host:03}.rack{host % 12}.example.com"
        if host % 50 == 3:
            hosts.append(HostReport(name, {"unreachable": True, "msg": "ssh: connect to host: Connection timed out"}))
        elif host % 110 == 7:
            hosts.append(HostReport(name, {"failed": True, "msg": "The record /var/lib/strata/strata/x is damaged."}))
        elif host % 40 == 2:
            step = {"action": "mount", "object": "stack web", "text": "mount stack web at /srv/web", "bytes": 0}
            plan = {"plan": [step], "bytes": 0}
            hosts.append(HostReport(name, store(host, drift="it is not mounted"), plan, run(host)))
        else:
            hosts.append(HostReport(name, store(host), {"plan": [], "bytes": 0}, run(host)))
    return hosts
