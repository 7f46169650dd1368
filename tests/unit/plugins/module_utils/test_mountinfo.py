# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mount table is read as the kernel writes it: escapes, both forms of lowerdir, whatever stands in a path."""

from __future__ import annotations

import os

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.paths import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountinfo import parse, read, read_near
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount, by_path
from hypothesis import given
from hypothesis import strategies as st

OPTIONAL = ["", " shared:1", " shared:1 master:2 propagate_from:3", " unbindable"]


def line(
    path: bytes = b"/srv", options: bytes = b"rw", fstype: bytes = b"overlay", source: bytes = b"overlay"
) -> bytes:
    return b"36 35 0:42 / %s ro,relatime shared:7 - %s %s %s\n" % (path, fstype, source, options)


def one(table: bytes) -> Mount:
    (mount,) = parse(table)
    return mount


def mangle(text: bytes, letters: bytes) -> bytes:
    """As the kernel's seq_escape() does it."""
    return b"".join(b"\\%03o" % byte if byte in letters else bytes([byte]) for byte in text)


@pytest.mark.parametrize("optional", OPTIONAL)
def test_line_with_any_number_of_optional_fields_is_parsed(optional: str) -> None:
    table = f"36 35 98:0 /mnt1 /mnt2 rw,noatime{optional} - ext3 /dev/root rw,errors=continue\n".encode()
    assert one(table) == Mount(
        mount_id=36,
        parent_id=35,
        device="98:0",
        root="/mnt1",
        path="/mnt2",
        options=("rw", "noatime"),
        fstype="ext3",
        source="/dev/root",
        super_options=("rw", "errors=continue"),
        optional=tuple(optional.split()),
    )


def test_escapes_are_decoded_in_every_field() -> None:
    mount = one(
        rb"1 0 0:5 /a\040b /tab\011new\012line\134end rw - tmpfs na\040me rw,lowerdir=/with\054comma:/b" + b"\n"
    )
    assert (mount.root, mount.path, mount.source) == ("/a b", "/tab\tnew\nline\\end", "na me")
    assert mount.super_options == ("rw", "lowerdir=/with,comma:/b")
    assert mount.lowers() == ["/with,comma", "/b"]


def test_dash_as_a_path_is_not_the_separator() -> None:
    assert one(b"1 0 0:5 - - rw - tmpfs - rw\n").path == "-"


def test_fuse_line_with_empty_source_and_type_not_in_utf8_is_parsed() -> None:
    mount = one(line(fstype=b"fuse.\xff", source=b""))
    assert (os.fsencode(mount.fstype), mount.source) == (b"fuse.\xff", "")


def test_carriage_return_in_a_path_does_not_end_the_line() -> None:
    assert [mount.path for mount in parse(line(b"/a\rb") + line(b"/c"))] == ["/a\rb", "/c"]


def test_path_that_is_not_utf8_keeps_its_bytes() -> None:
    assert os.fsencode(one(line(b"/\xff\xfe")).path) == b"/\xff\xfe"


@pytest.mark.parametrize(
    ("options", "lowers"),
    [
        (b"rw,lowerdir=/c:/b:/a,upperdir=/u", ["/c", "/b", "/a"]),
        (b"rw,lowerdir+=/c,lowerdir+=/b:b,lowerdir+=/a", ["/c", "/b:b", "/a"]),
        (rb"ro,lowerdir=/a\134:b:/c", ["/a:b", "/c"]),
        (rb"ro,lowerdir=a\:b:c", ["a:b", "c"]),
        (b"ro,lowerdir=l/AAA:l/BBB,upperdir=u", ["l/AAA", "l/BBB"]),
        (b"rw,size=1k", []),
    ],
)
def test_lowers_are_listed_top_to_bottom(options: bytes, lowers: list[str]) -> None:
    assert one(line(options=options)).lowers() == lowers


def test_super_block_option_is_looked_up_by_its_full_name() -> None:
    mount = one(line(options=b"rw,upperdir=/a=b,userxattr"))
    assert mount.option("upperdir") == "/a=b"
    assert mount.option("userxattr") == ""
    assert mount.option("upper") == ""


def test_mount_is_read_only_by_its_own_or_the_super_block_options() -> None:
    assert one(b"1 0 0:5 / /a ro - tmpfs t rw\n").read_only
    assert one(b"1 0 0:5 / /a rw - tmpfs t ro\n").read_only
    assert not one(b"1 0 0:5 / /a rw,noatime - tmpfs t rw,errors=remount-ro\n").read_only


def test_by_path_keeps_the_order_of_the_table() -> None:
    mounts = parse(line(b"/a", source=b"low") + line(b"/b") + line(b"/a", source=b"high"))
    assert [mount.source for mount in by_path(mounts)["/a"]] == ["low", "high"]
    assert set(by_path(mounts)) == {"/a", "/b"}


def test_mount_table_of_this_machine_has_proc() -> None:
    proc = [mount for mount in read() if mount.path == "/proc"]
    assert proc[0].fstype == "proc"


NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)


@given(root=NAMES, path=NAMES, lowers=st.lists(NAMES.filter(lambda name: name[:1] != b"="), min_size=1, max_size=4))
def test_any_bytes_in_root_path_and_lowers_are_parsed_back(root: bytes, path: bytes, lowers: list[bytes]) -> None:
    options = b",".join(b"lowerdir+=" + mangle(lower, b", \t\n\\") for lower in lowers)
    fields = (mangle(root, b" \t\n\\#"), mangle(path, b" \t\n\\#"), options)
    mount = one(b"1 0 0:5 %s %s rw shared:1 - overlay overlay rw,%s\n" % fields)
    assert os.fsencode(mount.root) == root
    assert os.fsencode(mount.path) == path
    assert [os.fsencode(lower) for lower in mount.lowers()] == lowers


def test_mount_put_beneath_another_comes_before_it() -> None:
    # As the kernel shows it: the table is ordered by age, and each mount's parent is the one that it lies on.
    table = (
        b"24 97 0:53 / /srv/web ro - overlay old ro\n"
        b"30 22 8:2 / /home rw - ext4 /dev/sda2 rw\n"
        b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        b"97 98 0:56 / /srv/web ro - overlay new ro\n"
        b"98 22 0:57 / /srv/web rw - tmpfs covered rw\n"
    )
    assert [mount.source for mount in by_path(parse(table))["/srv/web"]] == ["covered", "new", "old"]


@pytest.mark.parametrize("directory", ["/", "/proc", "/proc/self", "/sys", "/nowhere"])
@pytest.mark.parametrize("paths", [[], ["/proc"], ["/dev/shm/deep/below", "/sys/fs/cgroup"]])
def test_read_near_gives_only_mounts_above_the_paths_or_in_the_directory(paths: list[str], directory: str) -> None:
    near = [
        mount
        for mount in read()
        if is_inside(mount.path, directory) or any(is_inside(path, mount.path) for path in (*paths, directory))
    ]
    assert read_near(paths, directory) == near
    assert near, "there is always a mount at /"
