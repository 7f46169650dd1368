# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ten hosts over real SSH: what a run costs beside the same stacks by hand-written tasks."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.tests.bench.jobs import BY_HAND, Job, ansible_posix
from ansible_collections.strata.overlay.tests.bench.measure import FailedError, clock, heading, ratio, seconds
from ansible_collections.strata.overlay.tests.integration.fleet import Fleet, running_fleet
from ansible_collections.strata.overlay.tests.integration.host import Ansible

HOSTS = 10
STACKS = 10
LAYERS = 3
ON_HOST = Path("/srv/bench")


def measure_by_hand(work: Path) -> None:
    """Everything made and mounted, then found in place."""
    heading(f"{HOSTS} hosts over SSH with sudo, {HOSTS} forks, {STACKS} stacks of {LAYERS} layers each")
    (work / "controller").mkdir()
    others = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment = {
        **others,
        "ANSIBLE_COLLECTIONS_PATH": f"{os.environ['PYTHONPATH']}:{ansible_posix()}",
        "ANSIBLE_HOME": str(work / "controller/home"),
        "XDG_CACHE_HOME": str(work / "controller/cache"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    # ssh hands what is read by others only to others: the keys lie below this directory.
    work.chmod(0o755)
    work.parent.chmod(0o755)
    with running_fleet(work / "f", Ansible(work / "controller", environment), HOSTS) as fleet:
        ours = _ours(fleet, Job(work / "ours", STACKS, LAYERS, ON_HOST).write())
        # By hand each stack takes as long as the one before: two sizes tell of all, unless all are asked for.
        sizes = (1, STACKS) if os.environ.get("BENCH_FULL") == "1" else (1, 3)
        jobs = [Job(work / f"hand-{size}", size, LAYERS, ON_HOST / str(size)) for size in sizes]
        hand = {job.stacks: _by_hand(fleet, job.write()) for job in jobs}
    most = max(sizes)
    for number, words in enumerate(("from nothing", "nothing to change")):
        each = (hand[most][number] - hand[1][number]) / (most - 1)
        theirs = hand[1][number] + (STACKS - 1) * each
        how = "measured" if most == STACKS else "EXTRAPOLATED"
        seconds(f"by hand, {STACKS} x {LAYERS}, {words}, {how}", theirs)
        ratio(f"by hand / site, {words}, {how}", theirs / ours[number], "aim: at least 40")


def _ours(fleet: Fleet, job: Job) -> tuple[float, float]:
    definition = job.definition()
    variables = {f"overlay_{name}": value for name, value in definition.items()}
    took = _twice(fleet, "strata.overlay.site", variables)
    seconds(f"strata.overlay.site, {job.description}, from nothing", took[0])
    seconds(f"strata.overlay.site, {job.description}, nothing to change", took[1])
    gone = {**variables, "overlay_layers": [], "overlay_stacks": [], "overlay_exclusive": True}
    fleet.play("strata.overlay.site", variables=gone).check()
    return took


def _by_hand(fleet: Fleet, job: Job) -> tuple[float, float]:
    variables = job.by_hand()
    took = _twice(fleet, str(BY_HAND), variables)
    seconds(f"by hand, {job.description}, from nothing", took[0])
    seconds(f"by hand, {job.description}, nothing to change", took[1])
    for host in fleet.hosts:
        host.run("umount", *(stack["path"] for stack in variables["stacks"]))
    return took


def _twice(fleet: Fleet, playbook: str, variables: dict[str, Any]) -> tuple[float, float]:
    """Seconds of the first run, which changes every host, and of the second, which changes none."""

    def run(changes: bool) -> None:
        done = fleet.play(playbook, variables=variables).check()
        if {bool(count) for count in done.counts("changed").values()} != {changes}:
            raise FailedError(f"{playbook} should have said changed={changes}:\n{done.text[-1000:]}")

    return clock(partial(run, True)), clock(partial(run, False))
