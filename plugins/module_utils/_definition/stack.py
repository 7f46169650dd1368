# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses one stack. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import MAX_LAYERS
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import stack_path
from ansible_collections.strata.overlay.plugins.module_utils._common.sizes import parse_size
from ansible_collections.strata.overlay.plugins.module_utils._common.value import Value
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import layer_in_place_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, check_name, read_layer
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import MountStyle, read_style
from ansible_collections.strata.overlay.plugins.module_utils._definition.service import Service
from ansible_collections.strata.overlay.plugins.module_utils._definition.services import read_services
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec

DEFAULT_GENERATIONS = 3
_NUMBER = re.compile(r"^[0-9]{1,9}\Z")


class Restack(NamedTuple):
    """A commit: the stack's writable layer becomes a layer on top of the others, with a new empty one above it.

    :ivar layer: its name.
    :ivar upper: path of the writable layer that was read.
    :ivar snapshot: of that tree when it was read, see `_layer/pack_overlay`.
    """

    layer: str
    upper: str
    snapshot: bytes


@dataclass(frozen=True, eq=False, repr=False)
class StackSpec(Value):
    """One stack as written; ``layers`` bottom first, each a name or a layer written in place.

    :ivar path: ``""`` where not given: the store's record says it.
    :ivar size: the most bytes that the writable layer may hold; 0 for no limit, and for half the memory of a volatile
        one.
    :ivar generation: the one to go back to, as a number or ``previous``; "" for none.
    :ivar left_out: options that were not given; a stack whose layers are left out too keeps what it has.
    :ivar restack: what a commit puts on top of the layers that it has; no user writes it.
    """

    name: str
    path: str
    layers: tuple[Union[str, LayerSpec], ...]
    writable: str
    size: int
    cover: bool
    on_busy: str
    generations: int
    state: str
    services: tuple[Service, ...] = ()
    health: Optional[HealthSpec] = None
    boot: bool = True
    on_change: str = "keep"
    generation: str = ""
    style: MountStyle = field(default_factory=MountStyle)
    driver: str = "auto"
    left_out: frozenset[str] = field(default=frozenset(), compare=False)
    restack: Optional[Restack] = None

    @property
    def label(self) -> str:
        return f"stack {self.name or self.path}"


def read_stack(item: Mapping[str, Any], label: str, resolved: Sequence[str], errors: list[str]) -> StackSpec:
    """An item whose options have been checked.

    :param resolved: ``label`` of the layers whose source the controller has resolved already.
    """
    name = check_name(label, item["name"], errors)
    layers = _layers(item, label, resolved, errors)
    if item["generations"] is not None and item["generations"] < 1:
        errors.append(f"{label}: option 'generations' must be at least 1, the one that is mounted")
    return StackSpec(
        name=name,
        path=stack_path(label, item["path"], errors),
        layers=layers,
        writable=item["writable"] or "none",
        size=_size(label, item, errors),
        cover=item["cover"],
        on_busy=item["on_busy"],
        generations=DEFAULT_GENERATIONS if item["generations"] is None else item["generations"],
        state=item["state"],
        services=_services(label, item["services"], errors),
        health=_health(label, item["health"], errors),
        boot=item["boot"] is not False,
        on_change=item["on_change"],
        generation=_generation(label, item, errors),
        style=read_style(item, label, errors),
        driver=item["driver"] or "auto",
        left_out=frozenset(key for key, value in item.items() if value is None),
    )


def _services(label: str, written: Any, errors: list[str]) -> tuple[Service, ...]:
    if not written:
        return ()
    return read_services(label, written, errors)


def _health(label: str, written: Any, errors: list[str]) -> Optional[HealthSpec]:
    if written is None:
        return None
    from ansible_collections.strata.overlay.plugins.module_utils._definition.health import read_health

    return read_health(label, written, errors)


def _generation(label: str, item: Mapping[str, Any], errors: list[str]) -> str:
    wanted = item["generation"]
    if wanted is None:
        return ""
    prefix = f"{label}: option 'generation'"
    if wanted != "previous" and not (_NUMBER.match(wanted) and int(wanted) > 0):
        errors.append(f"{prefix} must be previous or the number of a generation, not {wanted!r}")
    if item["layers"] is not None:
        errors.append(f"{prefix} brings back the layers that the stack had; leave out 'layers'")
    if item["state"] != "mounted":
        errors.append(f"{prefix} needs state: mounted")
    return str(wanted)


def _layers(
    item: Mapping[str, Any], label: str, resolved: Sequence[str], errors: list[str]
) -> tuple[Union[str, LayerSpec], ...]:
    written = item["layers"]
    if written is None or item["state"] == "absent":
        return ()
    if not written:
        errors.append(f"{label}: option 'layers' is empty; a stack needs at least one layer")
    if len(written) > MAX_LAYERS:
        errors.append(f"{label}: option 'layers' has {len(written)} layers; the kernel takes at most {MAX_LAYERS}")
    layers: list[Union[str, LayerSpec]] = []
    for number, entry in enumerate(written, 1):
        if isinstance(entry, str):
            layers.append(str(entry))
        elif isinstance(entry, Mapping):
            spot = f"{label}: layer {number}"
            layers.append(read_layer(check_options(spot, entry, layer_in_place_spec(), errors), spot, resolved, errors))
        else:
            errors.append(f"{label}: option 'layers': item {number} must be a layer's name or a layer, not {entry!r}")
    return tuple(layers)


def _size(label: str, item: Mapping[str, Any], errors: list[str]) -> int:
    if item["size"] is None:
        return 0
    size = parse_size(item["size"])
    if not size:
        errors.append(f"{label}: option 'size': {item['size']!r} must be a number of bytes such as 512m or 2g")
        return 0
    known = item["layers"] is None and item["writable"] is None
    if item["writable"] not in ("volatile", "persistent") and not known:
        errors.append(f"{label}: option 'size' needs writable: volatile or persistent; a read-only stack cannot grow")
    return size
