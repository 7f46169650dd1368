# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Names the processes that hold a lock and since when, for the timeout message (proc(5))."""

from __future__ import annotations

import contextlib
import os
import time

_MOST = 3
"""Holders that are named; the others are counted."""


def holders_of_lock(descriptor: int) -> str:
    """In words, for a lock by flock(2) on what is open there; "" where the kernel names nobody."""
    said = [_describe(process, kind, descriptor) for process, kind in _holders(os.fstat(descriptor)).items()]
    more = len(said) - _MOST
    return ", ".join(said[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _holders(status: os.stat_result) -> dict[int, str]:
    """READ or WRITE, by process id: 0 for processes that cannot be seen from here."""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    found: dict[int, str] = {}
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii") as table:
        for line in table:
            # 1: FLOCK  ADVISORY  WRITE 4711 08:01:131080 0 EOF; an arrow after the number is one who waits.
            fields = line.split()
            if len(fields) < 6 or fields[1] != "FLOCK":
                continue
            _place, _colon, inode = fields[5].rpartition(":")
            # Some file systems (btrfs) show other devices in stat(2) than here.
            same = fields[5] == f"{device}:{status.st_ino}" or (
                inode == str(status.st_ino) and _has_open(int(fields[4]), status)
            )
            if same:
                found[int(fields[4])] = fields[3]
    return found


def _has_open(process: int, status: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{process}/fd/{name}"), status):
                    return True
    return False


def _describe(process: int, kind: str, descriptor: int) -> str:
    if not process:
        return "a process outside of this container"
    try:
        with open(f"/proc/{process}/cmdline", "rb") as line:
            command = line.read(150).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"process {process}, which has ended, by one that it started"
    since = _since(process, kind, descriptor)
    does = "changing the store" if kind == "WRITE" else "reading it"
    return f"process {process} ({command}), {does}{' since ' + since if since else ''}"


def _since(process: int, kind: str, descriptor: int) -> str:
    """When a writer took the lock, as it has noted; when a reader began to run."""
    try:
        if kind == "WRITE":
            noted: list[str] = os.pread(descriptor, 100, 0).decode(errors="replace").split()
            if len(noted) != 2 or noted[0] != str(process):
                return ""  # the text of one that was killed
            begun = int(noted[1])
        else:
            begun = _started(process)
    except (OSError, ValueError, IndexError):
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun))


def _started(process: int) -> int:
    with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as stream:
        ticks = int(stream.read().rpartition(")")[2].split()[19])
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    return int(time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK"))
