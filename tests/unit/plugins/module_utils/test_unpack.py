# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers onto a real file system: GNU tar as the oracle, whiteouts in every order, hostile archives beside a canary."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import io
import itertools
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.rootdir import RootDirectory
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import (
    Unpacked,
    digest,
    remove_tree,
    unpack,
    writer_apart,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_at
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import (
    directory,
    hardlink,
    member,
    symlink,
)
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.hostile import CONFINED, REFUSED

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set owners, devices and trusted attributes")
pytestmark = needs_root

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw as setcap(8) writes it (struct vfs_cap_data, revision 2)."""


def facts(top: Path) -> dict[bytes, tuple[object, ...]]:
    """All that can be said of each path below a directory, and of the directory itself."""
    root = os.fsencode(top)
    found: dict[bytes, tuple[object, ...]] = {}
    groups: dict[tuple[int, int], bytes] = {}
    for path in sorted([root, *(os.path.join(a, name) for a, b, c in os.walk(root) for name in b + c)]):
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        group = None
        if kind != stat.S_IFDIR:
            group = groups.setdefault((status.st_dev, status.st_ino), path[len(root) :])
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        owner = (status.st_uid, status.st_gid)
        values = (oct(status.st_mode), owner, status.st_mtime_ns, status.st_rdev, content, group, xattrs)
        found[path[len(root) + 1 :]] = values
    return found


def kinds(top: Path) -> dict[str, str]:
    """Each path with "dir", "opaque", "whiteout", "device", "link" or a file's content."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            kind = "opaque" if "trusted.overlay.opaque" in os.listxattr(path) else "dir"
        elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            kind = "whiteout"
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            kind = "device"
        else:
            kind = "link" if path.is_symlink() else path.read_text()
        found[str(path.relative_to(top))] = kind
    return found


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """An empty directory, beside a canary that must never change."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("untouched")
    os.utime(canary, ns=(1, 1))
    before = facts(canary)
    top = tmp_path / "top"
    top.mkdir()
    descriptors = os.listdir("/proc/self/fd")
    yield top
    assert len(os.listdir("/proc/self/fd")) == len(descriptors), "a descriptor was left open"
    assert facts(canary) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"canary", "top", "tree", "oracle", "second"}
    remove_tree(str(top))
    assert not top.exists()


@pytest.fixture(params=["openat2", "by hand"])
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by hand":

        def refuse(*_arguments: object) -> int:
            raise OSError(errno.ENOSYS, "not implemented")

        monkeypatch.setattr(syscalls, "openat2", refuse)
    return str(request.param)


def failing(number: int) -> Callable[..., int]:
    """A system call that this kernel refuses."""

    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


class Way:
    """How archives are unpacked here: all of them in both ways.

    :cvar apart: what is read in this process is written in another.
    """

    apart = False


@pytest.fixture(autouse=True, params=["in one process", "in two"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Way, "apart", request.param == "in two")


def unpacked(archive: bytes, top: Path, userxattr: bool = False) -> Unpacked:
    return unpacked_from(io.BytesIO(archive).read, top, userxattr)


def unpacked_from(read: Callable[[int], bytes], top: Path, userxattr: bool = False) -> Unpacked:
    with writer_apart(str(top), userxattr) if Way.apart else contextlib.nullcontext() as relay:
        return unpack(read, str(top), userxattr, relay=relay)


# What is written


def test_empty_layer_has_the_known_diff_id_and_no_entries(root: Path) -> None:
    found = unpacked(END, root)
    assert found == digest(io.BytesIO(END).read)
    assert found == Unpacked("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef", 0, 0)


@pytest.mark.skipif(shutil.which("tar") is None, reason="GNU tar is not installed here")
@pytest.mark.parametrize(
    "options", [["--format=gnu"], ["--format=posix", "--xattrs", "--xattrs-include=*", "--sparse"]], ids=str
)
def test_unpacked_tree_is_the_same_as_that_of_gnu_tar(
    root: Path, tmp_path: Path, means: str, options: list[str]
) -> None:
    tree = tmp_path / "tree"
    for name in ("a/b/c", "closed", "empty"):
        (tree / name).mkdir(parents=True)
    (tree / "a/file").write_bytes(os.urandom(3_000_000))
    os.link(tree / "a/file", tree / "a/b/again")
    os.symlink("../file", tree / "a/b/link")
    os.link(tree / "a/b/link", tree / "closed/link too", follow_symlinks=False)
    os.symlink("/absolute", tree / "zlink")
    (tree / "closed/inside").write_text("x")
    (tree / "suid").write_text("program")
    os.chown(tree / "suid", 33, 44)
    (tree / "suid").chmod(0o6755)
    os.setxattr(tree / "suid", "security.capability", CAPABILITY)
    os.setxattr(tree / "a", "user.note", b"\0binary\n")
    os.setxattr(tree / "zlink", "trusted.note", b"on a link", follow_symlinks=False)
    os.mknod(tree / "char", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "block", stat.S_IFBLK | 0o660, os.makedev(259, 7))
    os.mkfifo(tree / "fifo")
    os.chown(tree / "empty", 3_000_000, 3_000_000)
    (tree / os.fsdecode(b"caf\xe9")).write_text("latin")
    with open(tree / "sparse", "wb") as sparse:
        sparse.seek(5_000_000)
        sparse.write(b"end")
        sparse.truncate(10_000_000)
    (tree / "closed").chmod(0o1555)
    for number, path in enumerate(tree.rglob("*")):
        os.utime(path, ns=(0, 10**18 + 123_456_789 * number), follow_symlinks=False)
    archive = subprocess.run(
        ["tar", "-C", str(tree), *options, "-cf", "-", "."], stdout=subprocess.PIPE, check=True
    ).stdout
    oracle = tmp_path / "oracle"
    oracle.mkdir()
    taken = ["--xattrs", "--xattrs-include=*"] if "--xattrs" in options else []
    subprocess.run(["tar", "-C", str(oracle), "--numeric-owner", "-p", *taken, "-xf", "-"], input=archive, check=True)
    found = unpacked(archive, root)
    assert facts(root) == facts(oracle)
    assert found == digest(io.BytesIO(archive).read)
    assert found.diff_id == "sha256:" + hashlib.sha256(archive).hexdigest()
    assert found.size == 3_000_000 + 1 + 7 + 5 + 10_000_000
    if "--sparse" in options:
        assert (root / "sparse").stat().st_blocks * 512 < 1_000_000
    if "--format=posix" in options:
        assert facts(root) == facts(tree)
    remove_tree(str(tree))
    assert not tree.exists()


def test_closed_directory_is_filled_and_keeps_mode_and_time(root: Path) -> None:
    archive = directory(b"d", 0o555, mtime_ns=5) + member(b"d/f", b"x") + directory(b"./", 0o711, mtime_ns=7) + END
    unpacked(archive, root)
    assert (stat.S_IMODE((root / "d").stat().st_mode), (root / "d").stat().st_mtime_ns) == (0o555, 5)
    assert (stat.S_IMODE(root.stat().st_mode), root.stat().st_mtime_ns) == (0o711, 7)


def test_missing_parents_are_made_with_mode_0755_under_any_umask(root: Path, means: str) -> None:
    before = os.umask(0o077)
    try:
        unpacked(member(b"a/b/c/file", b"x", uid=5) + directory(b"a/b", 0o700) + END, root)
    finally:
        os.umask(before)
    assert [oct((root / name).stat().st_mode & 0o7777) for name in ("a", "a/b", "a/b/c")] == ["0o755", "0o700", "0o755"]
    assert (root / "a/b/c").stat().st_uid == 0


def test_new_directory_inherits_nothing_from_a_replaced_one(root: Path) -> None:
    first = directory(b"x/y", 0o700, uid=5, xattrs={"user.a": b"1"}) + directory(b"x/y-z", 0o711) + member(b"x")
    unpacked(first + directory(b"x", 0o750) + member(b"x/y/z", b"2") + END, root)
    assert oct((root / "x").stat().st_mode) == "0o40750"
    assert (oct((root / "x/y").stat().st_mode), (root / "x/y").stat().st_uid) == ("0o40755", 0)
    assert not os.listxattr(root / "x/y")


REPEATED = {
    "file over file": (member(b"x", b"old") + member(b"x", b"new"), {"x": "new"}),
    "file over tree": (directory(b"x") + member(b"x/y/z", b"old") + member(b"x", b"new"), {"x": "new"}),
    "tree over file": (member(b"x", b"old") + directory(b"x") + member(b"x/y", b"new"), {"x": "dir", "x/y": "new"}),
    "directory over directory": (
        directory(b"x") + member(b"x/y", b"1") + directory(b"x", 0o700),
        {"x": "dir", "x/y": "1"},
    ),
    "directory over link": (
        directory(b"d") + symlink(b"x", b"d") + directory(b"x") + member(b"x/f", b"1"),
        {"d": "dir", "x": "dir", "x/f": "1"},
    ),
    "link over tree": (member(b"x/y", b"1") + symlink(b"x", b"d"), {"x": "link"}),
    "file through a link": (
        directory(b"d") + symlink(b"x", b"d") + member(b"x/f", b"1"),
        {"d": "dir", "d/f": "1", "x": "link"},
    ),
    "hard link over tree": (member(b"f", b"1") + member(b"x/y", b"2") + hardlink(b"x", b"f"), {"f": "1", "x": "1"}),
    "hard link to itself": (member(b"f", b"1") + hardlink(b"f", b"./f"), {"f": "1"}),
    "hard link before its target": (hardlink(b"x", b"d/f") + member(b"d/f", b"1"), {"d": "dir", "d/f": "1", "x": "1"}),
    "hard links in a chain": (
        hardlink(b"x", b"y") + hardlink(b"y", b"z") + member(b"z", b"1"),
        {"x": "1", "y": "1", "z": "1"},
    ),
    "late hard link that is replaced": (
        hardlink(b"x", b"f") + member(b"x", b"own") + member(b"f", b"1"),
        {"f": "1", "x": "own"},
    ),
    "hard link keeps what is replaced": (
        member(b"f", b"1") + hardlink(b"x", b"f") + member(b"f", b"2"),
        {"f": "2", "x": "1"},
    ),
    "hard link to a symlink": (symlink(b"l", b"nowhere") + hardlink(b"x", b"l"), {"l": "link", "x": "link"}),
    "absolute names": (member(b"/etc/f", b"1") + hardlink(b"x", b"/etc/f"), {"etc": "dir", "etc/f": "1", "x": "1"}),
    "late hard link over a tree": (
        member(b"x/y", b"old") + hardlink(b"x", b"f") + member(b"f", b"1"),
        {"f": "1", "x": "1"},
    ),
    "late hard link with attributes": (
        member(b"x", kind="hardlink", target=b"f", xattrs={"user.a": b"1"}) + member(b"f", b"1"),
        {"f": "1", "x": "1"},
    ),
    "dots and slashes": (member(b"./a//./f", b"1"), {"a": "dir", "a/f": "1"}),
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_and_unordered_entries_give_the_expected_tree(root: Path, means: str, name: str) -> None:
    archive, expected = REPEATED[name]
    unpacked(archive + END, root)
    assert kinds(root) == expected


# Whiteouts

WHITEOUTS: dict[str, tuple[list[bytes], dict[str, str]]] = {
    "plain": ([member(b".wh.x"), member(b"d/.wh.y")], {"d": "dir", "d/y": "whiteout", "x": "whiteout"}),
    "opaque": ([directory(b"d"), member(b"d/.wh..wh..opq"), member(b"d/f", b"1")], {"d": "opaque", "d/f": "1"}),
    "opaque without its directory": ([member(b"a/d/.wh..wh..opq")], {"a": "dir", "a/d": "opaque"}),
    "a directory of that name": (
        [directory(b"d"), member(b"d/f", b"1"), member(b".wh.d")],
        {"d": "opaque", "d/f": "1"},
    ),
    "a file of that name": ([member(b"x", b"1"), member(b".wh.x")], {"x": "1"}),
    "a link of that name": ([symlink(b"x", b"y"), member(b".wh.x")], {"x": "link"}),
    "children only": ([member(b"d/f", b"1"), member(b".wh.d")], {"d": "opaque", "d/f": "1"}),
    "inside an opaque directory": (
        [member(b"d/.wh..wh..opq"), member(b"d/.wh.x"), member(b"d/e/.wh.y"), directory(b"d/e")],
        {"d": "opaque", "d/e": "dir"},
    ),
    "below a whiteout": ([member(b".wh.d"), member(b"d/.wh.x"), member(b"d/e/.wh.y")], {"d": "whiteout"}),
    "an opaque mark below a whiteout": ([member(b".wh.d"), member(b"d/.wh..wh..opq")], {"d": "opaque"}),
    "below a file": ([member(b"d", b"1"), member(b".wh.d")], {"d": "1"}),
    "hard link in its shadow": (
        [member(b".wh.d"), member(b"d/f", b"1"), hardlink(b"x", b"d/f")],
        {"d": "opaque", "d/f": "1", "x": "1"},
    ),
    "aufs": (
        [directory(b".wh..wh.plnk"), member(b".wh..wh.plnk/1.2", b"1"), member(b".wh..wh.aufs"), member(b"f", b"1")],
        {"f": "1"},
    ),
    "a name with .wh. inside": ([member(b"a.wh.b", b"1")], {"a.wh.b": "1"}),
}


@pytest.mark.parametrize("name", WHITEOUTS)
def test_whiteouts_in_every_order_give_the_same_tree(tmp_path: Path, root: Path, name: str) -> None:
    entries, expected = WHITEOUTS[name]
    for order in itertools.permutations(entries):
        remove_tree(str(root))
        root.mkdir()
        unpacked(b"".join(order) + END, root)
        assert kinds(root) == expected


def test_whiteout_below_a_path_that_becomes_a_file_is_dropped(root: Path) -> None:
    unpacked(member(b"d/.wh.x") + member(b"d", b"1") + END, root)
    assert kinds(root) == {"d": "1"}


def test_whiteouts_do_not_change_the_time_of_their_directory(root: Path) -> None:
    unpacked(directory(b"d", mtime_ns=5) + member(b"d/.wh.x") + member(b"d/.wh..wh..opq") + END, root)
    assert (root / "d").stat().st_mtime_ns == 5


def test_opaque_mark_in_a_user_namespace_is_a_user_attribute(root: Path) -> None:
    unpacked(member(b"d/.wh..wh..opq") + END, root, userxattr=True)
    assert os.getxattr(root / "d", "user.overlay.opaque") == b"y"
    assert os.listxattr(root / "d") == ["user.overlay.opaque"]


def test_opaque_top_is_marked_and_keeps_its_whiteouts(root: Path) -> None:
    """The mark is set as Docker sets it, but overlayfs does not heed it there, so whiteouts have to stay."""
    unpacked(member(b".wh..wh..opq") + member(b".wh.x") + END, root)
    assert os.getxattr(root, "trusted.overlay.opaque") == b"y"
    assert kinds(root) == {"x": "whiteout"}


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
def test_overlayfs_honours_unpacked_whiteouts_and_opaque_marks(root: Path, tmp_path: Path) -> None:
    lower, upper, merged = (root / name for name in ("lower", "upper", "merged"))
    for path in (lower, upper, merged):
        path.mkdir()
    unpacked(
        member(b"gone", b"1") + member(b"d/hidden", b"1") + member(b"e/gone", b"1") + member(b"e/stays", b"1") + END,
        lower,
    )
    unpacked(
        member(b".wh.gone") + member(b"d/.wh..wh..opq") + member(b"d/new", b"2") + member(b"e/.wh.gone") + END, upper
    )
    script = f"mount -t overlay test -o lowerdir={upper}:{lower} {merged} && cd {merged} && find . | sort"
    run = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"no overlay can be mounted here: {run.stderr.strip()}")
    assert run.stdout.split() == [".", "./d", "./d/new", "./e", "./e/stays"]


# Hostile and broken


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_archives_are_refused(root: Path, means: str, name: str) -> None:
    with pytest.raises(StrataError, match=REFUSED[name].reason):
        unpacked(REFUSED[name].archive, root)


@pytest.mark.parametrize("name", CONFINED)
def test_archives_that_point_outside_stay_inside_the_top(root: Path, means: str, name: str) -> None:
    unpacked(CONFINED[name].archive, root)  # the fixture looks at the canary
    assert kinds(root) == CONFINED[name].tree


LINKS: dict[str, bytes] = {
    "down": symlink(b"x", b"a/b"),
    "up and down": symlink(b"a/x", b"../a/./b"),
    "beyond the top": symlink(b"x", b"../../a/../../a//b/"),
    "absolute": symlink(b"a/x", b"/a/b"),
    "to the top": symlink(b"x", b"/"),
    "above the top": symlink(b"x", b".."),
    "of links": symlink(b"x", b"y/b") + symlink(b"y", b"z") + symlink(b"z", b"/a"),
    "forty": b"".join(symlink(b"%d" % n, b"%d" % (n + 1)) for n in range(39)) + symlink(b"39", b"a"),
    "forty-one": b"".join(symlink(b"%d" % n, b"%d" % (n + 1)) for n in range(40)) + symlink(b"40", b"a"),
    "to itself": symlink(b"x", b"x"),
    "to nothing": symlink(b"x", b"a/nothing"),
    "to a file": symlink(b"x", b"a/f"),
    "below a file": symlink(b"x", b"a/f/."),
    "to a device": member(b"a/c", kind="char", device=(1, 3)) + symlink(b"x", b"a/c"),
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("path", [b"x", b"a/x", b"x/b", b"0", b"x/new/er", b"a/x/../x"])
def test_links_resolved_by_hand_lead_where_openat2_leads(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: bytes
) -> None:
    unpacked(directory(b"a/b") + member(b"a/f", b"1") + LINKS[name] + END, root)

    def led() -> object:
        with RootDirectory(str(root)) as top:
            try:
                descriptor = top.open(path)
            except OSError as error:
                return errno.errorcode[error.errno or 0]
            try:
                return os.readlink(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)

    with_openat2 = led()
    monkeypatch.setattr(syscalls, "openat2", failing(errno.ENOSYS))
    assert led() == with_openat2


def test_magic_links_are_not_followed(root: Path) -> None:
    with pytest.raises(StrataError):
        unpacked(symlink(b"x", b"/proc/self/root") + member(b"x/new", b"x") + END, root)


WITHOUT_FILE_SYSTEM = [
    "name out", "hard link out", "hard link to the root", "empty whiteout", "whiteout of dots", "below a whiteout name",
    "overlay's attribute", "attribute too large", "attribute's name too long", "file in place of the top", "empty link",
    "name too long", "path too long",
]  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_FILE_SYSTEM)
def test_digest_refuses_the_same_hostile_archives(name: str) -> None:
    with pytest.raises(StrataError):
        digest(io.BytesIO(REFUSED[name].archive).read)


def test_every_truncation_leaves_a_removable_tree(root: Path) -> None:
    archive = directory(b"d", 0) + member(b"d/f", b"x" * 2000) + hardlink(b"d/g", b"d/f") + symlink(b"l", b"d") + END
    for cut in range(0, len(archive) - len(END) + 1, 256):
        with pytest.raises(StrataError):
            unpacked(archive[:cut], root)
        remove_tree(str(root))
        root.mkdir()


def test_errors_of_the_source_pass_through(root: Path) -> None:
    data = io.BytesIO(member(b"f", b"x" * 3_000_000) + END)

    def read(size: int) -> bytes:
        if data.tell() > 1_000_000:
            raise ConnectionResetError(104, "the network is gone")
        return data.read(size)

    with pytest.raises(ConnectionResetError):
        unpacked_from(read, root)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
def test_owner_missing_in_the_user_namespace_is_refused(root: Path, tmp_path: Path) -> None:
    script = (
        "import io, sys\n"
        "from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import unpack\n"
        "from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError\n"
        "try: unpack(sys.stdin.buffer.read, sys.argv[1], True)\n"
        "except StrataError as error: print(error)\n"
    )
    collections = Path(syscalls.__file__ or "").parents[6]
    run = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, str(root)],
        input=member(b"mine", b"x") + member(b"theirs", b"x", uid=1000, gid=1001) + END,
        env={**os.environ, "PYTHONPATH": str(collections)},
        capture_output=True,
        check=False,
    )
    if run.returncode:
        pytest.skip(f"no user namespace here: {run.stderr.decode().strip()}")
    assert b"entry 'theirs': owner 1000:1001 cannot be set: this user namespace has no such ids" in run.stdout
    assert (root / "mine").exists()


# Removing


def test_deep_closed_and_odd_trees_are_removed(root: Path) -> None:
    top = os.open(root, os.O_RDONLY)
    try:
        here = os.dup(top)
        for _depth in range(1500):  # far beyond any path length and recursion
            os.mkdir("d" * 100, dir_fd=here)
            below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
    finally:
        os.close(top)
    (root / "closed").mkdir(mode=0)
    os.symlink("../canary", root / "link")
    os.mkfifo(root / "fifo")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(root / "socket"))
    bound.close()
    remove_tree(str(root))
    assert not root.exists()
    remove_tree(str(root))  # nothing there is no error


def test_link_is_removed_and_not_its_target(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "canary")
    remove_tree(str(root / "link"))
    assert not os.listdir(root)


def test_owner_who_is_not_root_removes_closed_directories(root: Path) -> None:
    nobody = 65534
    closed = directory(b"d", 0, uid=nobody) + directory(b"d/e", 0o500, uid=nobody) + member(b"d/e/f", b"x", uid=nobody)
    unpacked(closed + END, root)
    os.chown(root, nobody, nobody)
    descriptor = os.open(root, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresuid(nobody, nobody, nobody)
            pr_set_dumpable = 4  # a process that changed its user may else not use its own /proc/self/fd
            ctypes.CDLL(None).prctl(pr_set_dumpable, 1)
            remove_at(descriptor, b"d")
            status = 0
        finally:
            os._exit(status)
    os.close(descriptor)
    assert os.waitpid(child, 0)[1] == 0
    assert not os.listdir(root)


@pytest.mark.parametrize("mount", ["-t tmpfs test", "--bind {canary}"])
@pytest.mark.parametrize("place", ["deep/below/mounted", "mounted", ""])
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
def test_removal_of_a_tree_with_a_mount_is_refused(root: Path, mount: str, place: str) -> None:
    target = root / place
    target.mkdir(parents=True, exist_ok=True)
    collections = Path(syscalls.__file__ or "").parents[6]
    code = (
        "import sys; from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import remove_tree\n"
        "try: remove_tree(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
    )
    means = mount.format(canary=root.parent / "canary")
    script = f'mount {means} {target} || exit 7; exec "$0" -c "$1" {root}'
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(collections)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode == 7:
        pytest.skip(f"nothing can be mounted here: {run.stderr.strip()}")
    assert "StrataError the tree is not deleted: something is mounted" in run.stdout, run.stderr
