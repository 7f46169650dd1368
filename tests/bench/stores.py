# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stores of many layers: what pruning them costs, what looking at them costs, what a run beside them costs."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._check.run import check
from ansible_collections.strata.overlay.plugins.module_utils._common.clock import now
from ansible_collections.strata.overlay.plugins.module_utils._info.store import store_info
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure
from ansible_collections.strata.overlay.plugins.module_utils._prune.run import prune
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, NameRecord, dump
from ansible_collections.strata.overlay.plugins.module_utils._store.stage_layout import stage_layer
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction
from ansible_collections.strata.overlay.tests.bench.filesystems import in_memory
from ansible_collections.strata.overlay.tests.bench.measure import heading, medians, ratio, row, seconds

FILES = 8
CHAIN = 10
"""Layers of a chain: a thousand chains of ten make ten thousand layers."""


def make_store(root: Path, layers: int, names: bool) -> Store:
    """A store of so many contents with a layer each, as imports of small archives make it."""
    store = Store(str(root))
    store.prepare()
    with store.workspace() as workspace:
        for start in range(0, layers, CHAIN):
            chain = [f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}" for number in range(start, start + CHAIN)]
            transaction = Transaction(store, workspace)
            for diff_id in chain:
                tree = Path(workspace, diff_id[7:])
                for number in range(FILES):
                    path = tree / f"directory{number % 2}" / f"file{number}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(b"x" * 100)
                size = Measure().tree(str(tree))
                record = ContentRecord(diff_id, FILES * 100, FILES + 2, "bench", now(), size, diff_id[7:])
                transaction.write(store.content_file(diff_id), dump(record))
                transaction.adopt(str(tree), store.content(diff_id))
            for link in layer_links(tuple(chain)):
                stage_layer(store, transaction, link, FILES * 100, store.content(link.diff_id))
            if names:
                name = f"name{start}"
                transaction.write(store.name_file(name), dump(NameRecord(name, tuple(chain))))
            transaction.commit()
    return store


def measure_prune(work: Path) -> None:
    """Everything removed that a store has."""
    heading(f"Prune of layers that nothing refers to, {FILES} files each, against rm -rf of the same trees")
    with in_memory(work) as memory:
        for layers in (100, 1_000, 10_000):
            compare_prune(memory, layers, "ext4 in memory")
    compare_prune(work, 1_000, "on disk")


def compare_prune(place: Path, layers: int, words: str) -> None:
    prunes: list[float] = []
    removals: list[float] = []
    locks: list[float] = []
    for number in range(3):
        # Taken in turn: who comes second may find more in the caches, or a busier disk.
        for ours in (True, False) if number % 2 else (False, True):
            root = place / "store"
            make_store(root, layers, names=False)
            os.sync()
            start = time.perf_counter()
            if ours:
                locks.append(prune({"root": str(root)}, False)["locked_ms"])
                prunes.append(time.perf_counter() - start)
            else:
                trees = [root / name for name in ("content", "overlay2", "image", "strata/contents")]
                subprocess.run(["rm", "-rf", *trees], check=True)
                removals.append(time.perf_counter() - start)
            shutil.rmtree(root)
    took, theirs = statistics.median(prunes), statistics.median(removals)
    seconds(f"prune of {layers} layers, {words}", took)
    seconds(f"rm -rf of {layers} layers, {words}", theirs)
    ratio(f"prune / rm -rf, {layers} layers, {words}", took / theirs, "aim: at most 1.3")
    row(f"store locked, {layers} layers, most of three", f"{max(locks):.1f} ms", "aim: under 50 ms")


def measure_info(work: Path) -> None:
    """What it costs to look, and to be there."""
    heading("store_info, processor time of its work")
    for layers in (100, 1_000, 10_000):
        store = make_store(work / str(layers), layers, names=True)
        seconds(f"store_info of {layers} layers", processor(partial(store_info, store)), "aim for 10000: under 1 s")
        seconds(f"store_info of {layers} layers, size: false", processor(partial(store_info, store, size=False)))
    heading("A run that changes nothing, in this process, beside other layers in the store")
    runs: dict[str, Callable[[], object]] = {}
    for name, root in (("empty", work / "empty"), ("full", work / "10000")):
        definition = one_stack(root, work / f"mounted-{name}")
        Run("apply", definition, False).execute()
        runs[name] = partial(unchanged, definition)
    took = medians(runs, rounds=21)
    row("in a store of nothing else", f"{took['empty'] * 1000:.1f} ms")
    row("in a store of 10000 layers", f"{took['full'] * 1000:.1f} ms")
    ratio("with 10000 layers / without", took["full"] / took["empty"], "aim: at most 1.2")
    for root in (work / "empty", work / "10000"):
        Run("apply", {"root": str(root), "stacks": [{"name": "web", "state": "absent"}]}, False).execute()


def measure_check(work: Path) -> None:
    """What it costs to compare every directory, record and link."""
    heading("store_check, processor time of its work")
    for layers in (100, 1_000, 10_000):
        store = make_store(work / str(layers), layers, names=True)
        took = processor(partial(check, {"root": store.root}, False))
        seconds(f"store_check of {layers} layers", took, "aim for 10000: under 2 s")


def processor(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def one_stack(root: Path, path: Path) -> dict[str, object]:
    names = [f"layer{number}" for number in range(10)]
    layers = [{"name": name, "files": [{"path": name, "content": name}]} for name in names]
    return {"root": str(root), "layers": layers, "stacks": [{"name": "web", "path": str(path), "layers": names}]}


def unchanged(definition: dict[str, object]) -> None:
    result = Run("apply", definition, False).execute()
    assert not result["changed"], result["plan"]
