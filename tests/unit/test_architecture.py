# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The structure of ``plugins/module_utils``, read from the syntax trees: imports inside functions count, those for type
checkers alone do not.
"""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CODE = CHECKOUT / "plugins/module_utils"
NAME = "ansible_collections.strata.overlay.plugins.module_utils"
MAP = runpy.run_path(str(CHECKOUT / "scripts/map"))
ORDER = list(MAP["PACKAGES"])

PURE = ("_definition.", "_plan.", "_prune.plan", "_prune.model", "_check.judge", "_check.model", "_check.snapshot")
"""What decides. None of it looks at the world, nor does anything that it imports."""
IMPURE = {"time", "subprocess", "socket", "ctypes"}
PURE_OF_OS = {"path", "fspath", "fsencode", "fsdecode", "sep"}

SEAMS = {
    "_archive": "compressions that few archives have",
    "_apply": "what only a run that changes something needs",
    "_definition": "options that few definitions have",
    "_export": "one way out of several",
    "_info": "roots of container engines",
    "_layer": "a second process for one large layer",
    "_module": "the namespace of an ordinary user",
    "_mount": "drivers beside the kernel's overlay",
    "_observe": "facts that few definitions ask for",
    "_plan": "steps that few plans have",
    "_prune": "a sweep that finds something",
    "_run": "the half of the code that changes, and sources of other kinds",
    "_services": "a health check by HTTP",
    "_source": "kinds of sources",
    "_store": "what only a change needs",
}
"""Packages in which a function may import, and what is left unloaded thereby. Python compiles all that a module imports
at each call on a host, and Ansible packs it. All together they save 60 of the 270 ms of processor time that a host
spends on a run that changes nothing; what saved less than a millisecond is imported at the top.
"""

MOST_FILES, MOST_BYTES = 102, 545_000
"""Of ``module_utils`` that Ansible packs for the module ``plan``, which every host gets in every run."""


@cache
def modules() -> dict[str, Path]:
    """Every file by its dotted name below module_utils."""
    found = {path: path.relative_to(CODE).with_suffix("") for path in CODE.rglob("*.py") if path.stem != "__init__"}
    return {str(name).replace("/", "."): path for path, name in found.items()}


def nodes(path: Path) -> Iterator[tuple[ast.AST, bool]]:
    """Everything in a file that runs, and whether it runs when a function is called."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[ast.AST, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        yield node, inside
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside or isinstance(node, ast.FunctionDef))

    return walk(ast.parse(path.read_text()), False)


def imported(node: ast.AST) -> set[str]:
    """What of module_utils a node imports, by dotted name."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(NAME):
        return set()
    name = (node.module or "")[len(NAME) + 1 :]
    return {name} if name in modules() else {f"{name}.{alias.name}".lstrip(".") for alias in node.names}


@cache
def imports() -> dict[str, set[str]]:
    return {name: set().union(*(imported(node) for node, _inside in nodes(path))) for name, path in modules().items()}


def package(name: str) -> str:
    return name.partition(".")[0] if "." in name else MAP["FILES"][name]


def reached(start: set[str]) -> set[str]:
    """All that is imported, by itself or through others."""
    found: set[str] = set()
    pending = set(start)
    while pending:
        name = pending.pop()
        found.add(name)
        pending |= imports()[name] - found
    return found


def test_every_import_leads_to_a_file() -> None:
    assert {name for needed in imports().values() for name in needed} - set(modules()) == set()


def test_packages_import_only_those_before_them() -> None:
    upward = [
        f"{name} imports {needed}"
        for name, all_needed in imports().items()
        for needed in all_needed
        if ORDER.index(package(needed)) > ORDER.index(package(name))
    ]
    assert upward == []


def test_no_file_imports_itself_through_others() -> None:
    assert [name for name, needed in imports().items() if name in reached(needed)] == []


@pytest.mark.parametrize("name", [name for name in sorted(modules()) if name.startswith(PURE)])
def test_what_decides_touches_nothing(name: str) -> None:
    touched = {f"{needed}: {what}" for needed in reached({name}) for what in effects(modules()[needed])}
    assert touched == set()


@cache
def effects(path: Path) -> set[str]:
    """What in a file reaches the world outside of it."""
    found: set[str] = set()
    for node, _inside in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] in IMPURE}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} & IMPURE
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr not in PURE_OF_OS:
                found.add(f"os.{node.attr}")
            elif (node.value.id, node.attr) == ("datetime", "now"):
                found.add("datetime.now")
    return found


def test_functions_import_only_at_the_seams() -> None:
    found = {
        package(name) for name, path in modules().items() for node, inside in nodes(path) if inside and imported(node)
    }
    assert found <= set(SEAMS)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "plugins/modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_has_one_runner(path: Path) -> None:
    needed = set().union(*(imported(node) for node, _inside in nodes(path)))
    runners = needed - {"_quickimport", "_definition.argspec"}
    assert len(runners) <= 1


def test_what_every_host_gets_in_every_run_does_not_grow() -> None:
    start = set().union(*(imported(node) for node, _inside in nodes(CHECKOUT / "plugins/modules/plan.py")))
    packed = reached(start)
    size = sum(modules()[name].stat().st_size for name in packed)
    assert (len(packed) <= MOST_FILES, size <= MOST_BYTES) == (True, True), f"{len(packed)} files, {size} bytes"


def test_the_map_is_made_of_the_docstrings() -> None:
    assert (CHECKOUT / "docs/architecture.md").read_text() == MAP["page"](), "run scripts/map"
