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
def test_fields_with_any_number_of_optional_ones(optional: str) -> None:
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


def test_escapes_are_undone_everywhere() -> None:
    mount = one(
        rb"1 0 0:5 /a\040b /tab\011new\012line\134end rw - tmpfs na\040me rw,lowerdir=/with\054comma:/b" + b"\n"
    )
    assert (mount.root, mount.path, mount.source) == ("/a b", "/tab\tnew\nline\\end", "na me")
    assert mount.super_options == ("rw", "lowerdir=/with,comma:/b")
    assert mount.lowers() == ["/with,comma", "/b"]


def test_a_dash_is_a_path_and_not_the_separator() -> None:
    assert one(b"1 0 0:5 - - rw - tmpfs - rw\n").path == "-"


def test_empty_source_and_type_of_a_fuse_file_system() -> None:
    mount = one(line(fstype=b"fuse.\xff", source=b""))
    assert (os.fsencode(mount.fstype), mount.source) == (b"fuse.\xff", "")


def test_a_carriage_return_in_a_path_ends_no_line() -> None:
    assert [mount.path for mount in parse(line(b"/a\rb") + line(b"/c"))] == ["/a\rb", "/c"]


def test_a_path_that_is_no_utf8_comes_back_as_it_was() -> None:
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
def test_lowers_top_to_bottom(options: bytes, lowers: list[str]) -> None:
    assert one(line(options=options)).lowers() == lowers


def test_options_of_the_super_block() -> None:
    mount = one(line(options=b"rw,upperdir=/a=b,userxattr"))
    assert mount.option("upperdir") == "/a=b"
    assert mount.option("userxattr") == ""
    assert mount.option("upper") == ""


def test_read_only_is_said_by_the_mount_or_by_the_super_block() -> None:
    assert one(b"1 0 0:5 / /a ro - tmpfs t rw\n").read_only
    assert one(b"1 0 0:5 / /a rw - tmpfs t ro\n").read_only
    assert not one(b"1 0 0:5 / /a rw,noatime - tmpfs t rw,errors=remount-ro\n").read_only


def test_by_path_keeps_the_order_of_the_table() -> None:
    mounts = parse(line(b"/a", source=b"low") + line(b"/b") + line(b"/a", source=b"high"))
    assert [mount.source for mount in by_path(mounts)["/a"]] == ["low", "high"]
    assert set(by_path(mounts)) == {"/a", "/b"}


def test_the_table_of_this_machine() -> None:
    proc = [mount for mount in read() if mount.path == "/proc"]
    assert proc[0].fstype == "proc"


NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)


@given(root=NAMES, path=NAMES, lowers=st.lists(NAMES.filter(lambda name: name[:1] != b"="), min_size=1, max_size=4))
def test_whatever_a_path_holds_comes_back(root: bytes, path: bytes, lowers: list[bytes]) -> None:
    options = b",".join(b"lowerdir+=" + mangle(lower, b", \t\n\\") for lower in lowers)
    fields = (mangle(root, b" \t\n\\#"), mangle(path, b" \t\n\\#"), options)
    mount = one(b"1 0 0:5 %s %s rw shared:1 - overlay overlay rw,%s\n" % fields)
    assert os.fsencode(mount.root) == root
    assert os.fsencode(mount.path) == path
    assert [os.fsencode(lower) for lower in mount.lowers()] == lowers


def test_what_was_put_beneath_a_mount_comes_before_it() -> None:
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
def test_only_what_is_near_is_read(paths: list[str], directory: str) -> None:
    near = [
        mount
        for mount in read()
        if is_inside(mount.path, directory) or any(is_inside(path, mount.path) for path in (*paths, directory))
    ]
    assert read_near(paths, directory) == near
    assert near, "there is always a mount at /"
