# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One list of a definition from the variables that hold its parts, so that several groups can each add theirs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

SEPARATOR = "__"


def part_names(base: str, variables: Sequence[str]) -> list[str]:
    """The variables that hold parts of ``base``: itself, then ``base__<anything>`` in the order of their names."""
    others = sorted(name for name in variables if name.startswith(base + SEPARATOR))
    return [base] * (base in variables) + others


def merge(parts: Mapping[str, Any]) -> list[Any]:
    """The items of all parts, in their order.

    :param parts: values by the variable's name.
    :raises StrataError: a value is no list, or two variables have an item of the same name; all mistakes together.
    """
    errors: list[str] = []
    owners: dict[str, str] = {}
    merged: list[Any] = []
    for variable, items in parts.items():
        if items is None:
            continue
        if isinstance(items, (str, Mapping)) or not isinstance(items, Sequence):
            errors.append(f"variable {variable}: it must be a list, and is {items!r}")
            continue
        for item in items:
            name = item.get("name") if isinstance(item, Mapping) else None
            if name is not None and owners.setdefault(name, variable) != variable:
                errors.append(f"{name} is in {owners[name]} and in {variable}; keep it in one of them, or rename one")
            merged.append(item)
    if errors:
        raise StrataError("; ".join(errors))
    return merged
