# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses a whole definition and reports every mistake at once. Pure."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import apply_module_spec, module_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, read_layer
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec, read_stack
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._definition.image import ImageSpec
    from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import PruneSpec

# Options of the whole run; all other options of `layer` and `stack` belong to their one item.
_RUN_OPTIONS = ("root", "lock_timeout", "exclusive", "stage", "_controller")

_SHORTEST_SECRET = 6


class Definition(NamedTuple):
    """Everything that one run is asked for."""

    root: str
    layers: tuple[LayerSpec, ...]
    stacks: tuple[StackSpec, ...]
    exclusive: bool = False
    images: tuple[ImageSpec, ...] = ()
    prune: Optional[PruneSpec] = None
    stage: bool = False

    def named(self) -> list[Union[LayerSpec, ImageSpec]]:
        """Everything whose name a stack's ``layers`` may hold."""
        return [*self.layers, *self.images]

    def sources(self) -> list[LayerSpec]:
        """Every layer that has a source: the named ones, then those written in place, in the order of the
        definition.
        """
        in_place = [item for stack in self.stacks for item in stack.layers if isinstance(item, LayerSpec)]
        return [layer for layer in self.layers if not layer.absent] + in_place

    def secrets(self) -> set[str]:
        """Texts that no message and no log may show.

        AnsibleModule replaces each of them wherever it finds it in a result: a header's value of one digit would
        spoil every digest. Nothing here puts a secret into a result, so very short ones can be left out.
        """
        headers = [text for stack in self.stacks if stack.health for text in stack.health.headers.values()]
        urls = [text for layer in self.sources() if layer.source.access for text in layer.source.access.secrets()]
        found = {*headers, *urls, *(image.access.password for image in self.images)}
        return {text for text in found if len(text) >= _SHORTEST_SECRET}


def controller_facts(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that the action plugin found on the controller; empty if the module runs without it.

    They are one string, since AnsibleModule walks every value in an option about six times.
    """
    found: dict[str, Any] = json.loads(parameters.get("_controller") or "{}")
    return found


def wrap(module: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of any module as parameters of ``apply``: ``layer``, ``image`` and ``stack`` are
    definitions of one item.
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    if module in ("apply", "plan"):
        return given
    run = {key: value for key, value in given.items() if key in _RUN_OPTIONS and key in module_spec(module)}
    item = {key: value for key, value in given.items() if key not in run}
    return {**run, f"{module}s": [item]}


def normalise(module: str, parameters: Mapping[str, Any], resolved: Sequence[str] = ()) -> tuple[Definition, list[str]]:
    """Parse a module's parameters: the definition of what is valid, and a message for every mistake.

    :param resolved: ``label`` of the layers whose source the controller has resolved already.
    """
    errors: list[str] = []
    options = check_options("", wrap(module, parameters), apply_module_spec(), errors)
    root = check_root(options["root"], errors)
    layers = tuple(
        read_layer(item, f"layer {item['name'] or number}", resolved, errors)
        for number, item in enumerate(options["layers"], 1)
    )
    images = _read_images(options["images"], resolved, errors)
    stacks = tuple(
        read_stack(item, f"stack {item['name'] or item['path'] or number}", resolved, errors)
        for number, item in enumerate(options["stacks"], 1)
    )
    _check_duplicates(layers, images, stacks, errors)
    _check_paths(root, stacks, errors)
    prune = _read_prune(options["prune"], errors)
    if options["stage"] and prune is not None:
        errors.append(
            "option 'prune' cannot go with stage, which only brings what is needed later; leave one of them out"
        )
    return Definition(root, layers, stacks, options["exclusive"], images, prune, options["stage"]), errors


# Many definitions have no images and no prune, so these modules are imported only when needed.


def _read_images(
    items: Sequence[Mapping[str, Any]], resolved: Sequence[str], errors: list[str]
) -> tuple[ImageSpec, ...]:
    if not items:
        return ()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.image import read_image

    return tuple(
        read_image(item, f"image {item['name'] or number}", resolved, errors) for number, item in enumerate(items, 1)
    )


def _read_prune(given: Optional[Mapping[str, Any]], errors: list[str]) -> Optional[PruneSpec]:
    if given is None:
        return None
    from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import read_prune

    return read_prune(given, "prune", errors)


def check_root(root: str, errors: list[str]) -> str:
    """The store's directory as a normal path."""
    if not os.path.isabs(root) or os.path.normpath(root) in ("/", "//") or any(ord(letter) < 32 for letter in root):
        errors.append(f"option 'root': {root!r} must be the absolute path of a directory of its own")
        return "/var/lib/strata"
    return os.path.normpath(root)


def _check_duplicates(
    layers: Sequence[LayerSpec], images: Sequence[ImageSpec], stacks: Sequence[StackSpec], errors: list[str]
) -> None:
    layer_names, image_names = [item.name for item in layers], [item.name for item in images]
    for name in sorted({*layer_names} & {*image_names} - {""}):
        errors.append(f"image {name}: option 'name' is the name of a layer too; each needs its own")
    for word, names in (("layer", layer_names), ("image", image_names), ("stack", [item.name for item in stacks])):
        for name, count in sorted(Counter(names).items()):
            if name and count > 1:
                errors.append(f"{word} {name}: option 'name' is used {count} times; each {word} needs its own")


def _check_paths(root: str, stacks: Sequence[StackSpec], errors: list[str]) -> None:
    placed = [stack for stack in stacks if stack.path and stack.state != "absent"]
    for stack in placed:
        if is_inside(stack.path, root):
            errors.append(f"{stack.label}: option 'path': {stack.path} lies inside the store {root}; choose another")
        elif is_inside(root, stack.path):
            errors.append(f"{stack.label}: option 'path': {stack.path} would cover the store {root}; choose another")
    ordered = sorted(placed, key=lambda stack: stack.path.split("/"))
    for lower, upper in zip(ordered, ordered[1:]):
        if lower.path == upper.path:
            errors.append(f"{upper.label}: option 'path': {upper.path} is the path of {lower.label} too")
    for index, stack in enumerate(ordered):
        for other in ordered[:index]:
            if stack.path != other.path and is_inside(stack.path, other.path):
                errors.append(
                    f"{stack.label}: option 'path': {stack.path} lies inside {other.path}, the path of {other.label}"
                )
