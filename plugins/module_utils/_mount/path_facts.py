# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What lies at a stack's path, and what is wrong with it. Pure: `_mount/path_check` looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount


class PathFacts(NamedTuple):
    """What lies at a stack's path.

    :ivar resolved: the path without links: how the mount table names it.
    :ivar kind: ``missing``, ``directory`` or ``other``.
    :ivar empty: of a directory: nothing is in it.
    :ivar ended: as ``ended`` tells of it.
    :ivar unsafe: a link on the way that someone other than root could change, or "".
    :ivar open_parent: the same of a directory.
    """

    resolved: str
    kind: str
    empty: bool
    unsafe: str
    ended: str = ""
    open_parent: str = ""


def foreign_over(label: str, path: str, foreign: Mount) -> str:
    """The message for what someone else has mounted over a stack."""
    return (
        f"{label}: option 'path': another file system ({foreign.fstype} {foreign.source}) is mounted over the stack "
        f"at {path}; unmount it"
    )


def path_problems(
    label: str, path: str, cover: bool, facts: PathFacts, mounts: Sequence[Mount], ours: Sequence[Mount]
) -> list[str]:
    """Everything that speaks against mounting a stack at its path. Pure.

    :param mounts: the mounts at the path, lowest first; ``ours`` are those among them that show layers of the store.
    """
    prefix = f"{label}: option 'path': "
    errors: list[str] = []
    if facts.unsafe:
        errors.append(
            f"{prefix}on the way to {path}, {facts.unsafe} is a symbolic link that someone other than root could "
            "change; name the directory itself"
        )
    if facts.open_parent:
        errors.append(
            f"{prefix}on the way to {path}, the directory {facts.open_parent} belongs to someone other than root, "
            "or can be written by others, who could lead the mount elsewhere; give it to root alone (chown root, "
            "chmod go-w), or choose another path"
        )
    top = mounts[-1] if mounts else None
    foreign = top if top not in ours else None
    if facts.kind == "other":
        errors.append(f"{prefix}{path} is not a directory; move it away or choose another path")
    elif foreign and ours:
        errors.append(foreign_over(label, path, foreign))
    elif foreign and not cover:
        errors.append(
            f"{prefix}{path} is the mount point of another file system ({foreign.fstype} {foreign.source}); "
            "unmount it, or set cover: true to mount over it"
        )
    elif facts.kind == "directory" and not (facts.empty or ours or cover):
        errors.append(f"{prefix}the directory {path} is not empty; empty it, or set cover: true to hide what is in it")
    return errors
