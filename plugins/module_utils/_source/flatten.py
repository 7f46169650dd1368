# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Copies the layers of a chain into one tree, for hosts whose kernel has no overlayfs.

The copy shares its blocks with the layers where the file system can (FICLONE), and no inodes: a hard link would change
the times of what it is a link of. Source: Documentation/filesystems/overlayfs.rst, "Upper and Lower", "whiteouts and
opaque directories".
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, advice
from ansible_collections.strata.overlay.plugins.module_utils._layer.clone import (
    Copier,
    names_in,
    near,
    status_at,
)
from ansible_collections.strata.overlay.plugins.module_utils._layer.reserve import UNLESS_SET, Reserve
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import Unpacked
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import OVERLAY_PREFIXES, is_whiteout
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Count, Job
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin


def copy_job(target: str, trees: Sequence[str], origin: Origin) -> Job:
    """The making of a copy as a piece of work; its result is that of ``Unpacked``.

    :param trees: of the contents of the chain, bottom first.
    """

    def work(_count: Count) -> tuple[Any, ...]:
        try:
            merge_trees(list(reversed(trees)), target, origin.source.limits.reserve)
            found = tree_digest(target)
        except StrataError as error:
            raise StrataError(
                f"{origin.label}: cannot copy {origin.description}: {error}. Nothing of it was kept"
            ) from error
        except OSError as error:
            then = "Another run removed some of them; run again." if error.errno == errno.ENOENT else advice(error)
            message = (
                f"{origin.label}: cannot copy {origin.description}: {error.strerror or error}. Nothing of it was kept."
            )
            raise StrataError(f"{message} {then}".rstrip()) from error
        return astuple(Unpacked(origin.diff_id, found.size, found.entries, found.allocated, found.digest))

    return Job(f"{origin.label} (the copy of {origin.description})", work)


def merge_trees(trees: Sequence[str], target: str, reserve: int = UNLESS_SET) -> None:
    """Copy what an overlay of these trees would show to ``target``, which must not exist.

    All that ``clone_tree`` keeps is kept; two names of one file stay that where both are shown. After an error the
    target is incomplete, for ``remove_tree``.

    :param trees: top to bottom, on one file system.
    :param reserve: bytes of the file system that are left free.
    :raises StrataError: less would be left.
    :raises OSError: as the kernel says; FileExistsError when the target exists, FileNotFoundError when a tree was moved
        away meanwhile: what is deleted is moved first, so of all others nothing can be missing.
    """
    os.mkdir(target, 0o700)
    with contextlib.ExitStack() as stack:

        def opened(path: str) -> int:
            descriptor = os.open(path, LISTED)
            stack.callback(os.close, descriptor)
            return descriptor

        roots = [opened(tree) for tree in trees]
        top = opened(target)
        _Merger(roots, Copier(top, OVERLAY_PREFIXES, Reserve(top, reserve))).run()
        for root, tree in zip(roots, trees):
            if not os.path.samestat(os.fstat(root), os.lstat(tree)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), tree)


class _Directory(NamedTuple):
    """A directory of the merged tree.

    :ivar roots: descriptors of the trees that have a part of it, the uppermost, whose metadata it has, first.
    """

    name: bytes
    roots: list[int]


class _Merger:
    def __init__(self, roots: list[int], copier: Copier) -> None:
        self._roots = roots
        self._copier = copier

    def run(self) -> None:
        done: list[_Directory] = []
        waiting = [_Directory(b".", self._roots)]
        while waiting:
            directory = waiting.pop()
            done.append(directory)
            for below in self._fill(directory):
                self._copier.make_directory(below.name)
                waiting.append(below)
        for directory in reversed(done):
            root = directory.roots[0]
            status = status_at(root, directory.name)
            self._copier.copy_metadata(root, directory.name, status)

    def _fill(self, directory: _Directory) -> list[_Directory]:
        """Copy what lies in a directory and is none itself; returns the directories."""
        below: dict[bytes, _Directory] = {}
        closed: set[bytes] = set()
        for root in directory.roots:
            for name in names_in(root, directory.name):
                if name in closed:
                    continue
                status = status_at(root, name)
                if stat.S_ISDIR(status.st_mode):
                    below.setdefault(name, _Directory(name, [])).roots.append(root)
                    if _is_opaque(root, name):
                        closed.add(name)
                    continue
                # A whiteout, or something else than a directory, ends what lies above it, if that is a directory.
                closed.add(name)
                if name not in below and not is_whiteout(status):
                    self._copier.copy(root, name, status)
        return list(below.values())


def _is_opaque(root: int, name: bytes) -> bool:
    marks = [f"{prefix}opaque" for prefix in OVERLAY_PREFIXES]
    with near(root, name) as (place, base):
        path = b"/proc/self/fd/%d/%s" % (place, base)
        found = os.listxattr(path, follow_symlinks=False)
        return any(mark in found and os.getxattr(path, mark, follow_symlinks=False) == b"y" for mark in marks)
