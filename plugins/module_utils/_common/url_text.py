# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Checks URLs, and shows them without userinfo and query values. Pure.

Nothing here raises for a malformed URL, and no text made here repeats a part that may be a secret. Source: RFC 3986.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional
from urllib.parse import unquote

HIDDEN = "***"
"""Stands for what is not shown."""

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?", re.S
)
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*))(?::(?P<port>[0-9]{1,5}))?\Z")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_OWN_HEADERS = (
    *("accept-encoding", "content-length", "host", "if-modified-since", "if-none-match", "if-range", "range"),
    *("connection", "transfer-encoding"),
)
"""Those that a download needs for itself."""

_ROUNDS = 100_000


class UrlAccess(NamedTuple):
    """Who asks for what lies under a URL. All but ``auth_file`` are secrets, or may be: none is in a text of this.

    :ivar headers: names and values, in the order of the names.
    """

    username: str = ""
    password: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    auth_file: str = ""

    def __repr__(self) -> str:
        return "UrlAccess()"

    def secrets(self) -> list[str]:
        """What no message and no log may show."""
        return [text for text in (self.password, *(value for _name, value in self.headers)) if text]


def shown_url(url: str) -> str:
    """A URL without userinfo, fragment and the values of its query: ``https://host/x?sig=***``.

    Of a text that is no URL nothing is shown.
    """
    found = _URL.match(url)
    if not found:
        return HIDDEN
    authority = found["authority"].rpartition("@")[2]
    if "@" in found["path"] and not _AUTHORITY.match(authority):
        return HIDDEN  # a password with a slash in it, which ends the authority
    query = found["query"] or ""
    return f"{found['scheme']}://{authority}{found['path']}{'?' if query else ''}{_shown_query(query[1:])}"


def _shown_query(query: str) -> str:
    parts = re.split(r"([&;])", query)
    shown = [part if part in ("&", ";", "") else _shown_part(part) for part in parts]
    return "".join(shown)


def _shown_part(part: str) -> str:
    name, equals, _value = part.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN


def has_secrets(url: str) -> bool:
    """Whether a part of it is not shown."""
    return shown_url(url) != url


def lock_key(url: str) -> str:
    """What a URL is called in a file that others may read.

    Two that differ in values of their queries have two keys: a slow digest of the query stands for them. Who asks is no
    part of it.
    """
    found, shown = _URL.match(url), shown_url(url)
    if not found or not found["query"]:
        return shown
    digest = hashlib.pbkdf2_hmac("sha256", found["query"].encode(), shown.encode(), _ROUNDS, 8)
    return f"{shown}#{digest.hex()}"


def read_url(item: Mapping[str, Any], label: str, errors: list[str]) -> tuple[str, Optional[UrlAccess]]:
    """The options ``url``, ``username``, ``password``, ``headers`` and ``auth_file`` of a layer.

    :returns: the URL without its userinfo, and who asks; None for nobody in particular.
    """
    url = item["url"]
    found = _URL.match(url)
    fault = _fault(url)
    if fault or not found:
        # It is not shown: it may hold a password.
        errors.append(f"{label}: option 'url' {fault}")
        return "", None
    userinfo, at, authority = found["authority"].rpartition("@")
    name, _colon, password = userinfo.partition(":")
    headers = _headers(item["headers"], label, errors)
    given = item["username"] is not None or item["password"] is not None
    if (item["username"] is None) != (item["password"] is None):
        one, other = ("username", "password") if item["password"] is None else ("password", "username")
        errors.append(f"{label}: option '{one}' is given without '{other}'; a server needs both")
    elif given and at:
        errors.append(f"{label}: option 'url' has a user and password, and username is given; leave out one of them")
    elif (given or at) and any(header.lower() == "authorization" for header, _text in headers):
        errors.append(f"{label}: option 'headers' has Authorization, and a user is given; leave out one of them")
    elif ":" in str(item["username"] or ""):
        errors.append(f"{label}: option 'username' has a colon, which HTTP has no way to send; correct it")
    if found["scheme"] == "file" and (given or at or headers or item["auth_file"]):
        unused = "username, password, headers and auth_file are of no use with it; leave them out"
        errors.append(f"{label}: a url of file:// is read as it is: {unused}")
    if at:
        access = UrlAccess(unquote(name), unquote(password), headers)
    else:
        access = UrlAccess(item["username"] or "", item["password"] or "", headers, item["auth_file"] or "")
    rest = url[found.start("path") :].partition("#")[0]
    return f"{found['scheme']}://{authority}{rest}", access if any(access) else None


def _fault(url: str) -> str:
    found = _URL.match(url)
    if not found or found["scheme"] not in ("http", "https", "file"):
        return "must begin with https://, http:// or file://"
    if not url.isascii() or any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        return "has spaces, control characters or letters that a URL cannot have; write them as % and two digits"
    authority = _AUTHORITY.match(found["authority"].rpartition("@")[2])
    if found["scheme"] == "file":
        return ""
    if not authority or ".." in authority[0] or int(authority["port"] or 1) not in range(1, 65536):
        return (
            "must have a host, and a port where one is given, such as https://example.org:8443/app.tar.gz; in a user "
            "or password @ : / ? # are written as %40 %3A %2F %3F %23"
        )
    return ""


def _headers(given: Any, label: str, errors: list[str]) -> tuple[tuple[str, str], ...]:
    headers = {str(name): str(text) for name, text in (given or {}).items()}
    for name, text in headers.items():
        if not _HEADER.match(name):
            errors.append(f"{label}: option 'headers': {name!r} is no name of a header")
        elif name.lower() in _OWN_HEADERS:
            errors.append(f"{label}: option 'headers': {name} is for a download to set; leave it out")
        elif any(ord(letter) < 32 or not 0 < ord(letter) < 256 or ord(letter) == 127 for letter in text):
            errors.append(f"{label}: option 'headers': the value of {name} has letters that a header cannot have")
    return tuple(sorted(headers.items()))
