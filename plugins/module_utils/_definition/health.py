# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses a stack's `health` option. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import health_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options

_KINDS = ("url", "tcp", "command")
_ONLY_URL = ("status", "headers", "validate_certs")
_LONGEST = 3600
"""Limit in seconds for all tries together, since the store is locked meanwhile."""


@dataclass(frozen=True)
class HealthSpec:
    """How to check that a stack works.

    :ivar url: with ``headers`` and ``statuses`` that are right; ``""`` where another kind is asked for.
    :ivar address: host and port to connect to.
    :ivar command: a program and its arguments; exit status 0 means healthy.
    :ivar timeout: seconds for one try. :ivar retries: tries after the first. :ivar delay: seconds between two.
    """

    url: str = ""
    address: Optional[tuple[str, int]] = None
    command: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    validate_certs: bool = True
    timeout: int = 5
    retries: int = 10
    delay: int = 1

    def describe(self) -> str:
        """What is asked, such as ``GET http://127.0.0.1:8080/healthz``; without a password that the URL holds."""
        if self.url:
            parts = urlsplit(self.url)
            return "GET " + parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        if self.address:
            return f"connect to {self.address[0]} port {self.address[1]}"
        return f"run {self.command[0]}"


def read_health(label: str, written: Any, errors: list[str]) -> Optional[HealthSpec]:
    """The option ``health``; None where it is not given or is wrong."""
    if written is None:
        return None
    here: list[str] = []
    prefix = f"{label}: health"
    options = check_options(prefix, written, health_spec(), here)
    given = [kind for kind in _KINDS if options[kind] is not None]
    if len(given) != 1:
        has = f"has {' and '.join(given)}" if given else "asks nothing"
        here.append(f"{prefix}: it {has}; give exactly one of url, tcp and command")
    elif given != ["url"]:
        here += [f"{prefix}: option '{name}' is for url only" for name in _ONLY_URL if options[name] is not None]
    spec = HealthSpec(
        url=_url(prefix, options["url"], here),
        address=_address(prefix, options["tcp"], here),
        command=_command(prefix, options["command"], here),
        statuses=_statuses(prefix, options["status"], here),
        headers=_headers(prefix, options["headers"], here),
        validate_certs=options["validate_certs"] is not False,
        timeout=options["timeout"],
        retries=options["retries"],
        delay=options["delay"],
    )
    _check_times(prefix, spec, here)
    errors += here
    return None if here else spec


def _url(prefix: str, value: Optional[str], errors: list[str]) -> str:
    if value is None:
        return ""
    try:
        parts = urlsplit(value)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        right = False
    if not right or any(letter.isspace() or ord(letter) < 32 for letter in value):
        # The value is not shown: it may hold a password.
        errors.append(f"{prefix}: option 'url' must be an http or https address such as http://127.0.0.1:8080/healthz")
    return value


def _address(prefix: str, value: Optional[str], errors: list[str]) -> Optional[tuple[str, int]]:
    """``host:port``, ``[::1]:port`` or a port of this host."""
    if value is None:
        return None
    host, _colon, port = value.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not port.isdigit() or not 0 < int(port) < 65536 or (":" in host and f"[{host}]" not in value):
        errors.append(f"{prefix}: option 'tcp': {value!r} must be a port, host:port or [address]:port")
        return None
    return host or "127.0.0.1", int(port)


def _command(prefix: str, value: Any, errors: list[str]) -> tuple[str, ...]:
    if value is None:
        return ()
    words: Sequence[Any] = ()
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        errors.append(f"{prefix}: option 'command' cannot be split into words ({error}); write it as a list")
        return ()
    right = isinstance(words, list) and words and all(isinstance(word, (str, int)) for word in words)
    if not right or not words[0] or any("\0" in str(word) for word in words):
        errors.append(f"{prefix}: option 'command' must be a program and its arguments, as a list or in one line")
        return ()
    return tuple(str(word) for word in words)


def _statuses(prefix: str, value: Any, errors: list[str]) -> tuple[int, ...]:
    if value is None:
        return (200,)
    values = value if isinstance(value, list) else [value]
    texts = [str(item) for item in values]
    if not texts or not all(text.isdigit() and 100 <= int(text) <= 599 for text in texts):
        errors.append(f"{prefix}: option 'status' must be an HTTP status such as 200, or a list of them")
        return (200,)
    return tuple(int(text) for text in texts)


def _headers(prefix: str, value: Optional[Mapping[Any, Any]], errors: list[str]) -> dict[str, str]:
    headers = {str(name): str(text) for name, text in (value or {}).items()}
    for name, text in headers.items():
        if not name or any(ord(letter) < 32 for letter in name + text):
            errors.append(f"{prefix}: option 'headers': {name!r} has an empty name or holds control characters")
    return headers


def _check_times(prefix: str, spec: HealthSpec, errors: list[str]) -> None:
    for name, value, least in (("timeout", spec.timeout, 1), ("retries", spec.retries, 0), ("delay", spec.delay, 0)):
        if value < least:
            errors.append(f"{prefix}: option '{name}' must be at least {least}")
    if (spec.retries + 1) * (spec.timeout + spec.delay) > _LONGEST:
        errors.append(
            f"{prefix}: {spec.retries + 1} tries of {spec.timeout} s, {spec.delay} s apart, are more than {_LONGEST} s"
        )
