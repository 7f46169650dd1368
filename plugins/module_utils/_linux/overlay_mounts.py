# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Recognises overlay mounts in the mount table: which store each belongs to and which directory it writes to. Pure.

The kernel's overlay shows every directory that it was given. fuse-overlayfs shows none, but its source, which whoever
mounts may choose: ours names the store, the uppermost layer, whose ChainID stands for all those below it, and the
writable layer.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount

FUSE_OVERLAYFS = "fuse-overlayfs"
FUSE = f"fuse.{FUSE_OVERLAYFS}"
"""Its type in the mount table."""

_SOURCE = r"^strata:([0-9a-f]{16}):([0-9a-f]{64})(?::([0-9a-f]{64}(?:/volatile)?))?\Z"
"""Compiled when it is needed: hardly any host has such a mount."""


class Served(NamedTuple):
    """What the source of a mount of fuse-overlayfs says.

    :ivar store: stands for the home of the store, see ``fuse_source``.
    :ivar top: directory of the uppermost layer.
    :ivar writable: path of the writable layer within the home, its ``diff`` left out; "" where there is none.
    """

    store: str
    top: str
    writable: str


def fuse_source(home: str, top: str, writable: str) -> str:
    """The source of a stack's mount; at most 167 characters, and the kernel takes 255.

    :param top: directory of the uppermost layer, ``writable`` as in ``Served``.
    """
    return f"strata:{_tag(home)}:{top}" + (f":{writable}" if writable else "")


def served(mount: Mount) -> Optional[Served]:
    """What fuse-overlayfs shows at a mount; None if it is not a store's."""
    return read_source(mount.source) if mount.fstype == FUSE else None


def read_source(source: str) -> Optional[Served]:
    """The way back from ``fuse_source``; None where it is none."""
    match = re.match(_SOURCE, source)
    return Served(match.group(1), match.group(2), match.group(3) or "") if match else None


def is_served_from(mount: Mount, home: str) -> bool:
    """Whether fuse-overlayfs shows layers of this store at a mount."""
    return _served_from(mount, home) is not None


def union_driver(mount: Mount) -> str:
    """The driver that shows several layers as one at a mount; "" where it shows one directory as it is."""
    if mount.fstype == "overlay":
        return "overlay"
    return FUSE_OVERLAYFS if served(mount) else ""


def upper_of(mount: Mount, home: str) -> str:
    """The directory that a union writes into, as it was named or by its absolute path; "" where it is read-only, or
    shows layers of another store than the one with this home.
    """
    if mount.fstype == "overlay":
        return mount.option("upperdir")
    shown = _served_from(mount, home)
    return f"{home}/{shown.writable}/diff" if shown and shown.writable else ""


def _served_from(mount: Mount, home: str) -> Optional[Served]:
    shown = served(mount)
    return shown if shown and shown.store == _tag(home) else None


def _tag(home: str) -> str:
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
