# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""ID-mapped mounts: shows layers with other owners (mount_setattr(2), Linux 5.12).

Overlayfs takes such mounts as layers since Linux 5.19.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ
from ansible_collections.strata.overlay.plugins.module_utils._linux.mount_flags import ATTR_IDMAP
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import Tree, clone_mount

_CLONE_NEWNS = 0x20000
_CLONE_NEWUSER = 0x10000000
_MS_REC = 0x4000
_LONGEST_MESSAGE = 1 << 16


@contextlib.contextmanager
def user_namespace(uid_map: str, gid_map: str) -> Iterator[int]:
    """A descriptor of a user namespace with these maps, each ``first:host:count``; no process lives in it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_mapped(reading, writing)
    os.close(writing)
    try:
        if os.read(reading, 1) != b"1":
            raise OSError(1, "a user namespace cannot be made here")
        for kind, text in (("uid", uid_map), ("gid", gid_map)):
            with open(f"/proc/{child}/{kind}_map", "w", encoding="ascii") as table:
                table.write(text.replace(":", " "))
        descriptor = os.open(f"/proc/{child}/ns/user", READ)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _be_mapped(reading: int, writing: int) -> None:
    """The process whose namespace it is, until it is killed."""
    try:
        os.close(reading)
        syscalls.libc("unshare", ctypes.c_int(_CLONE_NEWUSER))
        os.write(writing, b"1")
        signal.pause()
    finally:
        os._exit(1)


def mapped_clone(path: str, namespace: int) -> Tree:
    """A bind mount of a directory that hangs nowhere, its owners mapped."""
    tree = clone_mount(path)
    try:
        tree.set(ATTR_IDMAP, propagation=mount_flags.MS_PRIVATE, user_namespace=namespace)
    except OSError:
        os.close(tree.fd)
        raise
    return tree


def with_mapped(directories: list[str], uid_map: str, gid_map: str, build: Callable[[], Tree]) -> Tree:
    """What ``build`` makes where these directories are seen with mapped owners.

    It is made in a mount namespace of its own, in which the mapped mounts lie over the directories. So the new tree
    names its layers as any other one does, and nobody else sees the mapped mounts.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, user_namespace(uid_map, gid_map) as namespace:
        with theirs:
            child = os.fork()
            if child == 0:
                _build_for(theirs, directories, namespace, build)
        try:
            reply, descriptor = _receive(ours)
        finally:
            os.waitpid(child, 0)
    if descriptor < 0:
        number, message, name = json.loads(reply) if reply else (5, "the process that maps owners ended", None)
        raise OSError(number, message, name)
    return Tree(descriptor)


def _build_for(channel: socket.socket, directories: list[str], namespace: int, build: Callable[[], Tree]) -> None:
    """In the child: answer with the tree's descriptor, or with the kernel's error."""
    try:
        try:
            syscalls.libc("unshare", ctypes.c_int(_CLONE_NEWNS))
            syscalls.mount("", "/", None, mount_flags.MS_PRIVATE | _MS_REC)
            for path in directories:
                with mapped_clone(path, namespace) as tree:
                    tree.attach(path)
            _send(channel, build().fd)
        except OSError as error:
            channel.send(json.dumps([error.errno, error.strerror, error.filename]).encode())
    finally:
        os._exit(0)


def _send(channel: socket.socket, descriptor: int) -> None:
    words = ctypes.c_int(descriptor)
    channel.sendmsg([b"tree"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, bytes(words))])


def _receive(channel: socket.socket) -> tuple[bytes, int]:
    """The message, and the descriptor that came with it or -1."""
    size = ctypes.sizeof(ctypes.c_int)
    reply, ancillary, _flags, _address = channel.recvmsg(_LONGEST_MESSAGE, socket.CMSG_SPACE(size))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return reply, ctypes.c_int.from_buffer_copy(data[:size]).value
    return reply, -1


def idmap_fault(directory: str) -> str:
    """Why mounts of a directory cannot be mapped here, in the kernel's words; "" where they can. Found by trying."""
    try:
        with user_namespace("0:1:1", "0:1:1") as namespace, mapped_clone(directory, namespace):
            return ""
    except OSError as error:
        return error.strerror or str(error)
