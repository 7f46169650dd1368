# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds things in a workspace, syncs them, then publishes each by one rename."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import about
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import CREATE, is_directory, sync_directory
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


class Transaction:
    """Things built in a workspace, synced together, then published by one rename each, in the order they were added.

    A kill between two renames leaves the first ones visible and whole; whoever adds things orders them so that this is
    a state which the next run can go on from. What has the place of another changes it in one step, where the file
    system can do so; else there is nothing at its path between two renames.

    :ivar workspace: "" where the file system takes no new file: then nothing can be added.
    """

    def __init__(self, store: Store, workspace: str) -> None:
        self._store = store
        self._workspace = workspace
        self._renames: list[tuple[str, str]] = []

    def stage(self, final: str) -> str:
        """A path in the workspace; what is built there is published at ``final``."""
        if not self._workspace:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), final)
        staged = f"{self._workspace}/{os.urandom(8).hex()}"
        self._renames.append((staged, final))
        return staged

    def adopt(self, staged: str, final: str) -> None:
        """Add something that is already built in the workspace."""
        self._renames.append((staged, final))

    def write(self, final: str, text: str, mode: int = 0o644) -> None:
        """A file."""
        write_file(self.stage(final), text, mode)

    def symlink(self, target: str, final: str) -> None:
        """A symbolic link."""
        os.symlink(target, self.stage(final))

    def commit(self) -> None:
        """Sync, then rename all. A directory at a final path, or what is in the way of one, goes to trash/."""
        if not self._renames:
            return
        self._store.sync(self._workspace)
        for staged, final in self._renames:
            # rename(2) lets only a directory replace a directory, and only an empty one.
            if is_directory(final) or (os.path.lexists(final) and is_directory(staged)):
                if syscalls.exchange(staged, final):
                    self._store.discard(staged)
                    continue
                self._store.discard(final)
            os.rename(staged, final)
        for directory in sorted({os.path.dirname(final) for _staged, final in self._renames}):
            sync_directory(directory)
        self._renames = []


@contextlib.contextmanager
def transaction(store: Store, workspace: str) -> Iterator[Transaction]:
    """A transaction that is committed at the end of the block; an error in the block leaves nothing of it visible."""
    new = Transaction(store, workspace)
    yield new
    new.commit()


def write_file(path: str, text: str, mode: int = 0o644) -> None:
    """A new file of exactly this text and mode; durable with the transaction's sync."""
    descriptor = os.open(path, CREATE, mode)
    with about(path), os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
