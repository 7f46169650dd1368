# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every compression, whole and cut, and nothing left running."""

from __future__ import annotations

import contextlib
import importlib
import io
import lzma
import random
import shutil
import sys
import threading
from pathlib import Path
from typing import IO, cast  # pylint: disable=unused-import  # pylint does not read the string in cast()

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.compression import Decompressed, open_stream
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import COMPRESSORS, zstd

PLAIN = random.Random(7).randbytes(700_000) + bytes(3_000_000) + b"end"


@pytest.fixture(params=sorted(COMPRESSORS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "zstd" and shutil.which("zstd") is None:
        pytest.skip("the zstd program is not installed here")
    return cast(str, request.param)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> object:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    assert not children


class Trickle(io.RawIOBase):
    """Not seekable, without a file descriptor, seven bytes at a time: the worst that a caller may hand over."""

    def __init__(self, data: bytes, step: int = 7) -> None:
        self._inner = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, self._step))


def opened(data: bytes) -> Decompressed:
    return open_stream(io.BytesIO(data))


def read_all(stream: Decompressed, size: int = 65536) -> bytes:
    with stream:
        return b"".join(iter(lambda: stream.read(size), b""))


@pytest.mark.parametrize("data", [b"", b"x", b"BZh9 is a file name", PLAIN])
def test_uncompressed_data_is_read_unchanged(data: bytes) -> None:
    stream = opened(data)
    assert stream.format == "plain"
    assert read_all(stream) == data


def test_compressed_data_is_read_whole(name: str) -> None:
    stream = opened(COMPRESSORS[name](PLAIN))
    assert stream.format == name
    assert read_all(stream) == PLAIN
    assert read_all(opened(COMPRESSORS[name](b""))) == b""


def test_source_that_gives_few_bytes_a_read_is_decompressed(name: str) -> None:
    data = COMPRESSORS[name](PLAIN[:20_000])
    assert read_all(open_stream(cast("IO[bytes]", Trickle(data))), 11) == PLAIN[:20_000]


def test_concatenated_members_are_read_as_one(name: str) -> None:
    pack = COMPRESSORS[name]
    assert read_all(opened(pack(b"one") + pack(b"") + pack(PLAIN))) == b"one" + PLAIN


@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.999])
def test_truncated_data_is_refused(name: str, part: float) -> None:
    data = COMPRESSORS[name](PLAIN)
    with pytest.raises(StrataError, match="cut short|damaged"):
        read_all(opened(data[: int(len(data) * part)]))


def test_second_member_without_its_last_byte_is_refused(name: str) -> None:
    with pytest.raises(StrataError, match="cut short|damaged"):
        read_all(opened(COMPRESSORS[name](PLAIN) + COMPRESSORS[name](b"more")[:-1]))


def test_damaged_data_is_refused(name: str) -> None:
    data = bytearray(COMPRESSORS[name](PLAIN))
    for at in range(len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0x55
    if name == "zstd":
        # The program's own frames carry a checksum only when asked for; noise in raw blocks is the DiffID's to find.
        data[4:12] = b"\xff" * 8
    with pytest.raises(StrataError):
        read_all(opened(bytes(data)))


def test_garbage_after_the_last_member_is_refused(name: str) -> None:
    with pytest.raises(StrataError):
        read_all(opened(COMPRESSORS[name](b"data") + b"noise that is no member"))


@pytest.mark.parametrize("padded", ["gzip", "bzip2", "xz"])
def test_zeros_after_the_last_member_are_ignored_as_padding(padded: str) -> None:
    assert read_all(opened(COMPRESSORS[padded](b"data") + bytes(1024))) == b"data"


def test_stream_closed_early_leaves_nothing_running(name: str) -> None:
    with opened(COMPRESSORS[name](PLAIN * 5)) as stream:
        assert stream.read(10) == PLAIN[:10]


def test_stream_closed_unread_leaves_nothing_running(name: str) -> None:
    opened(COMPRESSORS[name](PLAIN * 5)).close()


def test_read_error_of_the_source_is_passed_through(name: str) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 1000:
                raise ConnectionResetError(104, "the network is gone")
            return super().read(min(size or 0, 600))

    with pytest.raises(ConnectionResetError):
        read_all(open_stream(Breaking(COMPRESSORS[name](PLAIN))))


def test_reads_after_the_end_return_nothing(name: str) -> None:
    with opened(COMPRESSORS[name](b"x")) as stream:
        assert [stream.read(10), stream.read(10), stream.read(10)] == [b"x", b"", b""]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd by itself")
def test_zstd_without_its_program_names_the_package_to_install() -> None:
    with pytest.raises(StrataError, match="install the package zstd"):
        open_stream(io.BytesIO(b"\x28\xb5\x2f\xfd rest"), program=lambda _name: None)


@pytest.fixture
def zstd_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14's compression.zstd, or the same code as it is published for older Pythons."""
    for library in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            monkeypatch.setitem(sys.modules, "compression.zstd", importlib.import_module(library))
            return
    pytest.skip("neither Python 3.14 nor backports.zstd is here")


@pytest.mark.usefixtures("zstd_library")
def test_zstd_library_decompresses_without_the_program() -> None:
    def opened_here(data: bytes) -> Decompressed:
        return open_stream(io.BytesIO(data), program=lambda _name: None)

    data = zstd(PLAIN)
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert read_all(opened_here(data)) == PLAIN
    assert read_all(opened_here(skippable + data + data)) == PLAIN * 2
    for bad in (data[:-3], data + b"noise that is no member", data[:4] + b"\xff" * 8 + data[12:]):
        with pytest.raises(StrataError, match="cut short|damaged"):
            read_all(opened_here(bad))


def test_xz_above_the_memory_limit_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
    data = lzma.compress(b"x", filters=filters)
    with pytest.raises(StrataError, match="Memory usage limit"):
        read_all(opened(data))
