# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a mount is asked for, and seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import FLAG_NAMES, MountStyle
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags

ALL = MountStyle(("noexec", "nosuid", "strictatime"), "private")


def test_mount_options_become_the_bits_of_each_interface() -> None:
    ms = mount_flags.MS_NOEXEC | mount_flags.MS_NOSUID | mount_flags.MS_STRICTATIME
    attributes = mount_flags.ATTR_NOEXEC | mount_flags.ATTR_NOSUID | mount_flags.ATTR_STRICTATIME
    assert ALL.ms_flags() == ms | mount_flags.MS_NODEV, "device files work only where they are asked for"
    assert ALL.attributes() == attributes | mount_flags.ATTR_NODEV
    with_devices = replace(ALL, options=(*ALL.options, "dev"))
    assert (with_devices.ms_flags(), with_devices.attributes()) == (ms, attributes)


def test_flags_not_asked_for_are_not_inherited() -> None:
    assert ALL.not_inherited() == mount_flags.ATTR_NOSYMFOLLOW
    assert MountStyle(("dev",)).not_inherited() == mount_flags.ATTR_RESTRICTIONS


@pytest.mark.parametrize(
    ("options", "optional", "missing"),
    [
        (("ro", "nosuid", "noexec"), (), []),
        (("rw", "nosuid", "noexec", "nodev"), (), []),
        (("ro", "nosuid"), (), ["noexec"]),
        (("ro", "nosuid", "noexec", "relatime"), (), ["strictatime"]),
        (("ro", "nosuid", "noexec"), ("shared:3",), ["propagation private"]),
        (("ro", "nosuid", "noexec"), ("master:3", "propagate_from:2"), ["propagation private"]),
        (("ro", "nosuid", "noexec"), ("unbindable",), ["propagation private"]),
    ],
)
def test_missing_options_and_propagation_of_a_mount_are_named(
    options: tuple[str, ...], optional: tuple[str, ...], missing: list[str]
) -> None:
    assert ALL.missing_from(options, optional) == missing


@pytest.mark.parametrize("name", sorted({*FLAG_NAMES} - {"dev"}))
def test_every_flag_is_a_bit_of_mount(name: str) -> None:
    assert (MountStyle((name,)).ms_flags() & ~mount_flags.MS_NODEV).bit_count() == (name != "nodev")


def test_changes_of_a_mount_style_are_described() -> None:
    after = MountStyle(("nodev",), "slave", mode=0o750, owner=0)
    assert after.changes(MountStyle(("nodev", "nosuid"), owner=0)) == [
        "mount options: nodev, nosuid becomes nodev",
        "propagation: none becomes slave",
        "mode of the top: none becomes 0750",
    ]
    assert after.changes(after) == []


def test_top_is_changed_in_place_and_other_options_by_a_new_mount() -> None:
    assert ALL.same_mount(replace(ALL, owner=1, group=2, mode=0o700))
    assert not ALL.same_mount(replace(ALL, propagation=""))
    assert not ALL.top_differs(1, 2, 0o700)
    assert replace(ALL, mode=0o755).top_differs(1, 2, 0o700)
    assert not replace(ALL, mode=0o700).top_differs(1, 2, 0o700)


def test_id_map_is_shown_in_the_mount_source() -> None:
    assert MountStyle().source == "overlay"
    mapped = MountStyle(idmap_uid="0:100000:1", idmap_gid="0:200000:1")
    assert mapped.source == "overlay idmap uid=0:100000:1 gid=0:200000:1"


def test_owners_are_shown_through_the_id_map() -> None:
    mapped = MountStyle(idmap_uid="10:100000:5", idmap_gid="0:200000:1")
    assert MountStyle().shown_owner(3, 4) == (3, 4)
    assert mapped.shown_owner(12, 0) == (100002, 200000)
    assert mapped.shown_owner(9, 1) == (65534, 65534)
    assert mapped.shown_owner(15, 0) == (65534, 200000)
