# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""HTTP on the wire: only http and https, and every wait has a limit.

What Python's own client leaves unbounded is bounded here: answers that come byte by byte, sizes of chunks below zero,
trailers without end; and an answer that comes before all has been sent is read, as RFC 9112, 9.6 wants it.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import socket
import ssl
import time
import urllib.request
from typing import Any, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._source.http_origin import Login

_WINDOW = 300.0
"""Seconds of waiting in which a body that is streamed has to bring `_LEAST` bytes: 1,000 in a second, as dnf asks."""

_LEAST = 300_000
_MOST_TRAILERS = 100
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_LONGEST_LINE = 65_536


class SlowError(OSError):
    """A server that does answer, but too slowly.

    :ivar streams: that a large body came slowly, of which another connection may bring the rest.
    """

    def __init__(self, message: str, streams: bool) -> None:
        super().__init__(message)
        self.streams = streams


class Watch:
    """How long is waited for a server.

    Until `stream` is called, all of it has to be over at one time. From then on it may take as long as it brings
    something: only the time in which it is waited for counts, not that in which its bytes are used.
    """

    def __init__(self, idle: float, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        :param idle: seconds without a sign of life. :param total: seconds for a whole answer that is not streamed.
        """
        self._idle = idle
        self._total = total
        self._clock = clock
        self._until = clock() + total
        self._streams = False
        self._waited = 0.0
        self._got = 0

    def stream(self) -> None:
        """What comes now is large."""
        self._streams = True

    def wait(self, read: Callable[[], int], set_timeout: Callable[[float], None]) -> int:
        """Read once.

        :raises SlowError: it has lasted too long.
        """
        begin = self._clock()
        left = _WINDOW - self._waited if self._streams else self._until - begin
        if left <= 0:
            raise self._slow()
        set_timeout(min(self._idle, left))
        try:
            count = read() or 0
        except socket.timeout as error:
            if left < self._idle:
                raise self._slow() from error
            raise
        self._waited += self._clock() - begin
        self._got += count
        if self._got >= _LEAST:
            self._waited, self._got = 0.0, 0
        return count

    def _slow(self) -> SlowError:
        if self._streams:
            return SlowError(f"fewer than {_LEAST} bytes came within {_WINDOW:g} seconds", True)
        return SlowError(f"its answer was not whole within {self._total:g} seconds", False)


class _WatchedReader(io.RawIOBase):
    """A socket's bytes, first those that were read before anybody waited for an answer."""

    def __init__(self, raw: Any, sock: Any, watch: Watch, early: bytes) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._watch = watch
        self._early = early

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._early:
            count = min(len(buffer), len(self._early))
            buffer[:count], self._early = self._early[:count], self._early[count:]
            return count
        return self._watch.wait(lambda: self._raw.readinto(buffer), self._sock.settimeout)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    watch: Watch
    early = b""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_WatchedReader(sock.makefile("rb", buffering=0), sock, self.watch, self.early))

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            # Python would read all that comes, into memory.
            self._close_conn()  # type: ignore[attr-defined]
            raise http.client.HTTPException(f"it sends a chunk of {size} bytes")
        return size

    def _read_and_discard_trailer(self) -> None:
        for _line in range(_MOST_TRAILERS):
            line = self.fp.readline(_LONGEST_LINE + 1)
            if len(line) > _LONGEST_LINE:
                raise http.client.LineTooLong("trailer line")
            if line in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException(f"it sends more than {_MOST_TRAILERS} lines after its answer")


class _AnsweredError(Exception):
    """An answer has come, or the server is gone, before all was sent."""


class _Sending:
    """Mixed into a connection: between two pieces of a body it looks whether there is an answer already."""

    sock: Any
    _head_is_sent = False

    def request(self, *arguments: Any, **options: Any) -> None:
        try:
            super().request(*arguments, **options)  # type: ignore[misc]
        except _AnsweredError:
            pass
        except (ConnectionError, ssl.SSLError):
            # The server has closed, and may have sent the reason before.
            if not self._head_is_sent:
                raise
        finally:
            # getresponse() reports the rest.
            self._settle()

    def send(self, data: Any) -> None:
        if not self._head_is_sent:
            super().send(data)  # type: ignore[misc]
            self._head_is_sent = True
            return
        timeout = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            self._send_and_look(memoryview(data).cast("B"), timeout)
        finally:
            self.sock.settimeout(timeout)

    def _send_and_look(self, view: memoryview, timeout: Optional[float]) -> None:
        """Also while the server takes nothing: it may have answered and gone, and what it said can be lost then."""
        ready = select.poll()
        ready.register(self.sock, select.POLLIN | select.POLLOUT)
        while view:
            with contextlib.suppress(*_NOT_NOW):
                self._early = self.sock.recv(_LONGEST_LINE)
                raise _AnsweredError
            try:
                view = view[self.sock.send(view) :]
            except _NOT_NOW as error:
                if not ready.poll(None if timeout is None else timeout * 1000):
                    raise socket.timeout("timed out") from error

    def _settle(self) -> None:
        response_class: Any = self.response_class
        response_class.early = self._early

    _early = b""
    response_class: Any


class _Plain(_Sending, http.client.HTTPConnection):
    pass


class _Secure(_Sending, http.client.HTTPSConnection):
    pass


class _Handler(urllib.request.AbstractHTTPHandler):
    """http and https, by the connections above."""

    def __init__(self, watch: Watch, context: Callable[[], ssl.SSLContext]) -> None:
        super().__init__()
        self._watch = watch
        self._make_context = context

    def http_open(self, request: Any) -> Any:
        return self.do_open(self._connection(_Plain), request)

    def https_open(self, request: Any) -> Any:
        return self.do_open(self._connection(_Secure), request, context=self._make_context())

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connection(self, kind: Any) -> Any:
        answer = type("Answer", (_Answer,), {"watch": self._watch})
        return type("Connection", (kind,), {"response_class": answer})


class _AskedForLogin(urllib.request.BaseHandler):
    """Lets those who know a login answer a 401; every other answer, and a login refused, is the caller's."""

    handler_order = 1000

    def http_response(self, request: Any, response: Any) -> Any:
        if response.status != 401:
            return response
        answered = self.parent.error("http", request, response, response.status, response.reason, response.headers)
        return answered if answered is not None else response

    https_response = http_response


def send_request(
    request: urllib.request.Request,
    login: Optional[Login],
    watch: Watch,
    idle: float,
    context: Callable[[], ssl.SSLContext],
    use_proxy: bool,
) -> Any:
    """One request -> the answer to it, an `http.client.HTTPResponse` of whatever status. No redirect is followed.

    :param login: for a server that asks for one, by Basic or Digest; never for a proxy.
    :raises OSError, http.client.HTTPException, ValueError, LookupError: there is no answer that could be understood.
    """
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(None if use_proxy else {}),
        urllib.request.UnknownHandler(),
        _Handler(watch, context),
    ]
    if login:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, request.host, *login)
        handlers += [
            urllib.request.HTTPDigestAuthHandler(passwords),
            urllib.request.HTTPBasicAuthHandler(passwords),
            _AskedForLogin(),
        ]
    # Not build_opener: that one adds handlers for ftp, file and data.
    opener = urllib.request.OpenerDirector()
    opener.addheaders = []
    for handler in handlers:
        opener.add_handler(handler)
    return opener.open(request, timeout=idle)
