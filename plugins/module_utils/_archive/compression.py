# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Decompresses archives: gzip, bzip2, xz, zstd or none, recognised by their first bytes.

Decompression runs in a thread of its own, or in the zstd program, so that it overlaps with what is done with its
output. Sources: RFC 1952 (gzip), xz file format 1.1.0, RFC 8878 (zstd, with its skippable frames).
"""

from __future__ import annotations

import bz2
import contextlib
import fcntl
import importlib
import lzma
import queue
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, Callable, Optional, Union, cast

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import write_all

_INPUT = 1 << 18
_OUTPUT = 1 << 20
_F_SETPIPE_SZ = 1031
"""fcntl(2); Python has a name for it since 3.10."""

_AHEAD = 4
"""Chunks of output that may wait for their reader."""

_MEMORY_LIMIT = 1 << 27
"""Bytes that a decompressor may take; what zstd allows by default, and twice what xz -9 needs."""

_BZIP2_STARTS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
"""Of an archive with members, and of an empty one."""

_NO_ZSTD = (
    "the archive is compressed with zstd, and this host has neither Python 3.14 nor the zstd program; "
    "install the package zstd, or compress the archive with gzip"
)


def open_stream(raw: IO[bytes], program: Callable[[str], Optional[str]] = shutil.which) -> Decompressed:
    """Find out how a stream is compressed and open it.

    :param raw: what is read; it need not be seekable, and is left open.
    :param program: finds a program's path by its name, None where it is not installed.
    :raises StrataError: zstd, and nothing here that can read it.
    """
    head = b""
    while len(head) < 10:
        piece = raw.read(10 - len(head))
        if not piece:
            break
        head += piece
    name = _format(head)
    source = _Source(head, raw)
    if name == "plain":
        return Decompressed(name, source, head.startswith(_ZIP_STARTS))
    if name == "zstd":
        module = _zstd_module()
        if module is None:
            path = program("zstd")
            if path is None:
                raise StrataError(_NO_ZSTD)
            return Decompressed(name, _Program([path, "-dcq"], source))
        return Decompressed(name, _ReadAhead(_members(source, name, module.ZstdDecompressor, module.ZstdError)))
    return Decompressed(name, _ReadAhead(_members(source, name, *_DECOMPRESSORS[name])))


class Decompressed:
    """A stream of plain bytes; a context manager.

    :ivar format: "plain", "gzip", "bzip2", "xz" or "zstd".
    :ivar is_zip: plain, and a zip archive by its first bytes.
    """

    def __init__(self, name: str, source: Union[_Source, _ReadAhead, _Program], is_zip: bool = False) -> None:
        self.format = name
        self.is_zip = is_zip
        self._source = source
        self._rest = b""

    def __enter__(self) -> Decompressed:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Between 1 and ``size`` bytes, none only at the end of everything.

        :raises StrataError: the compressed data is damaged or cut short.
        """
        chunk = self._rest or self._source.read(size)
        self._rest = chunk[size:]
        return chunk[:size]

    def close(self) -> None:
        """End threads and programs, wherever they are; a read of the raw stream that is under way is waited for."""
        self._source.close()


class _Source:
    """The raw stream with the bytes back in front that were read to recognise it."""

    def __init__(self, head: bytes, raw: IO[bytes]) -> None:
        self._head = head
        self._raw = raw

    def read(self, size: int) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._raw.read(size)

    def close(self) -> None:
        """The raw stream belongs to the caller."""


def _format(head: bytes) -> str:
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in _BZIP2_STARTS:
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    # pzstd begins with a skippable frame, whose magic has 16 values.
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    return "plain"


class _Gzip:
    """zlib's decompressor in the shape that bz2, lzma and compression.zstd share."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        # zlib keeps output back when it has given all it might; then it has to be asked again with no input.
        return not self._full and not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        output = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self._full = len(output) == max_length
        return output


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT)


_DECOMPRESSORS: Any = {
    "gzip": (_Gzip, zlib.error),
    "bzip2": (bz2.BZ2Decompressor, OSError),
    "xz": (_xz, lzma.LZMAError),
}
"""For each format what decompresses one member, and the error by which it says that the data is not valid."""

_PADDED = ("gzip", "bzip2", "xz")
"""Formats whose members may be followed by zeros (tape blocks, which gzip and bzip2 pass over; xz stream padding)."""


def _zstd_module() -> Any:
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


def _members(source: _Source, name: str, new: Callable[[], Any], invalid: type[Exception]) -> Iterator[bytes]:
    """The plain bytes of all members, one after the other, to the end of the source."""
    data = source.read(_INPUT)
    while data:
        member = new()
        while not member.eof:
            if not data and member.needs_input:
                data = source.read(_INPUT)
                if not data:
                    raise StrataError(f"the archive is cut short: its {name} data ends too early")
            try:
                output = member.decompress(data, _OUTPUT)
            except invalid as error:
                raise StrataError(f"the archive is damaged: its {name} data is not valid: {error}") from error
            data = b""
            if output:
                yield output
        data = _next_member(source, name, member.unused_data)


def _next_member(source: _Source, name: str, data: bytes) -> bytes:
    """What follows a member, without padding; empty at the end."""
    while True:
        if name in _PADDED:
            data = data.lstrip(b"\0")
        if data:
            return data
        data = source.read(_INPUT)
        if not data:
            return b""


class _ReadAhead:
    """Run an iterator in a thread, a few chunks ahead of its reader."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._ready: queue.Queue[Union[bytes, BaseException]] = queue.Queue(_AHEAD)
        self._stopped = False
        self._last: Optional[Union[bytes, BaseException]] = None
        self._thread = threading.Thread(target=self._work, name="strata-decompress", daemon=True)
        self._thread.start()

    def read(self, _size: int) -> bytes:
        """The next chunk, however long; the end and an error are final."""
        item = self._ready.get() if self._last is None else self._last
        if isinstance(item, BaseException):
            self._last = item
            raise item
        if not item:
            self._last = item
        return item

    def close(self) -> None:
        self._stopped = True
        # Room for the one chunk that the thread may be about to put; before the next it sees that it is to stop.
        while not self._ready.empty():
            self._ready.get_nowait()
        self._thread.join()

    def _work(self) -> None:
        try:
            for chunk in self._chunks:
                if self._stopped:
                    return
                self._ready.put(chunk)
            end: Union[bytes, BaseException] = b""
        except BaseException as error:  # noqa: BLE001  it is raised again, in the reader's thread
            end = error
        if not self._stopped:
            self._ready.put(end)


class _Program:
    """A program that decompresses, fed by a thread."""

    def __init__(self, command: Sequence[str], source: _Source) -> None:
        self._source = source
        self._failure: Optional[BaseException] = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the program runs
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0
        )
        # Popen says "or None", which these two are not: both were asked for as pipes.
        self._input: IO[bytes] = cast("IO[bytes]", self._process.stdin)
        self._output: IO[bytes] = cast("IO[bytes]", self._process.stdout)
        self._widen(self._output)
        self._widen(self._input)
        self._thread = threading.Thread(target=self._feed, name="strata-zstd", daemon=True)
        self._thread.start()

    def read(self, size: int) -> bytes:
        chunk = self._output.read(size)
        if not chunk:
            self._check()
        return chunk

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._output.close()
        self._process.wait()
        self._thread.join()
        self._stderr.close()

    @staticmethod
    def _widen(pipe: Any) -> None:
        """Fewer turns between the processes; a pipe that may not grow works as well."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _OUTPUT)

    def _check(self) -> None:
        """At the end of the output: was it the end of the archive?"""
        status = self._process.wait()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        if status != 0:
            self._stderr.seek(0)
            message = " ".join(self._stderr.read(500).decode(errors="replace").split())
            raise StrataError(f"the archive is damaged or cut short: zstd says: {message or f'exit status {status}'}")

    def _feed(self) -> None:
        try:
            for piece in iter(lambda: self._source.read(_INPUT), b""):
                write_all(self._input.fileno(), piece)
        except BrokenPipeError:
            pass  # the program has ended; its exit status says why
        except BaseException as error:  # noqa: BLE001  it is raised again, in the reader's thread
            self._failure = error
        finally:
            self._input.close()
