# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses one image. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits, read_limits
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import DIFF_ID
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import check_name
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform, parse_platform

_OF_ARCHIVES = ("reference", "remote_src")
_OF_REGISTRIES = ("username", "password", "auth_file", "ca_path", "ca", "mirrors")

_PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class RegistryAccess:
    """Access to a registry. ``password`` is a secret: no message and no repr contains it."""

    username: str = ""
    password: str = field(default="", repr=False)
    auth_file: str = ""
    ca_path: str = ""
    validate_certs: bool = True
    mirrors: tuple[str, ...] = ()
    ca: str = ""


@dataclass(frozen=True)
class ImageSpec:
    """One image as written. ``label`` is its name in messages and its key between controller and host.

    :ivar kind: ``src``, ``registry``, or ``""`` where the controller has read it already.
    :ivar location: path of the archive, or what was written as registry.
    :ivar on_host: read on the managed host and not on the controller.
    :ivar platform: None for the host's own.
    :ivar limits: of each layer's archive.
    """

    label: str
    name: str
    kind: str = ""
    location: str = ""
    on_host: bool = False
    reference: str = ""
    platform: Optional[Platform] = None
    digest: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    access: RegistryAccess = RegistryAccess()
    limits: Limits = UNLESS_SET
    absent: bool = False


def read_image(item: Mapping[str, Any], label: str, resolved: Sequence[str], errors: list[str]) -> ImageSpec:
    """An item whose options have been checked.

    :param resolved: ``label`` of the images that the controller has read already.
    """
    name = check_name(label, item["name"], errors)
    labels = {str(key): str(value) for key, value in (item["labels"] or {}).items()}
    absent = item["state"] == "absent"
    digest = item["digest"] or ""
    if digest and not DIFF_ID.match(digest):
        errors.append(f"{label}: option 'digest': {digest!r} must be 'sha256:' and 64 lower-case hexadecimal digits")
    kind = "" if absent or label in resolved else _kind(item, label, errors)
    on_host = kind == "registry" or item["remote_src"]
    if kind == "src" and on_host and not os.path.isabs(item["src"]):
        errors.append(f"{label}: option 'src': {item['src']!r} must be absolute, since remote_src is true")
    if kind == "registry":
        _check_registry(item, name, label, errors)
    return ImageSpec(
        label=label,
        name=name,
        kind=kind,
        location=item[kind] if kind else "",
        on_host=on_host,
        reference=item["reference"] or "",
        platform=_platform(item["platform"], label, errors),
        digest=digest,
        labels=labels,
        access=read_access(item, label, errors),
        limits=read_limits(item["limits"], label, errors),
        absent=absent,
    )


def _kind(item: Mapping[str, Any], label: str, errors: list[str]) -> str:
    given = [kind for kind in ("src", "registry") if item[kind] is not None]
    if len(given) != 1:
        found = "both are given" if given else "none is given"
        errors.append(f"{label}: exactly one of src and registry says where the image comes from; {found}")
        return ""
    others = _OF_ARCHIVES if given[0] == "registry" else _OF_REGISTRIES
    for key in others:
        if item[key]:
            errors.append(f"{label}: option '{key}' is of no use with {given[0]}; leave it out")
    return given[0]


def _check_registry(item: Mapping[str, Any], name: str, label: str, errors: list[str]) -> None:
    # Imported only when needed: most definitions name no registry.
    from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import parse_reference

    try:
        parse_reference(item["registry"], name or "app")
    except StrataError as error:
        errors.append(f"{label}: option 'registry': {error}")


def _check_mirrors(mirrors: Sequence[str], label: str, errors: list[str]) -> None:
    from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import parse_mirror

    for mirror in mirrors:
        try:
            parse_mirror(mirror)
        except StrataError as error:
            errors.append(f"{label}: option 'mirrors': {error}")


def _check_username(username: Optional[str], label: str, errors: list[str]) -> None:
    # Source: RFC 7617, 2: the first colon ends the user.
    if username is not None and (not username or ":" in username or not username.isprintable()):
        errors.append(f"{label}: option 'username' is empty, or has a colon or control characters; no login has that")


def _platform(text: Optional[str], label: str, errors: list[str]) -> Optional[Platform]:
    if text is None:
        return None
    try:
        return parse_platform(text)
    except ValueError as error:
        errors.append(f"{label}: option 'platform': {error}")
        return None


def read_access(item: Mapping[str, Any], label: str, errors: list[str]) -> RegistryAccess:
    """The options for access to a registry."""
    if (item["username"] is None) != (item["password"] is None):
        given, missing = ("username", "password") if item["password"] is None else ("password", "username")
        errors.append(f"{label}: option '{given}' is given without '{missing}'; a registry needs both")
    mirrors = item["mirrors"] or []
    if not all(isinstance(mirror, str) and mirror for mirror in mirrors):
        errors.append(f"{label}: option 'mirrors' must be a list of hosts, such as mirror.example.com:5000")
        mirrors = []
    _check_mirrors(mirrors, label, errors)
    _check_username(item["username"], label, errors)
    if item["ca"] and _PEM not in item["ca"]:
        errors.append(f"{label}: option 'ca' has no certificate in PEM form; a file of the host is given as 'ca_path'")
    if item["ca"] and item["ca_path"]:
        errors.append(f"{label}: options 'ca' and 'ca_path' are both given; give one of them")
    return RegistryAccess(
        username=item["username"] or "",
        password=item["password"] or "",
        auth_file=item["auth_file"] or "",
        ca_path=item["ca_path"] or "",
        validate_certs=item["validate_certs"],
        mirrors=tuple(mirrors),
        ca=item["ca"] or "",
    )
