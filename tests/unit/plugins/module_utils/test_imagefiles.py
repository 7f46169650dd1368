# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes in the middle of files, and the files of archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image.archive_files import Files, open_files
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import member


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return str(path)


def content(blob: Blob) -> bytes:
    with blob.open() as stream:
        return b"".join(iter(lambda: stream.read(3), b""))


def test_slice_of_a_file_has_exactly_its_bytes(file: str) -> None:
    assert content(Blob(file, 2, 5)) == b"23456"
    assert content(Blob(file, 0, 10)) == b"0123456789"
    assert content(Blob(file, 10, 0)) == b""


def test_readers_of_a_slice_are_independent_across_processes(file: str) -> None:
    blob = Blob(file, 2, 5)
    with blob.open() as first, blob.open() as second:
        assert (first.read(2), second.read(3), first.read(9)) == (b"23", b"234", b"456")
    child = os.fork()
    if child == 0:
        os._exit(0 if content(blob) == b"23456" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_slice_with_another_digest_is_refused(file: str) -> None:
    assert content(Blob(file, 2, 5, sha256(b"23456"))) == b"23456"
    with pytest.raises(StrataError, match=f"has digest {sha256(b'23456')} and should have {sha256(b'x')}"):
        content(Blob(file, 2, 5, sha256(b"x")))


def test_slice_beyond_the_end_of_its_file_is_refused(file: str) -> None:
    with pytest.raises(StrataError, match="is cut short: it ends 3 bytes before the end of a layer"):
        content(Blob(file, 8, 5))


def test_slice_larger_than_the_limit_is_not_read(file: str) -> None:
    assert Blob(file, 0, 10).read(10, "config") == b"0123456789"
    with pytest.raises(StrataError, match="config has 10 bytes; more than 9 are not read"):
        Blob(file, 0, 10).read(9, "config")


def archive(*members: tuple[str, bytes | str]) -> bytes:
    """A tar of files (bytes), links (text) and hard links (text that begins with =)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, what in members:
            member = tarfile.TarInfo(name)
            if isinstance(what, str):
                member.type = tarfile.LNKTYPE if what.startswith("=") else tarfile.SYMTYPE
                member.linkname = what.lstrip("=")
                tar.addfile(member)
            else:
                member.size = len(what)
                tar.addfile(member, io.BytesIO(what))
    return stream.getvalue()


def files_of(tmp_path: Path, data: bytes) -> Files:
    (tmp_path / "archive").write_bytes(data)
    return open_files(str(tmp_path / "archive"), str(tmp_path))


def found(files: Files, name: str) -> bytes | None:
    blob = files.find(name)
    return content(blob) if blob else None


def test_files_in_a_tar_are_found_whatever_their_spelling(tmp_path: Path) -> None:
    files = files_of(tmp_path, archive(("./a/b", b"one"), ("c", b"two"), ("c", b"three"), ("/d", b"four")))
    assert found(files, "a/b") == b"one"
    assert found(files, "./a//b") == b"one"
    assert found(files, "c") == b"three", "the last one counts, as when it is unpacked"
    assert found(files, "d") == b"four"
    assert found(files, "missing") is None
    assert not files.packed


def test_links_are_followed_within_the_archive_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    files = files_of(
        tmp_path,
        archive(
            ("1/layer.tar", b"layer"),
            ("2/layer.tar", "../1/layer.tar"),
            ("3/layer.tar", "=2/layer.tar"),
            ("out", "../../../../../1/layer.tar"),
            ("secret", f"{tmp_path}/secret"),
            ("circle", "elcric"),
            ("elcric", "circle"),
        ),
    )
    assert [found(files, f"{number}/layer.tar") for number in (1, 2, 3)] == [b"layer"] * 3
    assert found(files, "out") == b"layer"
    assert found(files, "secret") is None
    with pytest.raises(StrataError, match="'circle' is a link in a circle of links"):
        files.find("circle")


def test_name_outside_the_directory_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/a").write_text("a")
    (tmp_path / "b").write_text("b")
    files = open_files(str(tmp_path / "layout"), str(tmp_path))
    assert found(files, "a") == b"a"
    assert found(files, "../b") is None
    assert found(files, ".") is None


def test_compressed_archive_leaves_no_unpacked_file(tmp_path: Path) -> None:
    files = files_of(tmp_path, gzip.compress(archive(("a", b"one"))))
    assert files.packed
    assert os.listdir(tmp_path) == ["archive"]
    blob = files.find("a")
    del files
    assert blob is not None
    assert content(blob) == b"one", "the blob keeps the unpacked archive"
    child = os.fork()
    if child == 0:
        os._exit(0 if content(blob) == b"one" else 1)
    assert os.waitpid(child, 0)[1] == 0


# With names of their own: what gzip packs holds the time, and every lane has to find the same tests.
@pytest.mark.parametrize(
    "data", [b"noise" * 500, b"", gzip.compress(b"noise" * 500)], ids=["noise", "nothing", "noise by gzip"]
)
def test_file_that_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(StrataError, match="is no image's archive: it is neither a directory nor a tar"):
        files_of(tmp_path, data)


def test_truncated_archive_is_refused(tmp_path: Path) -> None:
    data = archive(("a", b"x" * 5000), ("b", b"y"))
    with pytest.raises(StrataError):
        found(files_of(tmp_path, data[:3000]), "a")
    with pytest.raises(StrataError, match="cut short"):
        files_of(tmp_path, gzip.compress(data)[:50])


def test_entry_names_that_take_too_much_memory_are_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "names.tar.gz", "wb", 1) as stream:
        for number in range(1_000):
            stream.write(member(b"%d" % number + b"n" * 80_000, b""))
    assert (tmp_path / "names.tar.gz").stat().st_size < 2_000_000
    with pytest.raises(StrataError, match=r"names\.tar\.gz.*the names of its entries take more than 67108864 bytes"):
        open_files(str(tmp_path / "names.tar.gz"), str(tmp_path))
