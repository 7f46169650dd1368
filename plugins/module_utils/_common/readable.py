# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Makes text from servers, archives, commands and file names safe for terminals and for UTF-8. Pure.

Whatever leaves the collection for a person goes through here: results, errors and warnings of modules, lines of the
controller, output of the installed programs. The page of the report has rules of its own, see `_page`.
"""

from __future__ import annotations

import typing as t

_LINES = "\n\t"
_OBEYED = ("Cc", "Cf", "Zl", "Zp")
"""Categories of Unicode: controls, marks that turn the direction of writing or cannot be seen, and ends of lines."""


def readable(value: t.Any) -> t.Any:
    """A result, or a text of several lines, with everything else that a terminal would obey written out.

    Bytes that are no UTF-8, as names of files may have, are written ``\\xNN``: ansible-core 2.19 takes no other result,
    and calls the task failed.
    """
    if isinstance(value, str):
        return value if value.isprintable() else _written_out(value, _LINES)
    if isinstance(value, dict):
        return {readable(key): readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable(item) for item in value]
    return value


def one_line(text: str) -> str:
    """A text that must not begin a line of its own: also ends of lines in it are written out."""
    return text if text.isprintable() else _written_out(text, "")


def _written_out(text: str, kept: str) -> str:
    import unicodedata  # seldom needed

    whole = _without_surrogates(text)
    return "".join(
        letter if letter in kept or unicodedata.category(letter) not in _OBEYED else _escape(letter) for letter in whole
    )


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _without_surrogates(text: str) -> str:
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")
