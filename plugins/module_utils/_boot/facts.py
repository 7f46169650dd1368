# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finds what mounts stacks at boot: mount units, fstab lines, the helper. Reads only.

Every run looks; only one that writes or removes any of it needs more, see `_boot/entries`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._boot.fstab import block_lines, first_field
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry, BootFacts, Places
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import is_roots
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount

_MARK = re.compile(r"\A# strata\.overlay: stack (\S+) of the store (.*)\. ")
_REMOTE = ("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "virtiofs")
"""File systems that come up with the network; what needs them must not be waited for before it."""


def observe_boot(root: str, mounts: Sequence[Mount], places: Optional[Places] = None) -> BootFacts:
    """Look at units, fstab, helper and init.

    :param root: the store's directory, without links.
    """
    places = places or Places()
    ours, foreign = _units(places.units, root)
    lines = block_lines(_read(places.fstab), root)
    return BootFacts(
        places=places,
        helper=os.access(places.helper, os.X_OK) and is_roots(places.helper),
        systemd=os.path.isdir(places.running) or os.path.basename(os.path.realpath(places.init)) == "systemd",
        remote=_is_remote(root, mounts),
        entries=(*ours, *(BootEntry(first_field(line), places.fstab, line) for line in lines)),
        foreign=frozenset(foreign),
    )


def _units(directory: str, root: str) -> tuple[list[BootEntry], list[str]]:
    """The mount units of this store's stacks, and the paths of all others."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return [], []
    ours: list[BootEntry] = []
    foreign: list[str] = []
    links: Optional[dict[str, set[str]]] = None
    for name in names:
        path = f"{directory}/{name}"
        if not name.endswith(".mount"):
            continue
        text = _read(path)
        mark = _MARK.match(text)
        if mark is None or mark.group(2) != root:
            foreign.append(path)
            continue
        links = _links(directory, names) if links is None else links
        ours.append(BootEntry(mark.group(1), path, text, frozenset(links.get(name, ()))))
    return ours, foreign


def _links(directory: str, names: Sequence[str]) -> dict[str, set[str]]:
    """Links to mount units, by the unit's name."""
    found: dict[str, set[str]] = {}
    for wanting in names:
        if wanting.endswith((".wants", ".requires")):
            with contextlib.suppress(OSError):
                for name in os.listdir(f"{directory}/{wanting}"):
                    if name.endswith(".mount"):
                        found.setdefault(name, set()).add(f"{directory}/{wanting}/{name}")
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


def _is_remote(root: str, mounts: Sequence[Mount]) -> bool:
    holders = [mount for mount in mounts if is_inside(root, mount.path)]
    if not holders:
        return False
    # Of several mounts on one path the last one in the table is the one seen.
    holder = max(enumerate(holders), key=lambda item: (len(item[1].path), item[0]))[1]
    return holder.fstype in _REMOTE or holder.fstype in ("fuse.sshfs", "fuse.glusterfs", "fuse.s3fs")
