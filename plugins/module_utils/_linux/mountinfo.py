# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads this process's mount table from /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount, split_name

_NAMING = ("lowerdir", "lowerdir+", "upperdir", "workdir")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match.group(1), 8)]), os.fsencode(field)))


def _split(field: str) -> tuple[str, ...]:
    """Options are split before their escapes are undone: a comma inside a path is ``\\054`` and must not split."""
    options = field.split(",")
    return tuple(map(_unescape, options) if "\\" in field else options)


def parse(table: bytes, near: Callable[[str], bool] = lambda path: True) -> list[Mount]:
    """Mounts in the order of the table, the upper of two mounts on one path after the lower.

    :param near: whether a mount at a path is of interest; a host may have thousands that are not.
    """
    mounts = []
    # Only at newlines: the kernel escapes these in paths, and leaves a carriage return as it is.
    lines = filter(None, os.fsdecode(table).split("\n"))
    for line in [line for line in lines if near(_unescape(line.split(" ", 5)[4]))]:
        fields = line.split(" ")
        dash = fields.index("-", 6)
        mounts.append(
            Mount(
                int(fields[0]),
                int(fields[1]),
                fields[2],
                _unescape(fields[3]),
                _unescape(fields[4]),
                tuple(fields[5].split(",")),
                _unescape(fields[dash + 1]),
                _unescape(fields[dash + 2]),
                _split(fields[dash + 3]),
                tuple(fields[6:dash]),
            )
        )
    return mounts


def read(home: str = "") -> list[Mount]:
    """The mounts that this process sees now.

    :param home: ``overlay2/`` of a store whose mounts are looked for, see ``named_from``.
    """
    with open("/proc/self/mountinfo", "rb") as table:
        mounts = parse(table.read())
    return named_from(mounts, home) if home else mounts


def named_from(mounts: Iterable[Mount], home: str) -> list[Mount]:
    """Mounts, and in overlays that name parts of a store by another path to it (a bind mount), this path.

    :param home: ``overlay2/`` of the store. A file system is asked only about overlays that name another one.
    """
    same: dict[str, bool] = {home: False}

    def here(option: str) -> str:
        key, _sep, name = option.partition("=")
        parts = split_name(name) if key in _NAMING else None
        if parts is None:
            return option
        if parts[0] not in same:
            with contextlib.suppress(OSError):
                same[parts[0]] = os.path.samestat(os.stat(parts[0]), os.stat(home))
        return f"{key}={home}/{parts[1]}" if same.get(parts[0]) else option

    return [
        mount._replace(super_options=tuple(map(here, mount.super_options))) if mount.fstype == "overlay" else mount
        for mount in mounts
    ]


def read_near(paths: Iterable[str], directory: str) -> list[Mount]:
    """Of the mounts that this process sees now, those that lie on these paths, above them, and above or within a
    directory.

    :param paths: absolute and without links, as ``directory``.
    """
    wanted: set[str] = {"/"}
    for path in (*paths, directory):
        above = path
        while above not in wanted:
            wanted.add(above)
            above = os.path.dirname(above)
    within = directory.rstrip("/") + "/"
    with open("/proc/self/mountinfo", "rb") as table:
        return parse(table.read(), lambda path: path in wanted or path.startswith(within))
