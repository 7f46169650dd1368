# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The argument specs -> a JSON Schema of the variables of a definition, for completion and checks in editors.

Source: JSON Schema 2020-12. A value may also be a template, whose type nobody knows before it is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import (
    apply_module_spec,
    layer_in_place_spec,
)

TEMPLATE = {"type": "string", "pattern": r"\{[{%]"}
"""What stands for any value: a string with a Jinja expression or statement in it."""

_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": ["string", "number"]},
    "path": {"type": "string"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "dict": {"type": "object"},
    "raw": {},
}

Documented = Mapping[str, Mapping[str, Any]]


def variables_schema(documented: Documented) -> dict[str, Any]:
    """The schema of a file of variables, such as group_vars/all.yml: what it knows is checked, all else may be there.

    :param documented: the options of the module ``apply`` as ``ansible-doc --json`` gives them.
    """
    spec = apply_module_spec()
    known = {}
    for name in ("root", "layers", "images", "stacks", "prune", "exclusive", "stage"):
        known[f"overlay_{name}"] = _option(spec[name], documented.get(name, {}))
    parts = {f"^overlay_{name}__": {"$ref": f"#/properties/overlay_{name}"} for name in ("layers", "images", "stacks")}
    in_place = _options(layer_in_place_spec(), documented["layers"].get("suboptions", {}))
    items = known["overlay_stacks"]["anyOf"][0]["items"]["anyOf"][0]["properties"]["layers"]["anyOf"][0]
    items["items"] = {"anyOf": [{"type": "string"}, in_place]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Variables of strata.overlay",
        "type": "object",
        "properties": known,
        "patternProperties": parts,
    }


def _option(spec: Mapping[str, Any], documented: Mapping[str, Any]) -> dict[str, Any]:
    found = _value(spec, documented)
    described = documented.get("description", [])
    message = {"description": "\n".join([described] if isinstance(described, str) else described)} if described else {}
    default = {"default": spec["default"]} if spec.get("default") not in (None, [], {}) else {}
    return {"anyOf": [found, TEMPLATE], **message, **default} if found else {**message, **default}


def _value(spec: Mapping[str, Any], documented: Mapping[str, Any]) -> dict[str, Any]:
    suboptions = documented.get("suboptions") or {}
    if spec["type"] == "list":
        inner = {**spec, "type": spec.get("elements", "raw")}
        inner.pop("default", None)
        value = _value(inner, documented)
        return {"type": "array", "items": {"anyOf": [value, TEMPLATE]} if value else {}}
    if spec.get("choices"):
        return {"enum": list(spec["choices"])}
    if "options" in spec:
        return _options(spec["options"], suboptions)
    return dict(_TYPES[spec["type"]])


def _options(options: Mapping[str, Any], documented: Documented) -> dict[str, Any]:
    required = [name for name, spec in options.items() if spec.get("required")]
    return {
        "type": "object",
        "properties": {name: _option(spec, documented.get(name, {})) for name, spec in options.items()},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }
