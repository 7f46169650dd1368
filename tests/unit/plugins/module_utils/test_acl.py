# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access lists: archives of GNU tar and bsdtar against what those programs unpack, hostile ones, and none inherited."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, TarReader
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import directory, member, pax, symlink
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack import facts

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"


def attribute(archive: bytes, name: str = ACCESS) -> str | None:
    (entry,) = TarReader(io.BytesIO(archive + END).read)
    return entry.xattrs[name].hex() if name in entry.xattrs else None


def listed(text: bytes, key: bytes = b"SCHILY.acl.access") -> bytes:
    return pax((key, text)) + member(b"f", b"x")


THREE = "0100 0600 ffffffff 0400 0400 ffffffff 2000 0000 ffffffff"
NAMED = (
    "0100 0600 ffffffff 0200 0700 05000000 0200 0400 39300000 0400 0400 ffffffff 1000 0700 ffffffff 2000 0000 ffffffff"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"user::rw-\ngroup::r--\nother::---\n", THREE),
        (b"u::rw,g::r,o::-", THREE),
        (b"other:---,group::r--,user::wr-", THREE),
        (b"user::rw-,group::r--,other::---,user:12345:r--,user:daemon:rwx:5,mask::rwx", NAMED),
        (b"user::rw-\nuser:5:rwx\t#effective:r--\nuser:12345:r--\ngroup::r--\nmask:rwx\nother::---", NAMED),
        (
            b"user::rw-,group::r--,other::---,mask::r,user:root:r,group:root:r",
            THREE[:19] + "0200 0400 00000000 0400 0400 ffffffff 0800 0400 00000000 1000 0400 ffffffff" + THREE[-19:],
        ),
        (b"default:user::rw-,default:group::r--,d:other::---", THREE),
        (b"user::rw-,group::r--,other::---,user:\xff:rwx:5,user::r--:,user:12345:r--,mask::rwx", None),
    ],
)
def test_textual_access_list_becomes_its_xattr_or_is_refused(text: bytes, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(StrataError):
            attribute(listed(text))
    else:
        assert attribute(listed(text)) == "02000000" + expected.replace(" ", "")


BAD = {
    "nonsense": b"nonsense",
    "no owner": b"group::r--,other::---",
    "two owners": b"user::rw-,user::r--,group::r--,other::---",
    "no mask": b"user::rw-,user:5:rwx,group::r--,other::---",
    "two masks": b"user::rw-,user:5:rwx,group::r--,other::---,mask::r,mask::w",
    "one user twice": b"user::rw-,user:5:rwx,user:x:r:5,group::r--,other::---,mask::r",
    "id out of range": b"user::rw-,user:4294967295:rwx,group::r--,other::---,mask::r",
    "negative id": b"user::rw-,user:x:rwx:-1,group::r--,other::---,mask::r",
    "permission that is none": b"user::rwz,group::r--,other::---",
    "mask of a user": b"user::rw-,group::r--,other::---,mask:5:rwx",
    "too many fields": b"user::rw-,group::r--,other::---,user:5:rwx:5:5,mask::rwx",
    "an entry of nothing": b":::",
    "an access list of NFS": b"owner@:rwxpdDaARWcCos:fd:allow",
    "more than an attribute holds": b"user::rw-,group::r--,other::---,mask::rwx"
    + b"".join(b",user:%d:r" % n for n in range(9000)),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_access_list_is_refused(name: str) -> None:
    with pytest.raises(StrataError, match="'f'.*access list"):
        attribute(listed(BAD[name]))


def test_access_list_name_without_id_is_refused_unless_xattr_is_given() -> None:
    text = b"user::rw-,group:adm:r-x,group::r--,other::---,mask::rwx"
    with pytest.raises(StrataError, match="entry 'f': its access list names group 'adm' without a number"):
        attribute(listed(text))
    numbers = pax((b"SCHILY.acl.access", text), (b"SCHILY.xattr.system.posix_acl_access", b"numbers"))
    assert attribute(numbers + member(b"f")) == b"numbers".hex()


def test_symlink_and_empty_text_have_no_access_list() -> None:
    assert attribute(pax((b"SCHILY.acl.access", b"nonsense")) + symlink(b"l", b"f")) is None
    assert attribute(listed(b"")) is None


def test_access_list_in_a_global_header_is_refused() -> None:
    with pytest.raises(StrataError, match="for all entries"):
        attribute(pax((b"SCHILY.acl.default", b"user::rwx"), flag=b"g") + member(b"f"))


needs_programs = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("tar", "bsdtar", "setfacl"))),
    reason="needs root and the Debian packages acl and libarchive-tools",
)


def run(*command: object, **options: object) -> bytes:
    return subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True, **options).stdout  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """Access lists of every kind, made by setfacl(1): on files and directories, handed on, of ids and of names."""
    top = tmp_path / "tree"
    (top / "d" / "below").mkdir(parents=True)
    (top / "file").write_text("x")
    (top / "d" / "before").write_text("made before there was a default list")
    run("setfacl", "-m", "u:12345:rwx,g:54321:x,m:r", top / "file")
    run("setfacl", "-m", "u:61001:rx", top / "d")
    run("setfacl", "-d", "-m", "u:777:rwx,g:778:r,m:rwx", top / "d")
    (top / "d" / "after").write_text("with a list that it got from its directory")
    (top / "d" / "inner").mkdir()
    (top / "d" / "inner" / "deep").write_text("x")
    (top / "closed").mkdir()
    (top / "closed" / "file").write_text("x")
    (top / "closed").chmod(0o2050)
    run("setfacl", "-m", "g:0:-", top / "closed")
    os.mkfifo(top / "fifo")
    run("setfacl", "-m", "u:5005:rw", top / "fifo")
    (top / "suid").write_text("x")
    (top / "suid").chmod(0o6755)
    run("setfacl", "-m", "u:5005:rwx", top / "suid")
    for path in [top, *top.rglob("*")]:
        os.utime(path, ns=(0, 10**18))
    yield top
    remove_tree(str(top))


def oracle(tmp_path: Path, command: list[object], archive: bytes) -> dict[bytes, tuple[object, ...]]:
    """What another program makes of the archive; a directory without any access list above it."""
    (tmp_path / "oracle").mkdir()
    run(*command, "-C", tmp_path / "oracle", "-xpf", "-", input=archive)
    found = facts(tmp_path / "oracle")
    remove_tree(str(tmp_path / "oracle"))
    return found


PACKED = {
    "GNU tar, words": ["tar", "--acls", "--format=posix", "--numeric-owner"],
    "GNU tar, attributes": ["tar", "--xattrs", "--xattrs-include=*", "--format=posix"],
    "GNU tar, both": ["tar", "--acls", "--xattrs", "--xattrs-include=*", "--format=posix"],
    "bsdtar": ["bsdtar", "--acls", "--format=pax"],
}
UNPACKED: dict[str, list[list[object]]] = {
    "GNU tar, words": [["tar", "--acls", "--numeric-owner"]],
    "GNU tar, attributes": [["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner"]],
    "GNU tar, both": [["tar", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"]],
    "bsdtar": [["tar", "--acls", "--numeric-owner"], ["bsdtar", "--acls", "--numeric-owner"]],
}
"""The programs that make the same of the archive, each with the options for it."""


@needs_programs
@pytest.mark.parametrize("packer", PACKED)
@pytest.mark.parametrize("order", ["", "reversed"])
def test_unpacked_tree_equals_what_tar_and_bsdtar_unpack(tmp_path: Path, tree: Path, packer: str, order: str) -> None:
    names = sorted(path.relative_to(tree) for path in tree.rglob("*"))
    names = names[::-1] if order else names
    recursion = "-n" if packer == "bsdtar" else "--no-recursion"
    archive = run(*PACKED[packer], recursion, "-C", tree, "-cf", "-", *names)
    inheriting = tmp_path / "inheriting"
    inheriting.mkdir()
    run("setfacl", "-m", "u:999:rwx", "-d", "-m", "u:999:rwx,g:999:rwx", inheriting)
    inheriting.chmod(0o2777)
    top = inheriting / "top"
    top.mkdir()
    unpack(io.BytesIO(archive).read, str(top), False)
    found = facts(top)
    assert run("getfacl", "-pncR", ".", cwd=top) == run("getfacl", "-pncR", ".", cwd=tree)
    remove_tree(str(top))
    wanted = [facts(tree)] + [oracle(tmp_path, command, archive) for command in UNPACKED[packer] if not order]
    for one in wanted:
        assert {path: one[path] for path in one if path} == {path: found[path] for path in found if path}


@needs_programs
def test_access_list_name_known_to_this_host_is_refused_without_id(tmp_path: Path) -> None:
    """User and group daemon are 1 on every Debian; GNU tar writes their names only, bsdtar their number too."""
    (tmp_path / "f").write_text("x")
    run("setfacl", "-m", "u:1:rwx", tmp_path / "f")
    (tmp_path / "top").mkdir()
    words = run("tar", "--acls", "--numeric-owner", "-C", tmp_path, "-cf", "-", "f")
    with pytest.raises(StrataError, match="entry 'f': its access list names user 'daemon' without a number"):
        unpack(io.BytesIO(words).read, str(tmp_path / "top"), False)
    numbers = run("bsdtar", "--acls", "-C", tmp_path, "-cf", "-", "f")
    unpack(io.BytesIO(numbers).read, str(tmp_path / "top"), False)
    assert b"user:1:rwx" in run("getfacl", "-pn", tmp_path / "top" / "f")


@needs_programs
def test_unpacked_tree_inherits_no_access_list_or_group_from_its_parent(tmp_path: Path) -> None:
    """A store may lie where setfacl -d or chmod g+s says what new files get; a layer is the same everywhere."""
    os.chown(tmp_path, 0, 54321)
    tmp_path.chmod(0o2755)
    run("setfacl", "-d", "-m", "u:12345:rwx", tmp_path)
    (tmp_path / "top").mkdir()
    archive = member(b"implied/plain", b"x") + member(b"owned", b"x", uid=5) + directory(b"d") + member(b"d/f", b"x")
    archive += member(b"pipe", kind="fifo") + directory(b"e") + member(b".wh.gone") + member(b"o/.wh..wh..opq") + END
    unpack(io.BytesIO(archive).read, str(tmp_path / "top"), False)
    for path, known in facts(tmp_path / "top").items():
        assert not {ACCESS, DEFAULT} & set(known[-1]), path  # type: ignore[call-overload]
        assert known[1] == ((5, 0) if path == b"owned" else (0, 0)), path
        mode = "0o40755" if path in (b"", b"d", b"e", b"o", b"implied") else None
        assert mode is None or known[0] == mode, path
    assert oct((tmp_path / "top/implied/plain").stat().st_mode) == "0o100644"
