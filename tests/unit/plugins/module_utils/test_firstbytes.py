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
from ansible_collections.strata.overlay.plugins.module_utils._image.archive_files import open_files
from ansible_collections.strata.overlay.plugins.module_utils._image.docker_archive import list_docker


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


def test_directory_of_skopeo_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("Directory Transport Version: 1.1\n")
    (tmp_path / "manifest.json").write_text('{"schemaVersion": 2}')
    with pytest.raises(StrataError, match="is a directory of skopeo's transport 'dir:'.*copy it to 'oci:'"):
        list_docker(open_files(str(tmp_path), str(tmp_path)))
