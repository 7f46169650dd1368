# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Images of contents mounted where nobody sees them: a mount namespace of the store's own, pinned by a file under /run.

500 mounts that everybody sees make systemd three times as slow. So each image is mounted once, in that namespace; what
is built of them is made by a child that enters it, and handed out as a tree that hangs nowhere yet. Its caller attaches
that on the host. What has been built keeps what it uses, also when the namespace ends.

The namespace begins as a copy of the host's, whose mounts it would keep busy: it gives up all but the store's own.

Sources: mount_namespaces(7), setns(2), unix(7) (SCM_RIGHTS).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from typing import Callable, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, mountinfo, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.erofs_mount import image_tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import Tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import how_it_ended

RUN = "/run/strata"
_KEPT = ("/", "/dev", "/proc")
"""Mounts that stay beside the store's: loop devices are opened there, and descriptors have their paths."""

_ANSWER = 1 << 16


class ContentNamespace:
    """The namespace of one store. The store's lock is held by whoever makes it or changes what is mounted in it.

    :param root: of the store, without links.
    :param run: the directory of such pins.
    :ivar pin: the file that keeps it alive; there for as long as it is mounted on.
    """

    def __init__(self, root: str, run: str = RUN) -> None:
        self._root = root
        self._run = run
        self.pin = f"{run}/{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"

    def exists(self) -> bool:
        """Whether the namespace is there."""
        return any(mount.path == self.pin and mount.fstype == "nsfs" for mount in mountinfo.read())

    def build(self, images: Mapping[str, str], work: Callable[[], Tree]) -> Tree:
        """Something made of contents, with each image mounted that is not yet.

        :param images: by the directory where each is to be seen.
        :param work: done where these are seen, in another process.
        :raises OSError, StrataError: what ``work`` has raised, or why an image cannot be mounted.
        """
        if not self.exists():
            self._make()

        def inside() -> int:
            seen = _directories_mounted()
            for directory, image in images.items():
                if directory not in seen:
                    tree, _how = image_tree(image)
                    with tree:
                        tree.attach(directory)
            return work().fd

        return Tree(self._do(inside))

    def mounted(self) -> list[str]:
        """Where images are mounted in it."""
        return self._listed(_directories_mounted) if self.exists() else []

    def leave(self, directories: list[str]) -> None:
        """Take images away; what was built of them keeps them. With the last of them the namespace ends."""
        if not self.exists():
            return

        def inside() -> list[str]:
            for directory in set(directories).intersection(_directories_mounted()):
                syscalls.umount(directory, syscalls.MNT_DETACH)
            return _directories_mounted()

        if not self._listed(inside):
            self.end()

    def end(self) -> None:
        """Let go of the namespace, and of all that is mounted in it."""
        syscalls.umount(self.pin, syscalls.MNT_DETACH)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.pin)

    def _listed(self, work: Callable[[], list[str]]) -> list[str]:
        return _in_child(lambda: self._entered(work))[0]

    def _do(self, work: Callable[[], int]) -> int:
        """A descriptor from inside."""

        descriptor = _in_child(lambda: self._entered(work))[1]
        if descriptor is None:
            raise StrataError("the process that builds a mount has given none")
        return descriptor

    def _entered(self, work: Callable[[], object]) -> object:
        syscalls.enter_mount_namespace(self.pin)
        return work()

    def _make(self) -> None:
        os.makedirs(self._run, 0o700, exist_ok=True)
        # A namespace cannot be pinned by a mount that would be seen in it: the directory keeps its mounts to itself.
        if not os.path.ismount(self._run):
            syscalls.mount(self._run, self._run, None, mount_flags.MS_BIND)
        syscalls.mount("", self._run, None, mount_flags.MS_PRIVATE)
        os.close(os.open(self.pin, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))

        # The kernel pins only namespaces that are younger than the caller's own (EINVAL). In one that is not the first,
        # Linux 6.18 was seen to take a new one for older, and not when that was made on another processor.
        for processor in (None, *sorted(os.sched_getaffinity(0))):
            descriptor = self._new(processor)
            try:
                syscalls.mount(f"/proc/self/fd/{descriptor}", self.pin, None, mount_flags.MS_BIND)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            finally:
                os.close(descriptor)
        raise StrataError(f"the kernel does not let a mount namespace be kept at {self.pin}")

    def _new(self, processor: Optional[int]) -> int:
        """A descriptor of a new namespace that has the store's mounts and no others."""

        def inside() -> int:
            if processor is not None:
                os.sched_setaffinity(0, [processor])
            syscalls.leave_mount_namespace()
            syscalls.mount("", "/", None, mount_flags.MS_REC | mount_flags.MS_PRIVATE)
            for path in sorted({mount.path for mount in mountinfo.read()}, key=len, reverse=True):
                if path not in _KEPT and not is_inside(self._root, path) and not is_inside(path, self._root):
                    with contextlib.suppress(OSError):  # it went with the one below it
                        syscalls.umount(path, syscalls.MNT_DETACH)
            return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

        descriptor = _in_child(inside)[1]
        if descriptor is None:
            raise StrataError("the process that makes a mount namespace has given none")
        return descriptor


def _directories_mounted() -> list[str]:
    return sorted({mount.path for mount in mountinfo.read() if mount.fstype == "erofs"})


def _in_child(work: Callable[[], object]) -> tuple[list[str], Optional[int]]:
    """What a child process gives that does this: a list of words, or a descriptor.

    A process with threads cannot change its namespace; a child has one.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            _serve(work, theirs)
        theirs.close()
        text, descriptors, _flags, _address = socket.recv_fds(ours, _ANSWER, 1)
        while text and not text.endswith(b"\n"):
            text += ours.recv(_ANSWER) or b"\n"
        status = os.waitpid(child, 0)[1]
    answer = json.loads(text or b"null")
    if answer is None:
        raise StrataError(f"the process that enters the namespace of contents ended {how_it_ended(status)}")
    if "failed" in answer:
        raise OSError(*answer["failed"])
    if "refused" in answer:
        raise StrataError(answer["refused"])
    return answer["words"], descriptors[0] if descriptors else None


def _serve(work: Callable[[], object], answers: socket.socket) -> NoReturn:
    """The child's life. Never returns into the fork."""
    try:
        with contextlib.suppress(OSError):
            syscalls.die_with_parent()
        found: object = []
        try:
            found = work()
            answer: dict[str, object] = {"words": found if isinstance(found, list) else []}
        except StrataError as error:
            answer = {"refused": str(error)}
        except OSError as error:
            answer = {"failed": [error.errno, error.strerror, error.filename]}
        text = json.dumps(answer).encode() + b"\n"
        socket.send_fds(answers, [text[:1]], [found] if isinstance(found, int) else [])
        answers.sendall(text[1:])
    finally:
        os._exit(0)
