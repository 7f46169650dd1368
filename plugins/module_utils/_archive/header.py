# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses one 512-byte tar header and PAX records: numbers, names, checks. Pure.

Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format";
libarchive tar(5).
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import struct
import urllib.parse
import zlib
from dataclasses import dataclass, field
from typing import Optional

BLOCK = 512
"""Bytes of a header, and the unit to which everything in an archive is padded."""

HEADER = struct.Struct("100s 8s 8s 8s 12s 12s 9x 100s 6s 66x 8s 8s 155s 12x")
"""Name, mode, owner, group, size, time, target of a link, magic, major and minor number, prefix of the name."""

POSIX_MAGIC = b"ustar\0"
MAX_ID = 2**32 - 2
"""The largest user or group id; 2**32 - 1 would be "leave it as it is" to chown(2)."""

MAX_SIZE = 2**63
"""Sizes, and seconds of a time, are below this: the kernel counts both in 64 bits with a sign."""

NANOSECONDS = 10**9
_END_OF_TIME = MAX_SIZE * NANOSECONDS

Extents = list[tuple[int, int]]
"""Where a sparse file has data: (offset, length) in bytes, ascending."""

Record = tuple[bytes, bytes]
"""One PAX record, key and value."""

_MAX_LENGTH = 64
"""Digits of a record's length: far more than any number has, and an end to looking for the space behind them."""

_MAX_DEVICE = (2**12 - 1, 2**20 - 1)
_SHOWN = 200


@dataclass
class Entry:
    """One member of an archive.

    :ivar name: as it stands in the archive, in bytes, without a promise of any encoding.
    :ivar kind: file, hardlink, symlink, char, block, directory or fifo.
    :ivar mode: permission bits, 0 to 0o7777.
    :ivar size: bytes of the file when it is unpacked; 0 for all that are not files.
    :ivar mtime_ns: nanoseconds since 1970, negative before.
    :ivar target: where a symlink points, or which name a hardlink is another name of.
    :ivar device: major and minor number.
    :ivar sparse: the extents that the archive holds, None for a file that is stored whole.
    :ivar unknown_type: the letter of a type that is not known here; it is taken as a file, as POSIX has it.
    """

    name: bytes
    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    sparse: Optional[Extents] = None
    unknown_type: str = ""


def is_utf8(raw: bytes) -> bool:
    """Whether bytes are text in UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def show(name: bytes) -> str:
    """A name fit for a message: quoted, nothing that a terminal would obey, not endless."""
    shown = repr(name[:_SHOWN].decode("utf-8", "surrogateescape"))
    return shown if len(name) <= _SHOWN else f"{shown} (cut, {len(name)} bytes long)"


def checksum(block: bytes) -> int:
    """Sum of the header's bytes with its own checksum field read as spaces.

    The low half of Adler-32 is one more than the sum, modulo 65521, which 512 bytes below 128 cannot reach; zlib adds
    ten times faster than sum() does.
    """
    summed = block[:148] + b"        " + block[156:]
    return (zlib.adler32(summed) & 0xFFFF) - 1 if summed.isascii() else sum(summed)


def checksum_matches(block: bytes) -> bool:
    """Whether the header is undamaged. Some old writers summed signed bytes; that is accepted as well."""
    try:
        stored = read_number(block[148:156])
    except ValueError:
        return False
    unsigned = checksum(block)
    if stored == unsigned:
        return True
    high = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in block[148:156])
    return stored == unsigned - 256 * high


def read_text(block: bytes, start: int, length: int) -> bytes:
    """A field that ends at its first zero byte or when it is full."""
    return block[start : start + length].split(b"\0", 1)[0]


@functools.lru_cache(maxsize=1024)
def read_number(raw: bytes) -> int:
    """A number in octal digits, or in base 256 when its first bit is set (GNU tar manual, "Extensions").

    Remembered, because modes, owners and times are the same in most headers: a third of the time of reading one.

    :raises ValueError: it is neither.
    """
    plain = raw.rstrip(b"\0 ")
    if plain.isdigit() and b"8" not in plain and b"9" not in plain:
        return int(plain, 8)  # as nearly all are written; what follows costs twice as much
    if raw and raw[0] & 0x80:
        # Two's complement over the bits that follow the marker; 0xff in front means negative.
        value = int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    digits = raw.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ValueError(f"{digits!r} is not an octal number")
    return int(digits, 8)


_LEADING_ZEROS = re.compile(rb"(-?)0+(?=\d)")
_DECIMAL = re.compile(rb"\d{1,19}")
_TIME = re.compile(rb"(-?)(\d{1,18})(?:\.(\d*))?")


def _without_zeros(raw: bytes) -> bytes:
    """A number without zeros in front, which say nothing (POSIX pax: a decimal number of any length)."""
    found = _LEADING_ZEROS.match(raw)
    return found[1] + raw[found.end() :] if found else raw


def read_decimal(raw: bytes) -> int:
    """A decimal number of PAX, not negative.

    :raises ValueError: it is something else.
    """
    raw = _without_zeros(raw)
    if not _DECIMAL.fullmatch(raw):
        raise ValueError(f"{raw[:40]!r} is not a decimal number")
    return int(raw)


def read_time(raw: bytes) -> int:
    """A PAX time, seconds with any number of decimals, in nanoseconds and rounded down.

    :raises ValueError: it is something else.
    """
    match = _TIME.fullmatch(_without_zeros(raw))
    if not match:
        raise ValueError(f"{raw[:40]!r} is not a time in seconds")
    sign, seconds, decimals = match.groups()
    digits = (decimals or b"").ljust(9, b"0")
    value = int(seconds) * NANOSECONDS + int(digits[:9])
    if not sign:
        return value
    return -value - bool(digits[9:].strip(b"0"))


def parse_records(payload: bytes) -> list[Record]:
    """The records of one PAX header, in order: each is "<length> <key>=<value>\\n", the value any bytes at all.

    :raises ValueError: the lengths do not add up.
    """
    records = []
    at = 0
    while at < len(payload):
        space = payload.find(b" ", at, at + _MAX_LENGTH)
        length = read_decimal(payload[at:space]) if space > 0 else 0
        end = at + length
        equals = payload.find(b"=", space + 1, end)
        if length == 0 or end > len(payload) or payload[end - 1 : end] != b"\n" or equals < 0:
            raise ValueError("a record has a wrong length")
        records.append((payload[space + 1 : equals], payload[equals + 1 : end - 1]))
        at = end
    return records


def format_record(key: bytes, value: bytes) -> bytes:
    """One PAX record; its length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_ACCESS_LIST = b"SCHILY.acl."


def is_attribute(key: bytes) -> bool:
    """Whether a PAX record is one of an extended attribute or access list."""
    return key.startswith((_SCHILY, _LIBARCHIVE, _ACCESS_LIST))


def read_xattrs(records: dict[bytes, bytes]) -> dict[str, bytes]:
    """Extended attributes among PAX records, as star, GNU tar, Docker (SCHILY) and libarchive write them.

    :raises ValueError: a value is not what its writer's rule says.
    """
    found: dict[str, bytes] = {}
    for key, raw in records.items():
        if key.startswith(_SCHILY):
            # GNU tar writes an equals sign or per cent sign in a name as %3D and %25 (its xheader.c).
            name, value = key[len(_SCHILY) :].replace(b"%3D", b"=").replace(b"%25", b"%"), raw
        elif key.startswith(_LIBARCHIVE):
            name, value = urllib.parse.unquote_to_bytes(key[len(_LIBARCHIVE) :]), _read_base64(raw)
        else:
            continue
        if not name or b"\0" in name:
            raise ValueError("an extended attribute has no valid name")
        text = name.decode("utf-8", "surrogateescape")
        if key.startswith(_SCHILY) or text not in found:
            found[text] = value
    return found


def xattr_key(name: str) -> bytes:
    """The PAX key under which an extended attribute is written."""
    return _SCHILY + name.encode("utf-8", "surrogateescape").replace(b"%", b"%25").replace(b"=", b"%3D")


def _read_base64(value: bytes) -> bytes:
    stripped = value.rstrip(b"=")
    try:
        return base64.b64decode(stripped + b"=" * (-len(stripped) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"an extended attribute is not base64: {error}") from error


def check_ranges(entry: Entry) -> None:
    """Refuse values that no file system can hold, before anything is made of them.

    :raises ValueError: saying which.
    """
    if not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
        raise ValueError(f"owner {entry.uid}:{entry.gid} is out of range")
    if not 0 <= entry.size < MAX_SIZE:
        raise ValueError(f"a size of {entry.size} bytes is out of range")
    if not -_END_OF_TIME < entry.mtime_ns < _END_OF_TIME:
        raise ValueError("its time of change is out of range")
    if entry.kind in ("char", "block") and not _valid_device(entry.device):
        raise ValueError(f"device number {entry.device[0]}:{entry.device[1]} is out of range")
    if b"\0" in entry.name or b"\0" in entry.target:
        raise ValueError("a name holds a zero byte")


def _valid_device(device: tuple[int, int]) -> bool:
    return all(0 <= number <= limit for number, limit in zip(device, _MAX_DEVICE))
