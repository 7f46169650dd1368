# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One line of the mount table as a value. Pure: `_linux/mountinfo` reads the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Optional

_IN_HOME = re.compile(r"^(/.*)/(l/[A-Z0-9]{26}|[0-9a-f]{64}/(?:volatile/)?(?:diff|work))\Z", re.DOTALL)


class Mount(NamedTuple):
    """One line of mountinfo, escapes undone.

    :ivar optional: the propagation fields, such as ``shared:3``.
    """

    mount_id: int
    parent_id: int
    device: str
    root: str
    path: str
    options: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options

    def lowers(self) -> list[str]:
        """Lower directories as the mount was given them, top to bottom: ``lowerdir=a:b`` and repeated
        ``lowerdir+=``.
        """
        found: list[str] = []
        for option in self.super_options:
            key, _sep, value = option.partition("=")
            if key == "lowerdir+":
                found.append(value)
            elif key == "lowerdir":
                found.extend(part.replace("\\:", ":") for part in re.split(r"(?<!\\):", value))
        return found

    def option(self, key: str) -> str:
        """The value of one super-block option, ``""`` where it is not set."""
        for option in self.super_options:
            name, _sep, value = option.partition("=")
            if name == key:
                return value
        return ""


def split_name(name: str) -> Optional[tuple[str, str]]:
    """The absolute name of a lower, upper or work directory -> ``overlay2/`` of its store, and the name within that;
    None where it cannot be of one.
    """
    match = _IN_HOME.match(name)
    return (match.group(1), match.group(2)) if match else None


def by_path(mounts: Sequence[Mount]) -> dict[str, list[Mount]]:
    """Mount point -> the mounts on it, lowest first."""
    index: dict[str, list[Mount]] = {}
    for mount in mounts:
        index.setdefault(mount.path, []).append(mount)
    return {path: _from_the_lowest(lines) if len(lines) > 1 else lines for path, lines in index.items()}


def _from_the_lowest(lines: list[Mount]) -> list[Mount]:
    """Mounts on one path in the order in which they lie: each is the parent of the next.

    The table is ordered by age, and a mount that was put beneath an older one comes after it.
    """
    here = {line.mount_id for line in lines}
    above = {line.parent_id: line for line in lines if line.parent_id in here}
    ordered = [line for line in lines if line.parent_id not in here]
    while ordered and ordered[-1].mount_id in above:
        ordered.append(above.pop(ordered[-1].mount_id))
    return ordered if len(ordered) == len(lines) else lines
