# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finds what a definition asks that this host or kind of stack cannot do. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import MAX_LAYERS
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import FUSE_DEVICE
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import FUSE_OVERLAYFS
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import DesiredStack
from ansible_collections.strata.overlay.plugins.module_utils._plan.driver import Drivers, cannot_take_over
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import Mount, Step, Switch, Unmount
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import apart_text


def host_problems(stack: DesiredStack, observed: Observed) -> list[str]:
    """Messages, each naming the stack, the option and what to do."""
    spec, abilities, count = stack.spec, observed.abilities, len(stack.diff_ids)
    limit = abilities.layer_limit(spec.style.context) if stack.driver == "overlay" else MAX_LAYERS
    errors: list[str] = []
    if stack.driver == "copy":
        if spec.writable == "volatile":
            why = "driver: copy has no changes in memory; use driver: overlay, or writable: persistent"
            if spec.driver == "auto":
                why = _unusable(stack, observed)
            errors.append(f"{spec.label}: option 'writable': {spec.writable}: {why}")
    elif stack.needs_driver and stack.driver not in Drivers(abilities, observed.faults).usable(spec.writable):
        errors.append(f"{spec.label}: {_unusable(stack, observed)}")
    elif count > limit:
        errors.append(
            f"{spec.label}: option 'layers' has {count} layers; this kernel ({abilities.release}) mounts at most "
            f"{limit}"
        )
    if spec.state == "mounted" and spec.path in observed.unmakeable:
        errors.append(
            f"{spec.label}: option 'path': {spec.path} is missing, and cannot be made: its file system is read-only. "
            "Make the directory where that file system comes from, or choose another path"
        )
    return errors + _left_behind(stack, observed) + _style_problems(stack, observed)


def place_problems(steps: Sequence[Step], observed: Observed) -> list[str]:
    """What the store's location rules out, whatever the stacks."""
    errors: list[str] = []
    if steps and observed.read_only:
        errors.append(
            f"option 'root': the store {observed.root} lies on a file system that is read-only, so nothing can be "
            "changed in it; mount it writable, or set root to a directory that can be written"
        )
    if steps and observed.apart:
        errors.append(f"option 'root': {apart_text(observed.root, observed.apart)}")
    refused = observed.faults.mount
    if refused.why:
        mounting = (step for step in steps if isinstance(step, (Mount, Switch, Unmount)))
        errors += [f"{step.object}: {refused.why}; {refused.cure}" for step in mounting]
    return errors


def _left_behind(stack: DesiredStack, observed: Observed) -> list[str]:
    """Changes in a persistent layer that the stack could no longer show."""
    spec, before = stack.spec, observed.known.stacks.get(stack.spec.name)
    if before is None or stack.begins_anew(before):
        return []
    errors: list[str] = []
    if spec.name in observed.written_uppers:
        errors += filter(None, [cannot_take_over(before, spec, stack.driver)])
    if before.whole and stack.whole and before.diff_ids != stack.diff_ids:
        errors.append(
            f"{spec.label}: option 'layers': the stack is a copy that can be written (driver: copy), so other layers "
            "cannot come below what was written; set on_change: reset to begin with a new copy, and the old one is set "
            "aside"
        )
    return errors


def _unusable(stack: DesiredStack, observed: Observed) -> str:
    """What is missing for the driver of a stack, and what to do about it."""
    abilities = observed.abilities
    if stack.driver == FUSE_OVERLAYFS and abilities.fuse_overlayfs:
        return f"option 'driver': {observed.faults.served.why}; {observed.faults.served.cure}"
    if stack.driver == FUSE_OVERLAYFS:
        return (
            f"option 'driver': the program {FUSE_OVERLAYFS} is not installed on this host, or {FUSE_DEVICE} cannot be "
            "used; install the package of this name, or leave the option out"
        )
    if abilities.overlay:
        fault = observed.faults.overlay(stack.spec.writable)
        option = "" if stack.spec.driver == "auto" else "option 'driver': "
        return f"{option}{fault.why}; {fault.cure}"
    return (
        f"this kernel ({abilities.release}) has no overlay file system; load or build it, install {FUSE_OVERLAYFS}, or "
        "use driver: copy with writable: none or persistent"
    )


def _style_problems(stack: DesiredStack, observed: Observed) -> list[str]:
    spec = stack.spec
    plain = spec.writable == "none"
    checks = (
        (
            stack.driver == FUSE_OVERLAYFS and (bool(spec.style.context) or spec.style.idmapped),
            f"options 'context' and 'idmap' need driver: overlay; {FUSE_OVERLAYFS} knows neither",
        ),
        (
            plain and spec.style.sets_top,
            (
                "options 'owner', 'group' and 'mode' need writable: persistent or volatile; a read-only stack "
                "shows the top directory of its uppermost layer as it is"
            ),
        ),
        (stack.whole and spec.size > 0, "option 'size' cannot limit a copy (driver: copy); leave it out"),
        (plain and spec.size > 0, "option 'size' needs writable: persistent or volatile"),
        (
            bool(spec.style.context) and not observed.abilities.selinux,
            "option 'context' needs SELinux, which is not in force on this host",
        ),
        (
            bool(spec.style.context) and (stack.whole or (plain and len(stack.shown) == 1)),
            "option 'context' needs an overlay: two layers or a writable one, and not driver: copy",
        ),
        (
            spec.writable == "persistent" and spec.size > 0 and bool(observed.quota_fault),
            (
                f"option 'size' cannot limit a persistent layer in {observed.root}: {observed.quota_fault}; put "
                "the store on ext4 or xfs with project quota (mount option prjquota), or leave 'size' out"
            ),
        ),
        (
            spec.style.idmapped and bool(observed.idmap_fault),
            (
                f"option 'idmap': owners of layers in {observed.root} cannot be mapped here: "
                f"{observed.idmap_fault}; it needs Linux 5.19, and a file system that can be mapped"
            ),
        ),
    )
    return [f"{spec.label}: {text}" for wrong, text in checks if wrong]
