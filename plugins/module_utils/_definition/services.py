# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses a stack's `services` option. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._definition.service import Service
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options

_NAME = re.compile(r"^[A-Za-z0-9_.:\\][A-Za-z0-9_.:@\\-]{0,254}\Z")


_SUFFIXES = (".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount", ".swap", ".slice", ".scope")


_ACTIONS = ("restart", "reload")


def read_services(label: str, written: Any, errors: list[str]) -> tuple[Service, ...]:
    """The option ``services``: names, or ``{name, action}``; what is wrong goes to ``errors``."""
    found: dict[str, Service] = {}
    for number, item in enumerate(written or (), 1):
        service = _read_service(f"{label}: service {number}", item, errors)
        if service.unit in found:
            errors.append(f"{label}: option 'services' names {service.unit} more than once")
        if service.unit:
            found[service.unit] = service
    return tuple(found.values())


def _read_service(label: str, item: Any, errors: list[str]) -> Service:
    options: Mapping[str, Any] = {"name": item, "action": "restart"}
    if not isinstance(item, str):
        options = check_options(label, item, service_spec(), errors)
    name = options["name"] or ""
    if name and not _NAME.match(name):
        errors.append(f"{label}: {name!r} is no name of a systemd unit; write it as 'app.service'")
        name = ""
    return Service(_with_suffix(name), options["action"])


def service_spec() -> dict[str, Any]:
    """One item of ``services`` that is not only a name."""
    return {
        "name": {"type": "str", "required": True},
        "action": {"type": "str", "choices": list(_ACTIONS), "default": "restart"},
    }


def _with_suffix(name: str) -> str:
    return name if not name or name.endswith(_SUFFIXES) else f"{name}.service"
