# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Checks a faulty definition against the host too, so that one run reports all mistakes. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import unknown_layer
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountinfo import read
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import by_path
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import path_facts
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import path_problems
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import of_store_at
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


def early_errors(store: Store, facts: Mapping[str, Any]) -> list[str]:
    """Unknown layer names and unusable paths.

    :param facts: ``stacks``: name, path, cover and the layer names of each; ``defined``: names of the definition's
        own layers.
    """
    errors: list[str] = []
    mounts = read(store.home)
    known = {*facts["defined"], *store.names()}
    for stack in facts["stacks"]:
        label = f"stack {stack['name']}"
        errors += [unknown_layer(label, name, known) for name in stack["layers"] if name not in known]
        if stack["path"]:
            found = path_facts(stack["path"])
            here = by_path(mounts).get(found.resolved, [])
            ours = of_store_at(mounts, found.resolved, store.root) if store.exists() else []
            errors += path_problems(label, stack["path"], stack["cover"], found, here, ours)
    return errors
