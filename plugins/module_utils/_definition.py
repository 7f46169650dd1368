# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What users may write -> a definition, with every mistake in it found at once. Nothing here looks at a host."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union
from urllib.parse import quote

from ansible_collections.strata.overlay.plugins.module_utils._argspec import (
    apply_module_spec,
    layer_in_place_spec,
    module_spec,
)
from ansible_collections.strata.overlay.plugins.module_utils._chain import DIFF_ID, MAX_LAYERS
from ansible_collections.strata.overlay.plugins.module_utils._inline import InlineFile, inline_files
from ansible_collections.strata.overlay.plugins.module_utils._validate import check_options

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:@+/-]{0,199}\Z")
_SIZE = re.compile(r"^([0-9]{1,18})([kmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_LONGEST_FILE_NAME = 240
_SOURCES = ("src", "url", "dir", "files")
# What makes up the run as a whole; every other option of `layer` and `stack` belongs to their one item.
_RUN_OPTIONS = ("root", "lock_timeout", "exclusive", "_controller")


@dataclass(frozen=True)
class Source:
    """Where a layer's tar comes from.

    :ivar kind: ``src``, ``url``, ``dir``, ``files``, or ``""`` where the controller has resolved it already.
    :ivar location: path or URL, ``""`` for inline files.
    :ivar on_host: read on the managed host and not on the controller.
    """

    kind: str
    location: str = ""
    on_host: bool = False
    files: Tuple[InlineFile, ...] = ()


@dataclass(frozen=True)
class LayerSpec:
    """One layer as written. ``where`` is its name in messages and its key between controller and host."""

    where: str
    name: str
    source: Source
    digest: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    absent: bool = False


@dataclass(frozen=True)
class StackSpec:
    """One stack as written; ``layers`` bottom first, each a name or a layer written in place.

    :ivar path: ``""`` where not given: the store's record says it.
    :ivar size: bytes of a volatile layer's file system, 0 for the kernel's default of half the memory.
    """

    name: str
    path: str
    layers: Tuple[Union[str, LayerSpec], ...]
    writable: str
    size: int
    cover: bool
    on_busy: str
    generations: int
    state: str

    @property
    def where(self) -> str:
        return f"stack {self.name or self.path}"


@dataclass(frozen=True)
class Definition:
    """All that one run is to bring about."""

    root: str
    layers: Tuple[LayerSpec, ...]
    stacks: Tuple[StackSpec, ...]
    exclusive: bool = False

    def sources(self) -> List[LayerSpec]:
        """Every layer that has a source: the named ones, then those written in place, in the order of the
        definition.
        """
        in_place = [item for stack in self.stacks for item in stack.layers if isinstance(item, LayerSpec)]
        return [layer for layer in self.layers if not layer.absent] + in_place


def wrap(module: str, parameters: Mapping[str, Any]) -> Dict[str, Any]:
    """The parameters of any module as parameters of ``apply``: ``layer`` and ``stack`` are definitions of one item."""
    given = {key: value for key, value in parameters.items() if value is not None}
    if module in ("apply", "plan"):
        return given
    run = {key: value for key, value in given.items() if key in _RUN_OPTIONS and key in module_spec(module)}
    item = {key: value for key, value in given.items() if key not in run}
    return {**run, f"{module}s": [item]}


def normalise(module: str, parameters: Mapping[str, Any], resolved: Sequence[str] = ()) -> Tuple[Definition, List[str]]:
    """A module's parameters -> the definition of what is right in them, and every mistake in words.

    :param resolved: ``where`` of the layers whose source the controller has resolved already.
    """
    problems: List[str] = []
    options = check_options("", wrap(module, parameters), apply_module_spec(), problems)
    root = _check_root(options["root"], problems)
    layers = tuple(
        _layer(item, f"layer {item['name'] or number}", resolved, problems)
        for number, item in enumerate(options["layers"], 1)
    )
    stacks = tuple(
        _stack(item, f"stack {item['name'] or item['path'] or number}", resolved, problems)
        for number, item in enumerate(options["stacks"], 1)
    )
    _check_duplicates(layers, stacks, problems)
    _check_paths(root, stacks, problems)
    return Definition(root, layers, stacks, options["exclusive"]), problems


def _check_root(root: str, problems: List[str]) -> str:
    if not os.path.isabs(root) or os.path.normpath(root) in ("/", "//") or any(ord(letter) < 32 for letter in root):
        problems.append(f"option 'root': {root!r} must be the absolute path of a directory of its own")
        return "/var/lib/strata"
    return os.path.normpath(root)


def _check_name(where: str, name: Any, problems: List[str]) -> str:
    if name is None:
        return ""
    # The name of its record is the name with / : @ + written as %2F and so on.
    if not _NAME.match(name) or len(quote(name, safe="")) > _LONGEST_FILE_NAME:
        problems.append(
            f"{where}: option 'name': {name!r} must begin with a letter or digit and hold only letters, digits "
            "and . _ : @ + / - (at most 200)"
        )
    return str(name)


def _layer(item: Mapping[str, Any], where: str, resolved: Sequence[str], problems: List[str]) -> LayerSpec:
    name = _check_name(where, item["name"], problems)
    absent = item.get("state") == "absent"
    digest = item["digest"] or ""
    if digest and not DIFF_ID.match(digest):
        problems.append(f"{where}: option 'digest': {digest!r} must be 'sha256:' and 64 lower-case hexadecimal digits")
    labels = {str(key): str(value) for key, value in (item["labels"] or {}).items()}
    source = Source("") if absent else _source(item, where, resolved, problems)
    return LayerSpec(where, name, source, digest, labels, absent)


def _source(item: Mapping[str, Any], where: str, resolved: Sequence[str], problems: List[str]) -> Source:
    given = [kind for kind in _SOURCES if item[kind] is not None]
    if where in resolved:
        return Source("")
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "none is given"
        problems.append(f"{where}: exactly one of src, url, dir, files says where the layer comes from; {found}")
        return Source("")
    kind = given[0]
    if kind == "files":
        return Source(kind, files=inline_files(where, item["files"], problems))
    location = item[kind]
    if kind == "url" and not re.match(r"^(https?|file)://", location):
        problems.append(f"{where}: option 'url': {location!r} must begin with https://, http:// or file://")
    on_host = kind == "url" or item["remote_src"]
    if on_host and kind != "url" and not os.path.isabs(location):
        problems.append(f"{where}: option '{kind}': {location!r} must be absolute, since remote_src is true")
    return Source(kind, location, on_host)


def _stack(item: Mapping[str, Any], where: str, resolved: Sequence[str], problems: List[str]) -> StackSpec:
    name = _check_name(where, item["name"], problems)
    layers = _stack_layers(item, where, resolved, problems)
    if item["generations"] < 1:
        problems.append(f"{where}: option 'generations' must be at least 1, the one that is mounted")
    return StackSpec(
        name=name,
        path=_check_path(where, item["path"], problems),
        layers=layers,
        writable=item["writable"],
        size=_size(where, item, problems),
        cover=item["cover"],
        on_busy=item["on_busy"],
        generations=item["generations"],
        state=item["state"],
    )


def _stack_layers(
    item: Mapping[str, Any], where: str, resolved: Sequence[str], problems: List[str]
) -> Tuple[Union[str, LayerSpec], ...]:
    written = item["layers"]
    if written is None or item["state"] == "absent":
        return ()
    if not written:
        problems.append(f"{where}: option 'layers' is empty; a stack needs at least one layer")
    if len(written) > MAX_LAYERS:
        problems.append(f"{where}: option 'layers' has {len(written)} layers; the kernel takes at most {MAX_LAYERS}")
    layers: List[Union[str, LayerSpec]] = []
    for number, entry in enumerate(written, 1):
        if isinstance(entry, str):
            layers.append(str(entry))
        elif isinstance(entry, Mapping):
            spot = f"{where}: layer {number}"
            layers.append(_layer(check_options(spot, entry, layer_in_place_spec(), problems), spot, resolved, problems))
        else:
            problems.append(f"{where}: option 'layers': item {number} must be a layer's name or a layer, not {entry!r}")
    return tuple(layers)


def _check_path(where: str, path: Any, problems: List[str]) -> str:
    if path is None:
        return ""
    text = str(path)
    clean = os.path.normpath(text)
    if not os.path.isabs(text):
        problems.append(f"{where}: option 'path': {text!r} must be absolute, beginning with /")
    elif clean.strip("/") == "":
        problems.append(f"{where}: option 'path': a stack can't be mounted over /; name a directory below it")
    elif ".." in text.split("/"):
        problems.append(f"{where}: option 'path': {text!r} must not hold '..'")
    elif any(ord(letter) < 32 for letter in text):
        problems.append(f"{where}: option 'path': {text!r} must not hold control characters")
    else:
        return "/" + clean.lstrip("/")
    return ""


def _size(where: str, item: Mapping[str, Any], problems: List[str]) -> int:
    if item["size"] is None:
        return 0
    match = _SIZE.match(str(item["size"]).strip())
    if not match or int(match.group(1)) == 0:
        problems.append(f"{where}: option 'size': {item['size']!r} must be a number of bytes such as 512m or 2g")
        return 0
    if item["writable"] != "volatile":
        problems.append(
            f"{where}: option 'size' needs writable: volatile; a limit for '{item['writable']}' is not supported"
        )
    power: int = " kmgt".index(match.group(2).lower() or " ")
    return int(match.group(1)) * int(1024**power)


def _check_duplicates(layers: Sequence[LayerSpec], stacks: Sequence[StackSpec], problems: List[str]) -> None:
    for word, names in (("layer", [item.name for item in layers]), ("stack", [item.name for item in stacks])):
        for name in sorted({name for name in names if name and names.count(name) > 1}):
            problems.append(
                f"{word} {name}: option 'name' is used {names.count(name)} times; each {word} needs its own"
            )


def is_inside(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or lies below it; both absolute and clean."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _check_paths(root: str, stacks: Sequence[StackSpec], problems: List[str]) -> None:
    placed = [stack for stack in stacks if stack.path and stack.state != "absent"]
    for stack in placed:
        if is_inside(stack.path, root):
            problems.append(f"{stack.where}: option 'path': {stack.path} lies inside the store {root}; choose another")
        elif is_inside(root, stack.path):
            problems.append(f"{stack.where}: option 'path': {stack.path} would cover the store {root}; choose another")
    ordered = sorted(placed, key=lambda stack: stack.path.split("/"))
    for lower, upper in zip(ordered, ordered[1:]):
        if lower.path == upper.path:
            problems.append(f"{upper.where}: option 'path': {upper.path} is the path of {lower.where} too")
    for index, stack in enumerate(ordered):
        for other in ordered[:index]:
            if stack.path != other.path and is_inside(stack.path, other.path):
                problems.append(
                    f"{stack.where}: option 'path': {stack.path} lies inside {other.path}, the path of {other.where}"
                )
