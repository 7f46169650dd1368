# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zip archives as sources of layers: the tree is that of Info-ZIP's unzip, but for a table of accepted differences."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import Selection
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest, unpack
from ansible_collections.strata.overlay.plugins.module_utils._source.source import open_tar
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_selection import tree

needs_unzip = pytest.mark.skipif(not (shutil.which("unzip") and shutil.which("zip")), reason="Info-ZIP is not here")


def member(name: str, mode: int = 0o100644, system: int = 3, **values: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (2021, 5, 6, 7, 8, 10))
    info.create_system = system
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    for key, value in values.items():
        setattr(info, key, value)
    return info


def write(path: Path, *members: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members:
            archive.writestr(info, content)
    return path


def tar_of(path: Path, **source: Any) -> bytes:
    with open_tar(Source("src", str(path))._replace(**source)) as read:
        return b"".join(iter(lambda: read(1 << 20), b""))


def unpacked(path: Path, top: Path, **source: Any) -> dict[str, tuple[Any, ...]]:
    """The tree of the layer that an archive becomes."""
    top.mkdir()
    with open_tar(Source("src", str(path))._replace(**source)) as read:
        unpack(read, str(top), False)
    return tree(top)


def entries(path: Path, **source: Any) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar_of(path, **source))) as archive:
        return archive.getmembers()


def unzipped(path: Path, top: Path) -> dict[str, tuple[Any, ...]]:
    """The tree that unzip makes, on a host whose clocks show UTC."""
    top.mkdir()
    environment = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    command = ["unzip", "-qo", str(path), "-d", str(top)]
    status = subprocess.run(command, check=False, umask=0o022, env=environment, capture_output=True).returncode
    assert status in (0, 1)  # 1: it warned of an absolute name or of backslashes
    return tree(top)


@needs_unzip
def test_tree_of_an_archive_of_info_zip_equals_that_of_unzip(tmp_path: Path) -> None:
    top = tmp_path / "from"
    (top / "empty").mkdir(parents=True)
    (top / "dir").mkdir(mode=0o750)
    (top / "dir/file").write_text("file" * 5000)
    (top / "dir/run").write_text("#!/bin/sh\n")
    (top / "dir/run").chmod(0o755)
    (top / "dir/ünï").write_text("u")
    (top / "dir/suid").write_text("s")
    (top / "dir/suid").chmod(0o4711)
    (top / "link").symlink_to("dir/run")
    (top / "-rf").touch()
    os.utime(top / "dir/file", (1_500_000_001, 1_500_000_001))
    subprocess.run(["zip", "-qry", str(tmp_path / "a.zip"), "."], check=True, cwd=top)
    expected = unzipped(tmp_path / "a.zip", tmp_path / "expected")
    assert unpacked(tmp_path / "a.zip", tmp_path / "found") == expected
    assert set(expected) == {"-rf", "dir", "dir/file", "dir/run", "dir/suid", "dir/ünï", "empty", "link"}


@needs_unzip
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_tree_of_an_archive_of_python_equals_that_of_unzip(tmp_path: Path, method: int) -> None:
    path = tmp_path / "app-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(member("app/__init__.py", compress_type=method), "x = 1\n" * 1000)
        archive.writestr(member("app/again", compress_type=method), "first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(member("app/again", 0o100600, compress_type=method), "second")
        archive.writestr(member("./dos//readonly", 0, 0, external_attr=1), "r")
        archive.writestr(member("dos/dir/", 0, 0, external_attr=0x10), "")
        archive.writestr(member("/absolute", compress_type=method), "a")
    assert unpacked(path, tmp_path / "found") == unzipped(path, tmp_path / "expected")


ACCEPTED = {
    "mode of an executable that was packed on Windows": (member("x", 0o100755, 0), 0o755, 0o644),
    "mode of a file that was packed on a Mac": (member("x", 0o100640, 19), 0o640, 0o644),
    "member of Unix without any mode": (member("x", 0), 0o644, 0),
}
"""Differences from unzip: the member, the mode here, the mode that unzip gives. The first two as
pip has it, which installs wheels that were built there; the third since nobody means a file that nobody may read."""


@needs_unzip
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_difference_from_unzip_is_as_the_table_says(tmp_path: Path, case: str) -> None:
    info, here, there = ACCEPTED[case]
    path = write(tmp_path / "a.zip", (info, b"x"))
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 0o600 << 16), bytes(4)))  # Python gives it a mode
    assert entries(path)[0].mode == here
    assert unzipped(path, tmp_path / "expected")["x"][0] & 0o7777 == there


def test_same_archive_is_the_same_layer_in_any_zone_and_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.zip", (member("b"), b"1"), (member("a/"), b""), (member("a/c"), b"2"))
    first = tar_of(path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    before = os.umask(0o077)
    try:
        assert tar_of(path) == first
    finally:
        os.umask(before)
    assert hashlib.sha256(first).hexdigest() == ("678f821c8a838f76f71dbaa62296183914224e8ba6dca4f022c9a1e1956087c2")
    assert [item.name for item in entries(path)] == ["b", "a", "a/c"]
    assert [item.mtime for item in entries(path)] == [1620284890] * 3


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (struct.pack("<HHBi", 0x5455, 5, 1, 1_600_000_001), 1_600_000_001),
        (struct.pack("<HHii", 0x5855, 8, 5, 1_600_000_003), 1_600_000_003),
        (struct.pack("<HHBi", 0x5455, 5, 2, 1_600_000_001), 1620284890),
        (struct.pack("<HHBi", 0x5455, 5, 1, -5), -5),
    ],
    ids=["extended", "old", "only access", "before 1970"],
)
def test_time_is_that_of_the_extra_field(tmp_path: Path, extra: bytes, expected: int) -> None:
    assert entries(write(tmp_path / "a.zip", (member("a", extra=extra), b"")))[0].mtime == expected


def test_time_that_no_calendar_has_is_1980(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", (member("a"), b""))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<H", (41 << 9) | (5 << 5) | 6), bytes(2)))
    assert entries(path)[0].mtime == 315532800


def renamed(path: Path, old: bytes, new: bytes, flags: int = 0) -> Path:
    """The archive with other bytes for a name, and flags of all members."""
    data = path.read_bytes().replace(old, new)
    for start, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        where = data.index(start)
        data = data[: where + at] + struct.pack("<H", flags) + data[where + at + 2 :]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("raw", "system", "flags", "expected"),
    [
        ("ünï".encode(), 3, 0, "ünï".encode()),
        ("ünï".encode(), 0, 0, "ünï".encode()),
        ("ünï".encode(), 0, 1 << 11, "ünï".encode()),
        (b"\x81n\x8b__", 0, 0, "ünï__".encode()),
        (b"\x81n\x8b__", 3, 0, b"\x81n\x8b__"),
        (b"a\\b\\c", 0, 0, b"a/b/c"),
        (b"a\\b\\c", 3, 0, b"a\\b\\c"),
    ],
    ids=["unix", "dos, utf-8", "flag", "code page 437", "unix, not utf-8", "backslashes", "backslashes of unix"],
)
def test_name_is_what_its_system_meant(tmp_path: Path, raw: bytes, system: int, flags: int, expected: bytes) -> None:
    path = renamed(write(tmp_path / "a.zip", (member("NNNNN", system=system), b"")), b"NNNNN", raw, flags)
    assert os.fsencode(entries(path)[0].name) == expected


def test_unicode_name_of_an_extra_field_is_taken_where_it_is_of_this_name(tmp_path: Path) -> None:
    for checked, expected in ((b"name", "ünï"), (b"other", "name")):
        field = struct.pack("<BI", 1, zlib.crc32(checked)) + "ünï".encode()
        extra = struct.pack("<HH", 0x7075, len(field)) + field
        assert entries(write(tmp_path / "a.zip", (member("name", extra=extra), b"")))[0].name == expected


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([(member("../x"), b"")], r"entry '\.\./x': a name with '\.\.' could lead out of the layer and is refused"),
        ([(member("a/../../x"), b"")], r"could lead out"),
        ([(member("x", 0o020644), b"")], "neither a file, a directory nor a symbolic link"),
        ([(member("x", 0o120777), b"t" * 5000)], "a symbolic link to more than 4095 bytes"),
        ([(member("x", 0o120777), b"a\0b")], "a symbolic link holds a zero byte"),
        ([(member("x", 0o120777), b"")], "a symbolic link to nothing"),
    ],
    ids=["slip", "deep slip", "device", "long link", "zero byte", "empty link"],
)
def test_member_that_no_tar_may_have_either_is_refused(
    tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]], words: str
) -> None:
    source = Source("src", str(write(tmp_path / "a.zip", *members)))
    with open_tar(source) as read, pytest.raises(StrataError, match=words):
        digest(read)


def test_link_in_an_archive_leads_nothing_out_of_the_layer(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    link = (member("d", 0o120777), str(tmp_path / "outside").encode())
    path = write(tmp_path / "a.zip", link, (member("d/file"), b"x"))
    with contextlib.suppress(StrataError):
        unpacked(path, tmp_path / "found")
    assert list((tmp_path / "outside").iterdir()) == []


@needs_unzip
def test_encrypted_member_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    subprocess.run(["zip", "-qP", "word", "a.zip", "secret"], check=True, cwd=tmp_path)
    with pytest.raises(StrataError, match="entry 'secret': it is encrypted"):
        tar_of(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(entries=3), "more entries than the limit of 3; .*'limits.entries'"),
        (Limits(bytes=90_000), "has more than the limit of 90000; .*'limits.bytes'"),
        (Limits(depth=2), "it lies 3 directories deep"),
        (Limits(memory=2000), "takes more memory than the limit of 2000; .*'limits.memory'"),
    ],
    ids=["entries", "bytes", "depth", "memory"],
)
def test_archive_beyond_a_limit_is_refused(tmp_path: Path, limits: Limits, words: str) -> None:
    members = [(member(f"a/b/{number}"), bytes(20_000)) for number in range(5)]
    with pytest.raises(StrataError, match=words):
        tar_of(write(tmp_path / "a.zip", *members), limits=limits)


def damaged(data: bytes, how: str) -> bytes:
    if how == "cut short":
        return data[:-30]
    if how == "another byte":
        at = data.index(b"0123456789")
        return data[:at] + b"X" + data[at + 1 :]
    if how == "method":
        return data.replace(struct.pack("<HH", 20, 0) + struct.pack("<H", 0), struct.pack("<HHH", 20, 0, 77))
    if how == "size":
        return data.replace(struct.pack("<II", 1000, 1000), struct.pack("<II", 1000, 1001))
    assert how == "place"
    return data.replace(b"PK\5\6", b"PK\1\2PK\5\6", 1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut short", "damaged or cut short"),
        ("another byte", "entry 'a': the zip archive is damaged: Bad CRC-32"),
        ("method", "entry 'a': .*not supported.*pack it with deflate"),
        ("size", "entry 'a': the zip archive is damaged"),
        ("place", "damaged"),
    ],
)
def test_damaged_archive_is_refused(tmp_path: Path, how: str, words: str) -> None:
    path = write(tmp_path / "a.zip", (member("a", compress_type=0), b"0123456789" * 100))
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(StrataError, match=words):
        tar_of(path)


def test_no_damage_of_a_byte_is_another_error_or_another_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", (member("a"), b"text" * 9), (member("l", 0o120777), b"a"))
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :])
        with contextlib.suppress(StrataError):
            tar_of(path)


def test_empty_archive_is_an_empty_layer(tmp_path: Path) -> None:
    assert tar_of(write(tmp_path / "a.zip")) == bytes(1024)


def test_options_take_a_part_of_an_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", (member("app-1/a"), b"a"), (member("app-1/a.pyc"), b"a"), (member("app-1/"), b""))
    found = entries(path, selection=Selection(1, "opt", (), ("*.pyc",)))
    assert [item.name for item in found] == ["opt/a"]


class Stream(io.BytesIO):
    """What a server gives: to be read once, from its beginning."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_arguments: Any) -> int:
        raise OSError("no")


def opener(data: bytes) -> Callable[[], contextlib.AbstractContextManager[IO[bytes]]]:
    @contextlib.contextmanager
    def opened() -> Iterator[IO[bytes]]:
        yield Stream(data)

    return opened


def test_archive_from_a_url_is_kept_while_it_is_read_and_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", (member("a"), os.urandom(5000)))
    with open_tar(Source("url", "http://x/"), opener(path.read_bytes())) as read:
        assert read(1 << 20) == tar_of(path)
    source = Source("url", "http://x/", limits=Limits(bytes=4000))
    with (
        pytest.raises(StrataError, match="more bytes than the limit of 4000"),
        open_tar(source, opener(path.read_bytes())),
    ):
        pass


def test_layer_of_an_image_that_is_a_zip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", (member("a"), bytes(600)))
    with (
        open_tar(Source("src", "an image"), opener(path.read_bytes())) as read,
        pytest.raises(StrataError, match="zip"),
    ):
        digest(read)
