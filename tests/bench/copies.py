# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it costs to show layers without an overlay: one copy of them all, against cp -a of what an overlay shows; and
fuse-overlayfs, against itself started by hand.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_fuse_overlayfs
from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import MNT_DETACH, umount
from ansible_collections.strata.overlay.plugins.module_utils._prune.run import prune
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.tests.bench.filesystems import in_memory
from ansible_collections.strata.overlay.tests.bench.imports import split
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
        if find_fuse_overlayfs():
            compare_served(memory / "served", archives)
        else:
            row("driver fuse-overlayfs: skipped", "-", "needs the program and /dev/fuse")


def compare(work: Path, archives: list[Path]) -> None:
    work.mkdir()
    store = str(work / "store")
    layers, names = named(archives)
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


def compare_served(work: Path, archives: list[Path]) -> None:
    """Mounting and unmounting, as a play does it beside as a shell script does it; and reading what either shows."""
    work.mkdir()
    store = str(work / "store")
    layers, names = named(archives)
    places = {driver: work / driver for driver in ("overlay", "fuse-overlayfs")}
    stacks = [stack(driver, path, names) for driver, path in places.items()]
    Run("apply", {"root": store, "layers": layers, "stacks": stacks}, False).execute()
    trees = [
        str(Path(store, "content/sha256", hex_of(diff_id))) for diff_id in Store(store).stacks()["overlay"].diff_ids
    ]
    by_hand = work / "by-hand"
    by_hand.mkdir()
    mount: list[str | Path] = ["fuse-overlayfs", "-o", f"lowerdir={':'.join(reversed(trees))}", by_hand]
    heading(
        f"A stack of {len(archives)} layers of a Debian root by fuse-overlayfs, ext4 in memory, shortest of {ROUNDS}"
    )
    took = minimums(
        {
            "switched": partial(again, store, places["fuse-overlayfs"], names),
            "by hand": lambda: (call(mount), call(["umount", by_hand])),
        },
        ROUNDS,
        lambda: None,
    )
    seconds("driver fuse-overlayfs: unmounted, and mounted again", took["switched"])
    seconds("fuse-overlayfs, umount", took["by hand"])
    ratio("driver fuse-overlayfs / fuse-overlayfs by hand", took["switched"] / took["by hand"])
    call(mount)
    read = {
        name: partial(call, ["sh", "-c", f"tar -C {path} -cf - . | cat >/dev/null"])
        for name, path in (*places.items(), ("by hand", by_hand))
    }
    took = minimums(read, ROUNDS, lambda: None)
    for name, found in took.items():
        seconds(f"read all of it: {name}", found)
    ratio("read: driver fuse-overlayfs / fuse-overlayfs by hand", took["fuse-overlayfs"] / took["by hand"])
    ratio("read: driver fuse-overlayfs / overlay", took["fuse-overlayfs"] / took["overlay"])
    for path in (*places.values(), by_hand):
        umount(str(path), MNT_DETACH)


def again(store: str, path: Path, names: list[str]) -> None:
    for state in ("unmounted", "mounted"):
        wanted = {**stack("fuse-overlayfs", path, names), "state": state}
        Run("apply", {"root": store, "stacks": [wanted]}, False).execute()


def named(archives: list[Path]) -> tuple[list[dict[str, object]], list[str]]:
    """Layers of archives, and what they are called, bottom first."""
    names = [f"l{number}" for number in range(len(archives))]
    return [
        {"name": name, "src": str(path), "remote_src": True} for name, path in zip(names, archives, strict=True)
    ], names


def stack(driver: str, path: Path, names: list[str]) -> dict[str, object]:
    return {"name": driver, "path": str(path), "layers": names, "driver": driver}


def copy(store: str, path: Path, names: list[str]) -> None:
    Run("apply", {"root": store, "stacks": [stack("copy", path, names)]}, False).execute()


def forget(store: str, work: Path) -> None:
    Run("apply", {"root": store, "stacks": [{"name": "copy", "state": "absent"}]}, False).execute()
    prune({"root": store}, False)
    shutil.rmtree(work / "by-cp", ignore_errors=True)
    call(["sync", "-f", work])
