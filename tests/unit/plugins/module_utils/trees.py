# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trees that no archive and no path can make."""

from __future__ import annotations

import os
from pathlib import Path


def make_deep(top: Path, name: str, count: int, beside: bool = False) -> None:
    """Directories of one name, each in the one before: as deep as one likes.

    :param beside: an empty file ``file`` in each directory, the top too.
    """
    here = os.open(top, os.O_RDONLY)
    try:
        for _level in range(count):
            if beside:
                os.close(os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here))
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
