# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Every system call that Python's standard library lacks, and what this kernel can do.

Numbers are those of the unified table (all architectures that Linux has had since 5.1 share numbers from 424 up).
Sources: Linux Documentation/filesystems/overlayfs.rst, mount(2), fsopen(2), openat2(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MNT_DETACH = 0x2

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

_PR_SET_PDEATHSIG = 1
_MOVE_MOUNT = 429
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_OPENAT2 = 437

_AT_FDCWD = -100
_CLOEXEC = 0x1
_SET_FLAG = 0
_SET_STRING = 1
_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_ATTR_RDONLY = 0x1

_FSCONFIG_VALUE_MAX = 255
"""fs/fsopen.c copies at most 256 bytes of a value, the terminating zero included."""


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _Libc:
    """libc with errno turned into OSError; loaded on first use, so that importing this file costs nothing."""

    _loaded: Optional[ctypes.CDLL] = None

    @classmethod
    def _get(cls) -> ctypes.CDLL:
        if cls._loaded is None:
            cls._loaded = ctypes.CDLL(None, use_errno=True)
        return cls._loaded

    @classmethod
    def call(cls, name: str, *arguments: object) -> int:
        """Call a libc function that answers a negative number on error."""
        result = int(getattr(cls._get(), name)(*arguments))
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    @classmethod
    def syscall(cls, number: int, *arguments: object) -> int:
        """Call a system call by number; Python ints are passed as C longs."""
        words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
        return cls.call("syscall", ctypes.c_long(number), *words)


def openat2(dir_fd: int, path: bytes, flags: int, resolve: int) -> int:
    """Open ``path`` below ``dir_fd`` under the RESOLVE_* rules of openat2(2); OSError as the kernel says."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    return _Libc.syscall(_OPENAT2, dir_fd, path, ctypes.byref(how), ctypes.sizeof(how))


def mount(source: str, target: str, fstype: Optional[str], flags: int, data: str = "") -> None:
    """mount(2). ``data`` must be shorter than a page: the kernel cuts longer text without a word."""
    text = os.fsencode(data)
    if len(text) >= page_size():
        raise OSError(errno.E2BIG, f"mount options of {len(text)} bytes do not fit in a page")
    _Libc.call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() if fstype else None,
        ctypes.c_ulong(flags),
        text or None,
    )


def umount(target: str, flags: int = 0) -> None:
    """umount2(2), never following a symbolic link at the end of ``target``."""
    umount_nofollow = 0x8
    _Libc.call("umount2", os.fsencode(target), ctypes.c_int(flags | umount_nofollow))


def syncfs(path: str) -> None:
    """Everything written to the file system that holds ``path`` is on disk when this returns (syncfs(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _Libc.call("syncfs", ctypes.c_int(descriptor))
    finally:
        os.close(descriptor)


def die_with_parent() -> None:
    """Let the kernel kill this process as soon as the one that forked it has ended (prctl(2))."""
    _Libc.call("prctl", ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))


def page_size() -> int:
    """Bytes of a page: the longest option string of mount(2), its final zero included."""
    return os.sysconf("SC_PAGE_SIZE")


def in_user_namespace() -> bool:
    """Whether this process lives in a user namespace other than the first one (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="ascii") as table:
        return table.read().split() != ["0", "0", "4294967295"]


class FsContext:
    """A file system being configured: fsopen(2), fsconfig(2), fsmount(2)."""

    def __init__(self, fstype: str) -> None:
        self._fd = _Libc.syscall(_FSOPEN, fstype.encode(), _CLOEXEC)

    def __enter__(self) -> FsContext:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)

    def messages(self) -> str:
        """What the kernel has written into the context's log, without its class letters, joined by "; "."""
        lines: List[str] = []
        with contextlib.suppress(OSError):
            while True:
                lines.append(os.read(self._fd, 4096).decode(errors="replace").strip())
        return "; ".join(line[2:] if line[1:2] == " " else line for line in lines)

    def _config(self, command: int, key: Optional[str], value: Optional[str]) -> None:
        try:
            _Libc.syscall(
                _FSCONFIG,
                self._fd,
                command,
                key.encode() if key else None,
                os.fsencode(value) if value is not None else None,
                0,
            )
        except OSError as error:
            said = self.messages()
            raise OSError(error.errno, f"{error.strerror}{': ' + said if said else ''}", value) from error

    def set(self, key: str, value: str) -> None:
        """One option with a value of at most 255 bytes."""
        if len(os.fsencode(value)) > _FSCONFIG_VALUE_MAX:
            raise OSError(errno.ENAMETOOLONG, f"the value of mount option {key} is longer than 255 bytes", value)
        self._config(_SET_STRING, key, value)

    def flag(self, key: str) -> None:
        """One option without a value."""
        self._config(_SET_FLAG, key, None)

    def mount(self, target: str, read_only: bool) -> None:
        """Create the super block and attach it at ``target``."""
        self._config(_CMD_CREATE, None, None)
        tree = _Libc.syscall(_FSMOUNT, self._fd, _CLOEXEC, _ATTR_RDONLY if read_only else 0)
        try:
            _Libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
        finally:
            os.close(tree)


@dataclass(frozen=True)
class OverlayMount:
    """What the kernel is asked to stack. Paths are absolute or relative to ``home``, the store's overlay2 directory.

    :ivar lowers: top to bottom, as overlayfs wants them; at least two where there is no upper.
    :ivar upper: directory that takes the changes, "" for a read-only stack.
    :ivar short_upper: a shorter name of the same directory, for kernels that take all options in one page.
    """

    home: str
    lowers: Sequence[str]
    upper: str
    work: str
    target: str
    short_upper: str = ""

    def __post_init__(self) -> None:
        if len(self.lowers) + bool(self.upper) < 2:
            raise ValueError("a stack without a writable layer needs two layers")


def _features_off(userxattr: bool) -> Sequence[str]:
    """Features that make the kernel remember things which turn wrong when layers change offline (overlayfs.rst).

    With userxattr redirects are off already, and the kernel refuses to be told so: it reads "off" as "follow", which it
    does not allow there.
    """
    return ("index", "metacopy") if userxattr else ("index", "metacopy", "redirect_dir")


@contextlib.contextmanager
def _working_directory(path: str) -> Iterator[None]:
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


@dataclass(frozen=True)
class Abilities:
    """What this kernel and this user namespace can do, found by trying.

    :ivar overlay: the overlay file system is there.
    :ivar lowerdir_append: lowers can be given one by one (``lowerdir+``, Linux 6.8), so their names need no page.
    :ivar userxattr: marks are kept in ``user.overlay.*``, as an unprivileged user namespace needs it.
    """

    release: str
    overlay: bool
    lowerdir_append: bool
    userxattr: bool
    page_size: int

    def layer_limit(self) -> int:
        """The most layers one stack can have here: 500, or what fits in a page of ``l/<26>`` (see DESIGN, rule 1)."""
        if self.lowerdir_append:
            return 500
        link = "l/" + "A" * 26
        one = OverlayMount("/", [link], link, "0" * 64 + "/work", "", link)
        room = self.page_size - 1 - len(_option_text(one, userxattr=False))
        return 1 + room // len(link + ":")


def find_abilities() -> Abilities:
    """Try what this kernel can do; nothing is mounted and nothing written."""
    overlay = appends = False
    try:
        with FsContext("overlay") as context:
            overlay = True
            context.set("lowerdir+", "/")
            appends = True
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM) and not overlay:
            overlay = _listed_in_proc_filesystems()
    return Abilities(os.uname().release, overlay, appends, in_user_namespace(), page_size())


def _listed_in_proc_filesystems() -> bool:
    with open("/proc/filesystems", encoding="ascii") as table:
        return "overlay" in table.read().split()


def _option_text(request: OverlayMount, userxattr: bool) -> str:
    options = [f"{key}=off" for key in _features_off(userxattr)]
    if userxattr:
        options.append("userxattr")
    options.append("lowerdir=" + ":".join(_relative(lower, request.home) for lower in request.lowers))
    if request.upper:
        options.append("upperdir=" + (request.short_upper or _relative(request.upper, request.home)))
        options.append("workdir=" + _relative(request.work, request.home))
    return ",".join(options)


def _relative(name: str, home: str) -> str:
    return os.path.relpath(name, home) if os.path.isabs(name) else name


def mount_overlay(request: OverlayMount, abilities: Abilities) -> None:
    """Mount one stack, by ``lowerdir+`` where the kernel has it, else by mount(2) with names relative to the store.

    OSError carries the kernel's own message, and the file name it was about where there is one.
    """
    with _working_directory(request.home):
        if abilities.lowerdir_append:
            _mount_by_context(request, abilities.userxattr)
        else:
            flags = 0 if request.upper else MS_RDONLY
            mount("overlay", request.target, "overlay", flags, _option_text(request, abilities.userxattr))


def _mount_by_context(request: OverlayMount, userxattr: bool) -> None:
    with FsContext("overlay") as context:
        context.set("source", "overlay")
        for key in _features_off(userxattr):
            context.set(key, "off")
        if userxattr:
            context.flag("userxattr")
        for lower in request.lowers:
            context.set("lowerdir+", lower)
        if request.upper:
            context.set("upperdir", request.upper)
            context.set("workdir", request.work)
        context.mount(request.target, read_only=not request.upper)


def bind_read_only(source: str, target: str) -> None:
    """Show one directory read-only at ``target``: a stack of one layer (overlayfs refuses a single lower)."""
    mount(source, target, None, MS_BIND)
    # A user namespace may not drop the flags of the mount it binds from: say again those that are set.
    kept = sum(flag for flag in (MS_NOSUID, MS_NODEV, MS_NOEXEC) if os.statvfs(target).f_flag & flag)
    try:
        mount("", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)
    except OSError:
        umount(target, MNT_DETACH)
        raise
