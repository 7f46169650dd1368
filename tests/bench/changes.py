# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it costs to tell the changes of a stack: against find over its writable layer, and docker diff."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_changes
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.tests.bench.filesystems import in_memory
from ansible_collections.strata.overlay.tests.bench.measure import FailedError, call, heading, minimums, ratio, row
from ansible_collections.strata.overlay.tests.integration.docker import missing_programs, running_docker

DIRECTORIES = 1_000
FILES = 100
CHANGED = 1_000
ROUNDS = 15
FACTS = "%m %U %G %s %t %p\n"
"""What a change is told by: find has to look at every file for it, as we have to, and not only at directories."""


def measure_changes(work: Path) -> None:
    """A thousand changed files above a hundred thousand, one in each directory and all in a few."""
    tree = work / "tree"
    for number in range(DIRECTORIES):
        directory = tree / f"top{number % 10}" / f"directory{number}"
        directory.mkdir(parents=True)
        for file in range(FILES):
            (directory / f"file{file}").write_bytes(b"x" * 10)
    archive = work / "tree.tar"
    call(["tar", "-C", tree, "-cf", archive, "."])
    with in_memory(work) as memory:
        for words, spread in (("one in each of 1000 directories", 1_000), ("all in ten directories", 10)):
            compare(memory / str(spread), archive, words, spread)
    compare_with_docker(work, archive)


def changed_files(spread: int) -> list[str]:
    """Paths of a thousand files, in so many directories."""
    each = CHANGED // spread
    return [f"top{number % 10}/directory{number}/file{file}" for number in range(spread) for file in range(each)]


def change(top: Path, spread: int) -> None:
    for path in changed_files(spread):
        (top / path).write_bytes(b"changed")


def compare(work: Path, archive: Path, words: str, spread: int) -> None:
    """On a warm cache; what the disk would add is the same for both, and more for the larger number of directories."""
    work.mkdir()
    root, mounted = work / "store", work / "mounted"
    layers = [{"name": "tree", "src": str(archive), "remote_src": True}]
    layers += [{"name": f"n{number}", "files": [{"path": f"n{number}", "content": ""}]} for number in range(2)]
    stack = {"name": "web", "path": str(mounted), "layers": ["tree", "n0", "n1"], "writable": "persistent"}
    Run("apply", {"root": str(root), "layers": layers, "stacks": [stack]}, False).execute()
    change(mounted, spread)
    store = Store(str(root))
    record = store.stacks()["web"]
    found = stack_changes(store, record)
    if sum(change.kind == "C" and change.size == 7 for change in found) != CHANGED:
        raise FailedError(f"{len(found)} changes found")
    upper = upper_tree(store, record)
    heading(f"{CHANGED} files changed above {DIRECTORIES * FILES}, {words}, shortest of {ROUNDS}")
    took = minimums(
        {
            "changes": partial(stack_changes, store, record),
            "find": partial(call, ["find", upper]),
            "facts": partial(call, ["find", upper, "-printf", FACTS]),
            "whole": partial(call, ["find", mounted]),
        },
        ROUNDS,
        lambda: None,
    )
    for name, what in (
        ("changes", "changes of the stack"),
        ("find", "find over its writable layer"),
        ("facts", "find over its writable layer, with owners, modes, sizes and times"),
        ("whole", "find over the whole tree"),
    ):
        row(what, f"{took[name] * 1000:.1f} ms")
    ratio("changes / find", took["changes"] / took["find"], "aim: at most 2")
    ratio("changes / find with owners, modes, sizes and times", took["changes"] / took["facts"])
    Run("apply", {"root": str(root), "stacks": [{"name": "web", "state": "absent"}]}, False).execute()


def compare_with_docker(work: Path, archive: Path) -> None:
    """The same tree and the same thousand files, in a container."""
    heading("docker diff of the same, one file in each directory")
    if missing_programs():
        row("skipped", "-", f"needs {', '.join(missing_programs())}")
        return
    with running_docker(work / "docker", work / "docker.log") as docker:
        docker.call("import", str(archive), "tree")
        container = docker.call("create", "--network", "none", "tree", "/none").strip()
        format_ = "{{.GraphDriver.Data.LowerDir}},upperdir={{.GraphDriver.Data.UpperDir}}"
        layers = docker.call("inspect", "--format", f"{format_},workdir={{{{.GraphDriver.Data.WorkDir}}}}", container)
        place = work / "container"
        place.mkdir()
        call(["mount", "-t", "overlay", "overlay", "-o", f"index=off,lowerdir={layers.strip()}", place])
        try:
            change(place, DIRECTORIES)
        finally:
            call(["umount", place])
        told = docker.call("diff", container).splitlines()
        if sum(line.startswith("C /top") and "/file" in line for line in told) != CHANGED:
            raise FailedError(f"docker diff told {len(told)} changes")
        took = minimums({"diff": partial(docker.call, "diff", container)}, 3, lambda: None)
        row("docker diff", f"{took['diff'] * 1000:.0f} ms")
