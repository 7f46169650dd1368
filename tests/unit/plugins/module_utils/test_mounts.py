# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a stack is mounted, and which lines of the mount table are that mount: both from the same record."""

from __future__ import annotations

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import (
    mismatch,
    mount_request,
    of_store_at,
    root_on_device,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.records import Generation, StackRecord

ROOT = "/var/lib/strata"
HOME = f"{ROOT}/overlay2"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
STACK_ID = "5" * 64
BIND = ("8:1", f"{ROOT}/content/sha256/{'a' * 64}")


def record(writable: str = "none", diff_ids: tuple[str, ...] = (A, B, C)) -> StackRecord:
    stack_id = "" if writable == "none" else STACK_ID
    return StackRecord("web", "/srv/web", writable, 0, stack_id, True, False, (Generation(1, diff_ids, (), ""),))


def link(diff_ids: tuple[str, ...]) -> str:
    return "l/" + link_id(hex_of(chain_ids(diff_ids)[-1]))


LINKS = [link((A, B, C)), link((A, B)), link((A,))]


def overlay(*options: str, flags: str = "ro", path: str = "/srv/web") -> Mount:
    return Mount(50, 1, "0:50", "/", path, (flags, "relatime"), "overlay", "overlay", (flags, *options))


def disk(path: str, root: str = "/", device: str = "8:1", flags: str = "rw") -> Mount:
    return Mount(20, 1, device, root, path, (flags,), "ext4", "/dev/sda1", ("rw",))


def absolute(names: list[str]) -> str:
    return ":".join(f"{HOME}/{name}" for name in names)


UPPER = f"upperdir={HOME}/{STACK_ID}/diff"
SHORT_UPPER = f"upperdir=l/{link_id(STACK_ID)}"


def test_request_of_a_read_only_stack_names_links_top_to_bottom() -> None:
    request = mount_request(HOME, record())
    assert request.lowers == tuple(f"{HOME}/{name}" for name in LINKS)
    assert (request.upper, request.work, request.short_upper, request.is_bind) == ("", "", "", False)


def test_request_of_a_writable_stack_names_its_upper_and_work_directory() -> None:
    persistent, volatile = mount_request(HOME, record("persistent")), mount_request(HOME, record("volatile"))
    assert (persistent.upper, persistent.work) == (f"{HOME}/{STACK_ID}/diff", f"{HOME}/{STACK_ID}/work")
    assert (volatile.upper, volatile.work) == (
        f"{HOME}/{STACK_ID}/volatile/diff",
        f"{HOME}/{STACK_ID}/volatile/work",
    )
    assert persistent.short_upper == volatile.short_upper == f"l/{link_id(STACK_ID)}"


def test_single_layer_is_bound_only_when_read_only() -> None:
    assert mount_request(HOME, record(diff_ids=(A,))).is_bind
    assert not mount_request(HOME, record("persistent", (A,))).is_bind


@pytest.mark.parametrize(("length", "is_absolute"), [(255, True), (256, False)])
def test_names_too_long_for_a_mount_option_become_relative(length: int, is_absolute: bool) -> None:
    """The limit counts bytes of the longest name, here the writable layer's work directory."""
    home = "/" + "ö" * 10
    home += "h" * (length - len(f"{home}/{STACK_ID}/work".encode()))
    request = mount_request(home, record("persistent"))
    prefix = f"{home}/" if is_absolute else ""
    assert request.lowers == tuple(prefix + name for name in LINKS)
    assert (request.upper, request.work) == (f"{prefix}{STACK_ID}/diff", f"{prefix}{STACK_ID}/work")


@pytest.mark.parametrize(
    ("writable", "line", "right"),
    [
        ("none", overlay(f"lowerdir={absolute(LINKS)}"), True),
        ("none", overlay(*(f"lowerdir+={HOME}/{name}" for name in LINKS)), True),
        ("none", overlay("lowerdir=" + ":".join(LINKS)), True),
        ("none", overlay(f"lowerdir={absolute(LINKS)}", "index=off", "uuid=on", "xino=off"), True),
        ("none", overlay(f"lowerdir={absolute(LINKS[::-1])}"), False),
        ("none", overlay(f"lowerdir={absolute(LINKS[1:])}"), False),
        ("none", overlay(f"lowerdir={absolute(LINKS)}:/extra"), False),
        ("none", overlay(f"lowerdir={absolute(LINKS)}", flags="rw"), False),
        ("none", overlay(f"lowerdir={absolute(LINKS)}", UPPER), False),
        ("none", disk("/srv/web"), False),
        ("persistent", overlay(f"lowerdir={absolute(LINKS)}", UPPER, flags="rw"), True),
        ("persistent", overlay(f"lowerdir={absolute(LINKS)}", SHORT_UPPER, flags="rw"), True),
        ("persistent", overlay(f"lowerdir={absolute(LINKS)}", UPPER), False),
        ("persistent", overlay(f"lowerdir={absolute(LINKS)}", "upperdir=/elsewhere", flags="rw"), False),
        ("persistent", overlay(f"lowerdir={absolute(LINKS)}", flags="rw"), False),
        ("volatile", overlay(f"lowerdir={absolute(LINKS)}", UPPER, flags="rw"), False),
    ],
)
def test_mount_line_is_matched_against_the_request(writable: str, line: Mount, right: bool) -> None:
    assert (not mismatch(line, mount_request(HOME, record(writable)), BIND)) is right


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (disk("/srv/web", BIND[1], flags="ro"), True),
        (disk("/srv/web", BIND[1], flags="rw"), False),
        (disk("/srv/web", BIND[1][:-1] + "b", flags="ro"), False),
        (disk("/srv/web", BIND[1], device="8:2", flags="ro"), False),
    ],
)
def test_bind_line_is_matched_against_the_request_of_one_layer(line: Mount, right: bool) -> None:
    assert (not mismatch(line, mount_request(HOME, record(diff_ids=(A,))), BIND)) is right


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([disk("/")], ("8:1", "/var/lib/strata/content")),
        ([disk("/"), disk("/var", device="8:2")], ("8:2", "/lib/strata/content")),
        ([disk("/"), disk("/var/lib", "/@lib", "0:30")], ("0:30", "/@lib/strata/content")),
        ([disk("/"), disk("/var", device="8:2"), disk("/var", device="8:3")], ("8:3", "/lib/strata/content")),
        ([disk("/"), disk("/var/lib/strata2", device="8:2")], ("8:1", "/var/lib/strata/content")),
    ],
)
def test_path_on_the_device_follows_the_innermost_newest_mount(mounts: list[Mount], expected: tuple[str, str]) -> None:
    assert root_on_device(mounts, f"{ROOT}/content") == expected


def test_mounts_of_a_store_are_distinguished_from_others() -> None:
    ours = overlay(f"lowerdir={absolute(LINKS)}")
    relative = ours._replace(mount_id=51, super_options=("ro", "lowerdir=" + ":".join(LINKS)))
    bound = disk("/srv/web", BIND[1], flags="ro")
    others = [
        overlay("lowerdir=/var/lib/docker/overlay2/l/X:/var/lib/docker/overlay2/l/Y"),
        overlay(f"lowerdir={ROOT}/overlay2.old/l/X:/b"),
        disk("/srv/web", f"{ROOT}/content/sha256", flags="ro"),
        disk("/srv/web", BIND[1], device="8:2", flags="ro"),
        disk("/srv/web", "/home"),
    ]
    table = [disk("/"), others[0], ours, *others[1:3], relative, bound, *others[3:], overlay(path="/srv/web2")]
    assert of_store_at(table, "/srv/web", ROOT) == [ours, relative, bound]
    assert of_store_at(table, "/srv/none", ROOT) == []
