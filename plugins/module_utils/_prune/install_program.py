# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Installs strata-prune on a host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from ansible_collections.strata.overlay.plugins.module_utils._boot.programs import (
    HelperFiles,
    program_files,
    relative_name,
    run_files,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import prune_module_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import check_root
from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import read_prune
from ansible_collections.strata.overlay.plugins.module_utils._prune import program as program_module

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

LIBRARY = "/usr/local/lib/strata-prune"
PROGRAM = "/usr/local/sbin/strata-prune"


def run_prune_program(module: AnsibleModule) -> NoReturn:
    """Run the module ``prune_program`` and end it."""
    run_files(module, lambda: _files(module.params))


def _files(parameters: dict[str, Any]) -> HelperFiles:
    given = {name: parameters[name] for name in prune_module_spec()}
    errors: list[str] = []
    check_root(given["root"], errors)
    read_prune(given, "", errors)
    if errors:
        raise DefinitionError(errors)
    options = json.dumps({name: value for name, value in sorted(given.items()) if value is not None})
    body = ("for a timer: it removes from a store what nothing uses", f"main({options!r})")
    start = relative_name(program_module.__name__)
    return program_files("the program that prunes", start, PROGRAM, LIBRARY, body)
