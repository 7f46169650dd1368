# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Which members of a source a layer is made of, and below which directory, as users write it. Pure.

Names and meanings are those of GNU tar: ``--strip-components``, ``--exclude``, and members named on its command line
with ``--wildcards``. `_layer/patterns` says what a pattern matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

PART_OPTIONS = ("strip_components", "prefix", "include", "exclude")
"""Options that make another layer of the same source."""

_LONGEST = 4095


class Selection(NamedTuple):
    """What is taken of a source.

    :ivar strip: so many components are taken off the front of each name; names that have no more are left out.
    :ivar prefix: the directory that all of it is put into, components joined by one slash; "" for the top.
    :ivar include: patterns of what is taken, all where there are none; ``exclude``: and of what is not, which decides.
    """

    strip: int = 0
    prefix: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The options in a few words, for plans and records."""
        parts = [f"strip_components {self.strip}"] if self.strip else []
        parts += [f"prefix {self.prefix}"] if self.prefix else []
        parts += [f"include {', '.join(map(repr, self.include))}"] if self.include else []
        parts += [f"exclude {', '.join(map(repr, self.exclude))}"] if self.exclude else []
        return "; ".join(parts)


def read_selection(item: Mapping[str, Any], label: str, errors: list[str]) -> Optional[Selection]:
    """The options of a layer whose types have been checked; None where they ask for nothing."""
    strip = item["strip_components"] or 0
    if strip < 0:
        errors.append(f"{label}: option 'strip_components': {strip} must be 0 or more")
    found = Selection(
        max(strip, 0),
        _prefix(item["prefix"] or "", label, errors),
        _patterns(item, "include", label, errors),
        _patterns(item, "exclude", label, errors),
    )
    return found if found != Selection() else None


def _prefix(text: str, label: str, errors: list[str]) -> str:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    found = "/".join(parts)
    if ".." in parts or "\0" in text:
        errors.append(f"{label}: option 'prefix': {text!r} must be a path below the layer's top, without '..'")
    elif any(part.startswith(".wh.") for part in parts):
        errors.append(f"{label}: option 'prefix': {text!r} must not have a name of a whiteout (.wh.) in it")
    elif len(found.encode("utf-8", "surrogateescape")) > _LONGEST:
        errors.append(f"{label}: option 'prefix': it is longer than the {_LONGEST} bytes that a path may have")
    return found


def _patterns(item: Mapping[str, Any], option: str, label: str, errors: list[str]) -> tuple[str, ...]:
    found = tuple(item[option] or ())
    for pattern in found:
        if not pattern.strip("/") or pattern in (".", "./"):
            errors.append(f"{label}: option '{option}': {pattern!r} names nothing; leave it out")
    return found
