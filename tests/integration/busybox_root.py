# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A tree in which commands run, of one static program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

BUSYBOX = "/bin/busybox"


def busybox_root(top: Path) -> Path:
    """A tree in which a shell runs, and nothing else."""
    if not os.path.exists(BUSYBOX):
        pytest.skip("the Debian package busybox-static is missing")
    for name in ("bin", "etc", "tmp", "var/tmp", "root"):
        (top / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, top / "bin/busybox")
    (top / "etc/old").write_text("of the base\n")
    names = "sh cat chmod date echo false head hostname id ls mkdir mount readlink rm sleep sysctl touch wc"
    for name in names.split():
        (top / "bin" / name).symlink_to("busybox")
    return top
