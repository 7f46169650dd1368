# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What a URL names, as a stream that outlives broken connections. Nothing of it is kept.

Loaded when a definition has a URL: what it imports is large. Source: RFC 9110, 13 (conditions) and 14 (ranges).
"""

from __future__ import annotations

import hashlib
import io
import time
from email.utils import mktime_tz, parsedate_tz
from http.client import HTTPException
from typing import Any, Dict, Mapping, Optional
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url
from ansible_collections.strata.overlay.plugins.module_utils._chain import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._http import skip
from ansible_collections.strata.overlay.plugins.module_utils._retry import PAUSES, Sleep
from ansible_collections.strata.overlay.plugins.module_utils._urltext import shown_url

_TIMEOUT = 60
_NOT_MODIFIED = 304
_PARTIAL = 206
_CUT_SHORT = "the server ended the connection too early"
_CONDITIONS = {"etag": "If-None-Match", "last_modified": "If-Modified-Since"}
"""By which header a mark is asked about."""


class UrlStream(io.RawIOBase):
    """The bytes that a server has under a URL, once and as they lie there, whatever it says of their encoding.

    Where the connection breaks it goes on with a new one, if the server can say that it has the same bytes still.

    :ivar unchanged: it is what was seen before; then there is nothing to read.
    :ivar marks: what tells later that it has changed: "etag" and "last_modified", "" where the server has none.
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
        self._hash = hashlib.sha256()
        self._response: Any = None
        seen = seen or {}
        answer = self._ask(_conditions(seen))
        self.unchanged = answer is None
        self.marks: Mapping[str, str] = seen if answer is None else _marks(answer)
        self.size: Optional[int] = None if answer is None else _length(answer)
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
                if piece:
                    self._breaks = 0
                if piece or self.size is None or self._at == self.size:
                    return piece
                reason = _CUT_SHORT
            except (OSError, HTTPException) as error:
                reason = str(error) or type(error).__name__
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
            except (StrataError, OSError, HTTPException) as error:
                reason = str(error)
        of = f" of {self.size}" if self.size is not None else ""
        raise StrataError(
            f"the download of {self._shown} broke off after {self._at}{of} bytes: {reason}. Nothing of it was kept; "
            "run again"
        )

    def _rest(self) -> Any:
        """An answer that begins with the byte that is wanted next; of a changed file, all of it would come."""
        answer = self._ask({"Range": f"bytes={self._at}-", "If-Range": self._validator})
        try:
            if getattr(answer, "status", None) == _PARTIAL:
                if not str(answer.headers.get("Content-Range")).startswith(f"bytes {self._at}-"):
                    raise _OtherError("the server gives another part than it was asked for")
            else:
                if _validator(answer) != self._validator or _length(answer) != self.size:
                    raise _OtherError("it has changed on the server")
                if not skip(answer.read, self._at):
                    raise StrataError(_CUT_SHORT)
        except BaseException:
            answer.close()
            raise
        return answer

    def _ask(self, headers: Mapping[str, str]) -> Any:
        """The server's answer, None where it was asked whether something has changed, and nothing has."""
        try:
            return open_url(
                self._url,
                headers={**self._headers, **headers},
                timeout=_TIMEOUT,
                decompress=False,
                unredirected_headers=list(self._headers),
                use_netrc=False,
            )
        except HTTPError as error:
            with error:
                if error.code == _NOT_MODIFIED and not headers.keys().isdisjoint(_CONDITIONS.values()):
                    return None
                raise StrataError(
                    f"the server answered {error.code} {error.reason} to a request for {self._shown}"
                ) from error
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise StrataError(f"cannot fetch {self._shown}: {getattr(error, 'reason', error)}") from error


class _OtherError(StrataError):
    """What the server has now is not what was begun."""


def _conditions(seen: Mapping[str, str]) -> Dict[str, str]:
    return {header: seen[mark] for mark, header in _CONDITIONS.items() if seen.get(mark)}


def _marks(answer: Any) -> Mapping[str, str]:
    return {"etag": answer.headers.get("ETag") or "", "last_modified": answer.headers.get("Last-Modified") or ""}


def _validator(answer: Any) -> str:
    """The mark that stands for these very bytes; "" where there is none. Source: RFC 9110, 8.8.2.2 and 8.8.3.1."""
    etag, modified, date = (answer.headers.get(name) or "" for name in ("ETag", "Last-Modified", "Date"))
    if etag and not etag.startswith("W/"):
        return str(etag)
    changed, sent = parsedate_tz(modified), parsedate_tz(date)
    # A file can change twice in the second in which it was sent.
    return str(modified) if changed and sent and mktime_tz(sent) - mktime_tz(changed) >= 1 else ""


def _length(answer: Any) -> Optional[int]:
    text = answer.headers.get("Content-Length") or ""
    return int(text) if text.isdigit() else None
