# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Compiles name patterns to regular expressions that match as GNU tar does. Pure.

Source: GNU tar manual, "Controlling Pattern-Matching"; glob(7).
"""

from __future__ import annotations

import re
from re import Pattern

_NOTHING = "(?!)"
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "lower": "a-z",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


def compiled(pattern: str, anchored: bool) -> Pattern[str]:
    """What matches, as a whole, the paths that a pattern means, and all that lies below them.

    :param anchored: the pattern begins at the layer's top; otherwise at any component, unless it begins with a slash.
    """
    text = pattern.rstrip("/")
    while text.startswith("./"):
        text = text[2:].lstrip("/")
    anchored = anchored or text.startswith("/")
    front = "" if anchored else "(?:.*/)?"
    return re.compile(f"{front}{_translated(text.lstrip('/'))}(?:/.*)?", re.DOTALL)


def _translated(text: str) -> str:
    """The regular expression of a pattern: ``*`` and ``?`` match slashes too, as they do in tar."""
    pieces = [""]  # between the stars
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "*":
            pieces.append("")
        elif letter == "?":
            pieces[-1] += "."
        elif letter == "[":
            expression, at = _bracket(text, at)
            pieces[-1] += expression
        else:
            if letter == "\\" and at < len(text):
                letter = text[at]
                at += 1
            pieces[-1] += re.escape(letter)
    # Of what lies between two stars the first place is as good as any: looking for no other keeps a name of somebody
    # else's from taking exponential time.
    middle = "".join(f"(?=(?P<g{at}>.*?{piece}))(?P=g{at})" for at, piece in enumerate(pieces[1:-1]) if piece)
    return pieces[0] + (f"{middle}.*{pieces[-1]}" if len(pieces) > 1 else "")


def _bracket(text: str, at: int) -> tuple[str, int]:
    """A bracket expression whose "[" is before ``at``, and where the pattern goes on; without an end it is a letter."""
    start = at
    negated = text[at : at + 1] in ("!", "^")
    at += negated
    found: list[str] = []
    known = first = True
    while at < len(text):
        if text[at] == "]" and not first:
            inside = "".join(found)
            if not known or not inside:
                return ("." if known and negated else _NOTHING), at + 1
            return f"[{'^' if negated else ''}{inside}]", at + 1
        first = False
        if text.startswith("[:", at) and ":]" in text[at:]:
            end = text.index(":]", at)
            known = known and text[at + 2 : end] in _CLASSES
            found.append(_CLASSES.get(text[at + 2 : end], ""))
            at = end + 2
            continue
        low, at = _letter(text, at)
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("", "]"):
            high, at = _letter(text, at + 1)
            found += [f"{re.escape(low)}-{re.escape(high)}"] if low <= high else []
        else:
            found.append(re.escape(low))
    return re.escape("["), start


def _letter(text: str, at: int) -> tuple[str, int]:
    if text[at] == "\\" and at + 1 < len(text):
        at += 1
    return text[at], at + 1
