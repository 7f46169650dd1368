# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Compares a writable layer with the layers below it: added, changed and deleted paths, as `docker diff` lists them.

Docker mounts both trees and compares them whole. Here only the writable layer is walked, and below it only its paths
are looked up, by the rules of overlayfs. Every directory is opened part by part and never through a link.
Sources: moby/go-archive changes.go and changes_unix.go (what counts as a change); kernel overlayfs.rst (what a path
shows). Docker before 28 takes block devices and sockets for directories there, which is not copied.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._layer.layer_directories import (
    is_marked,
    open_below,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import (
    FUSE_OPAQUES,
    FUSE_WHITEOUT,
    is_whiteout,
    opaque_xattr,
    opaque_xattrs,
)

_SECOND = 10**9
_CAPABILITY = "security.capability"
_DESCRIPTORS = 250
"""That may be open at once beside one directory's own; many systems give a process 1024."""

Owners = Callable[[int, int], tuple[int, int]]
"""Owner and group as a lower layer has them -> as the stack shows them."""


class Change(NamedTuple):
    """One path that is otherwise than below.

    :ivar path: from the top of the stack, beginning with a slash.
    :ivar kind: "A", "C" or "D", as Docker writes added, changed and deleted.
    :ivar size: bytes of a regular file as it is now; 0 for everything else.
    """

    path: str
    kind: str
    size: int = 0


class _Place(NamedTuple):
    """A directory of the writable layer that is yet to be looked at.

    :ivar lowers: numbers of the lower layers that have the directory it is in, top to bottom.
    :ivar hides: nothing of the layers below is seen in it any more.
    """

    path: str
    lowers: Sequence[int]
    hides: bool


_Below = tuple[int, int]
"""A directory of one lower layer that is open: the layer's number, and the descriptor."""


def find_changes(
    upper: str,
    lowers: Sequence[str],
    userxattr: bool,
    owners: Optional[Owners] = None,
    fuse: bool = False,
    whole: bool = False,
) -> list[Change]:
    """Every change, each directory before what is in it. What goes while this looks is as if it had gone before.

    :param upper: top directory of the writable layer, without links on the way.
    :param lowers: those of the layers below, top to bottom.
    :param userxattr: opaque directories are marked by ``user.overlay.opaque``.
    :param owners: None where the layers are not mapped.
    :param fuse: fuse-overlayfs has written the writable layer, and marks some things in its own way.
    :param whole: the writable layer is the whole tree and not only what differs: what it lacks is deleted.
    :raises OSError: a layer cannot be read.
    """
    return _Comparison(upper, lowers, userxattr, owners, fuse).run(whole)


class _Comparison:
    def __init__(
        self, upper: str, lowers: Sequence[str], userxattr: bool, owners: Optional[Owners], fuse: bool
    ) -> None:
        self._upper = upper
        self._lowers = lowers
        self._opaque = opaque_xattr(userxattr)
        self._upper_opaque = opaque_xattrs(userxattr, fuse)
        self._fuse = fuse
        self._owners = owners
        self._found: dict[str, Change] = {}
        self._touched: set[str] = set()
        self._waiting: list[_Place] = []
        self._open = 0

    def run(self, whole: bool) -> list[Change]:
        self._waiting = [_Place("", range(len(self._lowers)), hides=whole)]
        while self._waiting:
            self._from_top(self._waiting.pop())
        self._report_parents()
        return [self._found[path] for path in sorted(self._found, key=lambda path: path.replace("/", "\0"))]

    def _from_top(self, place: _Place) -> None:
        above = place.path.rpartition("/")[0]
        try:
            parent = open_below(self._upper, above)
        except (FileNotFoundError, NotADirectoryError):
            if not place.path:
                raise
            return  # it went, or has become something else, since it was seen
        below = [(number, open_below(self._lowers[number], above)) for number in place.lowers]
        try:
            self._enter(place.path, place.hides, parent, below)
        finally:
            os.close(parent)
            for _number, descriptor in below:
                os.close(descriptor)

    def _enter(self, path: str, hides: bool, parent: int, above: Sequence[_Below]) -> None:
        """Look at one directory: at what it is, and at what is in it.

        :param parent: the directory that has it, ``above`` the same in lower layers.
        """
        name = path.rpartition("/")[2] or "."
        try:
            upper = os.open(name, LISTED, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return
        below: list[_Below] = []
        try:
            before = self._open_lowers(name, above, below)
            if path:
                hides = self._look_at(path, hides, before, upper, below)
            self._open += 1 + len(below)
            self._compare(path, hides, upper, below)
        finally:
            self._open -= 1 + len(below)
            os.close(upper)
            for _number, descriptor in below:
                os.close(descriptor)

    def _open_lowers(self, name: str, above: Sequence[_Below], below: list[_Below]) -> Optional[os.stat_result]:
        """Open what the lower layers have of a directory, top to bottom; what they show by its name."""
        for number, directory in above:
            try:
                lower = os.open(name, LISTED, dir_fd=directory)
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                if below:
                    break
                return _before(above, name)[0]
            below.append((number, lower))
            # A mark on the top itself means nothing: the kernel shows the tops of all layers as one.
            if name != "." and number != above[-1][0] and self._is_opaque(lower):
                break
        return os.stat(below[0][1]) if below else None

    def _look_at(
        self, path: str, hides: bool, before: Optional[os.stat_result], upper: int, below: Sequence[_Below]
    ) -> bool:
        """Tell a directory itself, where it has changed; whether it hides what is below it."""
        attributes = os.listxattr(upper) if below else []
        kind = self._kind(before, os.stat(upper))
        if not kind and not _same_capability(upper, attributes, below[0][1]):
            kind = "C"
        if kind:
            self._found[path] = Change(path, kind)
            self._touched.add(path.rpartition("/")[0])
        return hides or is_marked(upper, attributes, self._upper_opaque)

    def _compare(self, path: str, hides: bool, upper: int, below: Sequence[_Below]) -> None:
        """Hold what is in a directory against what was."""
        found = len(self._found)
        there: set[str] = set()
        inside: list[str] = []
        with os.scandir(upper) as listing:
            for entry in listing:
                if entry.is_dir(follow_symlinks=False):
                    there.add(entry.name)
                    inside.append(f"{path}/{entry.name}")
                    continue
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                name, gone = self._meant(entry.name, facts) if self._fuse else (entry.name, is_whiteout(facts))
                before, directory = _before(below, name)
                if gone:
                    kind = "D" if before else ""
                else:
                    there.add(name)
                    kind = self._kind(before, facts) or _kind_by_capability(upper, directory, name)
                if kind:
                    full_path = f"{path}/{name}"
                    self._found[full_path] = Change(
                        full_path, kind, facts.st_size if stat.S_ISREG(facts.st_mode) else 0
                    )
        if hides and below:
            self._report_hidden(path, there, below)
        if len(self._found) > found:
            self._touched.add(path)
        for full_path in inside:
            if self._open < _DESCRIPTORS:
                self._enter(full_path, hides, upper, below)
            else:
                self._waiting.append(_Place(full_path, [number for number, _directory in below], hides))

    def _meant(self, name: str, facts: os.stat_result) -> tuple[str, bool]:
        """Of what name an entry of fuse-overlayfs tells, and whether that there is nothing. Of no name where it marks
        the directory itself: nothing below has an empty one.
        """
        if name in FUSE_OPAQUES:
            return "", True
        is_mark = name.startswith(FUSE_WHITEOUT)
        return name[len(FUSE_WHITEOUT) :] if is_mark else name, is_mark or is_whiteout(facts)

    def _report_hidden(self, path: str, there: set[str], below: Sequence[_Below]) -> None:
        """What the layers below have in a directory in which nothing of them is seen any more."""
        for name in _names(below) - there:
            if _before(below, name)[0]:
                self._found[f"{path}/{name}"] = Change(f"{path}/{name}", "D")

    def _kind(self, before: Optional[os.stat_result], now: os.stat_result) -> str:
        """What something is told as, "" for nothing: it may still have other capabilities."""
        if before is None:
            return "A"
        owners = (before.st_uid, before.st_gid)
        if self._owners is not None:
            owners = self._owners(*owners)
        if before.st_mode != now.st_mode or before.st_rdev != now.st_rdev or owners != (now.st_uid, now.st_gid):
            return "C"
        if stat.S_ISDIR(now.st_mode):
            return ""
        same = before.st_size == now.st_size and same_time(before.st_mtime_ns, now.st_mtime_ns)
        return "" if same else "C"

    def _is_opaque(self, directory: int) -> bool:
        # Nearly none has the mark, and a list that lacks it costs less than an error.
        return is_marked(directory, os.listxattr(directory), (self._opaque,))

    def _report_parents(self) -> None:
        """Every directory in which anything has changed has changed itself."""
        for touched in self._touched:
            path = touched
            # One that was found itself lies in a directory that has been touched.
            while path and path not in self._found:
                self._found[path] = Change(path, "C")
                path = path.rpartition("/")[0]


def _before(below: Sequence[_Below], name: str) -> tuple[Optional[os.stat_result], int]:
    """What the lower layers show by a name, and the directory that has it."""
    for _number, directory in below:
        try:
            facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return (None if is_whiteout(facts) else facts), directory
    return None, -1


def _kind_by_capability(upper: int, below: int, name: str) -> str:
    """What a file is told as of which nothing else has changed.

    :param below: the directory that has what was there before.
    """
    return "" if _attribute_at(upper, name, _CAPABILITY) == _attribute_at(below, name, _CAPABILITY) else "C"


def same_time(one: int, other: int) -> bool:
    """Whether two times (nanoseconds) may be the same one: an archive without fractions has cut them off."""
    if one == other:
        return True
    return one // _SECOND == other // _SECOND and 0 in (one % _SECOND, other % _SECOND)


def _same_capability(one: int, attributes: Sequence[str], other: int) -> bool:
    """Whether two open directories have the same.

    :param attributes: names of the first one's.
    """
    has = _CAPABILITY in attributes
    if has != (_CAPABILITY in os.listxattr(other)):
        return False
    return not has or os.getxattr(one, _CAPABILITY) == os.getxattr(other, _CAPABILITY)


def _attribute_at(directory: int, name: str, attribute: str) -> Optional[bytes]:
    """An attribute of an entry, None where it has none. There is no getxattrat(2) before Linux 6.13."""
    try:
        return os.getxattr(f"/proc/self/fd/{directory}/{name}", attribute, follow_symlinks=False)
    except OSError:
        return None


def _names(below: Sequence[_Below]) -> set[str]:
    found: set[str] = set()
    for _number, directory in below:
        found.update(os.listdir(directory))
    return found
