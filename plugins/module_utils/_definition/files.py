# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses a layer's inline `files:`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

_MODE = re.compile(r"^0?[0-7]{3,4}\Z")
_ID = re.compile(r"^[0-9]{1,10}\Z")
_MAX_ID = 2**32 - 2
# Which options each state takes. An option without effect is a mistake.
_MEANINGFUL = {
    "file": ("content", "mode", "owner", "group"),
    "directory": ("mode", "owner", "group", "opaque"),
    "link": ("target", "owner", "group"),
    "absent": (),
}


class InlineFile(NamedTuple):
    """One item of a layer's ``files:``.

    :ivar path: relative to the layer's top, clean.
    :ivar state: file, directory, link or absent (a whiteout).
    :ivar content: of a file. :ivar target: of a link.
    :ivar mode: permission bits; None for 0644, and 0755 for a directory.
    :ivar opaque: of a directory: hide all that lower layers have there.
    :ivar time: of its last change, in seconds since 1970; None for the fixed time of all packed files.
    """

    path: str
    state: str
    content: bytes
    mode: Optional[int]
    uid: int
    gid: int
    target: str
    opaque: bool
    time: Optional[int] = None


def inline_files(label: str, items: Sequence[Mapping[str, Any]], errors: list[str]) -> tuple[InlineFile, ...]:
    """The files of one layer; mistakes are appended to ``errors``."""
    files = [
        _inline_file(f"{label}: file {item['path'] or number}", item, errors) for number, item in enumerate(items, 1)
    ]
    if not items:
        errors.append(f"{label}: option 'files' is empty; name at least one file")
    _check_tree(label, files, errors)
    return tuple(files)


def _inline_file(label: str, item: Mapping[str, Any], errors: list[str]) -> InlineFile:
    state = item["state"]
    for option in ("content", "target", "mode", "owner", "group", "opaque"):
        if item[option] and option not in _MEANINGFUL[state]:
            errors.append(f"{label}: option '{option}' says nothing for state: {state}; remove it")
    if state == "file" and item["content"] is None:
        errors.append(f"{label}: option 'content' is missing; an empty file is content: \"\"")
    if state == "link" and not item["target"]:
        errors.append(f"{label}: option 'target' is missing; it says where the link points")
    return InlineFile(
        path=_path(label, item["path"] or "", errors),
        state=state,
        content=(item["content"] or "").encode("utf-8", "surrogateescape"),
        mode=octal_mode(label, item["mode"], errors),
        uid=numeric_id(label, "owner", item["owner"], errors),
        gid=numeric_id(label, "group", item["group"], errors),
        target=item["target"] or "",
        opaque=item["opaque"],
    )


def _path(label: str, path: str, errors: list[str]) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path:
        errors.append(f"{label}: option 'path': {path!r} must name something below the layer's top, without '..'")
    for part in parts:
        if part.startswith(".wh."):
            errors.append(f"{label}: option 'path': names beginning with .wh. are whiteouts; write state: absent")
    return "/".join(parts)


def octal_mode(label: str, mode: Any, errors: list[str]) -> Optional[int]:
    """Permission bits; None where they are not given, or wrong, which goes to ``errors``."""
    if mode is None:
        return None
    if not isinstance(mode, str) or not _MODE.match(mode):
        errors.append(f"{label}: option 'mode': {mode!r} must be octal in quotes, such as \"0640\"")
        return None
    return int(mode, 8)


def numeric_id(label: str, option: str, value: Any, errors: list[str]) -> int:
    """A numeric id. Names other than root would make the layer differ between hosts."""
    if value is None or value == "root":
        return 0
    text = str(value)
    if isinstance(value, bool) or not _ID.match(text) or int(text) > _MAX_ID:
        errors.append(f"{label}: option '{option}': {value!r} must be a number or root; names differ between hosts")
        return 0
    return int(text)


def _check_tree(label: str, files: Sequence[InlineFile], errors: list[str]) -> None:
    by_path: dict[str, InlineFile] = {}
    for entry in files:
        if entry.path in by_path:
            errors.append(f"{label}: file {entry.path}: option 'path' is used twice")
        by_path[entry.path] = entry
    for entry in files:
        parts = entry.path.split("/")
        for depth in range(1, len(parts)):
            above = by_path.get("/".join(parts[:depth]))
            if above is not None and above.state != "directory":
                errors.append(f"{label}: file {entry.path}: lies below {above.path}, which is not a directory")
