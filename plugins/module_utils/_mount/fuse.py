# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""Mounts a stack by fuse-overlayfs.

The mount is ours: made with a source that says what it shows (`_linux/overlay_mounts`), and as a tree that hangs
nowhere, so a stack is switched without a gap as any other. The program gets the open device and serves it until the
last mount of the tree is gone; it outlives the run that has started it.
Sources: fuse(4), fuse-overlayfs(1), libfuse lib/fuse_lowlevel.c (a mount point /dev/fd/N is the device, already
mounted), kernel filesystems/fuse.rst; systemd-run(1).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import FUSE_DEVICE
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_fuse_overlayfs
from ansible_collections.strata.overlay.plugins.module_utils._linux.init_system import has_systemd
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import FsContext, Tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import FUSE, FUSE_OVERLAYFS
from ansible_collections.strata.overlay.plugins.module_utils._linux.userns import lasting_environment
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import MountRequest

_SETTINGS = {"rootmode": "40000", "user_id": "0", "group_id": "0"}
_FLAGS = ("default_permissions", "allow_other")
"""The kernel itself checks who may do what, and every user has access as to any file system."""

_AT_ONCE = "writeback=0"
"""What is written reaches the writable layer at once: it is read there by others, and outlives the program."""

_AS_SCOPE = ("systemd-run", "--scope", "--quiet", "--collect", "--property=DefaultDependencies=no", "--")
"""Or the program ends with the session or unit that the run is part of."""


def fuse_tree(request: MountRequest) -> Tree:
    """The layers of a request as a tree that hangs nowhere yet, served.

    :raises OSError: as the kernel says; ENOSYS before Linux 5.2. :raises StrataError: the program says no.
    """
    with _device() as device, FsContext("fuse") as context:
        context.set("source", request.served)
        context.set("subtype", FUSE_OVERLAYFS)
        context.set("fd", str(device))
        for key, value in _SETTINGS.items():
            context.set(key, value)
        for key in _FLAGS:
            context.flag(key)
        tree = context.tree(request.attributes())
        try:
            _serve(request, device)
            os.fstat(tree.fd)  # it answers
        except (OSError, StrataError):
            os.close(tree.fd)
            raise
        return tree


def mount_fuse(request: MountRequest, target: str) -> None:
    """Mount on top of what is at a path, which has no links on the way; errors as of ``fuse_tree``."""
    try:
        with fuse_tree(request) as tree:
            tree.attach(target)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _mount_by_page(request, target)


def _mount_by_page(request: MountRequest, target: str) -> None:
    """By mount(2), which all kernels have."""
    with _device() as device:
        options = [f"fd={device}", *(f"{key}={value}" for key, value in _SETTINGS.items()), *_FLAGS]
        syscalls.mount(request.served, target, FUSE, request.ms_flags(), ",".join(options))
        try:
            _serve(request, device)
            os.stat(target)
        except (OSError, StrataError):
            syscalls.umount(target, syscalls.MNT_DETACH)
            raise


@contextlib.contextmanager
def _device() -> Iterator[int]:
    descriptor = os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _serve(request: MountRequest, device: int) -> None:
    """Start the program; it answers when this returns."""
    program = find_fuse_overlayfs()
    if not program:
        raise StrataError(f"the program {FUSE_OVERLAYFS} is not installed, or {FUSE_DEVICE} cannot be used")
    command = [program, "-o", _options(request), f"/dev/fd/{device}"]
    # Also where systemd does not answer the stack is to be mounted.
    ways = [[*_AS_SCOPE, *command], command] if has_systemd() and shutil.which(_AS_SCOPE[0]) else [command]
    for way in ways:
        answer = _run(way, request.home, device)
        if not answer:
            return
    raise StrataError(f"{FUSE_OVERLAYFS}: {answer}")


def _options(request: MountRequest) -> str:
    """Every name relative to the store's home, from which the program is started: none of them has a colon."""
    options = ["lowerdir=" + ":".join(map(request.relative, request.lowers)), _AT_ONCE]
    if request.upper:
        options += [f"upperdir={request.relative(request.upper)}", f"workdir={request.relative(request.work)}"]
    return ",".join(options)


def _run(command: list[str], home: str, device: int) -> str:
    """Run a program that goes on in the background; its words where it does not, "" where all is well."""
    done = subprocess.run(
        command,
        cwd=home,
        env=lasting_environment(),
        pass_fds=[device],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    message = " ".join(done.stdout.decode(errors="replace").split())
    return "" if done.returncode == 0 else message or f"it ended with {done.returncode}"
