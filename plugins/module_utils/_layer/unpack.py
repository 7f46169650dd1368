# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Unpacks a layer's tar stream into an overlayfs lower directory and computes its DiffID.

Sources: OCI image-spec layer.md; kernel overlayfs.rst, "whiteouts and opaque directories"; umoci's and Docker's
habits where these are silent (missing parents, entries repeated, hard links to what comes later).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.meter import Meter
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import TarReader, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.hashing import HashingReader
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_directories import PendingDirectories
from ansible_collections.strata.overlay.plugins.module_utils._layer.flush import WriteBack
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import (
    ATTRIBUTES,
    FOREIGN,
    OVERLAY,
    TYPES,
    LeftOut,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.metadata import explain, make_plain
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import check_entry, place
from ansible_collections.strata.overlay.plugins.module_utils._layer.reserve import ENTRY, LARGE, Reserve
from ansible_collections.strata.overlay.plugins.module_utils._layer.rootdir import RootDirectory
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_writer import TreeWriter
from ansible_collections.strata.overlay.plugins.module_utils._layer.writer import Member
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.attributes import (
    SECOND_LISTS,
    is_file_systems,
    is_foreign,
    is_of_writable_layer,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import opaque_xattr
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._layer.pipeline import Relay

__all__ = ["Unpacked", "digest", "remove_tree", "unpack", "writer_apart"]


@dataclass(frozen=True)
class Unpacked:
    """What an archive turned out to be.

    :ivar diff_id: "sha256:" and the hexadecimal digest of the whole uncompressed stream.
    :ivar size: bytes of the contents of regular files, expanded where sparse; hard links count once.
    :ivar entries: members of the archive, whiteouts included.
    :ivar allocated: bytes that the tree takes on disk, -1 where nothing was unpacked; not a fact of the archive.
    :ivar digest: of that tree, see `_layer/tree_digest`; "" where nothing was unpacked.
    :ivar left_out: what of the archive is no part of the tree, as sentences.
    :ivar archive: bytes of the archive, where it was made an image; 0 for a tree.
    """

    diff_id: str
    size: int
    entries: int
    allocated: int = field(default=-1, compare=False)
    digest: str = field(default="", compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)
    archive: int = field(default=0, compare=False)


class Walk:
    """The members of a stream, checked and counted."""

    def __init__(self, reader: TarReader, meter: Meter) -> None:
        self.size = 0
        self._left_out = LeftOut()
        self._meter = meter
        self._reader = reader

    def __iter__(self) -> Iterator[Member]:
        reader, meter = self._reader, self._meter
        for entry in reader:
            position = reader.position
            meter.count(entry, position)
            target = place(entry)
            meter.check_depth(target.depth)
            if entry.xattrs:
                self._leave_out(entry)
            if entry.unknown_type:
                self._left_out.add(TYPES, entry.name)
            check_entry(entry, target)
            if target.role == "entry":
                self.size += entry.size
            yield Member(entry, target, position, reader.left, reader.data())

    @property
    def left_out(self) -> tuple[str, ...]:
        return self._left_out.warnings()

    def _leave_out(self, entry: Entry) -> None:
        """Attributes that are no file's. What XFS lists a second time is not missed where the first is there."""
        for name, kind in [(name, _left_out_kind(name)) for name in entry.xattrs]:
            if not kind:
                continue
            del entry.xattrs[name]
            if not (name in SECOND_LISTS and SECOND_LISTS[name] in entry.xattrs):
                self._left_out.add(kind, name.encode("utf-8", "surrogateescape"))


def _left_out_kind(name: str) -> str:
    """Why an attribute is no part of a layer; "" where it is."""
    if is_file_systems(name):
        return ATTRIBUTES
    if is_of_writable_layer(name):
        return OVERLAY
    return FOREIGN if is_foreign(name) else ""


def digest(read: Callable[[int], bytes], limits: Limits = UNLESS_SET, pinned: bool = False) -> Unpacked:
    """Read a layer's tar stream to its end without writing anything.

    :param read: gives up to so many bytes, none only at the end; its own errors pass through.
    :param limits: of its entries are counted only those that the archive has.
    :param pinned: as for ``TarReader``.
    :raises StrataError: damage, and every entry that ``unpack`` would refuse whatever the file system.
    """
    with HashingReader(read) as source:
        meter = Meter(limits)
        walk = Walk(TarReader(meter.bounded(source.read), pinned=pinned), meter)
        for _member in walk:
            pass
        return Unpacked(source.digest(), walk.size, meter.members, left_out=walk.left_out)


@contextlib.contextmanager
def _no_umask() -> Iterator[None]:
    """Files get the mode that they are made with."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def writer_apart(
    directory: str, userxattr: bool, limits: Limits = UNLESS_SET
) -> AbstractContextManager[Optional[Relay]]:
    """Another process that writes what ``unpack`` reads in this one: for large layers, where a core has nothing to do.

    It is started before the source is opened: else it would hold what that needs closed, such as the pipe to a program.

    :param directory, userxattr, limits: as for ``unpack``.
    :returns: gives what ``unpack`` takes: None where no process is to be had.
    """
    # Imported only when needed: most layers are small, or have others beside them.
    from ansible_collections.strata.overlay.plugins.module_utils._layer.pipeline import Relay

    def write(members: Iterator[Member]) -> tuple[int, str]:
        meter = Meter(limits)  # this one knows of implied directories
        return _write(_counted(members, meter), directory, userxattr, meter, limits)

    try:
        return Relay(write)
    except OSError:
        return contextlib.nullcontext()


def unpack(
    read: Callable[[int], bytes],
    directory: str,
    userxattr: bool,
    limits: Limits = UNLESS_SET,
    relay: Optional[Relay] = None,
    *,
    pinned: bool = False,
) -> Unpacked:
    """Unpack a layer's tar stream into an existing empty directory, in overlay form.

    The directory itself becomes 0:0, 0755 and without access lists, unless the archive says otherwise.

    Whiteouts become devices 0:0 and opaque marks become attributes, whatever their order in the archive. Nothing
    outside the directory can be reached. After an error the directory is half full, for ``remove_tree``. Nothing is
    synced.

    :param read: as for ``digest``.
    :param userxattr: mark opaque directories by user.overlay.opaque, as an unprivileged user namespace needs it.
    :param relay: of ``writer_apart`` for this directory; else it is written here.
    :param pinned: as for ``TarReader``.
    :raises StrataError: damage, a refused entry, or an error of the file system, naming the entry.
    """
    meter = Meter(limits)
    with HashingReader(relay.fed(read) if relay else read) as source:
        walk = Walk(TarReader(meter.bounded(source.read), pinned=pinned), meter)
        if relay:
            for member in walk:
                relay.send(member)
            allocated, tree = relay.result()
        else:
            allocated, tree = _write(walk, directory, userxattr, meter, limits, lambda: source.failure)
        return Unpacked(source.digest(), walk.size, meter.members, allocated, tree, walk.left_out)


def _counted(members: Iterator[Member], meter: Meter) -> Iterator[Member]:
    for member in members:
        meter.count(member.entry, member.position)
        yield member


def _opened(directory: str, resources: contextlib.ExitStack) -> int:
    descriptor = os.open(directory, LISTED)
    resources.callback(os.close, descriptor)
    return descriptor


def _write(
    members: Iterable[Member],
    directory: str,
    userxattr: bool,
    meter: Meter,
    limits: Limits,
    failure: Callable[[], Optional[BaseException]] = lambda: None,
) -> tuple[int, str]:
    """Write all entries; gives the bytes that the tree takes, and its digest.

    :param failure: the error that was met when the data was read, if any: it is passed on as it is.
    """
    end = 0
    with contextlib.ExitStack() as opened:
        reserve = Reserve(_opened(directory, opened), limits.reserve)

        def made_implied() -> None:
            meter.count_implied()
            reserve.wrote(ENTRY)

        root = opened.enter_context(RootDirectory(directory, made_implied))
        beside = os.path.dirname(os.path.abspath(directory))
        directories = opened.enter_context(PendingDirectories(beside, meter.keep))
        opened.enter_context(_no_umask())
        disk = opened.enter_context(WriteBack(lambda: syscalls.syncfs(directory)))
        make_plain(root.fd)
        writer = TreeWriter(root, opaque_xattr(userxattr), directories, meter.keep)
        for entry, target, position, stored, data in members:
            try:
                reserve.wrote(position - end + ENTRY + (stored if stored < LARGE else 0))
                writer.add(entry, target, reserve.watched(data) if stored >= LARGE else data)
            except OSError as error:
                if error is failure():
                    raise
                raise StrataError(f"entry {show(entry.name)}: {explain(error)}") from error
            end = position + stored
            disk.at(end)
        writer.finish()
        disk.last(end)
        tree = tree_digest(directory, checksums=writer.checksums)
        return tree.allocated, tree.digest
