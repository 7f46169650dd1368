# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole Debian root with two application layers above it, mounted, against the same archives unpacked by GNU tar.

What tar cannot do, hiding what lies below, the tests do themselves before they let it unpack the next layer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.tests.integration.debian_root import (
    UnavailableError,
    debian_root,
)
from ansible_collections.strata.overlay.tests.integration.privileges import is_full_root
from ansible_collections.strata.overlay.tests.integration.trees import Tree, assert_same, tree_of

TAR = ("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=no-timestamp")
C_LOCALE = {**os.environ, "LC_ALL": "C"}
WRITABLE = ("none", "persistent", "volatile")
LAYERS = ("debian", "app", "site")
CAPABILITY = "security.capability"
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""struct vfs_cap_data, version 2: cap_net_raw, permitted and effective (linux/capability.h)."""
CLONE_NEWNS = 0x20000


# The two layers above Debian.


class Sketch:
    """Files of a layer that is being made, all with times down to the nanosecond."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._clock = 1_600_000_000_000_000_001

    def file(self, name: str, content: bytes = b"", mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> Path:
        path = self.directory(os.path.dirname(name)) / os.path.basename(name)
        path.write_bytes(content or f"{self.top.name}: {name!r}\n".encode())
        os.chown(path, *owner)
        path.chmod(mode)
        self.touch(path)
        return path

    def directory(self, name: str, mode: int | None = None) -> Path:
        path = self.top / name
        path.mkdir(parents=True, exist_ok=True)
        if mode is not None:
            path.chmod(mode)
        return path

    def symlink(self, name: str, target: str) -> None:
        path = self.directory(os.path.dirname(name)) / os.path.basename(name)
        path.symlink_to(target)
        self.touch(path)

    def hard_link(self, name: str, target: Path) -> None:
        (self.directory(os.path.dirname(name)) / os.path.basename(name)).hardlink_to(target)

    def node(self, name: str, kind: int, mode: int, device: tuple[int, int] = (0, 0)) -> None:
        path = self.directory(os.path.dirname(name)) / os.path.basename(name)
        os.mknod(path, kind | mode, os.makedev(*device))
        self.touch(path)

    def hide(self, *names: str) -> None:
        """Whiteouts."""
        for name in names:
            (self.directory(os.path.dirname(name)) / f".wh.{os.path.basename(name)}").touch()

    def hide_all_below(self, name: str) -> None:
        """The mark of an opaque directory."""
        (self.directory(name) / ".wh..wh..opq").touch()

    def touch(self, path: Path) -> None:
        self._clock += 1_000_000_007
        os.utime(path, ns=(self._clock, self._clock), follow_symlinks=False)


def sketch_app(top: Path) -> None:
    layer = Sketch(top)
    # Over Debian.
    layer.file("usr/bin/perl", b"#!/bin/sh\nexit 0\n", 0o755)  # one of two names of a file: the other keeps the old one
    layer.hide("usr/bin/perlbug")  # the same, by hiding
    layer.hide("usr/share/locale", "usr/share/never-there", "etc/gai.conf")
    layer.hide_all_below("etc/apt")
    layer.file("etc/apt/sources.list.d/own.list")
    layer.file("usr/share/doc/base-files")  # a directory becomes a file
    layer.file("etc/issue/en/text")  # a file becomes a directory
    layer.file("var/run/app.pid")  # a symbolic link becomes a directory
    layer.file("etc/os-release")  # and a file
    layer.symlink("etc/motd", "issue/en/text")  # a file becomes a symbolic link
    # What archives may hold.
    layer.node("opt/app/nodes/loop", stat.S_IFBLK, 0o660, (7, 200))
    layer.node("opt/app/nodes/null", stat.S_IFCHR, 0o666, (1, 3))
    layer.node("opt/app/nodes/fifo", stat.S_IFIFO, 0o622)
    layer.hard_link("opt/app/links/b", layer.file("opt/app/links/a", b"three names"))
    layer.hard_link("opt/app/elsewhere/c", top / "opt/app/links/a")
    layer.file("opt/app/bin/setuid", mode=0o4755)
    layer.file("opt/app/bin/setgid", mode=0o2755, owner=(0, 42))
    layer.directory("opt/app/spool", 0o3777)
    layer.file("opt/app/spool/nobody", mode=0o600, owner=(65534, 65534))
    layer.file("opt/app/spool/many-ids", owner=(3_000_000, 4_000_000_000))
    layer.file(os.fsdecode(b"opt/app/names/caf\xe9"))
    layer.file(os.fsdecode(b"opt/app/names/\xff\xfe/inside"))
    layer.file("opt/app/names/umlaut-\u00e4")
    layer.file("opt/app/names/ space and\ttab\\134\u2028")
    layer.file(f"opt/app/names/{'d' * 120}/{'e' * 120}/{'f' * 200}")
    layer.symlink("opt/app/names/long-link", "t" * 300)
    (layer.directory("opt/app/sizes") / "empty").touch()
    with layer.file("opt/app/sizes/sparse").open("r+b") as stream:
        stream.seek(5 << 20)
        stream.write(b"end")
    os.utime(top / "opt/app/sizes/sparse", ns=(0, -1_500_000_003))  # before 1970
    layer.file("opt/app/releases/1/data")
    capable = layer.file("opt/app/bin/capable", mode=0o755)
    os.setxattr(capable, CAPABILITY, NET_RAW)
    os.setxattr(capable, "user.origin", b"made by a test\0with a zero")
    os.setxattr(top / "opt/app/bin", "user.origin", b"of a directory")
    os.setxattr(top / "opt/app/names", "user.origin", b"the layer above has this directory without it")
    os.setxattr(top / "opt/app/bin/setuid", "trusted.origin", b"for root only")
    os.setxattr(top / os.fsdecode(b"opt/app/names/caf\xe9"), b"user.na\xefve", b"a name that is no UTF-8")


def sketch_site(top: Path) -> None:
    layer = Sketch(top)
    layer.hide(os.fsdecode(b"opt/app/names/caf\xe9"))
    layer.hide("opt/app/links/b", "opt/app/releases/1", "opt/app/nodes/null")
    layer.file("opt/app/releases/2/data")
    layer.file("etc/issue")  # the directory is a file again
    layer.file("usr/share/doc/base-files/own")  # the file is a directory again, and Debian's files stay hidden
    layer.symlink("var/run", "/run")
    layer.file("etc/apt/apt.conf.d/own")  # Debian's stay hidden below a directory that is not opaque here
    layer.hide_all_below("usr/share/perl5")
    layer.file("usr/share/perl5/Own/Module.pm")
    layer.hide("usr/share/git-core")  # hidden and there again, all in one layer
    layer.file("usr/share/git-core/own")
    layer.file("etc/passwd", mode=0o600)
    layer.directory("srv", 0o751)
    layer.hide("opt/app/bin/setgid")
    os.setxattr(layer.file("opt/app/bin/capable", mode=0o755), "user.origin", b"replaced, and no capability any more")


@dataclass(frozen=True)
class Input:
    """Three archives, bottom first, and what they have to give."""

    archives: tuple[Path, ...]
    expected: Tree

    def definition(self, root: Path, stacks: dict[str, Path], **options: Any) -> dict[str, Any]:
        """Parameters of ``apply``; each stack is named after what it says of ``writable``."""
        return {
            "root": str(root),
            "layers": [
                {"name": name, "src": str(archive), **options}
                for name, archive in zip(LAYERS, self.archives, strict=True)
            ],
            "stacks": [
                {"name": writable, "path": str(path), "layers": list(LAYERS), "writable": writable}
                for writable, path in stacks.items()
            ],
        }


def compressor() -> tuple[str, str]:
    return ("zstd", ".tar.zst") if shutil.which("zstd") else ("xz", ".tar.xz")


def archive_of(top: Path, suffix: str, program: str) -> Path:
    archive = top.with_name(top.name + suffix)
    command = [*TAR, "--format=pax", "--sparse", "--sort=name", f"--use-compress-program={program}"]
    subprocess.run([*command, "-cf", archive, "-C", top, "."], check=True, env=C_LOCALE)
    return archive


# The same with GNU tar.


def members(archive: Path) -> list[tarfile.TarInfo]:
    program = {".gz": "gzip", ".zst": "zstd", ".xz": "xz"}.get(archive.suffix, "cat")
    with (
        archive.open("rb") as compressed,
        subprocess.Popen([program, *(["-d"] if program != "cat" else [])], stdin=compressed, stdout=-1) as process,
        tarfile.open(fileobj=process.stdout, mode="r|", errors="surrogateescape") as tar,
    ):
        return list(tar)


def lay_over(tree: Path, archive: Path) -> None:
    """Unpack a layer over what is there, after taking away what the layer hides."""
    entries = members(archive)
    for entry in entries:
        place = tree / entry.name
        if place.name == ".wh..wh..opq":
            for child in list(place.parent.iterdir()) if place.parent.is_dir() else []:
                take_away(child)
        elif place.name.startswith(".wh."):
            take_away(place.with_name(place.name.removeprefix(".wh.")))
    for entry in entries:
        place = tree / entry.name
        if not place.is_symlink() and place.is_dir():
            if entry.isdir():
                for name in os.listxattr(place):  # they are the upper directory's alone
                    os.removexattr(place, name)
            else:
                take_away(place)  # which tar would not
    subprocess.run(
        [*TAR, "--preserve-permissions", "--same-owner", "--exclude=.wh.*", "-xf", archive, "-C", tree],
        check=True,
        env=C_LOCALE,
    )


def take_away(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# Set-up.


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that is gone afterwards, with every mount in it."""
    if not is_full_root():
        pytest.skip("building or unpacking a Debian root needs root, with all user ids")
    enter_own_mount_namespace()
    top = tmp_path_factory.mktemp("debian")
    try:
        yield top
    finally:
        while mounted := mounts_below(top):
            subprocess.run(["umount", "--lazy", mounted[-1]], check=True)
        shutil.rmtree(top)


def enter_own_mount_namespace() -> None:
    """scripts/integration has done it already; whoever calls pytest alone gets no stray mount either."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        pytest.skip(f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def mounts_below(top: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [path for path in (line.split()[4] for line in lines) if path.startswith(f"{top}/")]


@pytest.fixture(scope="module")
def given(scratch: Path) -> Input:
    try:
        debian = debian_root()
    except UnavailableError as error:
        pytest.skip(str(error))
    for name, sketch in {"app": sketch_app, "site": sketch_site}.items():
        (scratch / name).mkdir()
        sketch(scratch / name)
    program, suffix = compressor()
    archives = (debian, archive_of(scratch / "app", ".tar.gz", "gzip"), archive_of(scratch / "site", suffix, program))
    tree = scratch / "expected"
    tree.mkdir()
    for archive in archives:
        lay_over(tree, archive)
    expected = tree_of(tree)
    for path in (scratch / "app", scratch / "site", tree):
        shutil.rmtree(path)
    return Input(archives, expected)


@dataclass(frozen=True)
class Stacks:
    """One store with three stacks of the same layers: ``definition`` brings them up."""

    definition: dict[str, Any]
    paths: dict[str, Path]
    first: dict[str, Any]

    def run(self, state: str = "mounted") -> dict[str, Any]:
        stacks = [{**stack, "state": state} for stack in self.definition["stacks"]]
        return Run("apply", {**self.definition, "stacks": stacks}, check_mode=False).execute()


@pytest.fixture(scope="module")
def stacks(scratch: Path, given: Input) -> Iterator[Stacks]:
    paths = {writable: scratch / "mounts" / writable for writable in WRITABLE}
    definition = given.definition(scratch / "store", paths, remote_src=True)
    nothing = {"root": definition["root"], "layers": [], "stacks": [], "exclusive": True}
    try:
        yield Stacks(definition, paths, Run("apply", definition, check_mode=False).execute())
        with contextlib.suppress(OSError):
            os.unlink(paths["persistent"] / "note")
    finally:
        Run("apply", nothing, check_mode=False).execute()


# Tests.


def test_input_is_a_real_system(given: Input) -> None:
    entries = members(given.archives[0])
    kinds = {entry.type for entry in entries}
    assert len(entries) > 10_000
    assert {tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE} <= kinds
    assert any(entry.isreg() and entry.mode & stat.S_ISUID for entry in entries)
    assert any(entry.isreg() and entry.mode & stat.S_ISGID for entry in entries)
    assert any(f"SCHILY.xattr.{CAPABILITY}" in entry.pax_headers for entry in entries)


def test_files_that_the_layers_change_exist_in_debian(given: Input) -> None:
    """Names in the sketches are Debian's: should Debian rename one, this says so."""
    debian = {os.path.normpath(entry.name): entry for entry in members(given.archives[0])}
    for name in ("usr/bin/perl", "usr/bin/perlbug", "etc/gai.conf", "etc/motd", "etc/passwd", "etc/issue"):
        assert debian[name].isreg()
    for name in ("usr/share/locale", "etc/apt", "usr/share/doc/base-files", "usr/share/perl5", "usr/share/git-core"):
        assert debian[name].isdir()
        assert any(other.startswith(f"{name}/") for other in debian)
    assert debian["var/run"].issym()
    assert debian["etc/os-release"].issym()
    assert debian["usr/bin/perl5.36.0"].islnk()
    assert debian["usr/bin/perlthanks"].islnk()


def test_expected_tree_holds_every_kind_of_file(given: Input) -> None:
    """The tree that tar made is worth a comparison."""
    tree = given.expected
    assert {facts.kind for facts in tree.values()} == {
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFCHR,
        stat.S_IFBLK,
        stat.S_IFIFO,
    }
    assert tree[b"usr/bin/perl5.36.0"].twins == ()
    assert tree[b"opt/app/links/a"].twins == (b"opt/app/elsewhere/c",)
    assert dict(tree[b"usr/bin/ping"].xattrs)[CAPABILITY]
    assert tree[b"opt/app/bin"].xattrs == ()
    assert dict(tree[b"opt/app/bin/setuid"].xattrs) == {"trusted.origin": b"for root only"}
    assert tree[b"opt/app/spool/many-ids"].owner == (3_000_000, 4_000_000_000)
    assert tree[b"opt/app/sizes/sparse"].mtime_ns == -1_500_000_003
    assert tree[b"opt/app/links/a"].mtime_ns % 1000 != 0
    assert b"opt/app/names/\xff\xfe/inside" in tree
    assert b"opt/app/names/caf\xe9" not in tree
    assert not any(b".wh." in name for name in tree)
    assert [name for name in tree if name.startswith(b"usr/share/doc/base-files/")] == [b"usr/share/doc/base-files/own"]


def test_import_and_mount_are_reported_in_the_result(stacks: Stacks) -> None:
    assert stacks.first["changed"] is True
    assert [step["action"] for step in stacks.first["plan"]].count("import_content") == len(LAYERS)
    assert [stack["state"] for stack in stacks.first["stacks"]] == ["mounted"] * len(WRITABLE)


@pytest.mark.parametrize("writable", WRITABLE)
def test_merged_tree_is_what_tar_unpacks(stacks: Stacks, given: Input, writable: str) -> None:
    assert_same(tree_of(stacks.paths[writable]), given.expected)


def test_second_run_changes_nothing(stacks: Stacks) -> None:
    again = stacks.run()
    assert (again["changed"], again["plan"]) == (False, [])


def test_same_tree_after_unmounting_and_mounting_again(stacks: Stacks, given: Input) -> None:
    notes = {writable: stacks.paths[writable] / "note" for writable in ("persistent", "volatile")}
    for note in notes.values():
        note.write_text("written into the stack")
    assert stacks.run("unmounted")["changed"] is True
    assert [list(path.iterdir()) for path in stacks.paths.values()] == [[], [], []]
    assert stacks.run("unmounted")["changed"] is False
    assert stacks.run()["changed"] is True
    assert {writable: note.exists() for writable, note in notes.items()} == {"persistent": True, "volatile": False}
    notes["persistent"].unlink()
    for path in stacks.paths.values():
        assert_same(tree_of(path), given.expected)
    assert stacks.run()["changed"] is False


def test_read_only_stack_cannot_be_written(stacks: Stacks) -> None:
    with pytest.raises(OSError, match="Read-only file system"):
        (stacks.paths["none"] / "note").write_text("no")


def test_playbook_gives_the_same_tree(scratch: Path, given: Input) -> None:
    """Archives on the controller, through action plugin and module as a user runs them."""
    path = scratch / "by-playbook"
    definition = given.definition(scratch / "other-store", {"none": path})
    assert play(scratch, definition) == 1
    assert_same(tree_of(path), given.expected)
    assert play(scratch, definition) == 0
    assert play(scratch, {"root": definition["root"], "layers": [], "stacks": [], "exclusive": True}) == 1
    assert not mounts_below(path)


def play(scratch: Path, definition: dict[str, Any]) -> int:
    """Run a playbook of one ``apply``; how many tasks changed something."""
    playbook = scratch / "play.json"
    task = {"name": "Bring the host to its definition", "strata.overlay.apply": definition}
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    inventory = scratch / "hosts"
    inventory.write_text(f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    configuration = scratch / "ansible.cfg"
    configuration.touch()
    own = {
        "ANSIBLE_CONFIG": str(configuration),
        "ANSIBLE_FORCE_COLOR": "false",
        "ANSIBLE_HOME": str(scratch / "ansible"),
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_REMOTE_TEMP": str(scratch / "ansible"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
    }
    done = subprocess.run(
        ["ansible-playbook", "-i", inventory, playbook],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    recap = re.search(r"changed=(\d+).* failed=0 ", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert recap, done.stdout + done.stderr
    return int(recap[1])
