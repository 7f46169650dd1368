# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Limits on what one archive may contain and cost: entries, bytes, depth, memory, disk space.

An archive of some kilobytes can unpack to more than any disk holds, or to more directories than the file system has
inodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.sizes import parse_size


class Limits(NamedTuple):
    """What an archive may be at most.

    :ivar entries: members, whiteouts too, and the directories that are made because a name needs them.
    :ivar bytes: of the uncompressed archive, zeros at its end too, and of the holes of sparse files.
    :ivar depth: components of a name.
    :ivar memory: bytes of names that have to be kept until the archive's end: of directories, whiteouts, and hard links
        whose targets come later.
    :ivar reserve: bytes of the file system that are left free; -1 for what `_layer/reserve` says.
    """

    entries: int = 2_000_000
    bytes: int = 1 << 40
    depth: int = 256
    memory: int = 128 << 20
    reserve: int = -1


UNLESS_SET = Limits()

_SIZES = ("bytes", "memory", "reserve")


def read_limits(given: Optional[Mapping[str, Any]], label: str, errors: list[str]) -> Limits:
    """The option ``limits`` of a layer whose types have been checked; what is not given is as in ``Limits``."""
    found = {}
    for name, value in (given or {}).items():
        if value is None:
            continue
        number = parse_size(value) if name in _SIZES else value
        if number is None or number < (0 if name == "reserve" else 1):
            wanted = "a number of bytes such as 512m or 2g" if name in _SIZES else "at least 1"
            errors.append(f"{label}: option 'limits.{name}': {value!r} must be {wanted}")
        else:
            found[name] = number
    return Limits(**found)


def least_reserve(limits: Iterable[Limits]) -> Limits:
    """Limits for what is made of several layers: the smallest reserve that one of them has been given."""
    given = [each.reserve for each in limits if each.reserve >= 0]
    return UNLESS_SET._replace(reserve=min(given)) if given else UNLESS_SET
