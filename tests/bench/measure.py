# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of the report, and times of what is measured."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PAIRS = 7
"""Runs of each side, taken in turn, where the median counts."""

WIDTH = 62


def heading(title: str) -> None:
    print(f"\n{title}", flush=True)


def row(what: str, value: str, remark: str = "") -> None:
    print(f"  {what:<{WIDTH}} {value:>9}  {remark}".rstrip(), flush=True)


def seconds(what: str, took: float, remark: str = "") -> None:
    row(what, f"{took:.2f} s", remark)


def ratio(what: str, value: float, remark: str = "") -> None:
    row(what, f"{value:.2f} x", remark)


def clock(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(
    runs: Mapping[str, Callable[[], object]], rounds: int = PAIRS, after: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Median seconds of each, run in turn, so that what else the machine does weighs on all of them.

    :param after: called after each run, not measured.
    """
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _round in range(rounds):
        for name, run in runs.items():
            took[name].append(clock(run))
            after()
    return {name: statistics.median(values) for name, values in took.items()}


class FailedError(Exception):
    """What was to be measured did not work; says what it printed."""


def call(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FailedError(f"{' '.join(map(str, command))[:200]}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def minimums(runs: Mapping[str, Callable[[], object]], rounds: int, after: Callable[[], object]) -> dict[str, float]:
    """Shortest seconds of each, run in turn: what a busy machine adds is never less than nothing.

    :param after: called after each run, not measured.
    """
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _round in range(rounds):
        for name, run in runs.items():
            took[name].append(clock(run))
            after()
    return {name: min(values) for name, values in took.items()}
