# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""User namespaces in which a module without root may mount, as root over the user's subordinate IDs.

All runs of a user share one user namespace and its mounts. A ``sleep`` process that the first run with mounts leaves
behind keeps it alive. Sources: user_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from typing import NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED_BY_LINK, READ
from ansible_collections.strata.overlay.plugins.module_utils._linux.trust import OWN_SPACE

_CLONE_NEWNS = 0x20000
_CLONE_NEWUSER = 0x10000000
_MS_REC = 0x4000
_MARK = f"{OWN_SPACE}=kept\0".encode()
"""How the environment begins of a process that keeps the namespaces: by it every run finds it, and nothing is on
record that could be out of date.
"""

_LONGEST_SLEEP = str(2**31 - 1)


def enter_own(root: str, keep: bool) -> int:
    """Live in this user's namespaces from here on; they are made where there are none.

    :param root: the store that is to be used, for messages.
    :param keep: a process is left behind that keeps new ones, and the mounts in them.
    :returns: the process that keeps them, 0 where none does: then they end with this process.
    :raises StrataError: this host lets the user have none; it says what to do. Nothing was changed then.
    """
    user = _name()
    try:
        with _alone(os.path.expanduser("~")):
            keeper = _keeper()
            if keeper:
                _join(str(keeper))
            else:
                _make(user)
            os.environ.update(_mark())
            return keeper or (_leave_keeper() if keep else 0)
    except OSError as error:
        raise StrataError(
            f"{user} is not root, and cannot have a user namespace for the store {root}: {error.strerror or error}. "
            "Run as root (become: true), or allow user namespaces on the host (sysctl user.max_user_namespaces; "
            "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, where there are such)."
        ) from error


def refuse_foreign(root: str) -> None:
    """StrataError where a store cannot be an ordinary user's."""
    at = root
    while not os.path.lexists(at):
        at = os.path.dirname(at)
    if not os.access(at, os.W_OK):
        raise StrataError(
            f"option 'root': the store {root} is not for {_name()}, who cannot write to {at}. Run as root (become: "
            "true), or set root to a directory of the user's own, such as ~/.local/share/strata."
        )


def lasting_environment() -> dict[str, str]:
    """The environment of a program that goes on after a run, and keeps the namespaces too, if this process is in such.

    Nothing else of the run's own is in it: a play's ``environment`` may hold what nobody shall find there months later.
    """
    mark = _mark()
    kept = mark if mark.items() <= os.environ.items() else {}
    return {**kept, "PATH": os.environ.get("PATH", os.defpath)}


def _mark() -> dict[str, str]:
    name, _equals, value = _MARK.rstrip(b"\0").decode().partition("=")
    return {name: value}


def _name() -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return f"user {os.geteuid()}"


@contextlib.contextmanager
def _alone(home: str) -> Iterator[None]:
    """Of two runs at once the second finds the namespaces that the first one has made."""
    descriptor = os.open(home, LISTED_BY_LINK)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# To join.


def _keeper() -> int:
    """The process that keeps this user's namespaces, 0 where there is none."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == os.geteuid():
                with open(f"/proc/{pid}/environ", "rb") as stream:
                    if stream.read(len(_MARK)) == _MARK:
                        return int(pid)
    return 0


def _join(pid: str) -> None:
    here = os.getcwd()
    kinds = (("user", _CLONE_NEWUSER), ("mnt", _CLONE_NEWNS))
    # All are opened first: as soon as this process has joined one, it sees the others otherwise.
    opened = [(os.open(f"/proc/{pid}/ns/{kind}", READ), flag) for kind, flag in kinds]
    for descriptor, flag in opened:
        syscalls.libc("setns", ctypes.c_int(descriptor), ctypes.c_int(flag))
        os.close(descriptor)
    os.chdir(here)


# To make.


def _make(user: str) -> None:
    uid, gid = os.geteuid(), os.getegid()
    maps = [_map("newuidmap", "/etc/subuid", user, uid, uid), _map("newgidmap", "/etc/subgid", user, uid, gid)]
    # Only a process outside may write the maps, so that one is started before and waits.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        _write_maps(reading, maps)
    os.close(reading)
    try:
        syscalls.libc("unshare", ctypes.c_int(_CLONE_NEWUSER | _CLONE_NEWNS))
        os.write(writing, b"1")
    finally:
        os.close(writing)
        _pid, status = os.waitpid(child, 0)
    if status:
        raise StrataError(
            f"{maps[0][0]} or {maps[1][0]} refused the ids of {user} in /etc/subuid and /etc/subgid; see whether both "
            "programs have their rights (setuid root, or file capabilities) and whether the ranges are of this user"
        )
    syscalls.mount("", "/", None, mount_flags.MS_SLAVE | _MS_REC)


def _map(program: str, table: str, user: str, uid: int, own: int) -> list[str]:
    """The call that maps this user's id to 0, and the ids that are set aside for the user to 1 and those after it."""
    path = shutil.which(program)
    if path is None:
        raise StrataError(
            f"{user} is not root, and {program} is not on this host, so nobody can give the user ids for the files of "
            "layers: install it (package uidmap in Debian, shadow-utils elsewhere), or run as root (become: true)"
        )
    found = _range(table, user, uid)
    if found is None:
        raise StrataError(
            f"{user} is not root, and {table} sets no ids aside for the user, which the files of layers need: "
            f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}, or run as root (become: true)"
        )
    first, count = found
    return [path, str(os.getpid()), "0", str(own), "1", "1", str(first), str(count)]


def _range(table: str, user: str, uid: int) -> Optional[tuple[int, int]]:
    """The longest range of a user: first id, and how many there are."""
    found: list[tuple[int, int]] = []
    with contextlib.suppress(FileNotFoundError), open(table, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            owner, _colon, numbers = line.strip().partition(":")
            first, _colon, count = numbers.partition(":")
            if owner in (user, str(uid)) and first.isdigit() and count.isdigit() and int(count):
                found.append((int(first), int(count)))
    return max(found, key=lambda item: item[1], default=None)


def _write_maps(reading: int, maps: list[list[str]]) -> NoReturn:
    status = 1
    try:
        if os.read(reading, 1) == b"1":
            done = [subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, check=False) for call in maps]
            status = max(abs(call.returncode) for call in done)
    finally:
        os._exit(min(status, 1))


def _leave_keeper() -> int:
    program = shutil.which("sleep")
    if program is None:
        raise OSError(errno.ENOENT, "there is no program 'sleep'")
    running, begins = os.pipe()  # closed when the program runs
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.chdir("/")
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(nothing, descriptor)
            for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
                if descriptor > 2 and descriptor != begins:
                    with contextlib.suppress(OSError):  # the one of the list itself
                        os.close(descriptor)
            os.execve(program, ["sleep", _LONGEST_SLEEP], _mark())
        finally:
            os._exit(1)
    os.close(begins)
    with open(running, "rb") as stream:
        stream.read()  # until it has its mark, the next run would not find it, and make namespaces of its own
    return child
