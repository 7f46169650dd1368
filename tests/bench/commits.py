# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it costs to make a layer of a stack's changes: against tar and sha256sum of the same tree."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._prune.run import prune
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.tests.bench.filesystems import in_memory
from ansible_collections.strata.overlay.tests.bench.measure import call, heading, minimums, ratio, seconds

FILES, SIZE = 3_000, 100_000
ROUNDS = 5


def measure_commits(work: Path) -> None:
    """300 MB in three thousand files, into a store on the same file system."""
    with in_memory(work) as memory:
        compare(memory / "commit")


def compare(work: Path) -> None:
    work.mkdir()
    root, mounted = work / "store", work / "mounted"
    layers = [{"name": "base", "files": [{"path": "base", "content": ""}]}]
    stack = {"name": "web", "path": str(mounted), "layers": ["base"], "writable": "persistent"}
    Run("apply", {"root": str(root), "layers": layers, "stacks": [stack]}, False).execute()
    for number in range(FILES):
        path = mounted / f"directory{number % 30}" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(SIZE))
    store = Store(str(root))
    upper, out = upper_tree(store, store.stacks()["web"]), work / "out.tar"
    tar = f"tar --xattrs --numeric-owner -C {upper} -cf"
    heading(f"commit of {FILES * SIZE / 1e6:.0f} MB in {FILES} files, ext4 in memory, shortest of {ROUNDS}")
    took = minimums(
        {
            "commit": partial(commit, {"root": str(root), "stack": "web", "name": "kept"}, False),
            "pipe": partial(call, ["sh", "-c", f"{tar} - . | sha256sum"]),
            "file": partial(call, ["sh", "-c", f"{tar} {out} . && sha256sum {out} && sync -f {out}"]),
        },
        ROUNDS,
        partial(forget, root, out),
    )
    seconds("commit: packed, unpacked, verified and durable", took["commit"])
    seconds("tar -c into sha256sum, nothing written", took["pipe"])
    seconds("tar -c to a file, sha256sum of it, sync -f", took["file"])
    ratio("commit / tar -c into sha256sum", took["commit"] / took["pipe"])
    ratio("commit / tar -c, sha256sum and sync -f", took["commit"] / took["file"], "aim: at most 1.2")
    Run("apply", {"root": str(root), "stacks": [{"name": "web", "state": "absent"}]}, False).execute()


def forget(root: Path, out: Path) -> None:
    """Nothing is left of what was made, and nothing remembered of it."""
    Run("apply", {"root": str(root), "layers": [{"name": "kept", "state": "absent"}]}, False).execute()
    prune({"root": str(root)}, False)
    for path in [*(root / "strata/sources").iterdir(), out]:
        path.unlink(missing_ok=True)
    os.sync()
