# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Downloads a URL as a stream and resumes after broken connections. Stores nothing.

Loaded when a definition has a URL: what it imports is large. Source: RFC 9110, 13 (conditions) and 14 (ranges).
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Mapping
from typing import IO, Any, Optional, Union, cast
from urllib.parse import unquote, urlsplit

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, error_text
from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import shown_url
from ansible_collections.strata.overlay.plugins.module_utils._source.http import (
    Client,
    RequestError,
    Response,
    http_date,
    skip,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.retry import ENOUGH, PAUSES, Sleep

_NOT_MODIFIED = 304
_PARTIAL = 206
_CUT_SHORT = "the server ended the connection too early"
_CONDITIONS = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
"""By which header a mark is asked about."""


class UrlStream(io.RawIOBase):
    """The bytes that a server has under a URL, once and as they lie there, whatever it says of their encoding.

    Where the connection breaks it goes on with a new one, if the server can say that it has the same bytes still.

    :ivar unchanged: it is what was seen before; then there is nothing to read.
    :ivar marks: by which a later change is noticed: "etag" and "last_modified", "" where the server has none.
    :ivar size: bytes, None where the server does not say.
    """

    def __init__(
        self,
        url: str,
        seen: Optional[Mapping[str, str]] = None,
        sleep: Sleep = time.sleep,
        headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        """
        :param seen: ``marks`` of an earlier stream.
        :param headers: for the URL's own server: who asks.
        :raises StrataError: the server does not give it.
        """
        super().__init__()
        self._url = url
        self._shown = shown_url(url)
        self._headers = dict(headers or {})
        self._sleep = sleep
        self._at = 0
        self._breaks = 0
        self._got = 0
        self._hash = hashlib.sha256()
        self._response: Any = None
        seen = seen or {}
        answer = self._ask(_conditions(seen))
        self.unchanged = answer is None
        self.marks: Mapping[str, str] = seen if answer is None else _marks(answer)
        self.size: Optional[int] = None if answer is None else answer.length
        self._validator = "" if answer is None else _validator(answer)
        self._response = answer

    @property
    def digest(self) -> str:
        """Of what has been read so far."""
        return SHA256 + self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Up to the buffer's size; 0 at the end.

        :raises StrataError: the rest cannot be had.
        """
        piece = self._next(len(buffer)) if buffer and not self.unchanged else b""
        self._hash.update(piece)
        self._at += len(piece)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        super().close()

    def _next(self, size: int) -> bytes:
        while True:
            try:
                piece: bytes = self._response.read(size)
                self._got += len(piece)
                if self._got >= ENOUGH:
                    self._breaks, self._got = 0, 0
                if piece or self.size is None or self._at == self.size:
                    return piece
                reason = _CUT_SHORT
            except (StrataError, OSError) as error:
                reason = error_text(error)
            self._go_on(reason)

    def _go_on(self, reason: str) -> None:
        """Ask for the rest, until the server gives it or has been asked often enough."""
        self._response.close()
        while self._breaks < len(PAUSES) and self._validator:
            self._sleep(PAUSES[self._breaks])
            self._breaks += 1
            try:
                self._response = self._rest()
                return
            except _OtherError as error:
                reason = str(error)
                break
            except StrataError as error:
                reason = str(error)
        of = f" of {self.size}" if self.size is not None else ""
        raise StrataError(
            f"the download of {self._shown} broke off after {self._at}{of} bytes: {reason}. Nothing of it was kept; "
            "run again"
        )

    def _rest(self) -> Response:
        """An answer that begins with the byte that is wanted next; of a changed file, all of it would come."""
        answer = self._ask({"Range": f"bytes={self._at}-", "If-Range": self._validator})
        try:
            if not isinstance(answer, Response):
                raise _OtherError("the server answers what was not asked")
            if answer.status == _PARTIAL:
                if not answer.header("Content-Range").startswith(f"bytes {self._at}-"):
                    raise _OtherError("the server gives another part than it was asked for")
            else:
                if _validator(answer) != self._validator or answer.length != self.size:
                    raise _OtherError("it has changed on the server")
                if not skip(answer.read, self._at):
                    raise StrataError(_CUT_SHORT)
        except BaseException:
            if answer is not None:
                answer.close()
            raise
        return answer

    def _ask(self, headers: Mapping[str, str]) -> Optional[_Answer]:
        """The server's answer, None where it was asked whether something has changed, and nothing has."""
        if urlsplit(self._url).scheme == "file":
            return _open_file(self._url)
        try:
            answer = Client().open(self._url, {**self._headers, **headers})
        except RequestError as error:
            raise StrataError(f"cannot fetch {self._shown}: {error}") from error
        if answer.is_good:
            return answer
        answer.close()
        if answer.status == _NOT_MODIFIED and not headers.keys().isdisjoint(_CONDITIONS.values()):
            return None
        by = f"{answer.host}, to which the server redirects," if answer.redirected else "the server"
        raise StrataError(f"{by} answered {answer.status} {answer.reason} to a request for {self._shown}")


class _OtherError(StrataError):
    """What the server has now is not what was begun."""


class _File:
    """A file of this host in place of an answer."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.read = stream.read
        self.close = stream.close
        self.length = os.fstat(stream.fileno()).st_size

    def header(self, _name: str) -> str:
        return ""


_Answer = Union[Response, _File]


def _open_file(url: str) -> _File:
    """
    :raises StrataError: it cannot be opened, or may have no end.
    """
    parts = urlsplit(url)
    try:
        if parts.netloc not in ("", "localhost"):
            raise OSError(f"{parts.netloc.rpartition('@')[2]} is another host")
        # Nobody may ever write into a FIFO.
        descriptor = os.open(unquote(parts.path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stream = os.fdopen(descriptor, "rb", buffering=0)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            stream.close()
            raise OSError("it is no regular file")
    except (OSError, ValueError) as error:
        raise StrataError(f"cannot fetch {shown_url(url)}: {error_text(error)}") from error
    return _File(cast("IO[bytes]", stream))


def _conditions(seen: Mapping[str, str]) -> dict[str, str]:
    return {header: seen[mark] for mark, header in _CONDITIONS.items() if seen.get(mark)}


def _marks(answer: _Answer) -> Mapping[str, str]:
    return {"etag": answer.header("ETag"), "last_modified": answer.header("Last-Modified")}


def _validator(answer: _Answer) -> str:
    """The mark that stands for these very bytes; "" where there is none. Source: RFC 9110, 8.8.2.2 and 8.8.3.1."""
    etag, modified, date = (answer.header(name) for name in ("ETag", "Last-Modified", "Date"))
    if etag and not etag.startswith("W/"):
        return etag
    changed, sent = http_date(modified), http_date(date)
    # A file can change twice in the second in which it was sent.
    return modified if changed is not None and sent is not None and sent - changed >= 1 else ""
