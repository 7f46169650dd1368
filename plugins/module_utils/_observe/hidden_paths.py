# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Lists paths that differ between two chains but are hidden by the writable layer, for upgrades.

Only paths of the writable layer are looked up, and below what it deletes or replaces what the layers have there. A
directory to which both chains contribute the same layers is not entered at all. Directories are opened part by part
and never through a link. Source: kernel overlayfs.rst (what a path shows).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._layer.layer_directories import (
    is_marked,
    open_below,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED, READ_FILE
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import same_bytes
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import (
    FUSE_OPAQUES,
    FUSE_WHITEOUT,
    is_whiteout,
    opaque_xattr,
    opaque_xattrs,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import in_user_namespace
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

MOST_PATHS = 1000
"""That are counted; a full disk of them is no better news."""

_MOST_NAMED = 10
_MOST_LOOKS = 200_000
_MOST_BYTES = 1 << 28
"""That are read to compare files of the same size; beyond it their times decide."""

_CAPABILITY = "security.capability"


class Shadowed(NamedTuple):
    """What a writable layer hides of a change below it.

    :ivar paths: from the top of the stack, beginning with a slash, in order; MOST_PATHS of them at the most.
    :ivar more: there are more than these.
    :ivar unknown: why it could not be found out, "" where it was.
    """

    paths: tuple[str, ...] = ()
    more: bool = False
    unknown: str = ""

    def describe(self, name: str) -> str:
        """In a clause, for the stack of this name; "" where nothing is hidden."""
        if self.unknown:
            return f"whether the writable layer of {name} hides what the new layers change is not known: {self.unknown}"
        if not self.paths:
            return ""
        count = len(self.paths)
        shown = ", ".join(self.paths[:_MOST_NAMED]) + (", ..." if count > _MOST_NAMED or self.more else "")
        paths = f"{'more than ' if self.more else ''}{count} path{'' if count == 1 else 's'}"
        return f"the writable layer of {name} hides {paths} that the new layers change: {shown}"


class _Place(NamedTuple):
    """A directory that is yet to be looked at, by the numbers of the layers that contribute to it, top to bottom.

    :ivar shadow: nothing of it is seen, since the writable layer has replaced or emptied it.
    """

    path: str
    shadow: bool
    old: tuple[int, ...]
    new: tuple[int, ...]


class _Entry(NamedTuple):
    """What a chain shows by a name.

    :ivar directory: the open directory of the layer that has it. :ivar layers: where it is a directory, those that
        contribute to it.
    """

    facts: os.stat_result
    directory: int
    layer: int
    layers: tuple[int, ...] = ()


def shadowed_paths(
    upper: str, old: Sequence[str], new: Sequence[str], userxattr: bool = False, fuse: bool = False
) -> Shadowed:
    """What is otherwise in the new chain than in the old, and hidden by the writable layer. Times do not count.

    :param upper: top directory of the writable layer, without links on the way; ``old``, ``new``: those of the layers
        of the chains, top to bottom.
    :param userxattr: opaque directories are marked by ``user.overlay.opaque``.
    :param fuse: fuse-overlayfs has written the writable layer.
    """
    try:
        return _Search(upper, old, new, userxattr, fuse).run()
    except OSError as error:
        return Shadowed(unknown=error.strerror or str(error))


def look_for_shadowed(
    store: Store, record: StackRecord, old: Sequence[str], new: Sequence[str], workspace: str = ""
) -> Shadowed:
    """The same of a stack that is on record.

    :param old, new: DiffIDs of the chains, bottom first.
    :param workspace: where contents lie that the store has not yet; "" for nowhere.
    """
    chains = [[_tree(store, diff_id, workspace) for diff_id in reversed(chain)] for chain in (old, new)]
    if not all(chains[0]):
        return Shadowed(unknown="the layers that it was written on are not in the store any more")
    if not all(chains[1]):
        return Shadowed(unknown="they are not in the store yet; a run with stage: true brings them there")
    return shadowed_paths(upper_tree(store, record), chains[0], chains[1], in_user_namespace(), record.fuse)


def _tree(store: Store, diff_id: str, workspace: str) -> str:
    """Where a content lies, "" for nowhere."""
    staged = f"{workspace}/{hex_of(diff_id)}" if workspace else ""
    places = (store.content(diff_id), staged)
    return next((place for place in places if place and os.path.isdir(place)), "")


class _Search:
    def __init__(self, upper: str, old: Sequence[str], new: Sequence[str], userxattr: bool, fuse: bool) -> None:
        self._upper = upper
        self._trees = list(dict.fromkeys((*old, *new)))
        numbers = {tree: number for number, tree in enumerate(self._trees)}
        self._waiting = [_Place("", False, *(tuple(numbers[tree] for tree in chain) for chain in (old, new)))]
        self._opaque = (opaque_xattr(userxattr),)
        self._upper_opaque = opaque_xattrs(userxattr, fuse)
        self._fuse = fuse
        self._found: dict[str, None] = {}
        self._looks = _MOST_LOOKS
        self._bytes = _MOST_BYTES

    def run(self) -> Shadowed:
        while self._waiting and not self._is_enough():
            place = self._waiting.pop()
            if place.old != place.new:
                self._look_into(place)
        found = sorted(self._found, key=lambda path: path.replace("/", "\0"))
        return Shadowed(tuple(found[:MOST_PATHS]), self._is_enough())

    def _is_enough(self) -> bool:
        return len(self._found) > MOST_PATHS or self._looks < 0

    def _look_into(self, place: _Place) -> None:
        opened: dict[int, int] = {}
        upper = -1
        try:
            for number in dict.fromkeys((*place.old, *place.new)):
                opened[number] = open_below(self._trees[number], place.path, listed=True)
            if place.shadow:
                names: Iterable[str] = {name for descriptor in opened.values() for name in os.listdir(descriptor)}
            else:
                try:
                    upper = open_below(self._upper, place.path, listed=True)
                except (FileNotFoundError, NotADirectoryError):
                    if not place.path:
                        raise
                    return  # it went since it was seen
                names = os.listdir(upper)
            for name in names:
                self._looks -= 1
                if self._is_enough():
                    return
                self._look_at(place, name, upper, opened)
        finally:
            for descriptor in (*opened.values(), *([upper] if upper >= 0 else [])):
                os.close(descriptor)

    def _look_at(self, place: _Place, name: str, upper: int, opened: dict[int, int]) -> None:
        shadow = True
        if not place.shadow:
            try:
                facts = os.stat(name, dir_fd=upper, follow_symlinks=False)
            except FileNotFoundError:
                return
            if self._fuse and name in FUSE_OPAQUES:
                return
            if self._fuse and name.startswith(FUSE_WHITEOUT):
                name = name[len(FUSE_WHITEOUT) :]
            elif stat.S_ISDIR(facts.st_mode):
                shadow = self._is_marked(upper, name, self._upper_opaque)
        old = self._shown(place.old, name, opened)
        new = self._shown(place.new, name, opened)
        path = f"{place.path}/{name}"
        if self._differs(old, new, name):
            self._found[path] = None
        layers = [entry.layers if entry else () for entry in (old, new)]
        if any(layers):
            self._waiting.append(_Place(path, shadow, layers[0], layers[1]))

    def _shown(self, layers: Sequence[int], name: str, opened: dict[int, int]) -> Optional[_Entry]:
        """What a chain has by a name in the directory that is open."""
        first: Optional[_Entry] = None
        contributing: list[int] = []
        for index, number in enumerate(layers):
            try:
                facts = os.stat(name, dir_fd=opened[number], follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(facts.st_mode):
                if first is None and not is_whiteout(facts):
                    return _Entry(facts, opened[number], number)
                break
            first = first or _Entry(facts, opened[number], number)
            contributing.append(number)
            if index < len(layers) - 1 and self._is_marked(opened[number], name, self._opaque):
                break
        return first._replace(layers=tuple(contributing)) if first else None

    @staticmethod
    def _is_marked(directory: int, name: str, marks: Sequence[str]) -> bool:
        try:
            descriptor = os.open(name, LISTED, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return is_marked(descriptor, os.listxattr(descriptor), marks)
        finally:
            os.close(descriptor)

    def _differs(self, old: Optional[_Entry], new: Optional[_Entry], name: str) -> bool:
        if old is None or new is None:
            return old is not new
        if old.layer == new.layer:
            return False
        before, after = old.facts, new.facts
        if (before.st_mode, before.st_uid, before.st_gid) != (after.st_mode, after.st_uid, after.st_gid):
            return True
        if stat.S_ISLNK(after.st_mode):
            targets = [os.readlink(name, dir_fd=entry.directory) for entry in (old, new)]
            return targets[0] != targets[1]
        if not stat.S_ISREG(after.st_mode):
            return before.st_rdev != after.st_rdev
        return before.st_size != after.st_size or self._differ_in_content(old, new, name)

    def _differ_in_content(self, old: _Entry, new: _Entry, name: str) -> bool:
        if self._bytes < new.facts.st_size:
            return old.facts.st_mtime_ns != new.facts.st_mtime_ns
        self._bytes -= new.facts.st_size
        pair = [os.open(name, READ_FILE, dir_fd=old.directory)]
        try:
            pair.append(os.open(name, READ_FILE, dir_fd=new.directory))
            if _capability(pair[0]) != _capability(pair[1]):
                return True
            return not same_bytes(*pair)
        finally:
            for descriptor in pair:
                os.close(descriptor)


def _capability(descriptor: int) -> bytes:
    return os.getxattr(descriptor, _CAPABILITY) if _CAPABILITY in os.listxattr(descriptor) else b""
