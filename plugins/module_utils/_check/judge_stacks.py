# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Judges stacks: writable layers, records and mounts. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._check.judge_places import KEPT
from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Keep,
    RebuildWritable,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import StoreSnapshot
from ansible_collections.strata.overlay.plugins.module_utils._plan.driver import needs_driver
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LOST


def find_stacks(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """Everything about stacks."""
    yield from _writables(snapshot)
    yield from _orphaned_records(snapshot)
    yield from _shared(snapshot)
    yield from _untyped(snapshot)
    yield from _mounts(snapshot)


def _writables(snapshot: StoreSnapshot) -> Iterator[Finding]:
    for name, fault in snapshot.writable_faults.items():
        record = snapshot.stacks[name]
        if fault in ("missing", LOST) and record.writable == "persistent":
            part = "/diff" if fault == LOST else ""
            message = f"its writable layer overlay2/{record.stack_id}{part} is missing, with all that was written there"
            # Of one that is a whole tree an empty one would be another stack.
            how = "the next run with the definition copies its layers" if record.whole else "make an empty one"
            advice = f"{how}; what was written has to come from a backup"
            fix = None if record.whole else RebuildWritable(record)
            yield Finding("writable_missing", f"stack {name}", message, advice, fix)
        elif fault == "missing":
            message = f"its writable layer overlay2/{record.stack_id} is missing"
            yield Finding("writable_missing", f"stack {name}", message, "make it anew", RebuildWritable(record))
        else:
            message = f"writable layer overlay2/{record.stack_id}: {fault}"
            advice = "make its files anew from the record; what was written stays"
            yield Finding("writable_wrong", f"stack {name}", message, advice, RebuildWritable(record))
    for name, paths in snapshot.work_files.items():
        mounted = snapshot.stacks[name].stack_id in snapshot.used_layers
        for path in paths:
            message = f"it lies in the work directory of stack {name}, which belongs to the kernel alone"
            if mounted:
                advice = "the stack is mounted: unmount it, then repair"
                yield Finding("work_foreign", path, message, advice)
            else:
                yield Finding("work_foreign", path, message, KEPT, Keep(path))


def _orphaned_records(snapshot: StoreSnapshot) -> Iterator[Finding]:
    writables = snapshot.writables()
    for name in sorted(snapshot.mountdb - set(writables)):
        if name not in snapshot.layers:
            path = f"image/overlay2/layerdb/mounts/{name}"
            message = "a record of a writable layer that no stack has"
            yield Finding("writable_record_orphaned", path, message, "delete the record", Discard((path,)))
    of_stacks = {record.stack_id for record in snapshot.stacks.values()}
    for stack_id, record in snapshot.detached_uppers.items():
        if stack_id not in snapshot.layers and stack_id not in of_stacks:
            path = f"strata/aside/{stack_id}.json"
            message = f"a record of a writable layer that stack {record.name} has left, and it is not there"
            yield Finding("writable_record_orphaned", path, message, "delete the record", Discard((path,)))


def _shared(snapshot: StoreSnapshot) -> Iterator[Finding]:
    owners: dict[str, list[str]] = {}
    for name, record in snapshot.stacks.items():
        if record.stack_id:
            owners.setdefault(record.stack_id, []).append(name)
    for stack_id, names in owners.items():
        if len(names) > 1:
            message = f"the records of stacks {', '.join(names)} have the same writable layer"
            advice = "never mount both; move the record of all but one away, and run with the definition"
            yield Finding("upper_shared", f"overlay2/{stack_id}", message, advice)
    for path, devices in snapshot.shared_uppers.items():
        message = (
            f"{len(devices)} overlays write into it at once (devices {', '.join(devices)}); the kernel allows it, "
        )
        message += "and what comes of it is undefined"
        advice = "stop what writes there and unmount all of them but one; findmnt -t overlay shows where they are"
        yield Finding("upper_shared", path, message, advice)


def _untyped(snapshot: StoreSnapshot) -> Iterator[Finding]:
    why, _semicolon, cure = snapshot.untyped.partition("; ")
    for name, record in snapshot.stacks.items() if why else ():
        if record.driver == "overlay" and needs_driver(len(record.diff_ids), record.writable):
            yield Finding("d_type_missing", f"stack {name}", why, cure)


def _mounts(snapshot: StoreSnapshot) -> Iterator[Finding]:
    again = "the next run with the definition mounts it as the record says"
    for name, state in snapshot.mounted.items():
        record = snapshot.stacks[name]
        if record.mounted and not state.count:
            message = f"it is to be mounted at {record.path}, and is not"
            yield Finding("mount_missing", f"stack {name}", message, again)
        elif not record.mounted and state.count:
            message = f"it is not to be mounted, and something of the store is at {record.path}"
            yield Finding("mount_wrong", f"stack {name}", message, "the next run with the definition unmounts it")
        elif state.count > 1:
            message = f"{state.count} mounts lie one over the other at {record.path}"
            yield Finding("mount_wrong", f"stack {name}", message, again)
        elif state.fault:
            yield Finding("mount_wrong", f"stack {name}", f"what is mounted at {record.path}: {state.fault}", again)
    for mount in snapshot.unknown_mounts:
        message = "layers of the store are mounted there, and no stack's record says so"
        yield Finding("mount_unknown", mount.path, message, f"unmount it if nothing needs it: umount {mount.path}")
