# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Resolves a definition to the desired state: names as chains, stacks as lists of DiffIDs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits, least_reserve
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import copy_id, is_whole, shown_chain
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import STYLE_OPTIONS
from ansible_collections.strata.overlay.plugins.module_utils._definition.service import Service, recorded_services
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import unknown_layer
from ansible_collections.strata.overlay.plugins.module_utils._plan.driver import Drivers, choose_driver, needs_driver
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, StackRecord

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._image.image import ImageOrigin


class Known(NamedTuple):
    """What the store remembers: every name, and every stack's record.

    :ivar detached_uppers: writable layers that stacks have left, as the records of these were then.
    """

    names: Mapping[str, NameRecord]
    stacks: Mapping[str, StackRecord]
    detached_uppers: tuple[StackRecord, ...] = ()


class DesiredStack(NamedTuple):
    """A stack with its chain. ``spec.path`` is filled in, from the record where the user left it out.

    :ivar back_to: number of the generation whose chain it is, where the user asked to go back; else 0.
    :ivar driver: one of those in `_plan/driver`; ``driver_reason`` says why it is this one.
    :ivar limits: of the copy that it is, where it is one.
    """

    spec: StackSpec
    diff_ids: tuple[str, ...]
    layers: tuple[str, ...]
    back_to: int = 0
    driver: str = "overlay"
    driver_reason: str = ""
    limits: Limits = UNLESS_SET

    @property
    def shown(self) -> tuple[str, ...]:
        """The chain that is mounted, see ``shown_chain``."""
        return shown_chain(self.driver, self.spec.writable, self.diff_ids)

    @property
    def whole(self) -> bool:
        """Whether its writable layer is the whole tree, see ``is_whole``."""
        return is_whole(self.driver, self.spec.writable)

    @property
    def needs_driver(self) -> bool:
        """Whether it is of any account which driver shows it."""
        return needs_driver(len(self.diff_ids), self.spec.writable)

    def begins_anew(self, before: StackRecord) -> bool:
        """Whether a change to these layers leaves behind what was written above those on record."""
        return self.spec.on_change == "reset" and before.diff_ids != self.diff_ids


class Desired(NamedTuple):
    """What one run is to bring about.

    :ivar dropped_names: names to forget.
    :ivar dropped_stacks: stacks to take down: name -> whether to detach one that is busy.
    :ivar origins: where each content can be had, by DiffID; those present already among them.
    :ivar images: of the names that are images, where each comes from.
    :ivar dropped_services: services of the dropped stacks.
    :ivar stage: only what is slow is to be done, and nothing that anybody could see.
    :ivar returning: stacks that go back to what they were, since the change before did not work.
    """

    names: Mapping[str, NameRecord]
    dropped_names: tuple[str, ...]
    stacks: tuple[DesiredStack, ...]
    dropped_stacks: Mapping[str, bool]
    origins: Mapping[str, Origin]
    images: Mapping[str, ImageOrigin] = MappingProxyType({})
    dropped_services: Mapping[str, tuple[Service, ...]] = MappingProxyType({})
    stage: bool = False
    returning: frozenset[str] = frozenset()

    def chains(self) -> list[tuple[str, ...]]:
        """Every chain whose layers have to be there: of the stacks, and of the images, which Docker wants whole."""
        named = [record.diff_ids for record in self.names.values() if record.image_id]
        stacks = [chain for stack in self.stacks for chain in (stack.diff_ids, stack.shown)]
        return list(dict.fromkeys(stacks + named))

    def has_services(self) -> bool:
        """Whether anything has to be done, or asked, around the change of a stack."""
        return bool(self.dropped_services) or any(stack.spec.services or stack.spec.health for stack in self.stacks)


def desire(
    definition: Definition,
    origins: Mapping[str, Origin],
    known: Known,
    errors: list[str],
    images: Optional[Mapping[str, ImageOrigin]] = None,
    drivers: Optional[Drivers] = None,
) -> Desired:
    """Resolve names to chains; what cannot be resolved is reported in ``errors`` and left out.

    :param origins: by the layer's ``label``.
    :param images: by the image's ``label``.
    :param drivers: what stacks can have here; None where that does not matter, as in a look for mistakes.
    """
    names = {
        layer.name: NameRecord(
            layer.name, (origins[layer.label].diff_id,), dict(layer.labels), origins[layer.label].description
        )
        for layer in definition.layers
        if layer.label in origins
    }
    found = {spec.name: images[spec.label] for spec in definition.images if images and spec.label in images}
    labels = {spec.name: spec.labels for spec in definition.images}
    names.update({name: _image_record(name, labels[name], image) for name, image in found.items()})
    by_diff_id = {origin.diff_id: origin for image in found.values() for origin in image.origins()}
    by_diff_id.update({origin.diff_id: origin for origin in origins.values()})
    resolver = _Chains(definition, names, origins, known)
    found_stacks = [stack for stack in (resolver.stack(spec, errors) for spec in definition.stacks) if stack]
    stacks = [_with_driver(_with_limits(stack, by_diff_id), known, drivers) for stack in found_stacks]
    by_diff_id.update({stack.shown[0]: copied(stack) for stack in stacks if stack.shown != stack.diff_ids})
    dropped_stacks = _dropped_stacks(definition, known)
    _check_known_paths(stacks, known, dropped_stacks, errors)
    return Desired(
        names=names,
        dropped_names=_dropped_names(definition, known),
        stacks=tuple(stacks),
        dropped_stacks=dropped_stacks,
        origins=by_diff_id,
        images=found,
        dropped_services=_dropped_services(definition, known, dropped_stacks),
        stage=definition.stage,
    )


def _with_limits(stack: DesiredStack, origins: Mapping[str, Origin]) -> DesiredStack:
    given = [origins[each].source.limits for each in stack.diff_ids if each in origins]
    return stack._replace(limits=least_reserve(given))


def _with_driver(stack: DesiredStack, known: Known, drivers: Optional[Drivers]) -> DesiredStack:
    if drivers is None:
        return stack
    record = known.stacks.get(stack.spec.name)
    driver, reason = choose_driver(stack.spec, len(stack.diff_ids), record, drivers)
    return stack._replace(driver=driver, driver_reason=reason)


def copied(stack: DesiredStack) -> Origin:
    """Where the copy of a stack's layers comes from."""
    message = f"the layers {', '.join(stack.layers)}"
    diff_id = copy_id(stack.diff_ids, stack.spec.name if stack.whole else "")
    return Origin(diff_id, 0, message, Source("", limits=stack.limits), label=stack.spec.label, chain=stack.diff_ids)


def _image_record(name: str, labels: Mapping[str, str], origin: ImageOrigin) -> NameRecord:
    image = origin.image
    return NameRecord(name, image.diff_ids, dict(labels), origin.description, image.image_id, image.manifest_digest)


class _Chains:
    def __init__(
        self, definition: Definition, names: Mapping[str, NameRecord], origins: Mapping[str, Origin], known: Known
    ) -> None:
        named = definition.named()
        self._defined = {item.name for item in named if not item.absent}
        # A layer that the definition takes away cannot be used by it.
        self._gone = {item.name for item in named if item.absent}
        self._names = names
        self._origins = origins
        self._known = known

    def stack(self, spec: StackSpec, errors: list[str]) -> Optional[DesiredStack]:
        """The stack with its chain; None for one that goes away or is not usable."""
        if spec.state == "absent":
            return None
        record = self._known.stacks.get(spec.name)
        if not spec.layers and record:
            spec = _as_recorded(spec, record)
            if spec.generation:
                return _back(spec, record, errors)
            if spec.restack:
                added = self._chain(spec, spec.restack.layer, errors)
                layers = (*record.layers, spec.restack.layer)
                return DesiredStack(spec, (*record.diff_ids, *added), layers) if added else None
            return DesiredStack(spec, record.diff_ids, record.layers)
        if not spec.layers or not (spec.path or record):
            self._report_missing(spec, record, errors)
            return None
        chains = [self._chain(spec, item, errors) for item in spec.layers]
        if not all(chains):
            return None
        diff_ids = tuple(diff_id for chain in chains for diff_id in chain)
        layers = tuple(item if isinstance(item, str) else item.name or "(in place)" for item in spec.layers)
        return DesiredStack(_with_path(spec, record), diff_ids, layers)

    def _report_missing(self, spec: StackSpec, record: Optional[StackRecord], errors: list[str]) -> None:
        missing = [name for name, value in (("path", spec.path), ("layers", spec.layers)) if not value]
        for name in missing:
            text = f"{spec.label}: option '{name}' is missing, and the store knows no stack of this name yet"
            # Wrong options have been reported already.
            if not record and not any(problem.startswith(f"{spec.label}: option '{name}'") for problem in errors):
                errors.append(text)

    def _chain(self, spec: StackSpec, item: str | LayerSpec, errors: list[str]) -> Sequence[str]:
        if isinstance(item, LayerSpec):
            origin = self._origins.get(item.label)
            return (origin.diff_id,) if origin else ()
        record = self._names.get(item) or (None if item in self._gone else self._known.names.get(item))
        if record is not None:
            return record.diff_ids
        # A defined layer that could not be read has been reported already.
        if item not in self._defined:
            errors.append(unknown_layer(spec.label, item, {*self._names, *self._known.names} - self._gone))
        return ()


def _as_recorded(spec: StackSpec, record: StackRecord) -> StackSpec:
    """A stack that is named without its layers: what was left out stays as it is on record."""
    left_out = spec.left_out
    kept = {
        name: getattr(record.style, name)
        for option, names in STYLE_OPTIONS.items()
        if option in left_out
        for name in names
    }
    return replace(
        spec,
        path=spec.path or record.path,
        writable=record.writable if "writable" in left_out else spec.writable,
        driver=record.driver if "driver" in left_out else spec.driver,
        size=record.size if {"size", "writable"} <= left_out else spec.size,
        generations=record.keep if "generations" in left_out else spec.generations,
        style=replace(spec.style, **kept),
        services=recorded_services(record.services) if "services" in left_out else spec.services,
        boot=record.boot if "boot" in left_out else spec.boot,
    )


def _back(spec: StackSpec, record: StackRecord, errors: list[str]) -> Optional[DesiredStack]:
    """The stack with the chain of one of its generations. ``previous`` is the one before the last that a definition
    asked for, so that going back twice is the same as once.
    """
    current = record.history[0]
    if current.back_to and spec.generation in ("previous", str(current.back_to)):
        # It has gone back already; the generation that it went back to may be kept no more.
        return DesiredStack(spec, current.diff_ids, current.layers)
    numbers = [generation.number for generation in record.history]
    wanted = numbers[1] if spec.generation == "previous" and len(numbers) > 1 else 0
    if spec.generation != "previous":
        wanted = int(spec.generation)
    for generation in record.history:
        if generation.number == wanted:
            return DesiredStack(spec, generation.diff_ids, generation.layers, wanted)
    prefix = f"{spec.label}: option 'generation': the stack has no "
    there = ", ".join(f"{entry.number} ({', '.join(entry.layers)})" for entry in record.history)
    what = "generation before this one" if spec.generation == "previous" else f"generation {spec.generation}"
    errors.append(f"{prefix}{what}; there {'are' if len(numbers) > 1 else 'is'}: {there}")
    return None


def _with_path(spec: StackSpec, record: Optional[StackRecord]) -> StackSpec:
    return replace(spec, path=spec.path or (record.path if record else ""))


def _dropped_names(definition: Definition, known: Known) -> tuple[str, ...]:
    named = definition.named()
    gone = {item.name for item in named if item.absent}
    if definition.exclusive:
        gone |= set(known.names) - {item.name for item in named}
    return tuple(sorted(name for name in gone if name in known.names))


def _dropped_stacks(definition: Definition, known: Known) -> dict[str, bool]:
    gone = {stack.name: stack.on_busy == "detach" for stack in definition.stacks if stack.state == "absent"}
    if definition.exclusive:
        kept = {stack.name for stack in definition.stacks}
        gone.update({name: False for name in known.stacks if name not in kept})
    return {name: gone[name] for name in sorted(gone) if name in known.stacks}


def _dropped_services(
    definition: Definition, known: Known, dropped: Mapping[str, bool]
) -> dict[str, tuple[Service, ...]]:
    """By stack: those that the definition still names, else those on record."""
    named = {stack.name: stack.services for stack in definition.stacks if stack.services}
    return {name: named.get(name) or recorded_services(known.stacks[name].services) for name in dropped}


def _check_known_paths(
    stacks: Sequence[DesiredStack], known: Known, dropped: Mapping[str, bool], errors: list[str]
) -> None:
    """Paths of this definition against those of stacks that stay though it does not name them."""
    named = {stack.spec.name for stack in stacks}
    others: dict[str, str] = {
        record.path: name for name, record in known.stacks.items() if name not in named and name not in dropped
    }
    for stack in stacks:
        for path, name in others.items():
            if is_inside(stack.spec.path, path) or is_inside(path, stack.spec.path):
                errors.append(
                    f"{stack.spec.label}: option 'path': {stack.spec.path} and {path}, the path of stack {name} in the "
                    "store, are the same or one inside the other"
                )
