# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The HTTP client for downloads, registries and health checks.

Nothing here knows what a registry is. Proxies are taken from the environment, but not for this host. Where a server may
lead, and what is sent there, `_source/http_origin` says; how long an answer may take, `_source/http_wire`.
"""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from email.message import Message
from typing import Any, Callable, Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._source.http_origin import (
    Login,
    Origin,
    check_headers,
    origin_of,
    redirect_target,
    split_login,
    without_credentials,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.http_wire import SlowError, Watch, send_request

_AGENT = "strata.overlay"
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_SAME_METHOD = (307, 308)
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")
_NUMBER = re.compile(r"^[0-9]{1,18}\Z")
_LOOPBACK = re.compile(r"^(?:localhost|127(?:\.[0-9]+){3}|::1)\Z")
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[\\s\\x21-\\x7e]*?-----END CERTIFICATE-----")
_FOR_EVER = 1e9
"""Seconds; what a server asks for beyond that is no time."""

_PIECE = 1 << 18
TIMEOUT = 60.0
"""Seconds without a sign of life."""

_TOTAL = 300.0
"""Seconds for an answer as a whole, unless it is streamed: the longest manifest, at 15 kB in a second."""

Body = Union[bytes, Callable[[], Iterable[bytes]]]


class RequestError(StrataError):
    """A request that was not answered as it should have been.

    :ivar passing: whether the same request may succeed in a while.
    :ivar wait: seconds that the server asks to wait; 0 where it does not.
    :ivar status: of the answer; 0 where there was none.
    :ivar speaks_http: the server that was asked, and none that it led to, does not speak TLS.
    """

    def __init__(
        self, message: str, passing: bool = False, wait: float = 0, status: int = 0, speaks_http: bool = False
    ) -> None:
        super().__init__(message)
        self.passing = passing
        self.wait = wait
        self.status = status
        self.speaks_http = speaks_http


class Response:
    """An answer; a context manager. Its body is read once: as a stream, or whole where it is small.

    :ivar origin: who answered, which is another one than was asked where a redirect was followed.
    :ivar host: it, for messages.
    :ivar redirected: it is from another origin than the one that was asked.
    """

    def __init__(self, stream: Any, origin: Origin, watch: Watch, wrap: Callable[[Exception], RequestError]) -> None:
        """
        :raises RequestError: the length of its body is ambiguous.
        """
        self.redirected = False
        self.status: int = stream.status
        self.reason = str(stream.reason or "")
        self.headers: Message = stream.headers
        self.origin = origin
        self.host = str(origin)
        self._stream = stream
        self._watch = watch
        self._wrap = wrap
        self.length = self._length()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def may_pass(self) -> bool:
        """Whether a server that answers so may answer otherwise in a while."""
        return self.status in _PASSING_STATUS

    @property
    def wait(self) -> float:
        """Seconds in Retry-After, from now on where it is a date; 0 for what is neither. Source: RFC 9110, 10.2.3."""
        text = self.header("Retry-After")
        if text.isascii() and text.isdigit():
            return float(text) if _NUMBER.match(text) and float(text) < _FOR_EVER else _FOR_EVER
        date = http_date(text)
        return min(max(0.0, date - time.time()), _FOR_EVER) if date is not None else 0.0

    def header(self, name: str) -> str:
        """The first of that name, "" where there is none."""
        return str(self.headers.get(name) or "").strip()

    def all(self, name: str) -> list[str]:
        """A header's values, each on its own."""
        return [str(value) for value in self.headers.get_all(name) or []]

    def read(self, size: int) -> bytes:
        """Up to so many bytes; none at the end, and also where the connection ends too early.

        :raises RequestError: the connection broke, or brings next to nothing.
        """
        self._watch.stream()
        return self._read(size)

    def body(self, limit: int) -> bytes:
        """All of it, or ``limit`` bytes and one more where it is longer.

        :raises RequestError: as of `read`; also where it takes too long as a whole.
        """
        pieces: list[bytes] = []
        left = limit + 1
        while left:
            piece = self._read(left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        found = b"".join(pieces)
        if self.length is not None and len(found) < min(self.length, limit + 1):
            raise RequestError(f"{self.host} cut its answer short", passing=True)
        return found

    def close(self) -> None:
        self._stream.close()

    def _read(self, size: int) -> bytes:
        try:
            piece: bytes = self._stream.read(size)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._wrap(error) from error
        return piece

    def _length(self) -> Optional[int]:
        """Bytes of the body, where it says so. Source: RFC 9112, 6.3."""
        lengths = {text.strip() for value in self.all("Content-Length") for text in value.split(",")} - {""}
        if not lengths or self._stream.chunked:
            return None
        if len(lengths) > 1 or not _NUMBER.match(next(iter(lengths))):
            self.close()
            raise RequestError(f"{self.host} answers with a Content-Length that is no number")
        return int(lengths.pop())


class Client:
    """How requests are made."""

    def __init__(
        self,
        ca_path: str = "",
        validate_certs: bool = True,
        timeout: float = TIMEOUT,
        *,
        total: float = _TOTAL,
        ca: str = "",
    ) -> None:
        """
        :param ca_path: certificates of authorities; "" for those of the system.
        :param ca: the same as text, in PEM form.
        :param timeout: seconds without a sign of life.
        :param total: seconds for an answer as a whole, unless it is streamed.
        """
        self._ca_path = ca_path
        self._ca = ca
        self._validate_certs = validate_certs
        self._timeout = timeout
        self._total = total
        self._context: Optional[ssl.SSLContext] = None

    def open(
        self,
        url: str,
        headers: Mapping[str, str],
        data: Optional[Body] = None,
        method: str = "",
        *,
        follow: bool = True,
    ) -> Response:
        """GET, or POST of ``data``; redirects are followed, with data those that say to send it there. Any status is an
        answer.

        Headers and a login in the URL are for its origin alone: one that a redirect leads to gets neither.

        :param data: bytes; or a function that gives them in pieces, as often as it is called, where a header tells the
            length of the whole.
        :param method: another one, such as HEAD or PUT.
        :param follow: whether redirects are followed at all.
        :raises RequestError: there was none.
        """
        try:
            check_headers(headers)
            url, login = split_login(url)
            origin = origin_of(url)
        except ValueError as error:
            raise RequestError(f"the request cannot be sent: {error}") from error
        method = method or ("GET" if data is None else "POST")
        sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        for hop in range(_MOST_REDIRECTS):
            response = self._once(url, sent, data, method, login, is_first=not hop)
            location = response.header("Location")
            response.redirected = response.origin != origin
            followed = _REDIRECTS if data is None else _SAME_METHOD
            if not follow or response.status not in followed or not location:
                return response
            response.close()
            try:
                url = redirect_target(url, location)
            except ValueError as error:
                raise RequestError(f"{response.host} redirects to {error}") from error
            if origin_of(url) != response.origin:
                sent, login = without_credentials(sent), None
        raise RequestError(f"{response.host} redirects more than {_MOST_REDIRECTS} times")

    def _once(
        self,
        url: str,
        headers: Mapping[str, str],
        data: Optional[Body],
        method: str,
        login: Optional[Login],
        is_first: bool,
    ) -> Response:
        origin = origin_of(url)
        watch = Watch(self._timeout, self._total)

        def wrap(error: Exception) -> RequestError:
            return _failure(error, str(origin), self._timeout, is_first)

        body = data() if callable(data) else data
        request = urllib.request.Request(url, body, dict(headers), method=method)
        use_proxy = not _LOOPBACK.match(origin.host)
        try:
            stream = send_request(request, login, watch, self._timeout, self._tls, use_proxy)
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            raise wrap(error) from error
        return Response(stream, origin, watch, wrap)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._new_context()
        return self._context

    def _new_context(self) -> ssl.SSLContext:
        if not self._ca_path and not self._ca:
            # Large, and most runs ask no server. It knows where distributions keep their certificates.
            from ansible.module_utils.urls import make_context

            context: ssl.SSLContext = make_context(validate_certs=self._validate_certs)
            return context
        try:
            context = ssl.create_default_context(cafile=self._ca_path or None, cadata=_certificates(self._ca))
        except (ssl.SSLError, ValueError) as error:
            ca_source = f"ca_path {self._ca_path}" if self._ca_path else "the text of option ca"
            raise RequestError(
                f"{ca_source} has no certificate in PEM form: {getattr(error, 'reason', error)}"
            ) from error
        except OSError as error:
            raise RequestError(f"cannot read ca_path {self._ca_path}: {error.strerror or error}") from error
        if not self._validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def skip(read: Callable[[int], bytes], count: int) -> bool:
    """Read on past so many bytes; False where the answer ends before."""
    while count:
        piece = read(min(count, _PIECE))
        if not piece:
            return False
        count -= len(piece)
    return True


def http_date(text: str) -> Optional[float]:
    """Seconds since 1970 that a date in a header stands for; None for what is no date, and for years out of reach."""
    try:
        parts = email.utils.parsedate_tz(text)
        return float(email.utils.mktime_tz(parts)) if parts else None
    except (ValueError, OverflowError, TypeError, LookupError):
        return None


def _certificates(text: str) -> Optional[str]:
    """The certificates in a text without what stands between them, which may be in any language."""
    # If it holds no certificate, let OpenSSL fail instead of using those of the system.
    return "\n".join(_CERTIFICATE.findall(text)) or "none" if text else None


def _failure(error: Exception, host: str, timeout: float, is_first: bool) -> RequestError:
    """What the system says of a connection -> words.

    :param is_first: whether this is the server that was asked, and none that it led to.
    """
    reason: Any = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return RequestError(
            f"the certificate of {host} is not accepted: {reason.verify_message or reason}. Name the file with the "
            "certificate of its authority in ca_path, or give it as ca"
        )
    if isinstance(reason, ssl.SSLError) and reason.reason in _NO_TLS:
        return RequestError(
            f"{host} does not speak TLS. If it has to be spoken to without, write http:// before it",
            speaks_http=is_first,
        )
    if isinstance(reason, socket.gaierror):
        known = reason.errno not in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        return RequestError(f"the name of {host} cannot be resolved: {reason.strerror}", passing=known)
    if isinstance(reason, socket.timeout):
        return RequestError(f"{host} does not answer within {timeout:g} seconds", passing=True)
    if isinstance(reason, SlowError):
        return RequestError(f"{host} is too slow: {reason}", passing=reason.streams)
    if isinstance(reason, UnicodeError):
        return RequestError(f"cannot speak to {host}: its name, or that of its proxy, is not one")
    if isinstance(reason, http.client.IncompleteRead):
        return RequestError(f"{host} ended the connection too early", passing=True)
    if isinstance(reason, OSError):
        return RequestError(f"cannot speak to {host}: {reason.strerror or reason}", passing=True)
    if isinstance(error, urllib.error.URLError):
        # What urllib itself says: of a proxy that is spoken to by another protocol, such as socks5.
        return RequestError(f"cannot speak to {host}: {reason}; look at the proxies in the environment")
    if isinstance(reason, http.client.HTTPException):
        lengths = str(reason) or type(reason).__name__
        return RequestError(f"{host} gives an answer that is not HTTP: {lengths}", passing=True)
    # The text of ValueError and LookupError may repeat what was sent.
    return RequestError(f"{host} gives an answer that is not understood ({type(reason).__name__})", passing=True)
