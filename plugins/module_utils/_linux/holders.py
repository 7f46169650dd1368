# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finds what keeps a mount busy: processes with open files below a path, and mounts below it (proc(5))."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo

_MOST_SHOWN = 10
_NO_TREE = ("/memfd:", "/dev/", "/SYSV", "/anon_hugepage", "/proc/")
"""What the kernel keeps on file systems of its own that nobody can mount, and devices."""


class Holder(NamedTuple):
    """One process (``pid``, ``command``) or, with pid 0, one mount, and what of the tree it holds."""

    pid: int
    command: str
    holds: str

    def result(self) -> dict[str, Any]:
        """As modules return it."""
        return self._asdict()

    def describe(self) -> str:
        """On one line: any user can give a process, or a mount, a name with ends of lines in it."""
        holds = f"(process {self.pid}) holds" if self.pid else "on"
        return one_line(f"{self.command} {holds} {self.holds}")


def holders(path: str) -> list[Holder]:
    """Everything in this mount namespace that keeps the mount at ``path`` busy; ``path`` without links."""
    here = _namespace("self")
    found = mounts_inside(path)
    for pid in _processes():
        if pid != os.getpid() and _namespace(str(pid)) == here:
            held = next((target for target in _held(pid) if is_inside(target, path)), None)
            if held is not None:
                found.append(Holder(pid, command_of(pid), held))
    return found


def _processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def holders_of_unmounted(mounted: set[str]) -> list[Holder]:
    """Processes that use a tree which is mounted nowhere any more, such as one that was detached while it was open.

    :param mounted: the devices (``major:minor``) of all mounts in all namespaces.
    """
    found: list[Holder] = []
    for pid in _processes():
        for link in _links(pid):
            target = next(iter(_target(link)), "")
            if target.startswith("/") and not target.startswith(_NO_TREE) and _lies_on_other(link, mounted):
                found.append(Holder(pid, command_of(pid), target))
                break
    return found


def _lies_on_other(link: str, mounted: set[str]) -> bool:
    """Whether it is on a file system without a disk that is none of these."""
    try:
        facts = os.stat(link)
    except OSError:
        return False
    device = f"{os.major(facts.st_dev)}:{os.minor(facts.st_dev)}"
    return (stat.S_ISDIR(facts.st_mode) or stat.S_ISREG(facts.st_mode)) and device[:2] == "0:" and device not in mounted


def holders_of_devices(devices: set[str]) -> list[Holder]:
    """Processes that use what lies on these devices (``major:minor``), such as overlays that are mounted no more.

    Only directories are looked at, and files where all layers and the writable one are of one file system: others show
    another device (overlayfs.rst, "Inode properties").
    """
    found: list[Holder] = []
    for pid in _processes() if devices else ():
        held = next((link for link in _links(pid) if _device(link) in devices), None)
        if held is not None:
            found.append(Holder(pid, command_of(pid), next(iter(_target(held)), "")))
    return found


def _device(link: str) -> str:
    try:
        number = os.stat(link).st_dev
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}"


def mounts_inside(path: str) -> list[Holder]:
    """What is mounted below the mount at ``path``; ``path`` without links."""
    return [
        Holder(0, f"mount of {line.fstype} {line.source}", line.path)
        for line in mountinfo.read()
        if line.path != path and is_inside(line.path, path)
    ]


def describe_holders(found: list[Holder]) -> str:
    """Holders in words, the first ten of them."""
    if not found:
        return "something that this host does not show (a swap file, a loop device, a process of another namespace)"
    rest = f", and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return ", ".join(holder.describe() for holder in found[:_MOST_SHOWN]) + rest


def busy_message(name: str, path: str, found: list[Holder], again: bool = False) -> str:
    """Why a stack was not touched, and what to do.

    :param again: its persistent layer is mounted again, so that nobody may keep the old tree.
    """
    other = (
        "name the services that use it in services, so that they are stopped meanwhile"
        if again
        else "set on_busy: detach to let it keep the old tree while new processes see the new one"
    )
    busy = f"stack {name}: {path} is busy: {describe_holders(found)}"
    return f"{busy}. Nothing was unmounted. Stop what holds it, or {other}."


def _namespace(pid: str) -> Optional[str]:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None


def _held(pid: int) -> Iterator[str]:
    """Paths that a process works in, runs, has mapped or has open; a process that ends meanwhile holds nothing."""
    for link in _links(pid):
        yield from _target(link)


def _links(pid: int) -> Iterator[str]:
    """Links in /proc to all that a process holds."""
    for name in ("cwd", "root", "exe"):
        yield f"/proc/{pid}/{name}"
    for directory in ("fd", "map_files"):
        try:
            names = os.listdir(f"/proc/{pid}/{directory}")
        except OSError:
            continue
        for name in names:
            yield f"/proc/{pid}/{directory}/{name}"


def _target(link: str) -> tuple[str, ...]:
    try:
        target = os.readlink(link)
    except OSError:
        return ()
    deleted = " (deleted)"
    return (target[: -len(deleted)] if target.endswith(deleted) else target,)


def command_of(pid: int) -> str:
    """The name of a process's program, for messages."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return "a process that has ended"
