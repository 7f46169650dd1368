# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Takes options that may hold secrets out of a module's arguments, which hosts log, and puts them back.

AnsibleModule writes its arguments to the system's log before anything of ours runs, and knows nothing of secrets in a
URL, nor of any in layers that are written in a stack. So they go by ``_controller``, which it does not write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import has_secrets

_OPTIONS = ("url", "username", "password", "headers")
_MARK = "_controller:"


def hide(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The parameters with a mark in place of each secret part, and the parts in the order of their marks."""
    hidden: list[dict[str, Any]] = []

    def replace(item: Mapping[str, Any]) -> Mapping[str, Any]:
        url = item.get("url")
        if not isinstance(url, str) or not (has_secrets(url) or item.get("password") or item.get("headers")):
            return item
        hidden.append({key: item[key] for key in _OPTIONS if key in item})
        rest = {key: value for key, value in item.items() if key not in _OPTIONS}
        return {**rest, "url": f"{_MARK}{len(hidden) - 1}"}

    return _each(parameters, replace), hidden


def reveal(parameters: Mapping[str, Any], hidden: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What ``hide`` was given."""

    def replace(item: Mapping[str, Any]) -> Mapping[str, Any]:
        url = item.get("url")
        if not isinstance(url, str) or not url.startswith(_MARK):
            return item
        return {**item, **hidden[int(url[len(_MARK) :])]}

    return _each(parameters, replace) if hidden else parameters


def _each(parameters: Mapping[str, Any], replace: Any) -> dict[str, Any]:
    """Every layer and every health check of a module's parameters, replaced; none is changed in place."""
    found = dict(replace(parameters))
    for key in ("layers", "stacks"):
        if isinstance(found.get(key), (list, tuple)):
            found[key] = [_each(item, replace) if isinstance(item, Mapping) else item for item in found[key]]
    if isinstance(found.get("health"), Mapping):
        found["health"] = replace(found["health"])
    return found
