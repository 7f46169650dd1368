# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Edits the text of /etc/fstab: a store's lines form one marked block (fstab(5)). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ESCAPED = re.compile(r"\\([0-7]{3})")


def escape(field: str) -> str:
    """One field: what would end it is written as an octal number."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\#" else letter for letter in field)


def first_field(line: str) -> str:
    """The first field of a line, as it was before it was escaped."""
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 8)), line.split(None, 1)[0])


def _marks(root: str) -> tuple[str, str]:
    return (
        f"# BEGIN strata.overlay {root} (written by Ansible; changes in this block are overwritten)",
        f"# END strata.overlay {root}",
    )


def block_lines(text: str, root: str) -> list[str]:
    """The lines of a store's stacks."""
    _before, inside, _after = _split(text, root)
    return [line for line in inside if line.strip() and not line.startswith("#")]


def with_block(text: str, root: str, lines: Iterable[str]) -> str:
    """The text with the block holding these lines and no others; without the block where there are none.

    Every other line stays as it is, byte for byte. A new block goes to the end, after the file systems that it needs.
    """
    before, _inside, after = _split(text, root)
    begin, end = _marks(root)
    block = [begin, *lines, end] if lines else []
    if block and before and not before[-1].endswith("\n"):
        before[-1] += "\n"
    return "".join(before) + "".join(f"{line}\n" for line in block) + "".join(after)


def _split(text: str, root: str) -> tuple[list[str], list[str], list[str]]:
    """Lines before, inside and after the block. One whose end is missing holds nothing: what follows may be others'."""
    lines = text.splitlines(keepends=True)
    bare = [line.rstrip("\r\n") for line in lines]
    begin, end = _marks(root)
    if begin not in bare:
        return lines, [], []
    start = bare.index(begin)
    if end not in bare[start:]:
        return lines[:start], [], lines[start + 1 :]
    stop = bare.index(end, start)
    return lines[:start], bare[start + 1 : stop], lines[stop + 1 :]
