# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three layers full of what overlays stumble over, and random scripts of changes to the tree that they make."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root
from hypothesis import strategies

NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""struct vfs_cap_data, version 2: cap_net_raw, permitted and effective (linux/capability.h)."""

TIMES = (1_600_000_000_000_000_000, 1_600_000_000_500_000_000, 1_600_000_001_000_000_000)
"""The first two are one and the same where an archive has no fractions of seconds; the layers have the first."""

_TOPS = ("a", "b", "c", "only", "over", "new")
_NAMES = ("file", "run", "deep", "gone", "sub", "link", "fresh")
_THERE = (
    *("a", "a/deep", "a/deep/sub", "a/deep/sub/fresh", "a/file", "a/hard", "a/link", "a/run"),
    *("b", "b/fifo", "b/file", "b/file/file", "b/gone", "b/null", "b/sub", "b/sub/run", "c", "c/file", "c/gone"),
    *("c/link", "only", "only/file", "only/run", "over", "over/deep", "over/deep/file", "over/gone", "over/sub"),
)
"""Where there is something; what else the layers have is hidden: b/sub/file, a/deep/gone, c/deep."""


def _member(name: str, **facts: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mtime = TIMES[0] // 10**9
    member.mode = 0o755
    for key, value in facts.items():
        setattr(member, key, value)
    return member


def _directory(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    return _member(name, type=tarfile.DIRTYPE, mode=mode)


def _tar(*members: tarfile.TarInfo) -> bytes:
    """Every file holds its own name, cut or filled up to its size."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            data = (member.name.encode() * (member.size + 1))[: member.size]
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def layer_tars() -> list[bytes]:
    """The three layers, bottom first: whiteouts, opaque directories and replaced types among them."""
    capable = {"pax_headers": {"SCHILY.xattr.security.capability": NET_RAW.decode("latin-1")}}
    noted = {"pax_headers": {"SCHILY.xattr.user.note": "below"}}
    base = [_directory(name) for name in ("a", "a/deep", "a/deep/sub", "b", "b/sub", "c", "c/deep", "only", "over")]
    base += [_member(f"{name}/file", size=20, mode=0o644) for name in ("a", "a/deep", "a/deep/sub", "b", "b/sub", "c")]
    base += [_member(f"{name}/gone", size=3) for name in ("a", "b", "c", "c/deep", "only", "over")]
    base += [_member("only/run", size=9, **capable), _member("only/file", size=9, **noted)]
    base += [_member("a/link", type=tarfile.SYMTYPE, linkname="file"), _member("b/fifo", type=tarfile.FIFOTYPE)]
    base += [_member("c/link", type=tarfile.SYMTYPE, linkname="/a"), _member("over/sub", size=7, uid=7, gid=8)]
    base += [_member("a/hard", type=tarfile.LNKTYPE, linkname="a/file", mode=0o644)]
    middle = [_member("a/.wh.gone"), _directory("b/sub", 0o700), _member("b/sub/.wh..wh..opq"), _member("b/sub/run")]
    middle += [_directory("over"), _member("over/.wh.sub"), _directory("over/deep"), _member("over/deep/file", size=5)]
    middle += [_directory("c/deep", 0o711), _member("c/deep/run", size=11), _member("b/.wh.file")]
    top = [_member("c/.wh.deep"), _directory("over/sub"), _member("over/sub/file", size=2), _member("a/run", size=4)]
    top += [_directory("b/file"), _member("b/file/file", size=1), _directory("a/deep"), _member("a/deep/.wh..wh..opq")]
    top += [
        _directory("a/deep/sub", 0o750),
        _member("a/deep/sub/fresh", size=6),
        _member("b/null", type=tarfile.CHRTYPE),
    ]
    top[-1].devmajor, top[-1].devminor = 1, 3
    return [_tar(*base), _tar(*middle), _tar(*top)]


@dataclass(frozen=True)
class Change:
    """One change, to a path; ``other`` is a second path, ``number`` what else the change needs."""

    verb: str
    path: str
    other: str
    number: int


VERBS = (
    *("create", "write", "append", "truncate", "rewrite", "chmod", "chmod_same", "chown", "chown_same", "utime"),
    *(
        "rename",
        "remove",
        "clear",
        "mkdir",
        "replace_by_file",
        "replace_by_directory",
        "replace_by_link",
        "refill",
        "renew",
    ),
    *("symlink", "link", "fifo", "device", "note", "unnote", "capable", "uncapable", "read"),
)

_anywhere = strategies.lists(strategies.sampled_from(_NAMES), min_size=1, max_size=2).flatmap(
    lambda rest: strategies.sampled_from(_TOPS).map(lambda top: "/".join([top, *rest]))
)
_paths = strategies.sampled_from(_THERE) | strategies.sampled_from(_THERE) | _anywhere

scripts = strategies.lists(
    strategies.builds(Change, strategies.sampled_from(VERBS), _paths, _paths, strategies.integers(0, 7)),
    min_size=1,
    max_size=14,
)


def tar_layers(directory: Path) -> list[dict[str, object]]:
    """The three layers as definitions of them, bottom first: ``layer0`` and so on, of archives in a directory."""
    need_full_root("has no such owners")
    layers: list[dict[str, object]] = []
    for number, data in enumerate(layer_tars()):
        path = directory / f"layer{number}.tar"
        path.write_bytes(data)
        layers.append({"name": f"layer{number}", "src": str(path), "remote_src": True})
    return layers


def run_script(top: Path, script: list[Change]) -> None:
    """Make the changes in a tree. What cannot be done (there is no such file, say) is left, in every tree alike."""
    for change in script:
        with contextlib.suppress(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
            try:
                _Changer(top / change.path, top / change.other, change.number).run(change.verb)
            except (OSError, shutil.Error) as error:
                if getattr(error, "errno", None) not in (errno.EINVAL, errno.ELOOP, errno.EPERM, errno.ENOTEMPTY):
                    raise


class _Changer:
    """The first file is never a link's target: links that lead out of the tree are not followed."""

    def __init__(self, path: Path, other: Path, number: int) -> None:
        self._path = path
        self._other = other
        self._number = number

    def run(self, verb: str) -> None:
        getattr(self, f"_{verb}")()

    def _open(self, flags: int) -> int:
        return os.open(self._path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)

    def _put(self, flags: int, data: bytes) -> None:
        if self._path.is_file() or not os.path.lexists(self._path):
            descriptor = self._open(flags | os.O_WRONLY)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def _create(self) -> None:
        self._put(os.O_CREAT | os.O_EXCL, b"created")

    def _write(self) -> None:
        self._put(os.O_CREAT | os.O_TRUNC, b"x" * self._number)

    def _append(self) -> None:
        self._put(os.O_APPEND, b"more")

    def _truncate(self) -> None:
        self._put(os.O_TRUNC, b"")

    def _rewrite(self) -> None:
        """Other bytes, and everything else as it was: no change to Docker."""
        facts = self._path.lstat()
        self._put(0, b"!")
        os.utime(self._path, ns=(facts.st_atime_ns, facts.st_mtime_ns), follow_symlinks=False)

    def _chmod(self) -> None:
        self._set_mode((0o600, 0o755, 0o4755, 0o1777, 0o644, 0o700, 0o2750, 0)[self._number])

    def _chmod_same(self) -> None:
        self._set_mode(stat.S_IMODE(self._path.lstat().st_mode))

    def _set_mode(self, mode: int) -> None:
        if not self._path.is_symlink():
            self._path.chmod(mode)

    def _chown(self) -> None:
        os.chown(self._path, self._number, 3_000_000 + self._number, follow_symlinks=False)

    def _chown_same(self) -> None:
        facts = self._path.lstat()
        os.chown(self._path, facts.st_uid, facts.st_gid, follow_symlinks=False)

    def _utime(self) -> None:
        moment = TIMES[self._number % len(TIMES)]
        os.utime(self._path, ns=(moment, moment), follow_symlinks=False)

    def _rename(self) -> None:
        try:
            self._path.rename(self._other)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # A directory of a lower layer: what mv(1) does then.
            if not os.path.lexists(self._other):
                subprocess.run(["cp", "--archive", self._path, self._other], check=True)
                shutil.rmtree(self._path)

    def _remove(self) -> None:
        if self._path.is_dir() and not self._path.is_symlink():
            shutil.rmtree(self._path)
        else:
            self._path.unlink()

    def _clear(self) -> None:
        """Everything in a directory goes, and it stays."""
        for name in os.listdir(self._path):
            _Changer(self._path / name, self._other, 0)._remove()

    def _mkdir(self) -> None:
        self._path.mkdir()

    def _replace_by_file(self) -> None:
        self._remove()
        self._create()

    def _replace_by_directory(self) -> None:
        self._remove()
        self._mkdir()

    def _replace_by_link(self) -> None:
        self._remove()
        self._symlink()

    def _refill(self) -> None:
        """A directory made anew, with one of the names that it had: an opaque one with something in it."""
        names = sorted(os.listdir(self._path))
        self._replace_by_directory()
        for name in names[: self._number]:
            (self._path / name).write_text(name)

    def _renew(self) -> None:
        """A directory made anew with all the directories that were in it, and none of the files."""
        inside = [Path(directory) for directory, _directories, _files in os.walk(self._path)]
        self._remove()
        for directory in inside:
            directory.mkdir()
        if self._number % 2:
            (self._path / "file").write_text("new")

    def _symlink(self) -> None:
        os.symlink("file" if self._number % 2 else "../b", self._path)

    def _link(self) -> None:
        os.link(self._path, self._other, follow_symlinks=False)

    def _fifo(self) -> None:
        os.mkfifo(self._path)

    def _device(self) -> None:
        os.mknod(self._path, stat.S_IFCHR | 0o600, os.makedev(1, 3 + self._number))

    def _note(self) -> None:
        if not self._path.is_symlink():
            os.setxattr(self._path, "user.note", b"%d" % self._number)

    def _unnote(self) -> None:
        self._remove_attribute("user.note")

    def _capable(self) -> None:
        if self._path.is_file() and not self._path.is_symlink():
            os.setxattr(self._path, "security.capability", NET_RAW)

    def _uncapable(self) -> None:
        self._remove_attribute("security.capability")

    def _remove_attribute(self, name: str) -> None:
        try:
            os.removexattr(self._path, name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EPERM):
                raise

    def _read(self) -> None:
        """Reading changes nothing."""
        if self._path.is_dir():
            os.listdir(self._path)
        elif self._path.is_file():
            self._path.read_bytes()
