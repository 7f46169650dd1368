# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds a stack's mount request and compares mount table entries with it. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._common.value import Value
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import MountStyle
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount, by_path
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import (
    FUSE,
    fuse_source,
    is_served_from,
    read_source,
    served,
    union_driver,
    upper_of,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord

_LONGEST_VALUE = 255
_VOLATILE = re.compile(r"^[0-9a-f]{64}/volatile/diff\Z")


@dataclass(frozen=True, eq=False, repr=False)
class MountRequest(Value):
    """What is to be mounted. Names are absolute where the kernel takes them so long, else relative to the store's home.

    :ivar lowers: top to bottom.
    :ivar upper: ``""`` for a read-only stack; ``short_upper`` is its short link, for kernels that take all options in
        one page.
    :ivar whole: the upper is the whole tree, and shown as it is.
    :ivar served: the source of the mount where fuse-overlayfs shows the layers, see ``fuse_source``; else "".
    """

    home: str
    lowers: tuple[str, ...]
    upper: str
    work: str
    short_upper: str
    style: MountStyle = field(default_factory=MountStyle)
    served: str = ""
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.lowers:
            raise ValueError("a stack needs a layer")

    def relative(self, name: str) -> str:
        """A name relative to the store's home."""
        return os.path.relpath(name, self.home) if os.path.isabs(name) else name

    def ms_flags(self) -> int:
        """For mount(2): those of the style, and read-only where nothing is written."""
        return self.style.ms_flags() | (0 if self.upper else mount_flags.MS_RDONLY)

    def attributes(self) -> int:
        """The same for fsmount(2)."""
        return self.style.attributes() | (0 if self.upper else mount_flags.ATTR_RDONLY)

    @property
    def is_bind(self) -> bool:
        """One directory is shown as it is: the kernel refuses an overlay of a single one."""
        return bool(self.bound)

    @property
    def bound(self) -> str:
        """The directory that is shown as it is, "" where there are several."""
        if self.whole:
            return self.upper
        return self.lowers[0] if len(self.lowers) == 1 and not self.upper else ""


def mount_request(home: str, record: StackRecord) -> MountRequest:
    """The mount of a stack, from its record alone."""
    layers = [hex_of(chain_id) for chain_id in reversed(chain_ids(record.shown))]
    links = [f"l/{link_id(layer)}" for layer in layers]
    writable = ""
    if record.writable != "none":
        writable = f"{record.stack_id}{'/volatile' if record.writable == 'volatile' else ''}"
    parts = (f"{writable}/diff", f"{writable}/work") if writable else ("", "")
    longest = max(len(os.fsencode(f"{home}/{name}")) for name in (*links, *parts))
    # The kernel takes a backslash in the name of an upper for an escape, and shows the name as it was given.
    prefix = f"{home}/" if longest <= _LONGEST_VALUE and "\\" not in home else ""
    upper, work = ((prefix + part if part else "") for part in parts)
    short_upper = f"l/{link_id(record.stack_id)}" if upper else ""
    source = fuse_source(home, layers[0], writable) if record.fuse else ""
    return MountRequest(
        home, tuple(prefix + link for link in links), upper, work, short_upper, record.style, source, record.whole
    )


def shown_content(root: str, record: StackRecord) -> str:
    """The directory that the mount of a stack shows where that is a bind of one."""
    if record.whole:
        return f"{root}/overlay2/{record.stack_id}/diff"
    return f"{root}/content/sha256/{hex_of(record.shown[0])}"


def root_on_device(mounts: Sequence[Mount], path: str) -> tuple[str, str]:
    """Device and path within it of a directory, as a bind mount of it shows them in mountinfo."""
    # Hosts with a thousand mounts are asked this for every stack: the cheap half of the question goes first.
    above = [m for m in mounts if path.startswith(m.path) and is_inside(path, m.path)]
    if not above:
        # In a chroot that is no mount point the table does not say what lies under it.
        return "", path
    nearest = max((line.path for line in above), key=len)
    holder = by_path(above)[nearest][-1]
    below = os.path.relpath(path, holder.path)
    return holder.device, os.path.normpath(os.path.join(holder.root, below))


def _absolute(home: str, name: str) -> str:
    return os.path.normpath(os.path.join(home, name))


def path_in_store(place: tuple[str, str], device: str, root: str) -> str:
    """Path within the store of something on a device; "" where it is not in the store.

    :param place: ``root_on_device`` of the store.
    """
    return os.path.relpath(root, place[1]) if device == place[0] and is_inside(root, place[1]) else ""


def shows_file_system_of(place: tuple[str, str], mount: Mount) -> bool:
    """Whether a mount is one of the file system that a store lies on, whatever its type: a bind. Where that is an
    overlay itself, as in a container, its options say nothing of the store's layers.

    :param place: ``root_on_device`` of the store.
    """
    return bool(place[0]) and mount.device == place[0]


def driver_at(mount: Mount, place: tuple[str, str]) -> str:
    """The driver that shows several layers of a store as one at a mount of it; "" for a bind of one directory."""
    return "" if shows_file_system_of(place, mount) else union_driver(mount)


def is_of_store(mount: Mount, home: str, place: tuple[str, str]) -> bool:
    """Whether a mount shows layers of this store: a union of them, or a bind of a content or of a writable layer that
    is a whole tree.

    :param place: ``root_on_device`` of the store.
    """
    if not shows_file_system_of(place, mount):
        if mount.fstype == FUSE:
            return is_served_from(mount, home)
        if mount.fstype == "overlay":
            lowers = (name for name in mount.lowers() if name.startswith(("/", "l/")))
            return any(is_inside(_absolute(home, name), home) for name in lowers)
    parts = path_in_store(place, mount.device, mount.root).split("/")
    return (parts[:2] == ["content", "sha256"] and len(parts) > 2) or (parts[0] == "overlay2" and parts[2:] == ["diff"])


def of_store_at(mounts: Sequence[Mount], path: str, root: str) -> list[Mount]:
    """The mounts of a store at a path, lowest first.

    :param path: without links, as the mount table has it.
    :param root: the store's directory, which exists.
    """
    lines = by_path([line for line in mounts if line.path == path]).get(path, [])
    if not lines:
        return []
    # Only of binds it has to be known, and hosts may have a thousand mounts to look through.
    binds = any(line.fstype != "overlay" or line.root != "/" for line in lines)
    place = root_on_device(mounts, root) if binds else ("", "")
    return [line for line in lines if is_of_store(line, f"{root}/overlay2", place)]


def mismatch(mount: Mount, request: MountRequest, bind_root: tuple[str, str]) -> str:
    """What is otherwise on a mount than it was asked for, in words: layers in order, upper, whether it can be written,
    its flags; "" when it is right. Options that the kernel adds by itself are not looked at.

    :param bind_root: ``root_on_device`` of the only layer's content.
    """
    if request.is_bind:
        if (mount.device, mount.root) != bind_root:
            return "it shows another tree"
        if ("idmapped" in mount.options) != request.style.idmapped:
            return "the owners of its files are not mapped as they should be"
    elif request.served:
        if mount.source != request.served or mount.fstype != FUSE:
            return _other_source(mount, request)
    elif mount.fstype != "overlay":
        return f"it is a mount of {mount.fstype}"
    elif not _same_names(request.home, mount.lowers(), request.lowers):
        return _other_layers(len(mount.lowers()), len(request.lowers))
    elif not _has_upper(mount, request):
        return "it has another writable layer" if mount.option("upperdir") else "its writable layer is missing"
    elif request.style.context and mount.option("context").strip('"') != request.style.context:
        return f"its context is not {request.style.context}"
    elif mount.source != request.style.source and (request.style.idmapped or "idmap" in mount.source):
        return "the owners of its files are not mapped as they should be"
    if mount.read_only != (not request.upper):
        return "it is read-only" if mount.read_only else "it can be written"
    missing = request.style.missing_from(mount.options, mount.optional)
    return f"it is mounted without {', '.join(missing)}" if missing else ""


def _same_names(home: str, found: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether two lists name the same; mostly to the letter, and 500 names take a while to resolve."""
    return list(found) == list(wanted) or [_absolute(home, name) for name in found] == [
        _absolute(home, name) for name in wanted
    ]


def _other_layers(found: int, wanted: int) -> str:
    return f"it shows {found} layers of {wanted}" if found != wanted else "it shows other layers"


def _other_source(mount: Mount, request: MountRequest) -> str:
    found, wanted = served(mount), read_source(request.served)
    if found is None or wanted is None:
        return f"it is a mount of {mount.fstype}"
    return "it shows other layers" if found[:2] != wanted[:2] else "it has another writable layer"


def _has_upper(mount: Mount, request: MountRequest) -> bool:
    found = mount.option("upperdir")
    if not found or not request.upper:
        return not found and not request.upper
    return _absolute(request.home, found) in (
        _absolute(request.home, request.upper),
        _absolute(request.home, request.short_upper),
    )


def own_volatile(mount: Mount, home: str, record: StackRecord) -> bool:
    """Whether a mount writes into the volatile layer that a record names."""
    upper = upper_of(mount, home)
    if not upper or record.writable != "volatile":
        return False
    names = (f"{home}/{record.stack_id}/volatile/diff", _absolute(home, f"l/{link_id(record.stack_id)}"))
    return _absolute(home, upper) in names


def only_memory(mount: Mount, home: str, record: StackRecord, place: tuple[str, str]) -> bool:
    """Whether a mount writes nowhere, or into a volatile layer: this record's, or one that a killed run left.

    :param place: ``root_on_device`` of the store.
    """
    if shows_file_system_of(place, mount):
        return mount.read_only or record.writable != "persistent"
    upper = upper_of(mount, home)
    left = _VOLATILE.match(os.path.relpath(_absolute(home, upper), home)) if upper else None
    return not upper or left is not None or own_volatile(mount, home, record)
