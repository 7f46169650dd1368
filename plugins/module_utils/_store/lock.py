# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The store's lock: many readers or one writer (flock(2)).

Readers that come and go all the time would keep a writer waiting for ever, for flock(2) gives no turns. So everyone
goes through a gate first, a lock on a directory: a writer holds it while it waits for the readers that are there, and
whoever comes after it waits behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED_BY_LINK
from ansible_collections.strata.overlay.plugins.module_utils._store.lock_holder import holders_of_lock

_SHORTEST, _LONGEST = 0.001, 0.05
"""Seconds between two tries."""


@contextlib.contextmanager
def locked(path: str, exclusive: bool, timeout: float, gate: str = "") -> Iterator[None]:
    """Hold the lock file at ``path``, which must exist for a reader and is made for a writer.

    :param gate: an existing directory, where there are readers; the lock on it means nothing else.
    :param timeout: seconds to wait for others; StrataError naming the holders when they are over.
    """
    flags = os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    deadline = time.monotonic() + timeout
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.ExitStack() as passage:
            waits_for = [descriptor]
            if gate:
                waits_for.insert(0, os.open(gate, LISTED_BY_LINK))
                passage.callback(os.close, waits_for[0])
            if not all(_acquire(one, mode, deadline) for one in waits_for):
                raise StrataError(_waited(path, waits_for[::-1], timeout))
        if exclusive:
            _write_holder(descriptor)
        try:
            yield
        finally:
            # Those who wait for readers must not see a writer that has gone.
            if exclusive:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, mode: int, deadline: float) -> bool:
    """Whether the lock could be had in time."""
    pause = _SHORTEST
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST)
        else:
            return True


def _write_holder(descriptor: int) -> None:
    """Record who holds the lock since when, for the message to waiting runs; `_store/lock_holder` reads it.

    On a full disk the holder is not recorded and the change goes on: it may be the one that frees space.
    """
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d %d\n" % (os.getpid(), time.time()), 0)


def _waited(path: str, descriptors: Sequence[int], timeout: float) -> str:
    holders = next(filter(None, map(holders_of_lock, descriptors)), "another process")
    return (
        f"Waited {timeout:g} s for the store's lock {path}; it is held by {holders}. "
        "Wait for it to finish, or raise lock_timeout."
    )
