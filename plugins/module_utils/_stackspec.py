# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One stack as users may write it -> its parts, with every mistake in it. Nothing here looks at a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Sequence, Tuple, Union

from ansible_collections.strata.overlay.plugins.module_utils._argspec import layer_in_place_spec
from ansible_collections.strata.overlay.plugins.module_utils._chain import MAX_LAYERS
from ansible_collections.strata.overlay.plugins.module_utils._layerspec import LayerSpec, check_name, read_layer
from ansible_collections.strata.overlay.plugins.module_utils._pathname import stack_path
from ansible_collections.strata.overlay.plugins.module_utils._size import parse_size
from ansible_collections.strata.overlay.plugins.module_utils._validate import check_options


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


def read_stack(item: Mapping[str, Any], where: str, resolved: Sequence[str], problems: List[str]) -> StackSpec:
    """An item whose options have been checked.

    :param resolved: ``where`` of the layers whose source the controller has resolved already.
    """
    name = check_name(where, item["name"], problems)
    layers = _layers(item, where, resolved, problems)
    if item["generations"] < 1:
        problems.append(f"{where}: option 'generations' must be at least 1, the one that is mounted")
    return StackSpec(
        name=name,
        path=stack_path(where, item["path"], problems),
        layers=layers,
        writable=item["writable"],
        size=_size(where, item, problems),
        cover=item["cover"],
        on_busy=item["on_busy"],
        generations=item["generations"],
        state=item["state"],
    )


def _layers(
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
            layers.append(
                read_layer(check_options(spot, entry, layer_in_place_spec(), problems), spot, resolved, problems)
            )
        else:
            problems.append(f"{where}: option 'layers': item {number} must be a layer's name or a layer, not {entry!r}")
    return tuple(layers)


def _size(where: str, item: Mapping[str, Any], problems: List[str]) -> int:
    if item["size"] is None:
        return 0
    size = parse_size(item["size"])
    if size is None:
        problems.append(f"{where}: option 'size': {item['size']!r} must be a number of bytes such as 512m or 2g")
        return 0
    if item["writable"] != "volatile":
        problems.append(
            f"{where}: option 'size' needs writable: volatile; a limit for '{item['writable']}' is not supported"
        )
    return size
