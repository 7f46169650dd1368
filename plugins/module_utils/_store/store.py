# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A session with a store: its locks, and the only ways to add and remove files.

In: built in ``staging/``, synced, renamed (`_store/transaction`). Out: renamed into ``trash/``, deleted outside the
lock.
Both leave a store that the next run can read whole, whenever the process is killed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, advice, error_text
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import sync_directory
from ansible_collections.strata.overlay.plugins.module_utils._linux.trust import refuse_untrusted
from ansible_collections.strata.overlay.plugins.module_utils._store.lock import locked
from ansible_collections.strata.overlay.plugins.module_utils._store.recorded import StoreRecords
from ansible_collections.strata.overlay.plugins.module_utils._store.removals import finish_removals
from ansible_collections.strata.overlay.plugins.module_utils._store.workspace import abandoned, make_workspace

DIRECTORIES: tuple[tuple[str, int], ...] = (
    ("", 0o711),
    ("content", 0o710),
    ("content/sha256", 0o710),
    ("overlay2", 0o710),
    ("overlay2/l", 0o700),
    ("image", 0o700),
    ("image/overlay2", 0o700),
    ("image/overlay2/layerdb", 0o700),
    ("image/overlay2/layerdb/sha256", 0o700),
    ("image/overlay2/layerdb/mounts", 0o700),
    ("image/overlay2/imagedb", 0o700),
    ("image/overlay2/imagedb/content", 0o700),
    ("image/overlay2/imagedb/content/sha256", 0o700),
    ("image/overlay2/imagedb/metadata", 0o700),
    ("image/overlay2/imagedb/metadata/sha256", 0o700),
    ("strata", 0o700),
    ("strata/names", 0o700),
    ("strata/contents", 0o700),
    ("strata/stacks", 0o700),
    ("strata/aside", 0o700),
    ("strata/changes", 0o700),
    ("strata/sources", 0o700),
    ("strata/condemned", 0o700),
    ("staging", 0o700),
    ("trash", 0o700),
)


def new_id() -> str:
    """A name for a new writable layer: 64 hexadecimal digits, as Docker's mount ids."""
    return os.urandom(32).hex()


class Store(StoreRecords):
    """One store on this host; creating the object touches nothing."""

    def __init__(self, root: str) -> None:
        self._written = root if os.path.isabs(root) else os.path.abspath(root)
        super().__init__(root)
        self._left: set[str] = set()
        self._workspaces: dict[str, int] = {}

    def misplaced(self) -> list[str]:
        """Directories of the store that are something else, a symbolic link above all: what lies behind it is not ours
        to sweep, to delete or to write into.
        """
        found = []
        for name, _mode in DIRECTORIES:
            path = f"{self.root}/{name}" if name else self.root
            with contextlib.suppress(OSError):
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    found.append(path)
        return found

    def _refuse_misplaced(self) -> None:
        found = self.misplaced()
        if found:
            is_link = os.path.islink(found[0])
            raise StrataError(
                f"{found[0]} is {'a symbolic link' if is_link else 'no directory'}, where the store {self.root} has a "
                "directory of its own. Nothing was changed: put the directory back in its place, or run "
                "strata.overlay.store_check with repair: true, which moves away what is there."
            )

    def refuse_untrusted(self) -> None:
        """StrataError where root would work in what others own, may write to or may put another in the place of."""
        refuse_untrusted(self._written, [f"{self.root}/{name}" for name, _mode in DIRECTORIES if name])

    # Locks.

    @contextlib.contextmanager
    def reading(self, timeout: float, damaged: bool = False) -> Iterator[None]:
        """Hold the shared lock: nobody changes the store meanwhile. Without a store nothing is locked or created.

        :param damaged: the caller copes with directories of the store that are something else.
        """
        if not damaged:
            self._refuse_misplaced()
        path = f"{self.root}/lock"
        if os.path.exists(path):
            with locked(path, exclusive=False, timeout=timeout, gate=self.root):
                yield
        else:
            yield

    @contextlib.contextmanager
    def changing(self, timeout: float, damaged: bool = False) -> Iterator[None]:
        """Hold the exclusive lock: only this process reads and changes the store. It must have been prepared.

        :param damaged: as for ``reading``.
        """
        with locked(f"{self.root}/lock", exclusive=True, timeout=timeout, gate=self.root):
            if not damaged:
                self._refuse_misplaced()
            if self.removal_journals():
                finish_removals(self)
            yield
            self._settle()

    # Adding.

    def prepare(self) -> None:
        """Create missing directories of the store."""
        self._refuse_misplaced()
        for name, mode in DIRECTORIES:
            _make_directories(f"{self.root}/{name}".rstrip("/"), mode)
            if not name:
                self.refuse_untrusted()  # another run may have just made it

    @contextlib.contextmanager
    def first_workspace(self) -> Iterator[str]:
        """A workspace for a run that may still find no store is wanted: then nothing stays."""
        self._refuse_misplaced()
        made: list[str] = []
        with contextlib.ExitStack() as resources:
            resources.callback(self._leave_no_first, made)
            while True:
                for name in ("", "staging", "trash"):
                    made += _make_directories(os.path.join(self.root, name).rstrip("/"), dict(DIRECTORIES)[name])
                    self.refuse_untrusted()  # another run may have just made it
                with contextlib.suppress(FileNotFoundError):  # a run that needed no store just removed them
                    path = resources.enter_context(self.workspace())
                    break
            yield path

    def _leave_no_first(self, made: list[str]) -> None:
        self.tidy()
        if not self.exists():
            for directory in reversed(made):
                with contextlib.suppress(OSError):  # another run has begun to use it
                    os.rmdir(directory)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[str]:
        """This run's own directory in staging/, removed at the end. Its lock shows others that the run goes on."""
        self._refuse_misplaced()
        path, descriptor = make_workspace(f"{self.root}/staging")
        self._workspaces[path] = descriptor
        try:
            yield path
        finally:
            del self._workspaces[path]
            # What cannot be deleted now is swept by the next change; it must not hide an earlier error.
            with contextlib.suppress(OSError, StrataError):
                self._discard_or_delete(path)
            os.close(descriptor)

    def sync(self, workspace: str) -> None:
        """Sync the store. OSError also for writes that the kernel failed earlier in this run."""
        syscalls.syncfs(workspace, self._workspaces.get(workspace, -1))

    # Removing.

    def discard(self, path: str) -> None:
        """Rename into trash/; a missing path is fine. It is on disk when the exclusive lock is released."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.rename(path, f"{self.root}/trash/{os.urandom(8).hex()}")
            self._left.add(os.path.dirname(path))

    def rename_record(self, path: str, other: str) -> None:
        """Rename a record durably; works on a full disk."""
        os.rename(path, other)
        for directory in sorted({os.path.dirname(path), os.path.dirname(other)}):
            sync_directory(directory)

    def _discard_or_delete(self, path: str) -> None:
        """Delete what belongs to this run alone. Unlike a rename, this works on a full disk."""
        try:
            self.discard(path)
        except OSError:
            from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree

            remove_tree(path)

    def _settle(self) -> None:
        """Sync deletions, so that a power failure does not bring them back."""
        staging = f"{self.root}/staging"
        while self._left:
            directory = self._left.pop()
            if directory != staging and os.path.dirname(directory) != staging:  # swept anyway
                with contextlib.suppress(FileNotFoundError):
                    sync_directory(directory)

    def sweep(self) -> None:
        """Discard what killed runs left in staging/. Call it with the exclusive lock held."""
        self._refuse_misplaced()
        for name in self.abandoned():
            self.discard(f"{self.root}/staging/{name}")

    def abandoned(self) -> list[str]:
        """Names in staging/ that no run uses any more."""
        return abandoned(f"{self.root}/staging")

    def empty_trash(self) -> list[str]:
        """Empty trash/. Needs no lock: nobody reads anything in it.

        :returns: what could not be deleted and why, in words; all else was.
        """
        # Imported only when needed: only a run with changes needs it.
        from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree

        self._refuse_misplaced()
        trash = f"{self.root}/trash"
        left: list[str] = []
        for name in os.listdir(trash):
            try:
                remove_tree(f"{trash}/{name}")
            except FileNotFoundError:
                continue  # another run may be deleting the same
            except (OSError, StrataError) as error:
                then = advice(error) if isinstance(error, OSError) else ""
                why = error.strerror if isinstance(error, OSError) else error
                left.append(f"{trash}/{name} is not deleted: {why}. {then}".rstrip())
        return left

    def tidy(self) -> str:
        """Empty trash/ at the end of a run. Failure is no error of the run; returns a message instead, else ""."""
        try:
            left = self.empty_trash()
        except (OSError, StrataError) as error:
            left = [error_text(error)]
        if not left:
            return ""
        return (
            f"Not all that was thrown away in {self.root}/trash is deleted yet; the next change or prune tries again: "
            + " ".join(left)
        )


def open_store(root: str) -> Store:
    """The store at a root, for a module or program to work in. Nothing is made.

    :raises StrataError: it is not for root, see ``Store.refuse_untrusted``.
    """
    store = Store(root)
    store.refuse_untrusted()
    return store


def _make_directories(path: str, mode: int) -> list[str]:
    """Make a directory and those above it where they are missing; which ones, from the top down."""
    made: list[str] = []
    if not os.path.isdir(path):
        made = _make_directories(os.path.dirname(path), 0o755)
        with contextlib.suppress(FileExistsError):  # another run just made it
            os.mkdir(path, mode)
            os.chmod(path, mode)  # whatever the umask, and a default access list of what lies above it
            made.append(path)
    return made
