# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it costs to show layers without an overlay: one copy of them all, against cp -a of what an overlay shows."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._kernel import MNT_DETACH, umount
from ansible_collections.strata.overlay.plugins.module_utils._pruning import prune
from ansible_collections.strata.overlay.tests.bench.imports import in_memory, split
from ansible_collections.strata.overlay.tests.bench.measure import call, heading, minimums, ratio, row, seconds
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError, debian_root

ROUNDS = 5


def measure_copies(work: Path) -> None:
    """A Debian root in four layers."""
    try:
        root = debian_root()
    except UnavailableError as error:
        row("driver copy: skipped", "-", str(error))
        return
    archives = split(root, work)
    with in_memory(work) as memory:
        compare(memory / "copy", archives)


def compare(work: Path, archives: list[Path]) -> None:
    work.mkdir()
    store = str(work / "store")
    layers = [{"name": f"l{n}", "src": str(path), "remote_src": True} for n, path in enumerate(archives)]
    names = [f"l{n}" for n in range(len(archives))]
    shown, other = work / "shown", work / "other"
    Run("apply", {"root": store, "layers": layers, "stacks": [stack("overlay", shown, names)]}, False).execute()
    heading(f"A stack of {len(archives)} layers of a Debian root by driver copy, ext4 in memory, shortest of {ROUNDS}")
    took = minimums(
        {
            "copy": partial(copy, store, other, names),
            "cp": partial(call, ["sh", "-c", f"cp -a --reflink=auto {shown} {work}/by-cp && sync -f {work}"]),
        },
        ROUNDS,
        partial(forget, store, work),
    )
    seconds("driver copy: copied, digested, mounted and durable", took["copy"])
    seconds("cp -a of the overlay, sync -f", took["cp"])
    ratio("driver copy / cp -a", took["copy"] / took["cp"])
    umount(str(shown), MNT_DETACH)


def stack(driver: str, path: Path, names: list[str]) -> dict[str, object]:
    return {"name": driver, "path": str(path), "layers": names, "driver": driver}


def copy(store: str, path: Path, names: list[str]) -> None:
    Run("apply", {"root": store, "stacks": [stack("copy", path, names)]}, False).execute()


def forget(store: str, work: Path) -> None:
    Run("apply", {"root": store, "stacks": [{"name": "copy", "state": "absent"}]}, False).execute()
    prune({"root": store}, False)
    shutil.rmtree(work / "by-cp", ignore_errors=True)
    call(["sync", "-f", work])
