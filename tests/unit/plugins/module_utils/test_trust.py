# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may change where a path leads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._linux.trust import untrusted
from ansible_collections.strata.overlay.tests.integration.privileges import is_full_root

OTHER = 54_321

needs_root = pytest.mark.skipif(not is_full_root(), reason="gives files to somebody else")


def of_group(path: Path, mode: int) -> None:
    os.chown(path, 0, OTHER)
    path.chmod(mode)


@pytest.fixture
def way(tmp_path: Path) -> Path:
    """``a/b/c``, all of them this user's."""
    path = tmp_path / "a/b/c"
    path.mkdir(parents=True)
    for part in (path, path.parent, path.parent.parent):
        part.chmod(0o755)
    return path


def test_path_owned_by_the_user_is_trusted(way: Path) -> None:
    assert untrusted(str(way)) == ""
    assert untrusted(f"{way}/not/there/../yet") == ""
    assert untrusted("/") == ""


@needs_root
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda way: way.chmod(0o777), "everybody may write to {way}"),
        (lambda way: way.chmod(0o1777), "everybody may write to {way}"),
        (lambda way: os.chown(way, OTHER, 0), "{way} belongs to user 54321"),
        (lambda way: os.chown(way.parent, OTHER, 0), "{above} belongs to user 54321"),
        (lambda way: way.parent.chmod(0o757), "everybody may write to {above}"),
        (lambda way: of_group(way.parent, 0o775), "group 54321 may write to {above}"),
        (lambda way: of_group(way.parent, 0o755), ""),
        (lambda way: way.parent.chmod(0o775), ""),  # the group of root
        (lambda way: way.parent.chmod(0o1777), ""),  # as /tmp
    ],
)
def test_directory_that_others_can_change_is_named(way: Path, change: Callable[[Path], object], fault: str) -> None:
    change(way)
    assert untrusted(str(way)) == fault.format(way=way, above=way.parent)


@needs_root
def test_link_is_judged_by_its_owner_and_its_target(way: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("a/b")
    assert untrusted(f"{link}/c") == ""
    way.chmod(0o777)
    assert untrusted(f"{link}/c") == f"everybody may write to {way}"
    way.chmod(0o755)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    assert untrusted(f"{link}/c") == f"{link} belongs to user 54321"
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(OSError, match="Too many levels"):
        untrusted(str(link))


@needs_root
def test_mount_point_is_judged_only_by_the_way_to_it(way: Path) -> None:
    os.chown(way, OTHER, OTHER)
    way.chmod(0o777)
    assert untrusted(str(way), whole=False) == ""
    way.parent.chmod(0o1777)
    assert untrusted(str(way), whole=False) == f"{way} belongs to user 54321"
    way.parent.chmod(0o777)
    assert untrusted(str(way), whole=False) == f"everybody may write to {way.parent}"
