# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks and hosts written by hand, as a plan is decided from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import StackSpec
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount, by_path
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import PathFacts
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import DesiredStack, Known
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import Generation, StackRecord

ROOT = "/var/lib/strata"
HOME = f"{ROOT}/overlay2"
A, B, C, ID = (f"sha256:{letter * 64}" for letter in "abc1")
UPPER = "5" * 64
KERNEL = Abilities("6.12.0", overlay=True, lowerdir_append=True, userxattr=False, page_size=4096, beneath=True)
FUSE = KERNEL._replace(overlay=False, fuse_overlayfs=True)
DISK = Mount(20, 1, "8:1", "/", "/", ("rw",), "ext4", "/dev/sda1", ("rw",))
SPEC = StackSpec("web", "/srv/web", ("a", "b"), "none", 0, False, "fail", 3, "mounted")


def desired(*diff_ids: str, driver: str = "overlay", **options: Any) -> DesiredStack:
    """Stack web of these contents, of A and B unless said otherwise."""
    chain = diff_ids or (A, B)
    return DesiredStack(replace(SPEC, **options), chain, tuple(each[7] for each in chain), driver=driver)


def record(*diff_ids: str, name: str = "web", **values: Any) -> StackRecord:
    """What ``desired`` leaves on record."""
    chain = diff_ids or (A, B)
    stack_id = "" if values.get("writable", "none") == "none" else UPPER
    history = (Generation(1, chain, tuple(each[7] for each in chain), "then"),)
    given: dict[str, Any] = {"path": f"/srv/{name}", "writable": "none", "size": 0, "stack_id": stack_id}
    return StackRecord(name, **{**given, "mounted": True, "made_path": False, "history": history, **values})


def mounted(known: StackRecord, path: str = "") -> Mount:
    """How the mount table shows a stack, at its own path or where that leads."""
    path = path or known.path
    if len(known.diff_ids) == 1 and known.writable == "none":
        return Mount(60, 1, "8:1", f"{ROOT}/content/sha256/{hex_of(known.diff_ids[0])}", path, ("ro",), "ext4", "", ())
    lowers = [f"lowerdir+={HOME}/l/{link.link}" for link in reversed(layer_links(known.diff_ids))]
    upper = [f"upperdir={HOME}/{known.stack_id}/diff"] if known.stack_id else []
    flag = "rw" if upper else "ro"
    return Mount(60, 1, "0:60", "/", path, (flag,), "overlay", "overlay", (flag, *lowers, *upper))


def observed(*stacks: StackRecord, mounts: tuple[Mount, ...] = (), **facts: Any) -> Observed:
    """A host with all contents and layers, these stacks on record and these mounts."""
    lines = (DISK, *mounts)
    places = {path: PathFacts(path, "directory", True, "") for path in ("/srv/web", "/srv/other")}
    given: dict[str, Any] = {
        "root": ROOT,
        "home": HOME,
        "exists": True,
        "abilities": KERNEL,
        "known": Known({}, {stack.name: stack for stack in stacks}),
        "contents": {A, B, C},
        "layer_faults": {},
        "writable_faults": {},
        "written_uppers": set(),
        "paths": places,
        "mounts": lines,
        "mounts_at": by_path(lines),
        "sizes": {},
    }
    return Observed(**{**given, **facts})
