# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Downloads a blob, resumes after broken connections, and verifies size and digest.

Nothing is kept: what has been read is gone, and a new connection goes on from there. Source: OCI distribution-spec,
"Pulling blobs"; RFC 9110, 14 (Range).
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Sequence
from typing import Any, Optional, Protocol

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._source.http import RequestError, Response, skip
from ansible_collections.strata.overlay.plugins.module_utils._source.retry import ENOUGH, Sleep, is_worth_waiting

_SMALL = 1 << 20
"""Bytes up to which a blob is held in memory until its digest is known to be right."""

_RANGE = re.compile(r"^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)\Z")


class BlobSource(Protocol):
    """Someone who has blobs.

    :ivar description: it, for messages.
    :ivar pauses: seconds before each further attempt.
    """

    @property
    def description(self) -> str: ...

    @property
    def pauses(self) -> Sequence[float]: ...

    def blob(self, digest: str, offset: int) -> Response:
        """The blob's bytes from an offset on, or from its beginning where the server knows no ranges.

        :raises StrataError: it does not give them.
        """


class BlobStream(io.RawIOBase):
    """The bytes of one blob, once. The first of the sources that has it is read; another goes on where it fails."""

    def __init__(self, sources: Sequence[BlobSource], digest: str, size: int, sleep: Sleep = time.sleep) -> None:
        super().__init__()
        self._sources = list(sources)
        self._digest = digest
        self._size = size
        self._sleep = sleep
        self._at = 0
        self._hash = hashlib.sha256()
        self._response: Optional[Response] = None
        self._breaks = 0
        self._got = 0
        self._reasons: list[str] = []
        self._whole = False
        self._small: Optional[io.BytesIO] = None
        self._givers: dict[str, None] = {}

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Up to the buffer's size.

        :raises StrataError: nobody has the rest; or, in place of the last bytes, the digest is wrong.
        """
        if self._size <= _SMALL:
            if self._small is None:
                self._small = io.BytesIO(self._read_whole())
            return self._small.readinto(buffer)
        view = memoryview(buffer)[: self._size - self._at]
        piece = self._piece(len(view)) if view else b""
        if self._at == self._size and not self._whole:
            if not self._is_right():
                raise self._damaged()
            self._whole = True
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _read_whole(self) -> bytes:
        """All of a small blob: of one who sends other bytes nothing has been used yet, and the next one is asked."""
        while True:
            pieces = []
            while self._at < self._size:
                pieces.append(self._piece(self._size - self._at))
            if self._is_right():
                return b"".join(pieces)
            error = self._damaged()
            self._disconnect()
            if len(self._givers) < 2 and self._sources:
                self._reasons.append(str(error))
                self._sources.pop(0)
            if not self._sources:
                raise StrataError(last_of(self._reasons)) from error
            self._at, self._breaks, self._got = 0, 0, 0
            self._hash = hashlib.sha256()
            self._givers.clear()

    def _piece(self, size: int) -> bytes:
        piece = self._next(size)
        self._hash.update(piece)
        self._at += len(piece)
        self._givers.setdefault(self._sources[0].description)
        return piece

    def _next(self, size: int) -> bytes:
        """At least one byte, from whoever has it."""
        while True:
            try:
                if self._response is None:
                    self._response = self._connect()
                piece = self._response.read(size)
                if piece:
                    self._got += len(piece)
                    if self._got >= ENOUGH:
                        self._breaks, self._got = 0, 0
                    return piece
                raise RequestError(f"{self._sources[0].description} ended the connection too early", passing=True)
            except RequestError as error:
                self._recover(error, is_worth_waiting(error), error.wait)
            except StrataError as error:
                self._recover(error, False, 0)

    def _connect(self) -> Response:
        response = self._sources[0].blob(self._digest, self._at)
        try:
            self._skip(response)
        except BaseException:
            response.close()
            raise
        return response

    def _skip(self, response: Response) -> None:
        """Stand at the byte that is wanted next, whatever the server begins with."""
        if response.status == 206:
            found = _RANGE.match(response.header("Content-Range"))
            if not found or int(found.group(1)) != self._at:
                raise RequestError(f"{self._sources[0].description} gives another part of the blob than was asked for")
            return
        if response.length is not None and response.length != self._size:
            raise RequestError(
                f"{self._sources[0].description} has {response.length} bytes and should have {self._size}: "
                "it is damaged"
            )
        if not skip(response.read, self._at):
            raise RequestError(f"{self._sources[0].description} ended the connection too early", passing=True)

    def _recover(self, error: StrataError, is_passing: bool, wait: float) -> None:
        """Wait and stay with the source, or turn to the next one."""
        self._disconnect()
        source = self._sources[0]
        if is_passing and self._breaks < len(source.pauses):
            self._sleep(max(source.pauses[self._breaks], wait))
            self._breaks += 1
            return
        self._breaks, self._got = 0, 0
        self._reasons.append(str(error))
        self._sources.pop(0)
        if not self._sources:
            got = f" after {self._at} of {self._size} bytes" if self._at else ""
            raise StrataError(f"blob {self._digest}{got}: {last_of(self._reasons)}") from error

    def _is_right(self) -> bool:
        return SHA256 + self._hash.hexdigest() == self._digest

    def _damaged(self) -> StrataError:
        return StrataError(
            f"the blob from {' and '.join(self._givers) or 'the registry'} has digest {SHA256}{self._hash.hexdigest()} "
            f"and should have {self._digest}; it is damaged. Run again, and if it happens again, push the "
            "image anew, or leave out the mirror that damages it"
        )

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def last_of(reasons: Sequence[str]) -> str:
    """The registry's own reason, with those of the mirrors that were asked before it."""
    before = "".join(f" Before it: {reason}." for reason in reasons[:-1])
    return f"{reasons[-1]}{'.' if before else ''}{before}"
