# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are given as archives and are something else: the message says what they are."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.magic import not_a_tar
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import TarReader
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import Selection
from ansible_collections.strata.overlay.plugins.module_utils._image.archive_files import open_files
from ansible_collections.strata.overlay.plugins.module_utils._image.docker_archive import list_docker
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._source.source import read_source


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", "b" * 1000)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(), "a zip archive or a Python wheel; give it as it is as 'src' or 'url' of a layer"),
        (b"!<arch>\ndebian-binary   1", "a Debian package"),
        (b"\xed\xab\xee\xdb\3\0", "an RPM package"),
        (b"QFI\xfb\0\0\0\3", "a disk image of QEMU"),
        (b"\xef\xbb\xbf \n<!DOCTYPE HTML><html>", "a page"),
        (b'{"errors": []}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (gzip.compress(b"x"), "compressed twice"),
    ],
    ids=["zip", "deb", "rpm", "qcow2", "html", "json", "lfs", "gzip"],
)
@pytest.mark.parametrize("length", [0, 600], ids=["short", "long"])
def test_error_names_the_format_of_a_file_that_is_no_tar(data: bytes, words: str, length: int) -> None:
    with pytest.raises(StrataError, match=f"; it is {words}"):
        list(TarReader(io.BytesIO(data.ljust(length, b"~")).read))


@pytest.mark.parametrize("data", [b"", b"noise", bytes(512)])
def test_format_of_unknown_bytes_is_not_guessed(data: bytes) -> None:
    assert not_a_tar(data) == ""


def test_directory_as_an_archive_is_refused_with_the_option_that_takes_it(tmp_path: Path) -> None:
    with pytest.raises(StrataError, match="option 'src': .* is a directory; give it as 'dir', or in 'images'"):
        read_source(Source("src", str(tmp_path)), DigestCache(str(tmp_path), keep=False))


@pytest.mark.parametrize("selection", [None, Selection(1)], ids=["whole", "part"])
def test_format_of_a_layer_is_named_with_options_too(tmp_path: Path, selection: Selection | None) -> None:
    (tmp_path / "a.deb").write_bytes(b"!<arch>\ndebian-binary".ljust(600))
    with pytest.raises(StrataError, match="a Debian package; unpack it by 'dpkg-deb --fsys-tarfile'"):
        read_source(Source("src", str(tmp_path / "a.deb"), selection=selection), DigestCache("", keep=False))


def test_directory_of_skopeo_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("Directory Transport Version: 1.1\n")
    (tmp_path / "manifest.json").write_text('{"schemaVersion": 2}')
    with pytest.raises(StrataError, match="is a directory of skopeo's transport 'dir:'.*copy it to 'oci:'"):
        list_docker(open_files(str(tmp_path), str(tmp_path)))
