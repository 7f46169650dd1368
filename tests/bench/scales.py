# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small model of what many hosts cost, fitted to two sizes of fleet measured here and checked against a third."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.strata.overlay.tests.bench.fleets import Fleet
from ansible_collections.strata.overlay.tests.bench.measure import clock, heading, ratio, row, seconds

SMALL, MIDDLE, LARGE = 12, 40, 100
FAR = (100, 1_000, 10_000)

LAYER = 100 << 20
"""Bytes of the one layer that an upgrade brings, as its archive lies there."""

CODE = 950_000
"""Bytes that go to a host with something to change beside layers: the modules `plan` and `apply`, and the connection.

tests/integration/test_fleet_bytes.py holds it against what comes over the cables of twelve hosts.
"""

LINK = 125_000_000
"""Bytes a second of one gigabit, at the controller, at the registry and at each mirror."""

MIRRORS = 10
CONTROLLERS = 10


@dataclass(frozen=True)
class Line:
    """Seconds of a run over so many hosts: what Ansible takes to start, and what each host takes of it.

    Forks and cores are those of the machine that was measured.
    """

    start: float
    each: float

    @classmethod
    def through(cls, measured: Mapping[int, float]) -> Line:
        """The line through two measured sizes of fleet."""
        (few, short), (many, long) = sorted(measured.items())
        each = (long - short) / (many - few)
        return cls(short - few * each, each)

    def of(self, hosts: int) -> float:
        return self.start + hosts * self.each


def ways(line: Line, hosts: int) -> dict[str, tuple[float, float, float]]:
    """Seconds of the controller's processors, then seconds of the controller's and of the origin registry's link.

    One upgrade of one layer on all hosts. What hosts do for themselves they do at the same time and is left out.
    """
    code = hosts * CODE / LINK
    blobs = hosts * LAYER / LINK
    run = line.of(hosts)
    return {
        "push from one controller": (run, code + blobs, 0.0),
        "hosts pull from a registry": (run, code, blobs),
        f"the same with {MIRRORS} mirrors": (run, code, MIRRORS * LAYER / LINK),
        f"{CONTROLLERS} controllers and {MIRRORS} mirrors": (
            line.of(hosts // CONTROLLERS),
            code / CONTROLLERS,
            MIRRORS * LAYER / LINK,
        ),
        f"ansible-pull and {MIRRORS} mirrors": (0.0, 0.0, MIRRORS * LAYER / LINK),
    }


def measure_scale(work: Path) -> None:
    """Two fleets are measured, a third one is foretold and measured, the rest is foretold."""
    heading(f"Runs that change nothing over {SMALL}, {MIDDLE} and {LARGE} hosts, local connection, and what follows")
    took: dict[int, float] = {}
    for hosts in (SMALL, MIDDLE, LARGE):
        (work / str(hosts)).mkdir()
        fleet = Fleet(work / str(hosts), hosts)
        fleet.site()
        took[hosts] = min(clock(fleet.site) for _round in range(2))
        fleet.take_down()
        seconds(f"strata.overlay.site, {hosts} hosts", took[hosts])
    line = Line.through({size: took[size] for size in (SMALL, MIDDLE)})
    row("seconds to start, and for each host", f"{line.start:.1f}", f"{line.each:.3f}")
    ratio(f"foretold / measured, {LARGE} hosts", line.of(LARGE) / took[LARGE])
    heading(f"Foretold: one layer of {LAYER >> 20} MiB to all hosts, links of one gigabit, in minutes")
    for hosts in FAR:
        for name, (run, controller, origin) in ways(line, hosts).items():
            words = f"controller's link {controller / 60:.1f}, registry's link {origin / 60:.1f}"
            row(f"{hosts} hosts, {name}", f"{run / 60:.1f}", words)
