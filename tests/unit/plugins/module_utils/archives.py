# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives put together entry by entry, also such as no tar program writes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import checksum, format_record
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import Entry, header, padding


def member(name: bytes, content: bytes = b"", **values: Any) -> bytes:
    entry = Entry(name, "file", 0o644, size=len(content))
    for key, value in values.items():
        setattr(entry, key, value)
    return header(entry) + content + padding(len(content))


def directory(name: bytes, mode: int = 0o755, **values: Any) -> bytes:
    return member(name, kind="directory", mode=mode, **values)


def symlink(name: bytes, target: bytes) -> bytes:
    return member(name, kind="symlink", target=target)


def hardlink(name: bytes, target: bytes) -> bytes:
    return member(name, kind="hardlink", target=target)


def signed(block: bytes) -> bytes:
    """The block with its checksum set right."""
    return block[:148] + b"%06o\0 " % checksum(block) + block[156:]


def patched(block: bytes, at: int, value: bytes) -> bytes:
    """A header with other bytes at one place, and the checksum right."""
    return signed(block[:at] + value + block[at + len(value) :])


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    """A PAX header of any records; a global one with flag ``g``."""
    payload = b"".join(format_record(key, value) for key, value in records)
    block = header(Entry(b"pax", "file", size=len(payload)))
    return patched(block, 156, flag) + payload + padding(len(payload))


def sparse(name: bytes, size: int, content: bytes = b"123456789") -> bytes:
    """A file of ``size`` bytes in PAX format 0.1, of which all but the first few are a hole."""
    records = ((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", b"0,%d" % len(content)))
    return pax((b"path", name), *records) + member(b"name", content)


def zstd(data: bytes) -> bytes:
    """By the real program."""
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}
