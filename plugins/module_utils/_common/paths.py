# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Checks and compares paths as text: what may be a stack's path, what lies inside what. Pure."""

from __future__ import annotations

import os
from typing import Any


def is_inside(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or lies below it; both absolute and clean."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def stack_path(label: str, path: Any, errors: list[str]) -> str:
    """A stack's ``path`` without doubled slashes and dots; "" if none is given or it is wrong."""
    if path is None:
        return ""
    text = str(path)
    clean = os.path.normpath(text)
    if not os.path.isabs(text):
        errors.append(f"{label}: option 'path': {text!r} must be absolute, beginning with /")
    elif clean.strip("/") == "":
        errors.append(f"{label}: option 'path': a stack can't be mounted over /; name a directory below it")
    elif ".." in text.split("/"):
        errors.append(f"{label}: option 'path': {text!r} must not hold '..'")
    elif any(ord(letter) < 32 for letter in text):
        errors.append(f"{label}: option 'path': {text!r} must not hold control characters")
    else:
        return "/" + clean.lstrip("/")
    return ""
