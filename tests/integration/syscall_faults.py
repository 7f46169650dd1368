# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process stopped before any one of its system calls that change something: killed there, or refused by the kernel.

What `strace -f -e inject=SET:signal=KILL:when=N` does, without stopping at each of all the other calls: a filter in the
kernel (seccomp_unotify(2)) holds every such call of the process, and of all that it starts, until this process has
counted it and said what becomes of it. The call that is refused, or at which the process dies, is never made.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

KILL = -1
"""What becomes of a call: the process that was started here is killed. 0 lets it be; a positive number is an errno."""

Verdict = Callable[[int, str], int]
"""Asked with the number of a call, counted from 1, and its name."""

PATIENCE = 120
"""Seconds after which a process that neither ends nor calls is a fault of its own."""

# Numbers of x86_64 (arch/x86/entry/syscalls/syscall_64.tbl). Calls by path and by descriptor, those that make and those
# that sync, and all that changes mounts.
CALLS = {
    "write": 1, "ioctl": 16, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "mknod": 133,
    "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197,
    "lremovexattr": 198, "fremovexattr": 199, "utimes": 235, "mkdirat": 258, "mknodat": 259, "fchownat": 260,
    "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "utimensat": 280,
    "fallocate": 285, "pwritev": 296, "syncfs": 306, "renameat2": 316, "copy_file_range": 326, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "mount_setattr": 442, "fchmodat2": 452,
}  # fmt: skip
OPENS = {"open": (2, 1), "openat": (257, 2)}
"""These too, where they are to write or to make; with the place of their flags among the arguments."""
OPENAT2 = 437

_TO_DESCRIPTOR = ("write", "pwrite64", "writev", "sendfile", "pwritev", "ioctl")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGING_IOCTLS = (0x40049409, 0x4020940D, 0x401C5820, 0x40086602)
"""FICLONE, FICLONERANGE, FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS (linux/fs.h)."""

_ARCHITECTURE = 0xC000003E  # AUDIT_ARCH_X86_64
_NAMES = {**{number: name for name, number in CALLS.items()}, **{OPENS[name][0]: name for name in OPENS}}
_NAMES[OPENAT2] = "openat2"

# linux/seccomp.h, linux/bpf_common.h
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER = 317, 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1


def works_here() -> bool:
    """Whether this machine has the numbers above."""
    return platform.machine() == "x86_64"


@dataclass
class Interrupted:
    """How it went.

    :ivar calls: every call that was held, in order.
    :ivar at: the call that was refused first or at which the process was killed, with its arguments; "" if none was.
    :ivar status: of the process that was started here, as ``os.waitpid`` gives it.
    """

    calls: list[str] = field(default_factory=list)
    at: str = ""
    status: int = 0


def interrupt(work: Callable[[], None], top: str, verdict: Verdict) -> Interrupted:
    """Do some work in a process of its own, whose changing calls are each put to ``verdict``.

    :param top: writes to files that do not lie below are not held: pipes and terminals are nobody's state.
    """
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process == 0:
        status = 70
        try:
            ours.close()
            socket.send_fds(theirs, [b"."], [_install(_program())])
            work()
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    _message, [listener], _flags, _address = socket.recv_fds(ours, 1, 1)
    ours.close()
    try:
        seen = _attend(listener, process, top, verdict)
    finally:
        os.close(listener)
    seen.status = os.waitpid(process, 0)[1]
    return seen


def _attend(listener: int, process: int, top: str, verdict: Verdict) -> Interrupted:
    seen = Interrupted()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    deadline = time.monotonic() + PATIENCE
    killed = False
    while True:
        events = poll.poll(1000)
        if events and events[0][1] & select.POLLHUP and not events[0][1] & select.POLLIN:
            return seen  # everyone who has the filter is gone
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            raise TimeoutError(f"still there after {PATIENCE} s, and {len(seen.calls)} calls: {seen.calls[-3:]}")
        if not events:
            continue
        if killed:
            time.sleep(0.001)  # those that die with it have not yet noticed; nothing of theirs goes on
            continue
        call = _receive(listener)
        if call is None:
            continue
        identity, thread, number, arguments = call
        name = _NAMES[number]
        answer = 0
        if _changes(thread, name, arguments, top):
            seen.calls.append(name)
            answer = verdict(len(seen.calls), name)
            if answer and not seen.at:
                seen.at = _describe(thread, name, arguments)
        if answer == KILL:
            os.kill(process, signal.SIGKILL)
            killed = True
        else:
            _respond(listener, identity, answer)


def _receive(listener: int) -> tuple[int, int, int, tuple[int, ...]] | None:
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None  # it has died meanwhile
        raise
    identity, thread, _flags, number, _architecture, _instruction, *arguments = _NOTIFICATION.unpack(buffer)
    return identity, thread, number, tuple(arguments)


def _respond(listener: int, identity: int, error: int) -> None:
    answer = bytearray(_ANSWER.pack(identity, 0, -error, 0 if error else _CONTINUE))
    try:
        fcntl.ioctl(listener, _SEND, answer)
    except OSError as failure:
        if failure.errno != errno.ENOENT:
            raise


def _changes(thread: int, name: str, arguments: tuple[int, ...], top: str) -> bool:
    if name == "openat2":
        return bool(struct.unpack("=Q", _memory(thread, arguments[2], 8).ljust(8, b"\0"))[0] & _WRITES)
    if name == "ioctl" and arguments[1] & 0xFFFFFFFF not in _CHANGING_IOCTLS:
        return False
    if name == "open_tree":
        return bool(arguments[2] & 1)  # OPEN_TREE_CLONE
    if name in _TO_DESCRIPTOR:
        return _target(thread, arguments[0]).startswith(f"{top}/")
    return True


def _target(thread: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{thread}/fd/{descriptor & 0xFFFFFFFF}")
    except OSError:
        return ""


def _describe(thread: int, name: str, arguments: tuple[int, ...]) -> str:
    """For the message of a test that fails: what the call was about."""
    said = []
    for argument in arguments[:4]:
        text = _memory(thread, argument, 200).partition(b"\0")[0] if argument > 1 << 20 else b""
        is_name = len(text) > 1 and all(32 <= byte < 127 for byte in text)
        said.append(text.decode() if is_name else str(argument))
    where = f" [{_target(thread, arguments[0])}]" if arguments[0] < 1 << 12 else ""
    return f"{name}({', '.join(said)}){where}"


def _memory(thread: int, address: int, size: int) -> bytes:
    try:
        descriptor = os.open(f"/proc/{thread}/mem", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, size, address)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(descriptor)


def _program() -> bytes:
    """The filter: which calls are put to this process, and which pass."""
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURE), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for number, place in OPENS.values():
        # The low half of the argument; then what other calls are compared with is the number again.
        lines += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 8 * place), (_ANY_BIT, 0, 1, _WRITES)]
        lines += [(_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)]
    for number in [*CALLS.values(), OPENAT2]:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def _install(program: bytes) -> int:
    """Put the filter on this process and all that it will start; the descriptor of the one who is asked."""
    library = ctypes.CDLL(None, use_errno=True)
    described = _Filter(len(program) // 8, program)
    listener = library.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(described))
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return int(listener)
