# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The model of a fleet -> one HTML page that needs nothing else. Every value is escaped; report.html.j2 is the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.plugins.plugin_utils._fleet import ATTENTION, STATES
from ansible_collections.strata.overlay.plugins.plugin_utils._progress import size
from jinja2 import Environment, StrictUndefined

TEMPLATE = Path(__file__).with_name("report.html.j2")

_PARTS = (
    ("shared", "in more than one stack"),
    ("single", "in one stack"),
    ("kept", "named or kept for rollback"),
    ("reclaim", "reclaimable"),
    ("writable", "writable layers"),
)
_WORDS = {
    "unreachable": "unreachable",
    "failed": "failed",
    "drift": "drifted",
    "unknown": "not comparable",
    "empty": "without a store",
    "ok": "as defined",
}


def page(model: Mapping[str, Any]) -> Iterator[str]:
    """The page in pieces, so that it never is in memory as a whole."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(bytes=size, seconds=seconds_text, short=short)
    hosts: Sequence[Mapping[str, Any]] = model["hosts"]
    stream = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).stream(
        model=model,
        summary=model["summary"],
        hosts=hosts,
        wrong=[host for host in hosts if host["state"] in ATTENTION],
        right=[host for host in hosts if host["state"] not in ATTENTION],
        states=STATES,
        words=_WORDS,
        parts=_PARTS,
        disk=disk,
        largest=max((sum(disk(host["usage"]).values()) for host in hosts), default=0),
        slowest=model["summary"]["run"]["longest_seconds"],
        numbers={host["name"]: index for index, host in enumerate(hosts)},
    )
    stream.enable_buffering(64)
    yield from stream


def disk(usage: Mapping[str, int]) -> dict[str, int]:
    """Where the disk of a store went, in parts that add up: see _PARTS."""
    kept = usage["content_bytes"] - usage["used_bytes"] - usage["reclaimable_bytes"]
    return {
        "shared": usage["shared_bytes"],
        "single": max(usage["used_bytes"] - usage["shared_bytes"], 0),
        "kept": max(kept, 0),
        "reclaim": usage["reclaimable_bytes"],
        "writable": usage["writable_bytes"],
    }


def seconds_text(value: float) -> str:
    """Seconds in words: 350 ms, 4.2 s, 3 min 5 s."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


def short(digest: str) -> str:
    """The first 12 digits of a digest, as Docker shows it."""
    return digest.removeprefix("sha256:")[:12]
