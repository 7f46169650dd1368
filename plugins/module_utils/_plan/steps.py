# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Step types for the store and its mounts, each with its description and bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import short
from ansible_collections.strata.overlay.plugins.module_utils._common.value import Value
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import Restack
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import DesiredStack
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LayerLink
from ansible_collections.strata.overlay.plugins.module_utils._store.records import Generation, NameRecord, StackRecord

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._image.image import ImageOrigin


@dataclass(frozen=True, eq=False, repr=False)
class Step(Value):
    """One change. Every step is crash-safe: it may be interrupted at any moment and repeated by the next run."""

    @property
    def action(self) -> str:
        """The kind of step in snake case, such as ``import_content``."""
        name = type(self).__name__
        return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")

    @property
    def object(self) -> str:
        """What it is done to: ``layer app``, ``stack web``, a DiffID."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Bytes of file contents that it writes; 0 for records alone."""
        return 0

    def describe(self) -> str:
        """The step as a sentence without its full stop."""
        raise NotImplementedError

    def result(self) -> dict[str, Any]:
        """The step as modules return it."""
        return {"action": self.action, "object": self.object, "text": self.describe(), "bytes": self.bytes}


@dataclass(frozen=True, eq=False, repr=False)
class CreateStore(Step):
    """Make the directories of a new store."""

    root: str

    @property
    def object(self) -> str:
        return f"store {self.root}"

    def describe(self) -> str:
        return f"create the store {self.root}"


@dataclass(frozen=True, eq=False, repr=False)
class ImportContent(Step):
    """Unpack a diff that the store has not."""

    origin: Origin

    @property
    def object(self) -> str:
        return self.origin.diff_id

    @property
    def bytes(self) -> int:
        return self.origin.size

    def describe(self) -> str:
        verb = "copy" if self.origin.chain else "import"
        return f"{verb} content {short(self.origin.diff_id)} from {self.origin.description}"


@dataclass(frozen=True, eq=False, repr=False)
class CopyLayers(Step):
    """Copy all layers of a stack into one tree, which ``WriteStack`` then makes its writable layer."""

    name: str
    origin: Origin

    @property
    def object(self) -> str:
        return f"stack {self.name}"

    def describe(self) -> str:
        return f"copy {self.origin.description} into a writable layer of stack {self.name}"


@dataclass(frozen=True, eq=False, repr=False)
class LinkLayer(Step):
    """Make, or make again, a layer directory with its short link and records."""

    layer: LayerLink
    fault: str
    size: int

    @property
    def object(self) -> str:
        return self.layer.chain_id

    @property
    def bytes(self) -> int:
        return self.size if self.layer.twin else 0

    def describe(self) -> str:
        if self.fault != "missing":
            return f"repair layer {short(self.layer.chain_id)}: {self.fault}"
        above = f" above {short(self.layer.parent)}" if self.layer.parent else ""
        return f"link layer {short(self.layer.chain_id)} (content {short(self.layer.diff_id)}){above}"


@dataclass(frozen=True, eq=False, repr=False)
class StoreImage(Step):
    """Write an image's config and tag to Docker's image database.

    :ivar needs_config: the config itself has to be written, and not the tag alone.
    """

    name: str
    origin: ImageOrigin
    fault: str
    needs_config: bool

    @property
    def object(self) -> str:
        return f"image {self.name}"

    def describe(self) -> str:
        image = short(self.origin.image.image_id)
        return f"store image {image}" if self.fault == "missing" else f"repair image {image}: {self.fault}"


@dataclass(frozen=True, eq=False, repr=False)
class SetName(Step):
    """Let a name point at a chain."""

    record: NameRecord
    before: Optional[NameRecord]

    @property
    def object(self) -> str:
        return f"{self.record.kind} {self.record.name}"

    def describe(self) -> str:
        points_at = _points_at(self.record)
        if self.before is None:
            return f"name {points_at} '{self.record.name}'"
        if _points_at(self.before) != points_at:
            if self.before.kind == self.record.kind:
                points_at = points_at.rpartition(" ")[2]
            return f"move name '{self.record.name}' from {_points_at(self.before)} to {points_at}"
        return f"change the labels of '{self.record.name}'"


def _points_at(record: NameRecord) -> str:
    return f"image {short(record.image_id)}" if record.image_id else f"content {short(record.diff_ids[-1])}"


@dataclass(frozen=True, eq=False, repr=False)
class DropName(Step):
    """Forget a name; its content stays until it is pruned."""

    name: str
    kind: str = "layer"

    @property
    def object(self) -> str:
        return f"{self.kind} {self.name}"

    def describe(self) -> str:
        return f"forget the name '{self.name}'"


@dataclass(frozen=True, eq=False, repr=False)
class WriteStack(Step):
    """Write a stack's record, and make its writable layer where it needs one.

    :ivar stack_id: of the writable layer to go on with; "" for a new one where ``writable`` needs it.
    :ivar fresh_generation: the chain differs from the one before.
    """

    stack: DesiredStack
    before: Optional[StackRecord]
    stack_id: str
    fresh_generation: bool
    why: tuple[str, ...]

    @property
    def object(self) -> str:
        return self.stack.spec.label

    def describe(self) -> str:
        if self.before is None:
            return f"record stack {self.stack.spec.name}: {', '.join(self.stack.layers)}"
        return f"record stack {self.stack.spec.name}: {'; '.join(self.why)}"

    def record(self, time: str, new_id: Callable[[], str], makes_path: bool) -> StackRecord:
        """The stack's record from this step on: for a run, and for what a plan says of a prune after it.

        :param time: since when it has this chain, ISO 8601 in UTC.
        :param new_id: gives a name for a new writable layer.
        :param makes_path: nothing is at the stack's path, so its mount point will be made.
        """
        spec, before = self.stack.spec, self.before
        history = before.history if before else ()
        if self.fresh_generation:
            number = history[0].number + 1 if history else 1
            newest = Generation(number, self.stack.diff_ids, self.stack.layers, time, self.stack.back_to)
            history = (newest, *history)
        else:
            history = (replace(history[0], layers=self.stack.layers), *history[1:])
        stack_id = (self.stack_id or new_id()) if spec.writable != "none" else ""
        return StackRecord(
            name=spec.name,
            path=spec.path,
            writable=spec.writable,
            size=spec.size,
            stack_id=stack_id,
            mounted=spec.state == "mounted",
            made_path=before.made_path if before and before.path == spec.path else makes_path,
            history=history[: spec.generations],
            keep=spec.generations,
            style=spec.style,
            services=tuple(service.describe() for service in spec.services),
            boot=spec.boot,
            left=before.left if before else (),
            driver=self.stack.driver,
            unknown=before.unknown if before else {},
        )


@dataclass(frozen=True, eq=False, repr=False)
class SetAside(Step):
    """Detach a writable layer from its stack. One that holds anything is kept until it is pruned."""

    record: StackRecord
    written: bool

    @property
    def object(self) -> str:
        return f"stack {self.record.name}"

    def describe(self) -> str:
        what = f"{self.record.writable} layer {self.record.stack_id[:12]} of stack {self.record.name}"
        return f"set the {what} aside" if self.written else f"remove the {what}"


@dataclass(frozen=True, eq=False, repr=False)
class CompareUpper(Step):
    """Check that a writable layer is unchanged since it was committed; otherwise the stack stays as it was.

    :ivar restack: what was read, and where.
    """

    name: str
    restack: Restack

    @property
    def object(self) -> str:
        return f"stack {self.name}"

    def describe(self) -> str:
        return f"see that nothing in stack {self.name} has changed since layer '{self.restack.layer}' was made of it"


@dataclass(frozen=True, eq=False, repr=False)
class Unmount(Step):
    """Unmount every mount of ours at a path, the uppermost first.

    :ivar mount_ids: which they are, the lowest first; no others are unmounted.
    """

    name: str
    path: str
    count: int
    detach: bool
    why: str
    mount_ids: tuple[int, ...] = ()

    @property
    def object(self) -> str:
        return f"stack {self.name}"

    def describe(self) -> str:
        times = f" ({self.count} mounts)" if self.count > 1 else ""
        return f"unmount {self.path}{times}: {self.why}"


@dataclass(frozen=True, eq=False, repr=False)
class Mount(Step):
    """Mount a stack at its path."""

    stack: DesiredStack

    @property
    def object(self) -> str:
        return self.stack.spec.label

    def describe(self) -> str:
        count = len(self.stack.diff_ids)
        kind = {"none": "read-only"}.get(self.stack.spec.writable, self.stack.spec.writable)
        kind = f"{kind}, a copy" if self.stack.whole or self.stack.shown != self.stack.diff_ids else kind
        return f"mount {count} layer{'s' if count > 1 else ''} at {self.stack.spec.path} ({kind})"


@dataclass(frozen=True, eq=False, repr=False)
class Switch(Step):
    """Replace the mounted tree of a stack, without a gap if the kernel can do that.

    Processes on the old tree keep it. Never for a persistent layer, which must not be in two mounts even briefly.

    :ivar before: the stack as it was on record; its new state is on record once the step is done.
    :ivar count: mounts of the store at the path; all of them go.
    :ivar gapless: the kernel can put the new tree beneath the old one.
    """

    stack: DesiredStack
    before: StackRecord
    count: int
    why: str
    gapless: bool

    @property
    def object(self) -> str:
        return self.stack.spec.label

    def describe(self) -> str:
        count = len(self.stack.diff_ids)
        times = f" ({self.count} mounts)" if self.count > 1 else ""
        how = "without a gap" if self.gapless else "by unmounting and mounting"
        return f"switch {self.stack.spec.path}{times} to {count} layer{'s' if count > 1 else ''} {how}: {self.why}"


@dataclass(frozen=True, eq=False, repr=False)
class SetTop(Step):
    """Give the top directory of a mounted stack its owner and mode."""

    stack: DesiredStack

    @property
    def object(self) -> str:
        return self.stack.spec.label

    def describe(self) -> str:
        style = self.stack.spec.style
        mode = None if style.mode is None else f"{style.mode:04o}"
        wanted = (("owner", style.owner), ("group", style.group), ("mode", mode))
        changes = ", ".join(f"{word} {value}" for word, value in wanted if value is not None)
        return f"set {changes} of {self.stack.spec.path}"


@dataclass(frozen=True, eq=False, repr=False)
class ForgetStack(Step):
    """Remove a stack's record, and its mount point if it was made for the stack and is empty."""

    record: StackRecord

    @property
    def object(self) -> str:
        return f"stack {self.record.name}"

    def describe(self) -> str:
        return f"forget stack {self.record.name}"


def staging(steps: Iterable[Step]) -> list[Union[ImportContent, CopyLayers]]:
    """Those that need a content staged."""
    return [step for step in steps if isinstance(step, (ImportContent, CopyLayers))]


def origins_of(steps: Iterable[Step]) -> list[Origin]:
    """What these steps need staged."""
    return [step.origin for step in staging(steps)]


class Plan(NamedTuple):
    """The ordered steps from observed to desired, and the errors that the user has to fix first."""

    steps: tuple[Step, ...]
    errors: tuple[str, ...]

    def results(self) -> list[dict[str, Any]]:
        """The steps as modules return them."""
        return [step.result() for step in self.steps]
