# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads zip archives and Python wheels as members of a layer, as Info-ZIP's unzip would create them.

Members come in the order of the archive's directory. What differs from machine to machine decides nothing: times are in
UTC, no umask, owner 0:0. Sources: PKWARE APPNOTE.TXT 6.3; Info-ZIP extrafld.txt, and unix.c of its unzip (mapattr).
"""

from __future__ import annotations

import calendar
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Callable, cast

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import (
    NANOSECONDS,
    Entry,
    is_utf8,
    show,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.meter import Meter
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

# What is made here decides the bytes of a layer: when it changes, raise PACKING in `_source/digest_cache`.
_CHUNK = 1 << 20
_LONGEST_TARGET = 4095
_LONGEST_END = 1 << 17
_IN_DIRECTORY = b"PK\x01\x02"
_KEPT = 500
"""Bytes that Python keeps of each member beside its line in the archive's directory: 430 were measured, 3.9 to 3.13."""

_DOS, _UNIX = 0, (3, 19)
"""Systems on which a member was packed: 19 is a Mac with OS X."""

_READ_ONLY = 1
_UTF_8 = 1 << 11
_ENCRYPTED = 1 | 1 << 6
_TIME, _OLD_TIME, _UNICODE_NAME = 0x5455, 0x5855, 0x7075
_NO_TIME = 315532800
"""1980-01-01, for what has no time that any calendar has."""

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,  # names that are not UTF-8 among them
    OverflowError,
    struct.error,
)


class _File:
    """The archive's file, for Python's zipfile: counted, and never asked for more at once than may be kept."""

    def __init__(self, file: IO[bytes], read: Callable[[int], bytes], limits: Limits) -> None:
        self._file = file
        self._read = read
        self._limits = limits
        self.opened = False

    def read(self, size: int = -1) -> bytes:
        if self.opened:
            return self._read(size)
        # zipfile reads the whole directory at once, and makes an object of each line. Without a size it wants the end
        # of the file, where it says where the directory is.
        size = _LONGEST_END if size < 0 else size
        self._check(size)
        piece = self._read(size)
        self._check(len(piece) + _KEPT * piece.count(_IN_DIRECTORY))
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:
            raise zipfile.BadZipFile("a member lies before the beginning of the file")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def _check(self, size: int) -> None:
        if not 0 <= size <= self._limits.memory:
            raise StrataError(
                f"the directory of the zip archive takes more memory than the limit of {self._limits.memory}; if you "
                "trust where the archive comes from, raise the option 'limits.memory'"
            )


def zip_members(
    file: IO[bytes], read: Callable[[int], bytes], limits: Limits
) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """The members of a zip archive, each with the bytes of its file, which can be read until the next is asked for.

    :param file: the archive, at any place; it has to be seekable.
    :param read: of that file.
    :param limits: as for a tar: of entries and bytes as they are when unpacked.
    :raises StrataError: damage, encryption, a way of compression that Python cannot read, or it is beyond a limit.
    """
    meter = Meter(limits)
    place = _File(file, read, limits)
    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", place))
    except (*_DAMAGE, NotImplementedError, OSError) as error:
        raise StrataError(f"the zip archive is damaged or cut short: {error}") from error
    place.opened = True
    position = 0
    with archive:
        for info in archive.infolist():
            entry = _entry(info)
            meter.count(entry, position)
            meter.check_depth(entry.name.count(b"/") + 1)
            position += entry.size
            data = _data(archive, info, entry)
            if entry.kind == "symlink":
                entry.target, entry.size, data = _target(data, entry), 0, iter(())
            yield entry, data


def _entry(info: zipfile.ZipInfo) -> Entry:
    """What a member's line in the directory says."""
    extra = _extra_fields(info.extra)
    name = _name(info, extra)
    if info.flag_bits & _ENCRYPTED:
        raise StrataError(f"entry {show(name)}: it is encrypted, and nothing here has a password; unpack it first")
    if not name or b"\0" in name:
        raise StrataError(f"entry {show(name)}: the zip archive is damaged: a name is empty or holds a zero byte")
    kind, mode = _kind_and_mode(info, name)
    size = info.file_size if kind in ("file", "symlink") else 0
    return Entry(name, kind, mode, size=size, mtime_ns=_time(info, extra) * NANOSECONDS)


def _name(info: zipfile.ZipInfo, extra: dict[int, bytes]) -> bytes:
    """A name in UTF-8 where that is what it can be, else the bytes that the archive has."""
    if info.flag_bits & _UTF_8:
        return _slashed(info, info.orig_filename.encode("utf-8", "surrogateescape"))
    raw = info.orig_filename.encode("cp437")  # as zipfile has decoded it: each byte is one letter of that
    unicode = extra.get(_UNICODE_NAME, b"")
    if unicode[:1] == b"\1" and unicode[1:5] == struct.pack("<I", zlib.crc32(raw)):
        return _slashed(info, unicode[5:])
    name = _slashed(info, raw)
    return name if info.create_system in _UNIX or is_utf8(name) else name.decode("cp437").encode()


def _slashed(info: zipfile.ZipInfo, name: bytes) -> bytes:
    """Some programs of Windows write no slashes; as unzip takes it."""
    return name.replace(b"\\", b"/") if info.create_system == _DOS and b"/" not in name else name


def _kind_and_mode(info: zipfile.ZipInfo, name: bytes) -> tuple[str, int]:
    """What kind of file it is, and its permission bits without those that lend rights, as unzip drops them."""
    unix = info.external_attr >> 16
    known = unix != 0 and (info.create_system in _UNIX or stat.S_IFMT(unix) != 0)
    form = stat.S_IFMT(unix) if known else 0
    if name.endswith(b"/") or form == stat.S_IFDIR:
        kind = "directory"
    elif form == stat.S_IFLNK:
        return "symlink", 0o777
    elif form in (0, stat.S_IFREG):
        kind = "file"
    else:
        raise StrataError(
            f"entry {show(name)}: it is neither a file, a directory nor a symbolic link; a layer takes devices, fifos "
            "and sockets from no zip archive"
        )
    if known:
        return kind, unix & 0o777
    plain = 0o755 if kind == "directory" else 0o644
    return kind, plain & 0o555 if info.external_attr & _READ_ONLY else plain


def _time(info: zipfile.ZipInfo, extra: dict[int, bytes]) -> int:
    """Seconds since 1970: of an extra field, where there is one, else what a clock of DOS said, taken for UTC."""
    field = extra.get(_TIME, b"")
    if len(field) >= 5 and field[0] & 1:
        seconds: int = struct.unpack("<i", field[1:5])[0]
        return seconds + (1 << 32 if seconds < 0 and info.date_time[0] >= 2038 else 0)
    old = extra.get(_OLD_TIME, b"")
    if len(old) >= 8:
        return int(struct.unpack("<i", old[4:8])[0])
    _year, month, day, hour, minute, second = info.date_time
    valid = 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60
    return calendar.timegm((*info.date_time, 0, 1, 0)) if valid else _NO_TIME


def _extra_fields(raw: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(raw):
        kind, length = struct.unpack_from("<HH", raw, at)
        found.setdefault(kind, raw[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def _data(archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: Entry) -> Iterator[bytes]:
    """A member's bytes; their checksum is looked at with the last of them."""
    if entry.kind == "directory":
        return
    left = entry.size
    try:
        with archive.open(info) as stream:
            while True:
                piece = stream.read(_CHUNK)
                if not piece:
                    break
                left -= len(piece)
                yield piece
    except NotImplementedError as error:
        raise StrataError(f"entry {show(entry.name)}: {error}; pack it with deflate") from error
    except (*_DAMAGE, RuntimeError) as error:
        raise StrataError(f"entry {show(entry.name)}: the zip archive is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise StrataError(f"entry {show(entry.name)}: the zip archive is damaged: {error}") from error  # bzip2
    if left:
        raise StrataError(f"entry {show(entry.name)}: the zip archive is damaged: {left} bytes are missing")


def _target(data: Iterator[bytes], entry: Entry) -> bytes:
    if entry.size > _LONGEST_TARGET:
        raise StrataError(f"entry {show(entry.name)}: a symbolic link to more than {_LONGEST_TARGET} bytes")
    target = b"".join(data)
    if b"\0" in target:
        raise StrataError(f"entry {show(entry.name)}: the target of a symbolic link holds a zero byte")
    return target
