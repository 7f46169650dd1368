# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A byte range of a file, read in place: a layer's blob inside an archive."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Any, Optional, cast

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import READ


@dataclass(frozen=True)
class Blob:
    """``size`` bytes of the file at ``path``, from ``offset`` on.

    :ivar digest: what these bytes must have, held against them while they are read; "" where it is not known.
    :ivar keeper: a file without a name that the path leads to, open as long as anyone may read the blob.
    """

    path: str
    offset: int
    size: int
    digest: str = ""
    keeper: Optional[IO[bytes]] = field(default=None, compare=False, repr=False)

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """The bytes as a stream of their own, at the first one; as `_source/origin.Opener` wants it."""
        stream: io.RawIOBase = _Slice(self)
        if self.digest:
            stream = _Verifying(stream, self.digest, self.path)
        # What readers of archives call is `read`, which both have; IO[bytes] is the name that all streams go by.
        return cast("IO[bytes]", stream)

    def read(self, limit: int, what: str) -> bytes:
        """All of it, which must not be more than ``limit`` bytes."""
        if self.size > limit:
            raise StrataError(f"{what} has {self.size} bytes; more than {limit} are not read")
        with self.open() as stream:
            return b"".join(iter(lambda: stream.read(1 << 20), b""))


class _Slice(io.RawIOBase):
    """Part of a file, by a descriptor of its own: several readers do not meet."""

    def __init__(self, blob: Blob) -> None:
        super().__init__()
        self._blob = blob
        self._at = 0
        self._descriptor = os.open(blob.path, READ)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._blob.size - self._at
        if left <= 0:
            return 0
        got = os.preadv(self._descriptor, [memoryview(buffer)[:left]], self._blob.offset + self._at)
        if not got and len(buffer):
            raise StrataError(f"{self._blob.path} is cut short: it ends {left} bytes before the end of a layer in it")
        self._at += got
        return got

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class _Verifying(io.RawIOBase):
    """Hash what is read, and refuse to end where the digest is another than the one that was promised."""

    def __init__(self, stream: io.RawIOBase, digest: str, path: str) -> None:
        super().__init__()
        self._stream = stream
        self._digest = digest
        self._path = path
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = cast("int", self._stream.readinto(buffer))
        if got:
            self._hash.update(memoryview(buffer)[:got])
        elif len(buffer) and SHA256 + self._hash.hexdigest() != self._digest:
            raise StrataError(
                f"the blob in {self._path} has digest {SHA256}{self._hash.hexdigest()} and should have {self._digest}; "
                "it is damaged"
            )
        return got

    def close(self) -> None:
        self._stream.close()
        super().close()
