# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a switch takes, and what readers notice of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.mount_flags import ATTR_RDONLY
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import FsContext
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import MountRequest, mount_request
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.tests.bench.measure import clock, heading, ratio, row
from ansible_collections.strata.overlay.tests.integration.readers import Readers

DEPTH, READERS, SWITCHES = 128, 4, 200


def measure_switches(work: Path) -> None:
    """A stack of 128 layers that is switched while it is read, against the bare system calls."""
    heading(f"Switches of a read-only stack of {DEPTH} layers under {READERS} readers")
    host = Engine(work / "store")
    path = work / "web"
    layers = [f"l{number}" for number in range(DEPTH - 1)]
    definition = {
        "layers": [inline(name, name) for name in (*layers, "v0", "v1")],
        "stacks": [{"name": "web", "path": str(path), "layers": [*layers, "v0"]}],
    }
    host.apply(definition)
    took: dict[str, list[float]] = {"run": [], "switch": []}
    with Readers(str(path), ("one", "two"), READERS) as readers:
        for number in range(1, SWITCHES + 1):
            definition["stacks"][0]["layers"] = [*layers, f"v{number % 2}"]
            took["run"].append(clock(partial(host.apply, definition)))
            took["switch"].append(host.last_switch)
        reads = readers.stop()
    row(f"{SWITCHES} switches: rounds read", str(reads.count), f"{reads.count * 4} files opened and read")
    row("errors", str(len(reads.errors)), "aim: 0")
    row("rounds that saw files of two trees", str(reads.mixed), "aim: 0")
    medians_of = {name: statistics.median(values) for name, values in took.items()}
    row("a whole run, median, readers on", f"{medians_of['run'] * 1000:.1f} ms")
    row("the switch itself, median, readers on", f"{medians_of['switch'] * 1000:.2f} ms")
    idle, bare = host.idle_switches(definition, layers)
    row("the switch itself, median, nobody reads", f"{idle * 1000:.2f} ms")
    row("bare system calls, median, nobody reads", f"{bare * 1000:.2f} ms")
    ratio("switch / bare system calls", idle / bare, "aim: at most 3")
    gaps = persistent_gaps(host, work / "data", layers)
    row("gap of an idle persistent stack, median of 20", f"{statistics.median(gaps):.1f} ms", "aim: under 20")
    row("gap of an idle persistent stack, longest of 20", f"{max(gaps):.1f} ms")


def inline(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "files": [{"path": path, "content": text} for path in ("one", "two", name)]}


class Engine:
    """The engine in this process, with the time that each switch took."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.store = Store(self._root)
        self.last_switch = 0.0
        self.result: dict[str, Any] = {}

    def apply(self, definition: Mapping[str, Any]) -> None:
        real = Mounter.switch

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return real(*arguments)
            finally:
                self.last_switch = time.perf_counter() - start

        Mounter.switch = timed  # type: ignore[method-assign, assignment]
        try:
            self.result = Run("apply", {"root": self._root, **definition}, check_mode=False).execute()
        finally:
            Mounter.switch = real  # type: ignore[method-assign]

    def idle_switches(self, definition: dict[str, Any], layers: Sequence[str]) -> tuple[float, float]:
        """Medians of ours and of the bare calls, in turn, each after the rest of a run."""
        ours, bare = [], []
        for number in range(1, 41):
            definition["stacks"][0]["layers"] = [*layers, f"v{number % 2}"]
            self.apply(definition)
            ours.append(self.last_switch)
            definition["stacks"][0]["layers"] = [*layers, f"v{(number + 1) % 2}"]
            request = mount_request(self.store.home, self.store.stacks()["web"])
            Run("apply", {"root": self._root, **definition}, check_mode=True).execute()
            bare.append(clock(partial(bare_switch, request, definition["stacks"][0]["path"])))
        return statistics.median(ours), statistics.median(bare)


def bare_switch(request: MountRequest, path: str) -> None:
    """Only what the kernel has to be told, lower by lower, with names that are known already."""
    with FsContext("overlay") as context:
        for key in ("index", "metacopy", "redirect_dir"):
            context.set(key, "off")
        for lower in request.lowers:
            context.set("lowerdir+", lower)
        with context.tree(ATTR_RDONLY) as tree:
            tree.attach(path, beneath=True)
    syscalls.umount(path, syscalls.MNT_DETACH)


def persistent_gaps(host: Engine, path: Path, layers: Sequence[str]) -> list[float]:
    gaps = []
    for number in range(21):
        shown = [*layers, f"v{number % 2}"]
        host.apply({"stacks": [{"name": "data", "path": str(path), "layers": shown, "writable": "persistent"}]})
        gaps.append(float(host.result["stacks"][0]["gap_ms"]))
    return gaps[1:]
