# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Removes many objects at once: committed under the lock, deleted outside it.

A journal of what goes is written before the lock is taken. Under the lock it is renamed into ``strata/condemned/``;
from that moment its paths count as removed. The next change first finishes any journal whose run has ended; a run
holds a lock on its journal while it works. Everything moves to ``trash/`` before
it is deleted. A kill leaves either no journal and nothing removed, or a journal that the next change finishes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import about
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import (
    READ,
    read_text,
    sync_directory,
    write_all,
)

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


def _place(store: Store) -> str:
    return f"{store.root}/strata/condemned"


class RemovalJournal:
    """A list of paths to remove, ready to be committed. Use ``removal_journal`` as its context."""

    def __init__(self, store: Store, workspace: str, paths: Sequence[str]) -> None:
        self._store = store
        self._name = os.urandom(8).hex()
        self._path = f"{workspace}/{self._name}"
        self._paths = paths
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            _write(self._descriptor, self._path, _listed(store, paths))
        except BaseException:
            self.close()
            raise

    def commit(self) -> None:
        """Make the removal final. Call it with the store locked for changes."""
        final = f"{_place(self._store)}/{self._name}"
        os.rename(self._path, final)
        self._path = final

    def execute(self) -> list[str]:
        """Move all of it to trash/. Needs no lock on the store.

        :returns: messages on what could not be moved, which stays in place without a record.
        """
        sync_directory(_place(self._store))
        left = _move_all(self._store, self._paths)
        syscalls.syncfs(self._store.root)
        os.unlink(self._path)
        return left

    def close(self) -> None:
        """Release the journal; another run may now finish it."""
        os.close(self._descriptor)


@contextlib.contextmanager
def removal_journal(store: Store, workspace: str, paths: Sequence[str]) -> Iterator[RemovalJournal]:
    """A journal of absolute paths in the store, written and synced."""
    made = RemovalJournal(store, workspace, paths)
    try:
        yield made
    finally:
        made.close()


def finish_removals(store: Store) -> None:
    """Finish the journals of ended runs, and wait for those of runs that are still at it.

    Call it with the store locked for changes.
    """
    for name in store.removal_journals():
        path = f"{_place(store)}/{name}"
        try:
            descriptor = os.open(path, READ)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            text = read_text(path)
            if text is not None:
                _move_all(store, _absolute(store, text))
                syscalls.syncfs(store.root)
                os.unlink(path)
        finally:
            os.close(descriptor)


def journaled_paths(store: Store) -> list[str]:
    """Paths that count as removed though they may still exist."""
    texts = (read_text(f"{_place(store)}/{name}") for name in store.removal_journals())
    return [path for text in texts if text for path in _absolute(store, text)]


def _listed(store: Store, paths: Sequence[str]) -> bytes:
    # Separated as paths can hold anything but this; names in a store hold no newline, yet nothing is lost by care.
    return b"".join(os.fsencode(os.path.relpath(path, store.root)) + b"\0" for path in paths)


def _absolute(store: Store, text: str) -> list[str]:
    return [f"{store.root}/{path}" for path in text.split("\0") if path]


def _write(descriptor: int, path: str, data: bytes) -> None:
    with about(path):
        write_all(descriptor, data)
        os.fsync(descriptor)


def _move_all(store: Store, paths: Sequence[str]) -> list[str]:
    """Rename each into a new directory in trash/; what is not there has been moved before.

    What may not be moved (chattr +i, a mount) keeps neither the others nor the list, which would hold up every change.
    """
    left: list[str] = []
    heap = f"{store.root}/trash/{os.urandom(8).hex()}"
    os.mkdir(heap, 0o700)
    for number, path in enumerate(paths):
        try:
            os.rename(path, f"{heap}/{number}")
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
            left.append(f"{path} is not removed: {error.strerror}; see whether chattr +i or a mount keeps it")
    return left
