# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""plan(desired, observed) -> steps: pure, no clock, no file. Check mode shows what it returns, a run does it."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Set, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, short
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount as MountLine
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import (
    PathFacts,
    foreign_over,
    path_problems,
)
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import (
    mismatch,
    mount_request,
    of_store_at,
    only_memory,
    own_volatile,
    root_on_device,
    shown_content,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired, DesiredStack, Known, copied
from ansible_collections.strata.overlay.plugins.module_utils._plan.limits import host_problems, place_problems
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    CompareUpper,
    CopyLayers,
    CreateStore,
    DropName,
    ForgetStack,
    ImportContent,
    LinkLayer,
    Mount,
    Plan,
    SetAside,
    SetName,
    SetTop,
    Step,
    StoreImage,
    Switch,
    Unmount,
    WriteStack,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, StackRecord


def plan(desired: Desired, observed: Observed) -> Plan:
    """The steps in the order in which they are safe: bytes, layers, names, records, then one stack after the other."""
    problems: List[str] = []
    steps: List[Step] = [
        *_contents(desired, observed, problems),
        *_layers(desired, observed),
        *_images(desired, observed),
        *_names(desired, observed),
    ]
    records: List[Step] = []
    mounts: List[Step] = []
    takedown = [step for name, detach in desired.dropped_stacks.items() for step in _drop_stack(name, detach, observed)]
    moves = [move for stack in desired.stacks for move in _leave_old_path(stack, observed)]
    vacated = {step.path for step in [*takedown, *moves] if isinstance(step, Unmount)}
    for stack in desired.stacks:
        _Stack(stack, observed, vacated, problems).plan(records, mounts)
    planned = {step.record.stack_id for step in [*takedown, *records, *mounts] if isinstance(step, SetAside)}
    of_names = {*(stack.spec.name for stack in desired.stacks), *desired.dropped_stacks}
    mounts += [SetAside(record, written=False) for record in _lost_volatiles(observed.known, of_names, planned)]
    removals, writes = _boot(desired, observed, problems)
    # Paths are left before they are taken: one stack may want the path of another.
    changes = [*takedown, *moves, *records, *mounts]
    if desired.has_services():
        # Loaded when it is needed, as all that is about services: many definitions have none.
        from ansible_collections.strata.overlay.plugins.module_utils._plan.services import services_told, with_services

        problems += services_told(desired, observed.host)
        changes = with_services(changes, desired, observed.host)
    steps += [*removals, *changes, *writes]
    problems += _detached_again(steps, observed)
    problems += [text for text in _covered(steps, observed) if text not in problems]
    if desired.stage:
        steps = [step for step in steps if isinstance(step, (ImportContent, LinkLayer))]
    problems += place_problems(steps, observed)
    if not observed.exists and steps:
        steps.insert(0, CreateStore(observed.root))
    return Plan(tuple(steps), tuple(problems))


def _boot(desired: Desired, observed: Observed, problems: List[str]) -> Tuple[Sequence[Step], Sequence[Step]]:
    """What is removed before stacks go away, and what is written when they are there."""
    if not observed.host.boot.matters:
        return (), ()
    # Loaded when it is needed: many hosts mount nothing of ours at boot.
    from ansible_collections.strata.overlay.plugins.module_utils._plan.boot import plan_boot

    boot = plan_boot(desired, observed)
    problems += boot.problems
    return boot.removals, boot.writes


def _contents(desired: Desired, observed: Observed, problems: List[str]) -> List[Step]:
    wanted: Dict[str, str] = {}
    for record in desired.names.values():
        wanted.update(dict.fromkeys(record.diff_ids, f"{record.kind} {record.name}"))
    for stack in desired.stacks:
        for diff_id in (*stack.diff_ids, *stack.shown):
            wanted.setdefault(diff_id, stack.spec.where)
    steps: List[Step] = []
    for diff_id, where in wanted.items():
        if diff_id in observed.contents:
            continue
        if diff_id in desired.origins:
            steps.append(ImportContent(desired.origins[diff_id]))
        else:
            problems.append(
                f"{where}: the content {short(diff_id)} is missing from the store; define its layer with a source again"
            )
    return steps


def _layers(desired: Desired, observed: Observed) -> List[Step]:
    steps: Dict[str, Step] = {}
    for diff_ids in desired.chains():
        if not any(chain_id in observed.layer_faults for chain_id in chain_ids(diff_ids)):
            continue
        for layer in layer_links(diff_ids):
            fault = observed.layer_faults.get(layer.chain_id)
            if fault is not None:
                origin = desired.origins.get(layer.diff_id)
                size = observed.sizes.get(layer.diff_id) or (origin.size if origin else 0)
                steps.setdefault(layer.chain_id, LinkLayer(layer, fault, size))
    return list(steps.values())


def _images(desired: Desired, observed: Observed) -> List[Step]:
    """What Docker reads of images. A name that is set brings its tag with it; then only a config has to be there."""
    if not desired.images:
        return []
    # Loaded when it is needed, as all that is about images: many definitions have none.
    from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import WRONG_TAG

    steps: Dict[str, Step] = {}
    for name, origin in desired.images.items():
        fault = observed.image_faults.get(name)
        set_anyway = fault == WRONG_TAG and _differs(desired.names[name], observed.known.names.get(name))
        if fault and not set_anyway:
            steps.setdefault(origin.image.image_id, StoreImage(name, origin, fault, fault != WRONG_TAG))
    return list(steps.values())


def _names(desired: Desired, observed: Observed) -> List[Step]:
    names = observed.known.names
    steps: List[Step] = [
        SetName(_with_unknown(record, names.get(name)), names.get(name))
        for name, record in desired.names.items()
        if _differs(record, names.get(name))
    ]
    dropped = [names[name] for name in desired.dropped_names]
    return steps + [DropName(record.name, record.kind) for record in dropped]


def _with_unknown(record: NameRecord, before: Optional[NameRecord]) -> NameRecord:
    """With what a later release has put on record."""
    return replace(record, unknown=before.unknown) if before else record


def _differs(record: NameRecord, before: Optional[NameRecord]) -> bool:
    """Where a layer or image came from is not what it is: the same bytes from another file are no change."""
    if before is None:
        return True
    old = (before.diff_ids, before.image_id, dict(before.labels))
    return old != (record.diff_ids, record.image_id, dict(record.labels))


def _ours_at(observed: Observed, path: str) -> List[MountLine]:
    """The mounts of this store at a stack's path, lowest first."""
    lines = observed.mounts_of(path)
    return of_store_at(observed.mounts, lines[0].path, observed.root) if lines and observed.exists else []


def _own_at(observed: Observed, path: str, name: str) -> List[MountLine]:
    """The same without what the store knows as another stack: the path may have been led there."""
    others = [record for record in observed.known.stacks.values() if record.name != name and record.mounted]
    own = observed.known.stacks.get(name)
    return [line for line in _ours_at(observed, path) if not _is_of_another(line, own, others, observed)]


def _is_of_another(
    line: MountLine, own: Optional[StackRecord], others: Sequence[StackRecord], observed: Observed
) -> bool:
    """Whether a mount is what another stack has to show, and is no more this one's: that is at home here, or this one
    should show something else.
    """
    if own is not None and own.path == line.path and _is_shown(line, own, observed):
        return False
    at_home = any(other.path == line.path and _is_shown(line, other, observed) for other in others)
    if at_home or (own is not None and _is_shown(line, own, observed)):
        return at_home
    return any(_is_shown(line, other, observed) for other in others)


def _is_shown(line: MountLine, record: StackRecord, observed: Observed) -> bool:
    request = mount_request(observed.home, record)
    content = ("", "")
    if request.is_bind:
        content = root_on_device(observed.mounts, shown_content(observed.root, record))
    return not mismatch(line, request, content)


def _ids(lines: Sequence[MountLine]) -> Tuple[int, ...]:
    return tuple(line.mount_id for line in lines)


def _covered(steps: List[Step], observed: Observed) -> List[str]:
    """What others have mounted over mounts of ours that are to go: umount(2) would take theirs away."""
    problems: List[str] = []
    for step in steps:
        if isinstance(step, (Unmount, Switch)):
            path = step.path if isinstance(step, Unmount) else step.stack.spec.path
            lines = observed.mounts_of(path)
            ours = _ours_at(observed, path)
            foreign = [line for line in lines[lines.index(ours[0]) :] if line not in ours]
            if foreign:
                problems.append(foreign_over(step.object, path, foreign[-1]))
    return problems


def _detached_again(steps: List[Step], observed: Observed) -> List[str]:
    """Persistent layers that were to be mounted again while whoever uses the old tree keeps that: two mounts of one
    layer. The kernel does not define what comes of it; processes of the old tree lose the right to write.
    """
    mounted = {step.stack.spec.name for step in steps if isinstance(step, Mount)}
    given_up = {step.record.stack_id for step in steps if isinstance(step, SetAside)}
    problems: List[str] = []
    for step in steps:
        before = observed.known.stacks.get(step.name) if isinstance(step, Unmount) and step.detach else None
        if before and before.writable == "persistent" and before.name in mounted and before.stack_id not in given_up:
            problems.append(
                f"{step.object}: option 'on_busy': detach cannot be used here: {before.path} has to be unmounted, and "
                "its persistent layer mounted again, while processes of the old tree may still write to it. Use "
                "on_busy: fail and name what uses the stack in services, so that it is stopped meanwhile; or "
                "on_change: reset, which begins with a new writable layer and sets the old one aside"
            )
    return problems


def _drop_stack(name: str, detach: bool, observed: Observed) -> List[Step]:
    record = observed.known.stacks[name]
    steps: List[Step] = []
    ours = _own_at(observed, record.path, name)
    if ours:
        steps.append(Unmount(name, record.path, len(ours), detach, "the stack goes away", _ids(ours)))
    if record.stack_id:
        steps.append(SetAside(record, _is_kept(record, detach and bool(ours), observed)))
    steps.append(ForgetStack(record))
    return steps


def _is_kept(record: StackRecord, detached: bool, observed: Observed) -> bool:
    """Whether a writable layer that its stack gives up stays: something is in it, or processes may write to it."""
    return record.name in observed.written_uppers or (detached and record.writable == "persistent")


def _lost_volatiles(known: Known, names: Set[str], planned: Set[str]) -> List[StackRecord]:
    """Volatile layers of these stacks that a run which was ended had yet to throw away.

    :param planned: directories of the writable layers that go anyway.
    """
    present = {record.stack_id for record in known.stacks.values()}
    return [
        record
        for record in known.asides
        if record.writable == "volatile" and record.name in names and record.stack_id not in present | planned
    ]


def _leave_old_path(stack: DesiredStack, observed: Observed) -> List[Step]:
    before = observed.known.stacks.get(stack.spec.name)
    if before is None or before.path == stack.spec.path:
        return []
    ours = _own_at(observed, before.path, before.name)
    why = f"the stack moves to {stack.spec.path}"
    detach = stack.spec.on_busy == "detach"
    return [Unmount(before.name, before.path, len(ours), detach, why, _ids(ours))] if ours else []


def _service_words(spec: StackSpec) -> List[str]:
    return [service.words() for service in spec.services]


class _Stack:
    """The steps of one stack."""

    def __init__(self, stack: DesiredStack, observed: Observed, vacated: Set[str], problems: List[str]) -> None:
        self._stack = stack
        self._spec = stack.spec
        self._observed = observed
        self._problems = problems
        self._before: Optional[StackRecord] = observed.known.stacks.get(stack.spec.name)
        self._shown = _ours_at(observed, stack.spec.path)
        if stack.spec.state == "unmounted":
            self._shown = _own_at(observed, stack.spec.path, stack.spec.name)
        # What another stack leaves behind at this path is gone when this one is mounted.
        self._ours = [] if stack.spec.path in vacated else self._shown

    def plan(self, records: List[Step], mounts: List[Step]) -> None:
        """Append this stack's steps."""
        self._check()
        why = self._record_changes()
        drift = self._drift()
        if drift and self._before is not None and self._is_switchable(self._before):
            self._plan_switch(self._before, why, drift, records, mounts)
            return
        set_aside = self._set_aside()
        if self._ours and (drift or self._spec.state == "unmounted"):
            reason = drift or "it is to be unmounted"
            mounts.append(self._unmount(reason))
        if self._spec.restack:
            # Only when nobody can write to it any more.
            (mounts if self._ours else records).append(CompareUpper(self._spec.name, self._spec.restack))
        if set_aside:
            # Only when it is mounted no more.
            (mounts if self._ours else records).append(set_aside)
        if why or self._before is None:
            # A copy is made before anything is unmounted.
            step = self._write(why, keep_id=not set_aside)
            records += self._copy(step)
            (mounts if set_aside and self._ours else records).append(step)
        if self._spec.state == "mounted" and (drift or not self._ours):
            mounts.append(Mount(self._stack, self._facts().kind == "missing"))
        elif self._top_differs():
            mounts.append(SetTop(self._stack))

    def _top_differs(self) -> bool:
        top = self._observed.tops.get(self._spec.name)
        return self._spec.state == "mounted" and top is not None and self._spec.style.top_differs(*top)

    def _is_switchable(self, before: StackRecord) -> bool:
        """Whether the old tree may stay while the new one comes: not where a persistent layer is or was meant to be in
        the old one, since that takes writes until it is unmounted.
        """
        if before.writable == "persistent" or self._spec.state != "mounted":
            return False
        if before.path != self._spec.path:
            return False
        place = root_on_device(self._observed.mounts, self._observed.root)
        return all(only_memory(line, self._observed.home, before, place) for line in self._ours)

    def _plan_switch(
        self, before: StackRecord, why: Tuple[str, ...], drift: str, records: List[Step], mounts: List[Step]
    ) -> None:
        renewed = self._uses_own_volatile()
        if renewed and not why:
            why = ("the volatile layer begins anew",)
        old = before if renewed or self._set_aside() else None
        if why:
            step = self._write(why, keep_id=old is None)
            records += [*self._copy(step), step]
        gapless = self._observed.abilities.beneath
        mounts.append(Switch(self._stack, before, len(self._ours), drift, gapless))
        if old is not None:
            mounts.append(SetAside(old, written=False))

    def _uses_own_volatile(self) -> bool:
        """Whether the volatile layer on record is in the old tree: the new tree then needs another one."""
        before = self._before
        return before is not None and any(own_volatile(line, self._observed.home, before) for line in self._ours)

    def _facts(self) -> PathFacts:
        return self._observed.paths[self._spec.path]

    def _unmount(self, why: str) -> Unmount:
        spec, detach = self._spec, self._spec.on_busy == "detach"
        return Unmount(spec.name, spec.path, len(self._ours), detach, why, _ids(self._ours))

    def _record_changes(self) -> Tuple[str, ...]:
        """What the record says otherwise than the definition, in words."""
        before = self._before
        if before is None:
            return ()
        spec = self._spec
        changes: List[str] = []
        if before.diff_ids != self._stack.diff_ids:
            back = f"back to generation {self._stack.back_to}: " if self._stack.back_to else ""
            changes.append(f"{back}layers {', '.join(before.layers)} become {', '.join(self._stack.layers)}")
            shadowed = self._observed.shadowed.get(spec.name)
            if shadowed and shadowed.paths:
                changes.append(shadowed.describe(spec.name))
        elif before.layers != self._stack.layers:
            changes.append(f"the same layers are now written {', '.join(self._stack.layers)}")
        for word, old, new in (
            ("path", before.path, spec.path),
            ("writable", before.writable, spec.writable),
            ("driver", before.driver, self._stack.driver),
            ("size", str(before.size), str(spec.size)),
            ("state", "mounted" if before.mounted else "unmounted", spec.state),
            ("boot", str(before.boot).lower(), str(spec.boot).lower()),
            ("services", ", ".join(before.services) or "none", ", ".join(_service_words(spec)) or "none"),
        ):
            if old != new:
                changes.append(f"{word} {old} becomes {new}")
        if before.keep != spec.generations or len(before.history) > spec.generations:
            changes.append(f"{spec.generations} generations are kept")
        changes += spec.style.changes(before.style)
        fault = self._observed.writable_faults.get(spec.name)
        if fault:
            changes.append(f"the writable layer is repaired ({fault})")
        return tuple(changes)

    def _set_aside(self) -> Optional[SetAside]:
        before = self._before
        if before is None or not before.stack_id:
            return None
        others = before.writable != self._spec.writable or before.whole != self._stack.whole
        if others or (self._stack.begins_anew(before) and before.writable == "persistent"):
            detached = self._spec.on_busy == "detach" and bool(self._ours)
            return SetAside(before, _is_kept(before, detached, self._observed))
        return None

    def _write(self, why: Tuple[str, ...], keep_id: bool) -> WriteStack:
        before = self._before
        return WriteStack(
            stack=self._stack,
            before=before,
            stack_id=before.stack_id if before and keep_id else "",
            fresh_generation=before is None or before.diff_ids != self._stack.diff_ids,
            why=why,
        )

    def _copy(self, step: WriteStack) -> List[Step]:
        """What a record needs made before it, where its writable layer is a whole tree and is not there."""
        if self._stack.whole and (not step.stack_id or self._spec.name in self._observed.writable_faults):
            return [CopyLayers(self._spec.name, copied(self._stack))]
        return []

    def _drift(self) -> str:
        """Why what is mounted at the path has to go; "" when it is right or nothing is there."""
        if not self._ours:
            return ""
        if self._before is None:
            return "it is no mount that the store knows"
        if len(self._ours) > 1:
            return "it is mounted more than once"
        if self._before.path != self._spec.path or self._before.writable != self._spec.writable:
            return f"it becomes {self._spec.writable}" if self._before.path == self._spec.path else "it moves here"
        if self._before.size != self._spec.size and self._spec.writable == "volatile":
            return "its size changes"
        if not self._spec.style.same_mount(self._before.style):
            return "; ".join(self._spec.style.changes(self._before.style))
        if self._before.diff_ids != self._stack.diff_ids:
            return "its layers change"
        if self._before.driver != self._stack.driver and self._stack.needs_driver:
            return f"its driver becomes {self._stack.driver}"
        if self._facts().ended:
            return self._facts().ended
        request = mount_request(self._observed.home, self._before)
        shown = ("", "")
        if request.is_bind:  # hosts may have a thousand mounts to look through
            shown = root_on_device(self._observed.mounts, shown_content(self._observed.root, self._before))
        wrong = mismatch(self._ours[0], request, shown)
        return f"what is mounted is not what the record says: {wrong}" if wrong else ""

    def _check(self) -> None:
        self._problems += host_problems(self._stack, self._observed)
        if self._spec.state == "mounted":
            mounts = self._observed.mounts_of(self._spec.path)
            self._problems += path_problems(
                self._spec.where, self._spec.path, self._spec.cover, self._facts(), mounts, self._shown
            )
