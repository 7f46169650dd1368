# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts of fuse-overlayfs: what their source says."""

from __future__ import annotations

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import (
    FUSE,
    fuse_source,
    is_served_from,
    served,
    union_driver,
    upper_of,
)

HOME = "/var/lib/strata/overlay2"
TOP = "a" * 64
STACK = "b" * 64


def line(source: str, fstype: str = FUSE) -> Mount:
    return Mount(30, 20, "0:40", "/", "/srv/web", ("rw",), fstype, source, ("rw",))


@pytest.mark.parametrize(
    ("writable", "upper"),
    [("", ""), (STACK, f"{HOME}/{STACK}/diff"), (f"{STACK}/volatile", f"{HOME}/{STACK}/volatile/diff")],
)
def test_fuse_source_is_read_back_from_its_mount(writable: str, upper: str) -> None:
    source = fuse_source(HOME, TOP, writable)
    assert len(source) <= 255
    mount = line(source)
    shown = served(mount)
    assert shown is not None
    assert shown[1:] == (TOP, writable)
    assert is_served_from(mount, HOME)
    assert upper_of(mount, HOME) == upper
    assert union_driver(mount) == "fuse-overlayfs"


def test_fuse_mount_of_another_store_is_not_served_from_this_one() -> None:
    mount = line(fuse_source("/srv/other/overlay2", TOP, STACK))
    assert served(mount) is not None
    assert not is_served_from(mount, HOME)
    assert upper_of(mount, HOME) == ""


@pytest.mark.parametrize(
    "mount",
    [
        line("fuse-overlayfs"),
        line(f"strata:{TOP}"),
        line(fuse_source(HOME, TOP, STACK) + "\n"),
        line(fuse_source(HOME, TOP, f"{STACK}/other")),
        line(fuse_source(HOME, TOP, ""), "fuse.sshfs"),
    ],
)
def test_mount_with_a_foreign_source_belongs_to_no_store(mount: Mount) -> None:
    assert served(mount) is None
    assert union_driver(mount) == ""
    assert upper_of(mount, HOME) == ""
