# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Chooses the driver for a stack and gives the reason. Pure.

The order is that of speed: the kernel's overlay, fuse-overlayfs, a copy of everything. A persistent layer stays with
the driver that it was written with, since each leaves marks of its own in it.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import FUSE_OVERLAYFS
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import StoreFaults
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord

_CAN_READ = {("overlay", FUSE_OVERLAYFS)}
"""Whose persistent layers another driver shows as they are: before -> after."""


class Drivers(NamedTuple):
    """The drivers that stacks can have here.

    :ivar faults: what the store cannot have where it lies.
    """

    abilities: Abilities
    faults: StoreFaults = StoreFaults()

    def usable(self, writable: str) -> tuple[str, ...]:
        """Those for a stack that has several layers, or is written to; the best one first.

        :param writable: as in ``StackSpec``.
        """
        able = (
            ("overlay", self.abilities.overlay and not self.faults.overlay(writable).why),
            (FUSE_OVERLAYFS, self.abilities.fuse_overlayfs and not (writable != "none" and self.faults.served.why)),
            ("copy", True),
        )
        return tuple(name for name, can in able if can)

    def reason(self, driver: str, writable: str) -> str:
        """In words why the best one that is usable is this."""
        if driver == "overlay":
            return "the kernel has it"
        fault = (
            self.faults.overlay(writable).why if self.abilities.overlay else "this kernel has no overlay file system"
        )
        other = "is there" if driver == FUSE_OVERLAYFS else "cannot be used"
        return f"{fault}, and {FUSE_OVERLAYFS} {other}"


def needs_driver(count: int, writable: str) -> bool:
    """Whether a stack of so many layers needs a driver: one alone, read-only, is shown as it is."""
    return count > 1 or writable != "none"


def choose_driver(spec: StackSpec, count: int, record: Optional[StackRecord], drivers: Drivers) -> tuple[str, str]:
    """The driver of a stack, and in words why.

    :param count: how many layers it has.
    """
    if spec.driver != "auto":
        kept = "driver" in spec.left_out
        return spec.driver, "it is what the stack has" if kept else "the definition asks for it"
    usable = drivers.usable(spec.writable)
    best = usable[0]
    if best != "overlay" and not needs_driver(count, spec.writable):
        return "overlay", "one layer alone needs none"
    before = record.driver if record and record.writable == spec.writable == "persistent" else best
    if before != best and before in usable:
        return before, "its persistent layer was written with it"
    return best, drivers.reason(best, spec.writable)


def cannot_take_over(before: StackRecord, spec: StackSpec, driver: str) -> str:
    """Why a driver cannot show what was written into a persistent layer, in words; "" where it can."""
    if not before.writable == spec.writable == "persistent":
        return ""
    if before.driver == driver or (before.driver, driver) in _CAN_READ:
        return ""
    # A copy has the whole tree, and all others what is otherwise than below.
    how = "save" if "copy" in (before.driver, driver) else "commit"
    return (
        f"{spec.label}: option 'driver': what was written with {before.driver} into the persistent layer cannot be "
        f"shown by {driver}; keep driver: {before.driver}, or {how} what was written and take the stack away first"
    )
