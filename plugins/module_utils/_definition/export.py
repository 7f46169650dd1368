# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses the options of `state: exported`. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import image_module_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import check_root
from ansible_collections.strata.overlay.plugins.module_utils._definition.image import RegistryAccess, read_access
from ansible_collections.strata.overlay.plugins.module_utils._definition.image_name import familiar
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import check_name
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import parse_reference
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options

_OF_IMPORTS = ("src", "digest", "platform", "labels", "limits", "mirrors", "remote_src")


@dataclass(frozen=True)
class ExportSpec:
    """One export.

    :ivar name: of the image or layer in the store, where no stack is given.
    :ivar stack: whose layers are exported, "" for none; ``changes``: its writable layer too.
    :ivar tag: the image's name at the destination, with its tag.
    :ivar dest: path on the host, "" for a registry; ``form``: ``docker`` or ``oci``.
    :ivar config: what replaces parts of the image's config, such as ``Cmd``.
    """

    root: str
    timeout: float
    name: str
    stack: str
    changes: bool
    tag: str
    dest: str
    form: str
    registry: str
    config: Mapping[str, Any]
    access: RegistryAccess = field(default_factory=RegistryAccess)

    @property
    def label(self) -> str:
        """It, for messages."""
        return f"image {self.name}"


def read_export(parameters: Mapping[str, Any]) -> ExportSpec:
    """Parse the options. DefinitionError lists every mistake."""
    errors: list[str] = []
    given = {key: value for key, value in parameters.items() if key != "_controller"}
    options = check_options("", given, image_module_spec(), errors)
    label = f"image {options['name']}"
    name = check_name(label, options["name"], errors)
    for key in _OF_IMPORTS:
        if options[key]:
            errors.append(f"{label}: option '{key}' is of no use with state: exported; leave it out")
    if bool(options["dest"]) == bool(options["registry"]):
        found = "both are given" if options["dest"] else "none is given"
        errors.append(f"{label}: exactly one of dest and registry says where the image goes; {found}")
    if options["dest"] and not os.path.isabs(options["dest"]):
        errors.append(f"{label}: option 'dest': {options['dest']!r} must be an absolute path on the host")
    if options["registry"] and options["format"]:
        errors.append(f"{label}: option 'format' is of no use with registry; leave it out")
    if options["changes"] and not options["stack"]:
        errors.append(f"{label}: option 'changes' needs 'stack', whose changes they are")
    if options["stack"]:
        check_name(label, options["stack"], errors)
    return _checked(
        ExportSpec(
            root=check_root(options["root"], errors),
            timeout=float(options["lock_timeout"]),
            name=name,
            stack=options["stack"] or "",
            changes=bool(options["changes"]),
            tag=_tag(label, options["reference"] or name, errors),
            dest=os.path.normpath(options["dest"]) if options["dest"] else "",
            form=options["format"] or "docker",
            registry=options["registry"] or "",
            config=dict(options["config"] or {}),
            access=read_access(options, label, errors),
        ),
        errors,
    )


def _tag(label: str, name: str, errors: list[str]) -> str:
    found = familiar(name)
    if found is None or "@" in found.full:
        errors.append(
            f"{label}: {name!r} is no name that an image can have elsewhere, such as app:1.4; give one in 'reference'"
        )
        return ""
    return found.full


def _checked(spec: ExportSpec, errors: list[str]) -> ExportSpec:
    if spec.registry:
        try:
            reference = parse_reference(spec.registry, spec.tag or "x")
        except StrataError as error:
            errors.append(f"{spec.label}: option 'registry': {error}")
        else:
            if reference.digest:
                errors.append(f"{spec.label}: option 'registry': an image is pushed to a tag and not to a digest")
    if errors:
        raise DefinitionError(errors)
    return spec
