# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Plans one stack: mount, change, move, unmount or remove. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount as MountLine
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import (
    PathFacts,
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
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import DesiredStack, Known, copied
from ansible_collections.strata.overlay.plugins.module_utils._plan.limits import host_problems
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    CompareUpper,
    CopyLayers,
    ForgetStack,
    Mount,
    SetAside,
    SetTop,
    Step,
    Switch,
    Unmount,
    WriteStack,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord


def ours_at(observed: Observed, path: str) -> list[MountLine]:
    """The mounts of this store at a stack's path, lowest first."""
    lines = observed.mounts_of(path)
    return of_store_at(observed.mounts, lines[0].path, observed.root) if lines and observed.exists else []


def own_at(observed: Observed, path: str, name: str) -> list[MountLine]:
    """The mounts at a stack's path that are not another stack's, to which the path may have been redirected."""
    others = [record for record in observed.known.stacks.values() if record.name != name and record.mounted]
    own = observed.known.stacks.get(name)
    return [line for line in ours_at(observed, path) if not _is_of_another(line, own, others, observed)]


def _is_of_another(
    line: MountLine, own: Optional[StackRecord], others: Sequence[StackRecord], observed: Observed
) -> bool:
    """Whether a mount is another stack's and not this one's: the other has this path, or this stack should show
    something else.
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


def _ids(lines: Sequence[MountLine]) -> tuple[int, ...]:
    return tuple(line.mount_id for line in lines)


def drop_stack(name: str, detach: bool, observed: Observed) -> list[Step]:
    """The steps with which a stack goes away.

    :param detach: processes may keep the old tree.
    """
    record = observed.known.stacks[name]
    steps: list[Step] = []
    ours = own_at(observed, record.path, name)
    if ours:
        steps.append(Unmount(name, record.path, len(ours), detach, "the stack goes away", _ids(ours)))
    if record.stack_id:
        steps.append(SetAside(record, _is_kept(record, detach and bool(ours), observed)))
    steps.append(ForgetStack(record))
    return steps


def _is_kept(record: StackRecord, detached: bool, observed: Observed) -> bool:
    """Whether a writable layer that its stack gives up stays: something is in it, or processes may write to it."""
    return record.name in observed.written_uppers or (detached and record.writable == "persistent")


def lost_volatiles(known: Known, names: set[str], planned: set[str]) -> list[StackRecord]:
    """Volatile layers of these stacks that an interrupted run did not get to delete.

    :param planned: directories of the writable layers that go anyway.
    """
    present = {record.stack_id for record in known.stacks.values()}
    return [
        record
        for record in known.detached_uppers
        if record.writable == "volatile" and record.name in names and record.stack_id not in present | planned
    ]


def leave_old_path(stack: DesiredStack, observed: Observed) -> list[Step]:
    """The steps with which a stack that moves leaves the path that it has."""
    before = observed.known.stacks.get(stack.spec.name)
    if before is None or before.path == stack.spec.path:
        return []
    ours = own_at(observed, before.path, before.name)
    why = f"the stack moves to {stack.spec.path}"
    detach = stack.spec.on_busy == "detach"
    return [Unmount(before.name, before.path, len(ours), detach, why, _ids(ours))] if ours else []


def _describe_services(spec: StackSpec) -> list[str]:
    return [service.describe() for service in spec.services]


class StackPlanner:
    """The steps of one stack."""

    def __init__(self, stack: DesiredStack, observed: Observed, vacated: set[str], errors: list[str]) -> None:
        self._stack = stack
        self._spec = stack.spec
        self._observed = observed
        self._problems = errors
        self._before: Optional[StackRecord] = observed.known.stacks.get(stack.spec.name)
        self._shown = ours_at(observed, stack.spec.path)
        if stack.spec.state == "unmounted":
            self._shown = own_at(observed, stack.spec.path, stack.spec.name)
        # Another stack's mount at this path is gone before this one is mounted.
        self._ours = [] if stack.spec.path in vacated else self._shown

    def plan(self, records: list[Step], mounts: list[Step]) -> None:
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
            # Only after nobody can write to it.
            (mounts if self._ours else records).append(CompareUpper(self._spec.name, self._spec.restack))
        if set_aside:
            # Only after it is unmounted.
            (mounts if self._ours else records).append(set_aside)
        if why or self._before is None:
            # A copy is made before anything is unmounted.
            step = self._write(why, keep_id=not set_aside)
            records += self._copy(step)
            (mounts if set_aside and self._ours else records).append(step)
        if self._spec.state == "mounted" and (drift or not self._ours):
            mounts.append(Mount(self._stack))
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
        self, before: StackRecord, why: tuple[str, ...], drift: str, records: list[Step], mounts: list[Step]
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

    def _record_changes(self) -> tuple[str, ...]:
        """Describe how the definition differs from the record."""
        before = self._before
        if before is None:
            return ()
        spec = self._spec
        changes: list[str] = []
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
            ("services", ", ".join(before.services) or "none", ", ".join(_describe_services(spec)) or "none"),
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

    def _write(self, why: tuple[str, ...], keep_id: bool) -> WriteStack:
        before = self._before
        return WriteStack(
            stack=self._stack,
            before=before,
            stack_id=before.stack_id if before and keep_id else "",
            fresh_generation=before is None or before.diff_ids != self._stack.diff_ids,
            why=why,
        )

    def _copy(self, step: WriteStack) -> list[Step]:
        """What a record needs made before it, where its writable layer is a whole tree and is not there."""
        if self._stack.whole and (not step.stack_id or self._spec.name in self._observed.writable_faults):
            return [CopyLayers(self._spec.name, copied(self._stack))]
        return []

    def _drift(self) -> str:
        """Why the mount at the path must go; "" if it is right or nothing is mounted."""
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
                self._spec.label, self._spec.path, self._spec.cover, self._facts(), mounts, self._shown
            )
