# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of project quota needs no file system that has it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._linux import quota as quota_module


def test_quota_structures_have_the_sizes_of_the_kernel() -> None:
    assert ctypes.sizeof(quota_module._Quota) == 72, "struct if_dqblk"
    assert ctypes.sizeof(quota_module._Attributes) == 28, "struct fsxattr, whose size is in the numbers of its ioctls"
    assert (quota_module._GETXATTR >> 16) & 0x3FFF == (quota_module._SETXATTR >> 16) & 0x3FFF == 28
    assert ctypes.sizeof(quota_module._Status) >= 80, "struct fs_quota_stat"
    assert quota_module._Status.flags.offset == 2


def test_free_project_skips_projects_in_use() -> None:
    first = quota_module.free_project([0, 5])
    assert quota_module.free_project([first, first + 2]) == first + 1


def test_file_system_without_quota_is_reported(tmp_path: Path) -> None:
    assert "quota" in quota_module.quota_fault("/proc/self")
    assert not quota_module.is_limited(str(tmp_path), quota_module.FIRST_PROJECT, 1 << 20)


def test_only_directories_and_regular_files_are_marked(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/file").write_text("x")
    (tmp_path / "link").symlink_to("directory")
    (tmp_path / "broken").symlink_to("nowhere")
    top = os.open(tmp_path, os.O_RDONLY)
    try:
        found = {item.name for item in quota_module._everything(top, str(tmp_path))}
    finally:
        os.close(top)
    assert found == {"directory", "file"}
