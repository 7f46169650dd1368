# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Converts ACLs between tar's text form and Linux extended attributes. Pure.

GNU tar writes names where the machine that packs knows them, also with --numeric-owner; star and bsdtar add the number
as a fourth field. A name without its number is refused, root excepted: what it means elsewhere would be a guess.

Sources: star(5), "SCHILY.acl.access"; acl_to_text(3); linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import MAX_ID, Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

_ATTRIBUTES = {
    b"SCHILY.acl.access": "system.posix_acl_access",
    b"SCHILY.acl.default": "system.posix_acl_default",
}
VERSION = 2
_MOST = (65536 - 4) // 8
"""Entries that an attribute can hold (XATTR_SIZE_MAX)."""

NOBODY = 2**32 - 1
"""The id of entries that are about no user or group of their own."""

OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = (1, 2, 4, 8, 16, 32)
"""Tags; the kernel wants entries in this order."""

_WORDS = {
    "user": (OWNER, USER),
    "u": (OWNER, USER),
    "group": (OWNING_GROUP, GROUP),
    "g": (OWNING_GROUP, GROUP),
    "mask": (MASK, 0),
    "m": (MASK, 0),
    "other": (OTHER, 0),
    "o": (OTHER, 0),
}
_PERMISSIONS = {"r": 4, "w": 2, "x": 1, "-": 0}

ITEM = struct.Struct("<HHI")
"""Of an attribute: tag, permission bits and id."""

Item = tuple[int, int, int]
"""Tag, id and permission bits."""


def take_access_lists(records: Mapping[bytes, bytes], entry: Entry) -> None:
    """Add the attributes that PAX records ask for to an entry's; one that it has already, in numbers, stays.

    :raises StrataError: a user or group has a name and no number.
    :raises ValueError: it is no access list.
    """
    for key, attribute in _ATTRIBUTES.items():
        text = records.get(key)
        if not text or attribute in entry.xattrs:
            continue
        try:
            entry.xattrs[attribute] = _pack(_parse(text.decode("utf-8", "surrogateescape")))
        except _NoNumberError as error:
            raise StrataError(
                f"entry {show(entry.name)}: its access list names {error} without a number, and names mean other users "
                "on other machines; pack it with numbers: bsdtar --acls, or tar --xattrs --xattrs-include='*'"
            ) from None


class _NoNumberError(Exception):
    """Says whose."""


def _parse(text: str) -> list[Item]:
    parts = re.split("[,\n]", text)
    if len(parts) > _MOST:
        raise ValueError(f"its access list has {len(parts)} entries; Linux takes {_MOST}")
    items = [_item(part) for part in parts if part.strip()]
    tags = [tag for tag, _number, _bits in items]
    if any(tags.count(tag) != 1 for tag in (OWNER, OWNING_GROUP, OTHER)):
        raise ValueError("its access list has not one entry each for owner, group and others")
    if tags.count(MASK) > 1 or len({(tag, number) for tag, number, _bits in items}) != len(items):
        raise ValueError("its access list says something twice")
    if (USER in tags or GROUP in tags) and MASK not in tags:
        raise ValueError("its access list has no mask")
    return sorted(items)


def _item(part: str) -> Item:
    fields = part.split("#", maxsplit=1)[0].strip().split(":")
    if fields[0] in ("default", "d"):
        fields = fields[1:]
    own, other = _WORDS.get(fields[0] if fields else "", (0, 0))
    if not other and len(fields) == 2:
        fields.insert(1, "")  # "mask:rwx" for "mask::rwx"
    if not own or len(fields) not in (3, 4) or not set(fields[2]) <= set(_PERMISSIONS) or (fields[1] and not other):
        raise ValueError(f"{part[:80]!r} is no entry of an access list")
    bits = sum(_PERMISSIONS[letter] for letter in set(fields[2]))
    if not fields[1]:
        return own, NOBODY, bits
    return other, _number(fields[0], fields[1], fields[3] if len(fields) == 4 else None), bits


def _number(word: str, name: str, number: Optional[str]) -> int:
    digits = {"root": "0"}.get(name, name) if number is None else number
    if not re.fullmatch("[0-9]{1,10}", digits):
        raise _NoNumberError(f"{'user' if word.startswith('u') else 'group'} {name!r}")
    if int(digits) > MAX_ID:
        raise ValueError(f"its access list has an id of {digits}, which is out of range")
    return int(digits)


def _pack(items: list[Item]) -> bytes:
    entries = (ITEM.pack(tag, bits, number) for tag, number, bits in items)
    return struct.pack("<I", VERSION) + b"".join(entries)
