# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run needs of the controller's memory, by hosts and by layers. Only a task's arguments grow with both."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.strata.overlay.tests.bench.fleets import STACKS, Fleet
from ansible_collections.strata.overlay.tests.bench.measure import heading, row

HOSTS = (10, 100)
LAYERS = (3, 30)


def measure_controller(work: Path) -> None:
    """Four runs that change nothing: few and many hosts, with few and many layers each."""
    heading(f"Memory of the largest process of the controller, {STACKS} stacks on each host, nothing to change")
    peaks: dict[tuple[int, int], int] = {}
    for layers in LAYERS:
        for hosts in HOSTS:
            directory = work / f"{hosts}-{layers}"
            directory.mkdir()
            fleet = Fleet(directory, hosts, layers)
            fleet.site()
            peaks[hosts, layers] = fleet.memory_of_site()
            fleet.take_down()
            row(f"{hosts} hosts with {layers} layers", f"{peaks[hosts, layers] / 2**20:.1f} MiB")
    (few, many), (low, high) = HOSTS, LAYERS
    each_host = (peaks[many, low] - peaks[few, low]) / (many - few)
    row("KiB for each further host", f"{each_host / 1024:.1f}")
    both = peaks[many, high] - peaks[few, high] - peaks[many, low] + peaks[few, low]
    row("bytes for each further layer of each further host", f"{both / (many - few) / (high - low):.0f}")
