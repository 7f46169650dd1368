# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads the mounts of every mount namespace and which parts of a store they use (proc(5), mount_namespaces(7)).

Each namespace is read once for each root directory that its processes have: a process in a chroot sees only what lies
below it. A namespace that no process lives in is kept alive by a mount of it, and is read by a child that enters it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo as mountinfo_module
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import FUSE, served
from ansible_collections.strata.overlay.plugins.module_utils._mount.in_use import InMounts
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import path_in_store, root_on_device
from ansible_collections.strata.overlay.plugins.module_utils._store.recorded import lower_links

_PINNED = re.compile(r"^mnt:\[([0-9]+)\]$")


@dataclass(frozen=True)
class Namespace:
    """The mounts that one kind of process sees.

    :ivar root: a path by which its root directory can be reached. :ivar name: such as ``mnt:[4026531841]``.
    :ivar pid: the first process that lives in it, 0 where none does.
    """

    root: str
    mounts: tuple[Mount, ...]
    name: str = ""
    pid: int = 0


@dataclass(frozen=True)
class Everywhere:
    """All namespaces, and in words those that could not be read."""

    namespaces: tuple[Namespace, ...]
    unreadable: tuple[str, ...]


def mounts_everywhere(needles: Sequence[str] = ()) -> Everywhere:
    """Read the mount table of every namespace now.

    :param needles: where there are any, tables in which none of these words occurs need not be read in full.
    """
    markers = (*map(os.fsencode, needles), b" nsfs ") if needles else ()
    tables, known, unreadable = _tables_of_processes()
    namespaces = [
        Namespace(f"/proc/{pid}/root", _parsed(table, markers), name, int(pid)) for table, (pid, name) in tables.items()
    ]
    for name, pin in _pinned(namespaces, known).items():
        table = _enter(pin)
        if table is None:
            unreadable.append(f"the mount namespace kept by {pin} cannot be read")
        else:
            namespaces.append(Namespace("", _parsed(table, markers), name))
    return Everywhere(tuple(namespaces), tuple(unreadable))


def _parsed(table: bytes, markers: Sequence[bytes]) -> tuple[Mount, ...]:
    wanted = not markers or any(word in table for word in markers)
    return tuple(mountinfo_module.parse(table)) if wanted else ()


def processes_in(namespace: str) -> list[int]:
    """The processes that live in a mount namespace now."""
    return [int(pid) for pid in _processes() if namespace_of(pid) == namespace]


def _processes() -> list[str]:
    return sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int)


def namespace_of(pid: str) -> str:
    """The name of a process's mount namespace, such as ``mnt:[4026531841]``; "" where that is not for us to see."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _tables_of_processes() -> tuple[dict[bytes, tuple[str, str]], set[str], list[str]]:
    """Every different table, with a process that has it and the name of its namespace; the names of all namespaces that
    were read; and who cannot be read, in words.
    """
    tables: dict[bytes, tuple[str, str]] = {}
    seen: set[tuple[str, int, int]] = set()
    unreadable: list[str] = []
    for pid in _processes():
        key = _view_of(pid)
        if key in seen:
            continue
        try:
            with open(f"/proc/{pid}/mountinfo", "rb") as stream:
                table = stream.read()
                # No two namespaces have a mount of one id: who has this table too, and may be asked, names it.
                if not tables.get(table, ("", ""))[1]:
                    tables[table] = pid, key[0] if key else ""
        except PermissionError:
            unreadable.append(f"the mounts of process {pid} cannot be read")
        except OSError:
            continue  # it has ended
        else:
            if key:
                seen.add(key)
    return tables, {name for name, _device, _inode in seen}, unreadable


def _view_of(pid: str) -> Optional[tuple[str, int, int]]:
    """What a process's mount table depends on; None where that is not for us to see."""
    try:
        root = os.stat(f"/proc/{pid}/root")
        return os.readlink(f"/proc/{pid}/ns/mnt"), root.st_dev, root.st_ino
    except OSError:
        return None


def _pinned(namespaces: Sequence[Namespace], known: set[str]) -> dict[str, str]:
    """Files that keep namespaces alive in which no process lives, by the names of these."""
    found: dict[str, str] = {}
    for namespace in namespaces:
        for mount in namespace.mounts:
            if mount.fstype == "nsfs" and _PINNED.match(mount.root) and mount.root not in known:
                found.setdefault(mount.root, f"{namespace.root}{mount.path}")
    return found


def _enter(pin: str) -> Optional[bytes]:
    """The mount table of a pinned namespace, read by a child process that enters it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            syscalls.enter_mount_namespace(pin)
            with open("/proc/self/mountinfo", "rb") as stream, os.fdopen(writer, "wb") as answer:
                answer.write(b"+" + stream.read())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        table = answer.read()
    os.waitpid(child, 0)
    return table[1:] if table else None


def used_by_mounts(everywhere: Everywhere, root: str, leaving: AbstractSet[str] = frozenset()) -> InMounts:
    """Every use of the store at ``root``: binds of what is in it, overlays of its layers, mounts on its directories.

    Binds are compared by device and path on it, which are the same in every namespace. Names of lowers are as whoever
    mounted them gave them: relative ones count as ours; absolute ones unless they lead to another directory there.

    :param leaving: mount points that do not count.
    """
    used = InMounts(set(), set(), set())
    place = root_on_device(mountinfo_module.read(), root)
    for namespace in everywhere.namespaces:
        # A mount may have come from here to where another directory has this name: rather too much in use than too
        # little.
        same = SameDirectory(namespace.root, f"{root}/overlay2", known=True)
        by_id = {mount.mount_id: mount for mount in namespace.mounts}
        for mount in namespace.mounts:
            if mount.path in leaving:
                continue
            _add(used, path_in_store(place, mount.device, mount.root))
            parent = by_id.get(mount.parent_id)
            if parent is not None:
                inner = os.path.normpath(os.path.join(parent.root, os.path.relpath(mount.path, parent.path)))
                _add(used, path_in_store(place, parent.device, inner))
            if mount.fstype == "overlay":
                for name in [*mount.lowers(), mount.option("upperdir"), mount.option("workdir")]:
                    _add(used, path_of_name(name, same))
            elif mount.fstype == FUSE:
                for name in _served(mount, root):
                    _add(used, f"overlay2/{name}")
    return used


def _served(mount: Mount, root: str) -> Iterator[str]:
    """Names in overlay2/ that fuse-overlayfs uses for a mount. By which path another namespace knows the store is not
    asked: no other store has these names, but for layers that are the same.
    """
    shown = served(mount)
    if shown is not None:
        yield from filter(None, [shown.top, shown.writable, *lower_links(f"{root}/overlay2/{shown.top}")])


class SameDirectory:
    """Whether a path in another namespace leads to a directory of ours; one that leads nowhere may do so.

    :param known: the path that the directory has here is believed to lead to it there too.
    """

    def __init__(self, namespace_root: str, home: str, known: bool) -> None:
        self._root = namespace_root
        self._home = home
        self._known: dict[str, bool] = {home: True} if known else {}

    def ended(self) -> bool:
        """Whether nobody is left in that namespace by whom its paths could be followed."""
        return bool(self._root) and not os.path.exists(self._root)

    def __call__(self, path: str) -> bool:
        if path not in self._known:
            try:
                self._known[path] = os.path.samestat(os.stat(self._root + path), os.stat(self._home))
            except OSError:
                self._known[path] = True
        return self._known[path]


def path_of_name(name: str, same: Callable[[str], bool]) -> str:
    """Path within the store of a lower, upper or work directory as a mount names it."""
    if not name.startswith("/"):
        return f"overlay2/{name}" if name else ""
    parts = name.split("/")
    # .../overlay2/l/<link>, .../overlay2/<id>/diff, .../overlay2/<id>/volatile/diff, and the same for work.
    for length in (2, 3):
        if len(parts) > length and parts[-length - 1] == "overlay2" and same("/".join(parts[:-length])):
            return "/".join(parts[-length - 1 :])
    return ""


def _add(used: InMounts, path: str) -> None:
    parts = path.split("/")
    if parts[:2] == ["overlay2", "l"] and len(parts) > 2:
        used.links.add(parts[2])
    elif parts[0] == "overlay2" and len(parts) > 1:
        used.layers.add(parts[1])
    elif parts[:2] == ["content", "sha256"] and len(parts) > 2:
        used.contents.add(parts[2])
