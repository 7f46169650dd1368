# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Workspaces: whose run lives, and whose does not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._store.workspace import abandoned, make_workspace


def test_workspace_is_abandoned_once_its_lock_is_released(tmp_path: Path) -> None:
    path, descriptor = make_workspace(str(tmp_path))
    assert os.listdir(tmp_path) == [os.path.basename(path)]
    assert abandoned(str(tmp_path)) == []
    os.close(descriptor)
    assert abandoned(str(tmp_path)) == [os.path.basename(path)]


def test_file_or_link_among_workspaces_is_abandoned(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path)
    assert abandoned(str(tmp_path)) == ["file", "link"]


def test_place_that_is_not_a_directory_has_no_abandoned_workspaces(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert abandoned(str(tmp_path / "missing")) == abandoned(str(tmp_path / "file")) == []
    (tmp_path / "link").symlink_to(tmp_path)
    assert abandoned(str(tmp_path / "link")) == []


def test_workspace_is_never_seen_before_its_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two calls that make and lock it: whoever looks waits."""
    seen: list[list[str]] = []
    looker = threading.Thread(target=lambda: seen.append(abandoned(str(tmp_path))))
    make = os.mkdir

    def make_and_let_look(path: str, mode: int) -> None:
        make(path, mode)
        looker.start()
        looker.join(0.2)

    monkeypatch.setattr(os, "mkdir", make_and_let_look)
    _path, descriptor = make_workspace(str(tmp_path))
    looker.join()
    os.close(descriptor)
    assert seen == [[]]
