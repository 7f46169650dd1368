# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a stack may be mounted: what lies there and on the way, on a real file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import path_facts
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import PathFacts, path_problems

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
OTHER_USER = 65534


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory with no link on the way to it, whatever the temporary directory is."""
    return tmp_path.resolve()


def test_path_is_reported_as_directory_other_or_missing(top: Path) -> None:
    (top / "empty").mkdir()
    (top / "full" / "x").mkdir(parents=True)
    (top / "file").touch()
    expected = {
        "empty": ("directory", True),
        "full": ("directory", False),
        "file": ("other", False),
        "none": ("missing", False),
        "none/below": ("missing", False),
        "file/below": ("other", False),
    }
    for name, (kind, empty) in expected.items():
        assert path_facts(f"{top}/{name}") == PathFacts(f"{top}/{name}", kind, empty, ""), name


def test_links_of_the_same_user_are_followed(top: Path) -> None:
    (top / "real" / "web").mkdir(parents=True)
    (top / "link").symlink_to("real")
    (top / "chain").symlink_to(top / "link" / "web")
    (top / "dangling").symlink_to("none")
    assert path_facts(f"{top}/chain") == PathFacts(f"{top}/real/web", "directory", True, "")
    assert path_facts(f"{top}/link/new") == PathFacts(f"{top}/real/new", "missing", False, "")
    assert path_facts(f"{top}/dangling") == PathFacts(f"{top}/none", "missing", False, "")


def test_links_in_a_circle_are_not_a_directory(top: Path) -> None:
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    (top / "self").symlink_to("self")
    for name in ("a", "self", "self/below"):
        assert path_facts(f"{top}/{name}").kind == "other"


@pytest.mark.parametrize("name", ["open/link", "open/link/below"])
def test_link_in_a_world_writable_directory_is_unsafe_unless_sticky(top: Path, name: str) -> None:
    (top / "open").mkdir()
    (top / "open").chmod(0o777)
    (top / "open" / "link").symlink_to(top)
    assert path_facts(f"{top}/{name}").unsafe == f"{top}/open/link"
    (top / "open").chmod(0o1777)
    assert path_facts(f"{top}/{name}").unsafe == ""


def test_unsafe_link_reached_through_a_safe_link_is_unsafe(top: Path) -> None:
    (top / "open").mkdir()
    (top / "open" / "link").symlink_to(top)
    (top / "safe").symlink_to("open")
    assert path_facts(f"{top}/safe/link").unsafe == ""
    (top / "open").chmod(0o770)
    assert path_facts(f"{top}/safe/link").unsafe == f"{top}/safe/link"


def test_world_writable_directory_without_a_link_is_safe(top: Path) -> None:
    (top / "open").mkdir()
    (top / "open").chmod(0o777)
    assert path_facts(f"{top}/open/new").unsafe == ""


@AS_ROOT
@pytest.mark.parametrize("owned", ["link", "directory"])
def test_link_owned_by_or_in_a_directory_of_another_user_is_unsafe(top: Path, owned: str) -> None:
    (top / "home").mkdir()
    (top / "home" / "link").symlink_to(top)
    os.lchown(top / "home" / "link" if owned == "link" else top / "home", OTHER_USER, OTHER_USER)
    assert path_facts(f"{top}/home/link").unsafe == f"{top}/home/link"


OURS = Mount(60, 1, "0:60", "/", "/w", ("ro",), "overlay", "overlay", ("ro",))
THEIRS = Mount(61, 1, "8:7", "/", "/w", ("rw",), "xfs", "/dev/sdb1", ("rw",))
EMPTY = PathFacts("/w", "directory", True, "")
FULL = PathFacts("/w", "directory", False, "")
NOT_EMPTY = "the directory /w is not empty; empty it, or set cover: true to hide what is in it"
OVER = "another file system (xfs /dev/sdb1) is mounted over the stack at /w; unmount it"
MOUNT_POINT = (
    "/w is the mount point of another file system (xfs /dev/sdb1); unmount it, or set cover: true to mount over it"
)


@pytest.mark.parametrize(
    ("facts", "cover", "mounts", "expected"),
    [
        (EMPTY, False, [], []),
        (PathFacts("/w", "missing", False, ""), False, [], []),
        (FULL, True, [], []),
        (FULL, False, [], [NOT_EMPTY]),
        (FULL, False, [OURS], []),
        (EMPTY, False, [THEIRS], [MOUNT_POINT]),
        (FULL, False, [THEIRS], [MOUNT_POINT]),
        (FULL, True, [THEIRS], []),
        (FULL, False, [THEIRS, OURS], []),
        (FULL, False, [OURS, THEIRS], [OVER]),
        (FULL, True, [OURS, THEIRS], [OVER]),
        (PathFacts("/w", "other", False, ""), True, [], ["/w is not a directory; move it away or choose another path"]),
        (
            PathFacts("/w", "directory", False, "/srv"),
            False,
            [],
            [
                (
                    "on the way to /w, /srv is a symbolic link that someone other than root could change; name the "
                    "directory itself"
                ),
                NOT_EMPTY,
            ],
        ),
    ],
)
def test_errors_of_a_path_follow_from_facts_cover_and_mounts(
    facts: PathFacts, cover: bool, mounts: list[Mount], expected: list[str]
) -> None:
    ours = [mount for mount in mounts if mount is OURS]
    assert path_problems("stack web", "/w", cover, facts, mounts, ours) == [
        f"stack web: option 'path': {problem}" for problem in expected
    ]


@AS_ROOT
@pytest.mark.parametrize(
    ("owner", "mode", "entry", "is_open"),
    [
        (0, 0o755, 0, False),
        (0, 0o755, OTHER_USER, False),
        (OTHER_USER, 0o755, 0, True),
        (0, 0o775, 0, True),
        (0, 0o777, 0, True),
        (0, 0o1777, 0, False),
        (0, 0o1777, None, False),
        (0, 0o1777, OTHER_USER, True),
        (OTHER_USER, 0o1755, 0, True),
    ],
)
def test_parent_of_a_mount_is_open_when_others_may_change_its_entries(
    top: Path, owner: int, mode: int, entry: int | None, is_open: bool
) -> None:
    around = top / "around"
    around.mkdir()
    if entry is not None:
        (around / "web").mkdir()
        os.chown(around / "web", entry, -1)
    os.chown(around, owner, -1)
    around.chmod(mode)
    facts = path_facts(f"{around}/web")
    assert (facts.open_parent, facts.unsafe) == (str(around) if is_open else "", "")
    (top / "link").symlink_to(around)
    assert path_facts(f"{top}/link/web").open_parent == (str(around) if is_open else "")
    errors = path_problems("stack web", f"{around}/web", False, facts._replace(empty=True), [], [])
    assert bool([text for text in errors if f"the directory {around} belongs to someone other" in text]) == is_open
