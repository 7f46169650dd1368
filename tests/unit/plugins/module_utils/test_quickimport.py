# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a zip, as Ansible sends them to a host, are compiled once and are otherwise what they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils import _quickimport

PACKAGE = "ansible_collections.strata.overlay.plugins.module_utils"

# Counts what is compiled from the zip: importlib and zipimport both go through `compile`, which audit hooks see.
HOST = """
import json, sys
compiled = []
sys.addaudithook(lambda event, args: compiled.append(str(args[1])) if event == "compile" else None)
sys.path.insert(0, sys.argv[1])
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once
if sys.argv[2] == "once":
    compile_once()
    compile_once()
compiled.clear()
from ansible_collections.strata.overlay.plugins.module_utils._part import one
from ansible_collections.strata.overlay.plugins.module_utils._part.one import other
try:
    from ansible_collections.strata.overlay.plugins.module_utils._part import absent
except ImportError as error:
    missing = str(error)
print(json.dumps({
    "compiled": sum(name.endswith("one.py") for name in compiled),
    "file": one.__file__, "spec": one.__spec__.origin, "package": one.__package__, "missing": missing,
    "value": other(), "finders": sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path),
}))
"""


@pytest.fixture
def module_zip(tmp_path: Path) -> Path:
    path = tmp_path / "module.zip"
    parts = PACKAGE.split(".")
    with zipfile.ZipFile(path, "w") as archive:
        for depth in range(1, len(parts) + 1):
            archive.writestr("/".join([*parts[:depth], "__init__.py"]), "")
        place = "/".join(parts)
        archive.writestr(f"{place}/_quickimport.py", Path(_quickimport.__file__).read_text())
        archive.writestr(f"{place}/_part/__init__.py", "")
        archive.writestr(f"{place}/_part/one.py", "def other() -> int:\n    return 7\n")
    return path


def imported(module_zip: Path, how: str) -> dict[str, Any]:
    command = [sys.executable, "-I", "-c", HOST, str(module_zip), how]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def test_each_file_of_a_zip_is_compiled_once(module_zip: Path) -> None:
    once, usual = imported(module_zip, "once"), imported(module_zip, "usual")
    assert (once.pop("compiled"), once.pop("finders")) == (1, 1), "also where it was asked for twice"
    assert usual.pop("compiled") >= 1
    assert usual.pop("finders") == 0
    assert "absent" in once.pop("missing")
    assert "absent" in usual.pop("missing")
    assert once == usual
    assert once["file"] == once["spec"] == f"{module_zip}/{PACKAGE.replace('.', '/')}/_part/one.py"


@pytest.mark.parametrize("places", [None, []])
def test_unpacked_collection_gets_no_import_finder(places: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if places is not None:
        monkeypatch.setattr(sys.modules[PACKAGE], "__path__", places)
    before = list(sys.meta_path)
    _quickimport.compile_once()
    assert sys.meta_path == before


def test_engine_import_loads_workers_but_not_the_rest_of_a_run() -> None:
    """Who imports it too early makes each import of an archive slower, and nothing else would tell."""
    words = f"import json, sys, {PACKAGE}._run.engine; print(json.dumps(list(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(_quickimport.__file__).parents[5])}
    answer = subprocess.run([sys.executable, "-c", words], env=environment, check=True, capture_output=True).stdout
    loaded = {name[len(PACKAGE) + 1 :] for name in json.loads(answer) if name.startswith(PACKAGE)}
    assert {"_layer.unpack", "_linux.workers", "_run.prefetch"} <= loaded
    assert not {"_run.reconcile", "_apply.apply", "_plan.plan", "_plan.steps", "_run.inspect"} & loaded
