# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One lock per store: many readers or one writer, between processes (flock(2))."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError

_PAUSE = 0.05


@contextlib.contextmanager
def locked(path: str, exclusive: bool, timeout: float) -> Iterator[None]:
    """Hold the lock file at ``path``, which must exist for a reader and is made for a writer.

    :param timeout: seconds to wait for others; StrataError naming the holder when they are over.
    """
    flags = os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, exclusive, timeout)
        if exclusive:
            _write_holder(descriptor)
        try:
            yield
        finally:
            # Those who wait for readers shall not be told of a writer that has gone.
            if exclusive:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: str, exclusive: bool, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise StrataError(
                    f"Waited {timeout:g} s for the store's lock {path}; it is held by {holder or 'another process'}. "
                    "Wait for it to finish, or raise lock_timeout."
                ) from None
            time.sleep(_PAUSE)
        else:
            return


def _write_holder(descriptor: int) -> None:
    """Say who holds the lock, for the message of those who wait; the text means nothing once the lock is free.

    On a full disk nobody says so, and the change goes on: it may be the one that makes room.
    """
    with contextlib.suppress(OSError):
        with open("/proc/self/cmdline", "rb") as line:
            command = line.read(150).replace(b"\0", b" ").strip()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"process %d (%s)\n" % (os.getpid(), command), 0)
