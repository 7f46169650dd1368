# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One HTTP request -> its answer, or in words why there is none. Proxies are taken from the environment.

Nothing here knows what a registry is. Credentials go to the host that they are meant for and not to where it redirects.
"""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
import time
import urllib.error
from dataclasses import dataclass
from email.message import Message
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Union
from urllib.parse import urljoin, urlsplit

from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError

_AGENT = "strata.overlay"
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")
_AUTHORIZATION = "authorization"
_PIECE = 1 << 18


Body = Union[bytes, Iterable[bytes]]


class RequestError(StrataError):
    """A request that was not answered as it should have been.

    :ivar passing: whether the same request may succeed in a while.
    :ivar wait: seconds that the server asks to wait; 0 where it does not.
    :ivar status: of the answer; 0 where there was none.
    :ivar speaks_http: the server does not speak TLS.
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
    """An answer; a context manager. Its body is read once, piece by piece."""

    def __init__(self, status: int, headers: Message, stream: Any, host: str) -> None:
        self.status = status
        self.headers = headers
        self.host = host
        self._stream = stream

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
        """Seconds in Retry-After, from now on where it is a date. Source: RFC 9110, 10.2.3."""
        text = (self.headers.get("Retry-After") or "").strip()
        if text.isdigit():
            return float(text)
        date = email.utils.parsedate_tz(text)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else 0.0

    @property
    def length(self) -> Optional[int]:
        """Bytes of the body, where it says so."""
        text = (self.headers.get("Content-Length") or "").strip()
        return int(text) if text.isdigit() else None

    def all(self, name: str) -> List[str]:
        """A header's values, each on its own."""
        return [str(value) for value in self.headers.get_all(name) or []]

    def read(self, size: int) -> bytes:
        """Up to so many bytes; none at the end, and also where the connection ends too early.

        :raises RequestError: the connection broke.
        """
        try:
            piece: bytes = self._stream.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise _failure(error, self.host) from error
        return piece

    def body(self, limit: int) -> bytes:
        """All of it, or ``limit`` bytes and one more where it is longer."""
        pieces: List[bytes] = []
        left = limit + 1
        while left:
            piece = self.read(left)
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


@dataclass(frozen=True)
class Client:
    """How requests are made.

    :ivar ca_path: certificates of authorities; "" for those of the system.
    :ivar timeout: seconds without a sign of life.
    """

    ca_path: str = ""
    validate_certs: bool = True
    timeout: float = 60

    def open(self, url: str, headers: Mapping[str, str], data: Optional[Body] = None, method: str = "") -> Response:
        """GET, or POST of ``data``; redirects are followed, those of requests with data not. Any status is an answer.

        :param data: bytes, or pieces of them where a header tells the length of the whole.
        :param method: another one, such as HEAD or PUT.
        :raises RequestError: there was none.
        """
        sent = dict(headers)
        method = method or ("GET" if data is None else "POST")
        for _hop in range(_MOST_REDIRECTS):
            response = self._once(url, sent, data, method)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location or data is not None:
                return response
            response.close()
            target = urljoin(url, location)
            _check_redirect(url, target)
            if _origin(target) != _origin(url):
                sent = {name: value for name, value in sent.items() if name.lower() != _AUTHORIZATION}
            url = target
        raise RequestError(f"{_origin(url)[1]} redirects more than {_MOST_REDIRECTS} times")

    def _once(self, url: str, headers: Dict[str, str], data: Optional[Body], method: str) -> Response:
        # Large, and most runs ask no registry.
        from ansible.module_utils.urls import open_url

        host = _origin(url)[1]
        self._check_authorities()
        try:
            stream = open_url(
                url,
                data=data,
                headers=headers,
                method=method,
                http_agent=_AGENT,
                timeout=self.timeout,
                validate_certs=self.validate_certs,
                ca_path=self.ca_path or None,
                follow_redirects="none",
                decompress=False,
                use_netrc=False,
            )
        except urllib.error.HTTPError as error:
            return Response(error.code, error.headers, error, host)
        except (OSError, http.client.HTTPException) as error:
            raise _failure(error, host, self.timeout) from error
        return Response(stream.status, stream.headers, stream, host)

    def _check_authorities(self) -> None:
        if not self.ca_path:
            return
        try:
            ssl.create_default_context(cafile=self.ca_path)
        except ssl.SSLError as error:
            raise RequestError(f"ca_path {self.ca_path} has no certificate in PEM form: {error.reason}") from error
        except OSError as error:
            raise RequestError(f"cannot read ca_path {self.ca_path}: {error.strerror or error}") from error


def skip(read: Callable[[int], bytes], count: int) -> bool:
    """Read on past so many bytes; False where the answer ends before."""
    while count:
        piece = read(min(count, _PIECE))
        if not piece:
            return False
        count -= len(piece)
    return True


def _origin(url: str) -> Tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _check_redirect(url: str, target: str) -> None:
    scheme, host = _origin(target)
    if scheme not in ("http", "https") or (scheme == "http" and _origin(url)[0] == "https"):
        # The address is not repeated: storage services sign it.
        raise RequestError(f"{_origin(url)[1]} redirects to {scheme}://{host}, which is not followed: it has no TLS")


def _failure(error: Exception, host: str, timeout: float = 0) -> RequestError:
    """What the system says of a connection -> words."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return RequestError(
            f"the certificate of {host} is not accepted: {reason.verify_message or reason}. Name the file with the "
            "certificate of its authority in ca_path"
        )
    if isinstance(reason, ssl.SSLError) and reason.reason in _NO_TLS:
        return RequestError(
            f"{host} does not speak TLS. If it has to be spoken to without, write http:// before it", speaks_http=True
        )
    if isinstance(reason, socket.gaierror):
        known = reason.errno not in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        return RequestError(f"the name of {host} cannot be resolved: {reason.strerror}", passing=known)
    if isinstance(reason, socket.timeout):
        within = f" within {timeout:g} seconds" if timeout else ""
        return RequestError(f"{host} does not answer{within}", passing=True)
    if isinstance(reason, http.client.IncompleteRead):
        return RequestError(f"{host} ended the connection too early", passing=True)
    if isinstance(reason, OSError):
        return RequestError(f"cannot speak to {host}: {reason.strerror or reason}", passing=True)
    return RequestError(f"cannot speak to {host}: {reason}", passing=True)
