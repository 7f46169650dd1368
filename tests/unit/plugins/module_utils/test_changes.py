# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of plain trees, without a mount; tests/integration has them against Docker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import readable
from ansible_collections.strata.overlay.plugins.module_utils._layer.changes import find_changes, same_time

SECOND = 10**9


def told(upper: Path, *lowers: Path) -> list[str]:
    return [f"{change.kind} {change.path}" for change in find_changes(str(upper), [*map(str, lowers)], userxattr=True)]


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "lower/etc/deep").mkdir(parents=True)
    for name in ("etc/one", "etc/two", "etc/deep/three"):
        (tmp_path / "lower" / name).write_text(name)
    return tmp_path / "lower"


def test_changes_are_listed_in_tree_order_with_their_parents(tmp_path: Path, lower: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc/deep").mkdir(parents=True)
    for name in ("etc/deep/new", "etc-too", "etc/deep.d"):
        (upper / name).write_text("")
    assert told(upper, lower) == ["C /etc", "C /etc/deep", "A /etc/deep/new", "A /etc/deep.d", "A /etc-too"]


def test_copied_up_file_that_equals_the_lower_one_is_no_change(tmp_path: Path, lower: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/one").write_text("etc/one")
    facts = (lower / "etc/one").stat()
    os.utime(upper / "etc/one", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert told(upper, lower) == []


def test_entry_without_lower_layers_is_an_addition(tmp_path: Path) -> None:
    (tmp_path / "upper/only").mkdir(parents=True)
    assert told(tmp_path / "upper") == ["A /only"]


def test_missing_layer_raises_file_not_found(tmp_path: Path, lower: Path) -> None:
    with pytest.raises(FileNotFoundError):
        told(tmp_path / "upper", lower)
    (tmp_path / "upper").mkdir()
    with pytest.raises(FileNotFoundError):
        told(tmp_path / "upper", tmp_path / "none", lower)


def test_changes_are_found_with_more_directories_than_descriptors(tmp_path: Path) -> None:
    """Fifty layers that all have the same directories, sixty deep."""
    lowers = [tmp_path / f"lower{number}" for number in range(50)]
    upper = tmp_path / "upper"
    for top in (*lowers, upper):
        (top / "/".join(["d"] * 60)).mkdir(parents=True)
    (upper / "/".join(["d"] * 60) / "new").write_text("")
    found = told(upper, *lowers)
    assert found == [*(f"C {'/d' * depth}" for depth in range(1, 61)), f"A {'/d' * 60}/new"]


def test_time_without_fraction_equals_any_time_in_that_second() -> None:
    assert same_time(7 * SECOND, 7 * SECOND)
    assert same_time(7 * SECOND, 7 * SECOND + 5)
    assert not same_time(7 * SECOND + 5, 7 * SECOND + 6)
    assert not same_time(7 * SECOND, 8 * SECOND)


def test_names_that_are_no_utf8_are_escaped_in_results() -> None:
    name = os.fsdecode(b"\xff")
    assert readable({"a": [name, 1, None], name: ("\u00fc", "\ud800")}) == {
        "a": ["\\xff", 1, None],
        "\\xff": ["\u00fc", "\\ud800"],
    }


def test_fuse_overlayfs_whiteouts_are_deletions_for_that_driver_only(tmp_path: Path, lower: Path) -> None:
    """Where it may make no devices, a whiteout is a file of another name."""
    upper = tmp_path / "upper"
    (upper / "etc/deep").mkdir(parents=True)
    for name in ("etc/.wh.one", "etc/.wh.never", "etc/deep/.wh..wh..opq", "etc/deep/new"):
        (upper / name).write_text("")
    os.setxattr(upper / "etc/deep", "user.fuseoverlayfs.opaque", b"y")
    found = find_changes(str(upper), [str(lower)], userxattr=True, fuse=True)
    assert [f"{change.kind} {change.path}" for change in found] == [
        "C /etc",
        "C /etc/deep",
        "A /etc/deep/new",
        "D /etc/deep/three",
        "D /etc/one",
    ]
    assert "A /etc/.wh.one" in told(upper, lower), "another driver knows no such names"
