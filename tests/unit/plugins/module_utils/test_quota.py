# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of project quota needs no file system that has it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils import _quota


def test_structures_have_the_sizes_of_the_kernel() -> None:
    assert ctypes.sizeof(_quota._Quota) == 72, "struct if_dqblk"
    assert ctypes.sizeof(_quota._Attributes) == 28, "struct fsxattr, whose size is in the numbers of its ioctls"
    assert (_quota._GETXATTR >> 16) & 0x3FFF == (_quota._SETXATTR >> 16) & 0x3FFF == 28
    assert ctypes.sizeof(_quota._Status) >= 80, "struct fs_quota_stat"
    assert _quota._Status.flags.offset == 2


def test_a_project_that_nobody_has() -> None:
    first = _quota.free_project([0, 5])
    assert _quota.free_project([first, first + 2]) == first + 1


def test_a_file_system_without_quota_says_so(tmp_path: Path) -> None:
    assert "quota" in _quota.quota_fault("/proc/self")
    assert not _quota.is_limited(str(tmp_path), _quota.FIRST_PROJECT, 1 << 20)


def test_only_directories_and_regular_files_are_marked(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/file").write_text("x")
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "broken").symlink_to("nowhere")
    top = os.open(tmp_path, os.O_RDONLY)
    try:
        found = {item.name for item in _quota._everything(top, str(tmp_path))}
    finally:
        os.close(top)
    assert found == {"directory", "file"}
