# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every archive with which Go and libarchive test their readers gives the tree that bsdtar or GNU tar make of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.tests.integration.corpora import GO, LIBARCHIVE, Corpus, corpus
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root, need_private_namespace

PROGRAMS = {
    "bsdtar": ("bsdtar", "--numeric-owner", "-xpf"),
    "GNU tar": ("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--warning=none", "-xpf"),
}

_COMPRESSION = "Python has nothing to decompress it; told by its first bytes"
_LZMA = "the older form of xz, which is rare and has neither a magic number nor a checksum"
_GARBAGE = "what follows the compressed data may be a second part that was damaged; both programs warn or fail"

REFUSED: dict[str, tuple[str, str]] = {
    "pax-bad-mtime-file.tar": (
        "is not a time in seconds",
        "the header is damaged; the programs take a part of the number",
    ),
    "pax-nul-path.tar": ("a name holds a zero byte", "the programs cut the name there, so two readers see two names"),
    "pax-path-hdr.tar": ("the archive is cut short", "it announces an entry and ends; bsdtar fails too"),
    "test_acl_pax_posix1e.tar": (
        "its access list has no mask",
        "no Linux can set it; bsdtar fails too, GNU tar drops it",
    ),
    "test_compat_bzip2_2.tbz": ("its bzip2 data is not valid", _GARBAGE),
    "test_compat_gzip_2.tgz": ("its gzip data is not valid", _GARBAGE),
    **{
        f"test_compat_lz4_{name}.tar.lz4": ("it is compressed by lz4", _COMPRESSION)
        for name in ("1", "2", "3", "B4", "B4BD", "B4BDBX", "B5", "B5BD", "B6", "B6BD", "B7", "B7BD")
    },
    "test_compat_lzip_1.tlz": ("it is compressed by lzip", _COMPRESSION),
    "test_compat_lzip_2.tlz": ("it is compressed by lzip", _COMPRESSION),
    "test_compat_lzma_1.tlz": ("it is compressed by lzma", _LZMA),
    "test_compat_lzma_2.tlz": ("the archive is cut short", _LZMA),
    "test_compat_lzma_3.tlz": ("it is compressed by lzma", _LZMA),
    "test_compat_plexus_archiver_tar.tar": (
        "after the end-of-archive marker",
        "only one block of zeros, then other bytes: where the archive ends is anybody's guess",
    ),
    "test_compat_solaris_tar_acl.tar": ("in the form of Solaris", "left out, more users could read the files"),
    "test_compat_star_acl_posix1e.tar": ("names user 'user77' without a number", "names mean other users elsewhere"),
    "test_read_format_gtar_sparse_1_17_posix10_modified.tar": (
        "is not a decimal number",
        "its sparse map is in a form that GNU tar refuses too",
    ),
    "test_read_format_gtar_sparse_skip_entry.tar": (
        "its sparse map and its stored size contradict each other",
        "GNU tar refuses it too; bsdtar writes 10 GiB",
    ),
    "test_read_format_tar_empty_filename.tar": ("its name is empty", "bsdtar refuses it too"),
}
"""Archives that are refused though bsdtar or GNU tar make a tree of them: a part of the error, and the reason."""

OTHERWISE: dict[str, str] = {
    "pax-global-records.tar": "POSIX: global records hold for all entries; bsdtar ignores them, GNU tar fails",
}
"""Archives that give another tree than bsdtar and GNU tar, and the reason."""

STRICT = ("without an end-of-archive marker", "after the end-of-archive marker")
"""Of what is refused in an archive on its own: it may have been cut. With its digest it is taken (docs/images.md)."""

Tree = dict[str, tuple[Any, ...]]


def tree_of(top: Path, began: float) -> Tree:
    """What lies below; times from ``began`` on are those of directories that are not in the archive."""
    found: Tree = {}
    for path in sorted(top.rglob("*")):
        facts = path.lstat()
        kind = stat.S_IFMT(facts.st_mode)
        more: Any = ""
        if stat.S_ISREG(kind):
            holes_only = facts.st_size > 1 << 24
            more = facts.st_size, "" if holes_only else hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(kind):
            more = os.readlink(path)
        elif stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            more = facts.st_rdev
        names = os.listxattr(path, follow_symlinks=False)
        attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        mtime = int(facts.st_mtime) if facts.st_mtime < began else "now"
        owner = facts.st_uid, facts.st_gid
        found[str(path.relative_to(top))] = (
            oct(facts.st_mode),
            *owner,
            mtime,
            facts.st_nlink if stat.S_ISREG(kind) else 0,
            more,
            attributes,
        )
    return found


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    need_full_root("unpacks archives with owners and devices")
    need_private_namespace()
    top = tmp_path_factory.mktemp("memory")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=25%", "tmpfs", top], check=True)
    try:
        yield top
    finally:
        subprocess.run(["umount", "-l", top], check=True)


def ours(host: Host, archive: Path, began: float, **options: Any) -> Tree:
    try:
        done = host.run("layer", name="x", src=str(archive), remote_src=True, **options)
        return tree_of(Path(host.store.content(done["diff_ids"][0])), began)
    finally:
        shutil.rmtree(host.top)
        host.top.mkdir()


def attempt(host: Host, archive: Path, began: float) -> tuple[Tree | None, str]:
    """The tree, or why there is none. What alone may have been cut is tried with its digest."""
    try:
        return ours(host, archive, began), ""
    except StrataError as error:
        if not any(words in str(error) for words in STRICT) or archive.suffix != ".tar":
            return None, str(error)
    try:
        digest = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
        return ours(host, archive, began, digest=digest), ""
    except StrataError as error:
        return None, str(error)


def theirs(program: tuple[str, ...], archive: Path, top: Path, began: float) -> tuple[Tree, str]:
    top.mkdir()
    try:
        done = subprocess.run([*program, archive, "-C", top], stderr=subprocess.PIPE, text=True, check=False)
        return tree_of(top, began), done.stderr if done.returncode else ""
    finally:
        shutil.rmtree(top)


def differences(memory: Path, archives: dict[str, Path]) -> dict[str, str]:
    """What comes out otherwise than by either program, by the archive's name."""
    host = Host(memory / "host")
    host.top.mkdir(exist_ok=True)
    found = {}
    for name, archive in archives.items():
        began = int(time.time())
        tree, error = attempt(host, archive, began)
        if tree is None and name in REFUSED:
            found[name] = error
            continue
        answers = [theirs(program, archive, memory / "out", began) for program in PROGRAMS.values()]
        if tree is None:
            if not all(refusal for _tree, refusal in answers):  # one of them takes it, and nothing is wrong
                found[name] = error
        elif tree not in [taken for taken, _refusal in answers]:
            found[name] = "another tree"
    return found


@pytest.mark.parametrize("wanted", [GO, LIBARCHIVE], ids=lambda wanted: wanted.name)
def test_archives_of_other_readers_give_the_trees_that_they_give(memory: Path, wanted: Corpus) -> None:
    try:
        archives = corpus(wanted)
    except UnavailableError as error:
        pytest.skip(str(error))
    found = differences(memory, archives)
    unexpected = {
        name: words
        for name, words in found.items()
        if not (name in REFUSED and REFUSED[name][0] in words) and not (name in OTHERWISE and words == "another tree")
    }
    assert not unexpected
    tables = {name for name in (*REFUSED, *OTHERWISE) if name in archives}
    assert tables <= set(found), "no difference any more: remove it from the tables"
    assert len(archives) > 40
