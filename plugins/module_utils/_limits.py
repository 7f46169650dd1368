# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""How much one archive may be: entries, bytes and depth. `_meter` counts them.

An archive of some kilobytes can unpack to more than any disk holds, or to more directories than the file system has
inodes.
"""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._size import parse_size


class Limits(NamedTuple):
    """What an archive may be at most.

    :ivar entries: members, whiteouts too, and the directories that are made because a name needs them.
    :ivar bytes: of the uncompressed archive, zeros at its end too, and of the holes of sparse files.
    :ivar depth: components of a name.
    """

    entries: int = 2_000_000
    bytes: int = 1 << 40
    depth: int = 256


UNLESS_SET = Limits()


def read_limits(given: Optional[Mapping[str, Any]], where: str, problems: List[str]) -> Limits:
    """The option ``limits`` of a layer whose types have been checked; what is not given is as in ``Limits``."""
    found = {}
    for name, value in (given or {}).items():
        if value is None:
            continue
        number = parse_size(value) if name == "bytes" else value
        if number is None or number < 1:
            wanted = "a number of bytes such as 512m or 2g" if name == "bytes" else "at least 1"
            problems.append(f"{where}: option 'limits.{name}': {value!r} must be {wanted}")
        else:
            found[name] = number
    return Limits(**found)
