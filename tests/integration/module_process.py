# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module's own ``main`` in a fork of this process: options, result and end as with Ansible, in a tenth of the time.

What Ansible does before, packing the module and sending it with what the host lacks, is not in it.
"""

from __future__ import annotations

import codecs
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils import _internal, basic

Parameters = dict[str, Any]


def call_module(
    module: str, parameters: Parameters, check: bool = False, before: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """A module's result.

    :param before: what the process does first.
    """
    load_all()
    flags = {"_ansible_check_mode": check, "_ansible_diff": True}
    output, errors = (os.memfd_create(name) for name in ("output", "errors"))
    process = os.fork()
    if process == 0:
        try:
            before()
            run_module(module, {**flags, **parameters}, output, errors)
        finally:
            os._exit(0)
    os.waitpid(process, 0)
    said, wrong = text_of(output).strip(), text_of(errors)
    if not said.startswith("{"):
        raise AssertionError(f"no result: {said}{wrong}")
    return {"changed": False, **json.loads(said)}


def load_all() -> None:
    """All code that runs on hosts, once: or each of thousands of forks would load anew what it needs."""
    plugins = Path(__file__).parents[2] / "plugins"
    for path in sorted([*plugins.glob("modules/*.py"), *plugins.glob("module_utils/**/*.py")]):
        if path.name != "__init__.py":
            names = path.relative_to(plugins).with_suffix("").parts
            importlib.import_module(".".join(("ansible_collections.strata.overlay.plugins", *names)))
    for profile in ("c2m", "m2c"):
        importlib.import_module(f"ansible.module_utils._internal._json._profiles._module_legacy_{profile}")
    # The standard library loads what these need at their first use.
    codecs.lookup("ascii")
    time.strptime("2026", "%Y")


def run_module(module: str, parameters: Parameters, output: int, errors: int) -> None:
    """The module's own ``main``, as Ansible runs it."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": parameters}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    # Where a test before this one has loaded parts of a controller, this process takes itself for one.
    _internal.is_controller = False
    try:
        importlib.import_module(f"ansible_collections.strata.overlay.plugins.modules.{module}").main()
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001  as Python ends a module
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()


def text_of(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8") as stream:
        stream.seek(0)
        return stream.read()
