# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers as images, mounted by this kernel: every tree is the one that unpacking the same archive gives."""

from __future__ import annotations

import errno
import io
import itertools
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._layer.image import make_image
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.erofs_mount import BY_LOOP, FROM_FILE, image_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.form import ImageSupport, chosen_form
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError, debian_root
from ansible_collections.strata.overlay.tests.integration.layer_image import (
    assert_same,
    both_forms,
    check_by_fsck,
    mounted,
)
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root, need_private_namespace
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import (
    directory,
    hardlink,
    member,
    pax,
    sparse,
    symlink,
)
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.hostile import CONFINED, REFUSED
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack import (
    LINKS,
    REPEATED,
    WHITEOUTS,
    facts,
)
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack_fuzz import (
    LIMITS,
    Part,
    archive,
    parts,
    rich_archive,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("FUZZ", "1"))


@pytest.fixture(autouse=True)
def _needs() -> None:
    need_full_root("mounts no file system of a file's")
    need_private_namespace()
    try:
        image_tree("/dev/null")[0].__exit__()
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EPERM):
            pytest.skip(f"this kernel has no EROFS: {error.strerror}")


def sparse_member(name: bytes, size: int, *extents: tuple[int, int], **values: object) -> bytes:
    """A file of PAX format 0.1 with data in these places, each byte saying where it lies."""
    data = b"".join(bytes((offset + at) % 251 + 1 for at in range(length)) for offset, length in extents)
    text = b",".join(b"%d,%d" % extent for extent in extents)
    return pax((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", text)) + member(name, data, **values)


def access_list(*items: tuple[int, int, int]) -> bytes:
    """Of tag, permissions and id each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *item) for item in items)


NOBODY = 2**32 - 1
LISTED = access_list((1, 7, NOBODY), (2, 6, 70000), (4, 5, NOBODY), (16, 6, NOBODY), (32, 1, NOBODY))
PLAIN_LIST = access_list((1, 6, NOBODY), (4, 4, NOBODY), (32, 0, NOBODY))
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
LONG_NAME = b"n" * 255

CASES: dict[str, bytes] = {
    "nothing": b"",
    "the top": directory(b"./", 0o1750, uid=70000, gid=80000, mtime_ns=5 * 10**9, xattrs={"user.top": b"1"}),
    "owners, modes and times": member(b"f", b"1", mode=0o6755, uid=70000, gid=2**31, mtime_ns=123456789_987654321)
    + member(b"old", mtime_ns=-(10**9) * 86400 * 365 - 1)
    + member(b"new", mtime_ns=(2**31 + 5) * 10**9 + 7)
    + directory(b"d", 0o1777, uid=3, gid=4, mtime_ns=99),
    "names": member(b"\xff\xfe \n", b"1")
    + member(b"!", b"2")
    + member(b"-/" + LONG_NAME)
    + member(b"-/+")
    + member(b"."),
    "devices": member(b"c", kind="char", device=(1, 3), mode=0o666)
    + member(b"b", kind="block", device=(4095, 2**20 - 1), mode=0o600, uid=5)
    + member(b"p", kind="fifo", mode=0o644)
    + member(b"w", kind="char", device=(0, 0)),
    "attributes": member(
        b"f",
        b"1",
        xattrs={"user.a": b"", "user.\u00e4=%": b"\0", "trusted.x": b"t", "security.capability": CAPABILITY},
    )
    + member(b"l", kind="symlink", target=b"f", xattrs={"trusted.l": b"1", "security.x": b"2"})
    + directory(b"d", xattrs={"user.large": b"x" * 3000, "trusted.d": b"y"})
    + member(b"d/.wh..wh..opq"),
    "access lists": member(b"f", mode=0o640, xattrs={"system.posix_acl_access": LISTED})
    + member(b"plain", mode=0o777, xattrs={"system.posix_acl_access": PLAIN_LIST})
    + directory(b"d", xattrs={"system.posix_acl_access": LISTED, "system.posix_acl_default": LISTED})
    + directory(b"e", xattrs={"system.posix_acl_default": PLAIN_LIST}),
    "no access list for a file's children": member(b"f", xattrs={"system.posix_acl_default": LISTED}),
    "an access list out of order": member(b"f", xattrs={"system.posix_acl_access": LISTED[:4] + LISTED[12:]}),
    "an access list of another version": member(b"f", xattrs={"system.posix_acl_access": b"\3\0\0\0"}),
    "an empty access list": member(b"f", xattrs={"system.posix_acl_access": b"\2\0\0\0"}),
    "a user's attribute on a link": member(b"l", kind="symlink", target=b"f", xattrs={"user.a": b"1"}),
    "an access list on a link": member(b"l", kind="symlink", target=b"f", xattrs={"system.posix_acl_access": LISTED}),
    "a broken capability": member(b"f", xattrs={"security.capability": b"x"}),
    "an attribute without a name": member(b"f", xattrs={"user.": b"1"}),
    "an attribute of no namespace": member(b"f", xattrs={"plain": b"1"}),
    "a system attribute": member(b"f", xattrs={"system.data": b"1"}),
    "targets of links": b"".join(symlink(b"%d" % size, b"t" * size) for size in (1, 55, 56, 447, 448, 449, 512, 4095)),
    "a link with attributes": member(b"l", kind="symlink", target=b"t" * 400, xattrs={"trusted.x": b"y" * 100}),
    "sizes of files": b"".join(member(b"%d" % size, b"x" * size) for size in (0, 1, 511, 512, 513, 4096, 70000)),
    "holes": sparse(b"small", 1 << 20)
    + sparse_member(b"aligned", 1 << 24, (0, 4096), (1 << 20, 8192), ((1 << 24) - 4096, 4096))
    + sparse_member(b"ragged", 100_000, (100, 5000), (5200, 10), (70_001, 29_999))
    + sparse_member(b"end", 1 << 20, ((1 << 20) - 1000, 1000))
    + sparse_member(b"close", 1 << 16, (1000, 100), (1200, 100), (2000, 5000), (7001, 1))
    + sparse_member(b"full", 1000, (0, 1000))
    + pax((b"GNU.sparse.size", b"500000"), (b"GNU.sparse.map", b""))
    + member(b"none")
    + pax((b"GNU.sparse.size", b"0"), (b"GNU.sparse.map", b""))
    + member(b"empty")
    + sparse_member(b"with", 1 << 20, (4096, 5000), xattrs={"user.a": b"1"}),
    "hard links": member(b"a/f", b"1", uid=7)
    + hardlink(b"b/f", b"a/f")
    + hardlink(b"0", b"b/f")
    + directory(b"a", 0o700),
    "one directory by two names": directory(b"d", 0o700, uid=1, xattrs={"user.a": b"1"})
    + symlink(b"x", b".")
    + directory(b"x/d", 0o711, uid=2, xattrs={"user.b": b"2"}),
    "a target below what goes": member(b"x/f", b"1") + hardlink(b"x", b"x/f"),
    "an opaque mark on a link": directory(b"d") + symlink(b"x", b"d") + member(b"x/.wh..wh..opq"),
    **{name: data for name, (data, _tree) in REPEATED.items()},
    **{f"confined: {name}": each.archive for name, each in CONFINED.items()},
    **{f"refused: {name}": each.archive for name, each in REFUSED.items()},
}
"""What the two forms could differ in. Those that one refuses the other refuses, in the same words."""


@pytest.mark.parametrize("name", CASES)
def test_image_of_an_archive_shows_the_tree_that_unpacking_gives(name: str) -> None:
    data = CASES[name] if name.startswith("refused: ") else CASES[name] + END
    with both_forms(data) as found:
        if found:
            assert_same(*found)


def test_whiteouts_in_every_order_show_the_tree_that_unpacking_gives() -> None:
    for entries, _expected in WHITEOUTS.values():
        for order in itertools.permutations(entries):
            with both_forms(b"".join(order) + END) as found:
                assert found
                assert_same(*found)


def test_names_through_links_lead_where_they_lead_in_a_tree() -> None:
    base = member(b"a/b/f", b"1") + member(b"a/f", b"2")
    for links, path in itertools.product(LINKS.values(), (b"x", b"a/x", b"x/b", b"0", b"x/new/er", b"a/x/../x")):
        with both_forms(base + links + member(path + b"/file", b"3") + END) as found:
            if found:
                assert_same(*found)


@settings(max_examples=150 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(parts, max_size=12))
def test_random_archives_show_the_same_tree_in_both_forms(entries: list[Part]) -> None:
    with both_forms(archive(entries), LIMITS) as found:
        if found:
            assert_same(*found)


extents = st.lists(st.integers(0, 40_000), min_size=0, max_size=12, unique=True).map(sorted)


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(extents, st.sampled_from([1, 512, 4096]), st.integers(0, 100_000))
def test_sparse_files_of_any_map_are_read_as_in_a_tree(bounds: list[int], unit: int, more: int) -> None:
    pairs = [(start * unit, (stop - start) * unit) for start, stop in zip(bounds[::2], bounds[1::2], strict=False)]
    pairs = [(start, min(length, 9000 // unit * unit)) for start, length in pairs]
    size = sum(pairs[-1]) + more if pairs else more
    with both_forms(sparse_member(b"f", size, *pairs) + END) as found:
        assert found
        assert_same(*found)


def test_hole_of_hundreds_of_gigabytes_costs_next_to_nothing(tmp_path: Path) -> None:
    """As /var/log/lastlog has them where one user's id is large."""
    data = sparse_member(b"huge", 1 << 39, (1 << 38, 4096), ((1 << 38) + 5000, 10))
    found = make_image(io.BytesIO(data + END).read, str(tmp_path / "layer.erofs"))
    assert (found.size, found.allocated < 16 << 20) == (1 << 39, True)
    with mounted(tmp_path / "layer.erofs") as place, (place / "huge").open("rb") as stream:
        assert os.fstat(stream.fileno()).st_size == 1 << 39
        stream.seek(1 << 38)
        around = bytes(((1 << 38) + at) % 251 + 1 for at in range(4096)) + bytes(904)
        assert stream.read(5000) == around
        assert stream.read(10) == bytes(((1 << 38) + 5000 + at) % 251 + 1 for at in range(10))
        assert stream.read(5000) == bytes(5000)
        stream.seek((1 << 39) - 5)
        assert stream.read() == bytes(5)


def test_times_no_disk_can_hold_are_kept(tmp_path: Path) -> None:
    times = {b"first": -(2**62), b"far": (2**40) * 10**9 + 1, b"before": -1}
    data = b"".join(member(name, mtime_ns=moment) for name, moment in times.items()) + END
    make_image(io.BytesIO(data).read, str(tmp_path / "layer.erofs"))
    with mounted(tmp_path / "layer.erofs") as place:
        assert {name: os.stat(os.path.join(os.fsencode(place), name)).st_mtime_ns for name in times} == times


def test_large_directory_lists_and_finds_every_name(tmp_path: Path) -> None:
    names = [b"d/%d" % number for number in range(100_000)]
    data = b"".join(map(member, names))
    found = make_image(io.BytesIO(data + END).read, str(tmp_path / "layer.erofs"))
    assert found.entries == len(names)
    check_by_fsck(tmp_path / "layer.erofs")
    with mounted(tmp_path / "layer.erofs") as place:
        assert sorted(os.listdir(place / "d"), key=int) == [str(number) for number in range(len(names))]
        assert all((place / "d" / str(number)).exists() for number in range(0, len(names), 997))


def test_attribute_too_large_for_an_image_is_refused_by_name(tmp_path: Path) -> None:
    data = member(b"f", xattrs={"user.a": b"x" * 65536}) + END
    with pytest.raises(Exception, match=r"entry 'f': the attribute .*user\.a.* has 65536 bytes; an image takes 65535"):
        make_image(io.BytesIO(data).read, str(tmp_path / "layer.erofs"))


def test_image_on_a_file_system_of_memory_is_mounted_by_a_loop_device_that_goes_with_it(tmp_path: Path) -> None:
    room = tmp_path / "memory"
    room.mkdir()
    syscalls.mount("tmpfs", str(room), "tmpfs", 0)
    try:
        make_image(io.BytesIO(rich_archive()).read, str(room / "layer.erofs"))
        tree, how = image_tree(str(room / "layer.erofs"))
        devices = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
        with tree:
            assert how != FROM_FILE
            assert "layer.erofs" in devices
        devices = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
        assert "layer.erofs" not in devices
    finally:
        syscalls.umount(str(room))


PROBE = """
import sys
from ansible_collections.strata.overlay.plugins.module_utils._store.form import image_support
print(*image_support(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("namespace", "memory"), [([], False), ([], True), (["unshare", "--user", "--mount", "-r"], False)]
)
def test_form_of_a_store_is_found_by_trying(tmp_path: Path, namespace: list[str], memory: bool) -> None:
    room = tmp_path / "room"
    room.mkdir()
    if memory:
        syscalls.mount("tmpfs", str(room), "tmpfs", 0)
    else:
        room.chmod(0o777)
    try:
        collections = str(Path(syscalls.__file__).parents[6])
        done = subprocess.run(
            [*namespace, sys.executable, "-c", PROBE, room],
            env={**os.environ, "PYTHONPATH": collections},
            capture_output=True,
            text=True,
            check=True,
        )
        assert list(room.iterdir()) == []
    finally:
        if memory:
            syscalls.umount(str(room))
    if namespace:
        assert "only root outside any user namespace" in done.stdout
    else:
        how = done.stdout.strip()
        assert how == BY_LOOP if memory else how in (FROM_FILE, BY_LOOP)
        assert chosen_form("auto", ImageSupport(how)) == ("image" if how == FROM_FILE else "tree")
    assert (chosen_form("tree", ImageSupport(FROM_FILE)), chosen_form("auto", ImageSupport("", "x"))) == (
        "tree",
        "tree",
    )


def test_image_mounted_from_a_path_longer_than_an_option(tmp_path: Path) -> None:
    room = tmp_path / ("x" * 200) / ("y" * 200)
    room.mkdir(parents=True)
    make_image(io.BytesIO(rich_archive()).read, str(room / "layer.erofs"))
    with mounted(room / "layer.erofs") as place:
        assert (place / "a/b").read_bytes() == b"content" * 100


@pytest.mark.parametrize("leave", [lambda path: path.unlink(), lambda path: path.rename(path.with_name("other"))])
def test_mounted_image_stays_readable_whatever_becomes_of_its_name(
    tmp_path: Path, leave: Callable[[Path], object]
) -> None:
    path = tmp_path / "layer.erofs"
    make_image(io.BytesIO(rich_archive()).read, str(path))
    with mounted(path) as place:
        before = facts(place)
        leave(path)
        assert facts(place) == before


def test_image_of_a_debian_root_is_what_gnu_tar_compares(tmp_path: Path) -> None:
    try:
        source = debian_root()
    except UnavailableError as error:
        pytest.skip(str(error))
    image = tmp_path / "layer.erofs"
    with source.open("rb", buffering=0) as stream:
        found = make_image(stream.read, str(image))
    check_by_fsck(image)
    assert image.stat().st_size < found.archive * 1.02
    with image.open("rb") as stream, source.open("rb") as original:
        stream.seek(4096)
        assert all(stream.read(1 << 20)[: len(chunk)] == chunk for chunk in iter(lambda: original.read(1 << 20), b""))
    with mounted(image) as place:
        done = subprocess.run(
            ["tar", "--compare", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-f", source, "-C", place],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stdout[:2000] + done.stderr[:2000]
