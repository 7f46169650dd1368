# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds as users write them, and what a store has -> which layers have to be built, each with its key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import check_name
from ansible_collections.strata.overlay.plugins.plugin_utils._roledigest import RoleFinder

LABEL = "strata.build"
"""Of a layer that was built: the key of what it was built from."""

CLEAN = (
    "/root/.ansible",
    "/tmp/*",
    "/var/tmp/*",
    "/var/cache/apt/*.bin",
    "/var/cache/apt/archives/*.deb",
    "/var/lib/apt/lists/*",
)
"""What a build leaves behind that no layer needs, as patterns of the shell."""

_NO_HOST_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_WAY_OF_BUILDING = 1
"""To be counted up when the same inputs come to another layer."""

_OPTIONS = ("name", "layers", "roles", "vars", "clean", "writable")
_WRITABLE = ("persistent", "volatile")


POLICY = "#!/bin/sh\n# No service is started while a layer is built.\nexit 101\n"


@dataclass(frozen=True)
class Place:
    """Where and how throw-away stacks are mounted.

    :ivar directory: on the build host.
    :ivar files: of a layer between the others and the writable one: the build sees them, and no layer has them.
    """

    directory: str
    files: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Build:
    """One layer to be built by roles.

    :ivar layers: names, bottom first; the built layer goes above them.
    :ivar roles: names in collections, else paths.
    :ivar writable: what the throw-away stack writes into; see the option of stacks.
    :ivar current: the store has the layer, built from the same.
    """

    name: str
    layers: tuple[str, ...]
    roles: tuple[str, ...]
    vars: Mapping[str, Any]
    clean: tuple[str, ...]
    writable: str
    key: str
    current: bool

    def facts(self, place: Place) -> dict[str, Any]:
        """As the lookup gives it."""
        facts = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        # The key, since a name may hold slashes, and may be as long as a path's component may not.
        short = self.key.partition(":")[2][:16]
        directory = f"{place.directory}/{short}"
        host = f"build-{_NO_HOST_NAME.sub('-', self.name)}-{short[:6]}"
        stack = {
            "name": f"build-{self.name}",
            "path": f"{directory}/tree",
            "layers": [*self.layers, {"files": _scaffold(place.files)}],
            "writable": self.writable,
            "boot": False,
        }
        gone = {"name": stack["name"], "state": "absent"}
        return {**facts, "host": host, "directory": directory, "stack": stack, "gone": gone}


def _scaffold(files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What a tree needs so that commands run in it, where it lacks it."""
    own: list[Mapping[str, Any]] = [{"path": name, "state": "directory"} for name in ("dev", "proc", "run", "sys")]
    own.append({"path": "usr/sbin/policy-rc.d", "content": POLICY, "mode": "0755"})
    given = {str(item.get("path", "")).strip("/") for item in files}
    return [*(item for item in own if item["path"] not in given), *files]


def names_of(store: Sequence[Mapping[str, Any]], below: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Names with their ``diff_ids`` and ``labels``.

    :param store: what `store_info` tells of the build host's store.
    :param below: what `apply` in check mode has returned for what builds may name.
    """
    planned = {name: {"diff_ids": diff_ids} for name, diff_ids in (below.get("layers") or {}).items()}
    images = {name: {"diff_ids": image.get("diff_ids") or []} for name, image in (below.get("images") or {}).items()}
    known = {str(name["name"]): name for name in store}
    # What is defined counts, and of what is there only the labels: those of a layer that was built say of what.
    labels = {name: {"labels": each.get("labels")} for name, each in known.items()}
    return {**known, **{name: {**each, **labels.get(name, {})} for name, each in {**planned, **images}.items()}}


def plan_builds(written: Sequence[Any], known: Mapping[str, Mapping[str, Any]], finder: RoleFinder) -> list[Build]:
    """Check all builds and find out what is to be done.

    :param known: as from ``names_of``.
    :raises StrataError: every mistake, one a line.
    """
    errors: list[str] = []
    built = [str(item.get("name")) for item in written if isinstance(item, Mapping)]
    builds = [_read(item, number, known, built, finder, errors) for number, item in enumerate(written, 1)]
    errors += [f"build {name}: it is defined more than once" for name in sorted(set(built)) if built.count(name) > 1]
    if errors:
        raise StrataError("\n".join(errors))
    return [build for build in builds if build]


def _read(
    item: Any,
    number: int,
    known: Mapping[str, Mapping[str, Any]],
    built: Sequence[str],
    finder: RoleFinder,
    errors: list[str],
) -> Build | None:
    if not isinstance(item, Mapping):
        errors.append(f"build {number}: it must be a dictionary with name, layers and roles, not {item!r}")
        return None
    label = f"build {item.get('name') or number}"
    before = len(errors)
    for key in item:
        if key not in _OPTIONS:
            errors.append(f"{label}: option '{key}' is not known; there are {', '.join(_OPTIONS)}")
    name = check_name(label, str(item.get("name") or ""), errors)
    layers = _texts(item, "layers", label, errors)
    roles = _texts(item, "roles", label, errors)
    clean = _texts(item, "clean", label, errors) if item.get("clean") is not None else CLEAN
    variables = item.get("vars") or {}
    if not isinstance(variables, Mapping):
        errors.append(f"{label}: option 'vars' must be a dictionary")
    writable = str(item.get("writable") or _WRITABLE[0])
    if writable not in _WRITABLE:
        errors.append(f"{label}: option 'writable' must be one of {', '.join(_WRITABLE)}, not {writable!r}")
    _check_layers(label, layers, known, built, errors)
    found = _find_roles(label, roles, finder, errors)
    if len(errors) > before:
        return None
    below = [diff_id for layer in layers for diff_id in known[layer]["diff_ids"]]
    key = _key(below, [role["digest"] for role in found], variables, clean)
    paths = tuple(name if _in_collection(name) else role["path"] for name, role in zip(roles, found, strict=True))
    labels = known[name].get("labels") or {} if name in known else {}
    return Build(name, layers, paths, dict(variables), clean, writable, key, labels.get(LABEL) == key)


def _texts(item: Mapping[str, Any], option: str, label: str, errors: list[str]) -> tuple[str, ...]:
    value = item.get(option)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        errors.append(f"{label}: option '{option}' must be a list of names, with at least one")
        return ()
    return tuple(str(each) for each in value)


def _check_layers(
    label: str,
    layers: Sequence[str],
    known: Mapping[str, Any],
    built: Sequence[str],
    errors: list[str],
) -> None:
    for layer in layers:
        if layer in built:
            errors.append(
                f"{label}: option 'layers': '{layer}' is built by the same run; build it by a run of its own first, "
                "with only that build in overlay_builds"
            )
        elif layer not in known:
            errors.append(
                f"{label}: option 'layers': the build host has no layer or image '{layer}'; define it in "
                "overlay_layers or overlay_images"
            )


def _find_roles(label: str, roles: Sequence[str], finder: RoleFinder, errors: list[str]) -> list[dict[str, str]]:
    found = []
    for role in roles:
        try:
            found.append(finder.facts(role))
        except StrataError as error:
            errors.append(f"{label}: option 'roles': {error}")
    return found


def _in_collection(role: str) -> bool:
    return role.count(".") >= 2 and "/" not in role


def _key(below: Sequence[str], roles: Sequence[str], variables: Mapping[str, Any], clean: Sequence[str]) -> str:
    parts = [_WAY_OF_BUILDING, below, roles, variables, clean]
    # What Ansible's templates make of values is of types of its own; all of them can be written as text.
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
