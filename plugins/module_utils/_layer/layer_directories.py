# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Opens directories of layers step by step without following links, and reads their overlay marks."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import HANDLE, LISTED


def open_below(top: str, path: str, listed: bool = False) -> int:
    """A handle of a directory, for the caller to close. No part of the path is taken for a link, nor is the top.

    :param path: "" for the top, else with a slash before each part.
    :param listed: what lies in it is to be listed.
    """
    parts = path.split("/")[1:]
    descriptor = os.open(top, LISTED if listed and not parts else HANDLE)
    try:
        for number, part in enumerate(parts, 1):
            above = descriptor
            descriptor = os.open(part, LISTED if listed and number == len(parts) else HANDLE, dir_fd=above)
            os.close(above)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_marked(directory: int, attributes: Sequence[str], marks: Sequence[str]) -> bool:
    """Whether an open directory bears one of these marks of an opaque directory.

    :param attributes: names of those that it has.
    """
    return b"y" in [os.getxattr(directory, mark) for mark in marks if mark in attributes]
