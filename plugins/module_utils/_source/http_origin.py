# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Compares URLs by origin: where a redirect may lead, and what may be sent there. Pure.

The one rule of every HTTP client here: credentials never leave the origin that they are meant for, and no redirect
leads away from TLS or from HTTP. Sources: RFC 6454, 4 (origins); RFC 9110, 15.4 (redirects).
"""

from __future__ import annotations

import base64
import ipaddress
import re
import string
from collections.abc import Mapping
from typing import NamedTuple, Optional
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"^[A-Za-z0-9._-]+\Z")
_PLACE = re.compile(r"^(?:[^\\]*@)?(?:\[[^\[\]@]*\]|[^\\\[\]:@]*)(?::[0-9]*)?\Z")
"""Login, host and port; forms that other parsers read differently are refused."""

_HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")

_HARMLESS = frozenset(
    (
        *("accept", "accept-encoding", "if-match", "if-modified-since", "if-none-match", "if-range", "range"),
        *("content-length", "content-type", "user-agent"),
    )
)
"""Headers that say only which bytes are wanted or sent. Any other one may be a credential, whatever its name."""

Login = tuple[str, str]
"""User and password."""


class Origin(NamedTuple):
    """Who answers: scheme, host and port. The text is as users write it, without the usual port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """
    :raises ValueError: it is no address of HTTP; the text repeats nothing secret of it.
    """
    return _origin(_split(url))


def split_login(url: str) -> tuple[str, Optional[Login]]:
    """A URL as it is asked for, and the login that it holds.

    :raises ValueError: as `origin_of`.
    """
    parts = _split(url)
    origin = _origin(parts)
    login = None
    if parts.username or parts.password:
        login = unquote(parts.username or ""), unquote(parts.password or "")
    netloc = str(origin)
    # What is quoted already stays as it is.
    path, query = (quote(text, safe=string.punctuation) for text in (parts.path, parts.query))
    return urlunsplit((origin.scheme, netloc, path, query, "")), login


def redirect_target(url: str, location: str) -> str:
    """Where a server leads that answers so. A login in the new address is not used: it is the server's, not the user's.

    :param location: as the header says it, in latin-1.
    :raises ValueError: nobody may be led there; the text names the new place, but no more of it: storage services sign
        their addresses.
    """
    try:
        target, _login = split_login(resolve(url, location))
    except _SchemeError as error:
        raise ValueError(f"{error}, which is not followed: it has no TLS") from error
    except ValueError as error:
        raise ValueError(f"an invalid address: {error}") from error
    origin = origin_of(target)
    if origin.scheme == "http" and origin_of(url).scheme == "https":
        raise ValueError(f"http://{origin}, which is not followed: it has no TLS")
    return target


def resolve(url: str, location: str) -> str:
    """What a server says of an address, which may be relative to the one that was asked, and hold spaces.

    :param location: as a header has it, in latin-1.
    :raises ValueError: it is not a valid URL.
    """
    try:
        return urljoin(url, quote(location.strip(), safe=string.punctuation, encoding="latin-1"))
    except UnicodeError as error:
        raise ValueError("it has letters that are not in latin-1") from error
    except ValueError as error:
        raise ValueError("its host is not one") from error


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that another origin may see too."""
    return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}


def basic(username: str, password: str) -> str:
    """The header for Basic authentication. Source: RFC 7617."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def check_headers(headers: Mapping[str, str]) -> None:
    """
    :raises ValueError: one cannot be sent; the text has no value, which may be a secret.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.match(name):
            raise ValueError(f"{name!r} is no name of a header")
        if any(ord(letter) > 0xFF or letter in "\r\n\0" for letter in value):
            raise ValueError(f"header {name} has a line break, or letters that are not in latin-1")


class _SchemeError(ValueError):
    """Not HTTP."""


def _split(url: str) -> SplitResult:
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in url):
        raise ValueError("it has control characters")
    try:
        return urlsplit(url)
    except ValueError as error:
        # The text of some versions of Python repeats the host with what stands before it.
        raise ValueError("its host is not one") from error


def _origin(parts: SplitResult) -> Origin:
    if parts.scheme not in _PORTS:
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.scheme else "no http or https address"
        raise _SchemeError(place)
    if not _PLACE.match(parts.netloc):
        raise ValueError("its host is not one")
    try:
        host, port = _host(parts.hostname or ""), parts.port
    except UnicodeError as error:
        raise ValueError(f"its host {parts.hostname!r} is not one") from error
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith("its ") else "its port is not one") from error
    if port == 0:
        raise ValueError("its port is not one")
    return Origin(parts.scheme, host, _PORTS[parts.scheme] if port is None else port)


def _host(host: str) -> str:
    if ":" in host:
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            raise ValueError(f"its host {host!r} is not one") from error
        return host
    # Raises UnicodeError for empty or long labels, as the resolver would.
    name = host.encode("idna").decode("ascii").lower()
    if not _HOST.match(name):
        raise ValueError(f"its host {host!r} is not one")
    return name
