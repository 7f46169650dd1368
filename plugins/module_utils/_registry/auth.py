# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Answers a registry's authentication challenge: Basic, or Bearer with a token.

Sources: RFC 9110, 11.6.1 (WWW-Authenticate); distribution.github.io/distribution/spec/auth, "Token Authentication" and
"OAuth2 Token Authentication".
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional
from urllib.parse import urlencode

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import read_object
from ansible_collections.strata.overlay.plugins.module_utils._registry.errors import refusal
from ansible_collections.strata.overlay.plugins.module_utils._source.credentials import Login
from ansible_collections.strata.overlay.plugins.module_utils._source.http import Client, RequestError
from ansible_collections.strata.overlay.plugins.module_utils._source.http_origin import (
    Origin,
    basic,
    origin_of,
    resolve,
)

_CLIENT_ID = "strata.overlay"
_MAX_TOKEN = 1 << 20
_LIFETIME = 60.0
"""Seconds a token is valid if the server gives no lifetime or a shorter one, as in Docker."""

_LONGEST_LIFETIME = 86_400.0
_EARLY = 10.0
"""Seconds before its end from which a token is not used any more."""

_CHALLENGE = re.compile(
    r"""(?:^|,\s*)(Basic|Bearer)\b((?:\s*,?\s*[A-Za-z_]+=(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,"']+))*)""", re.IGNORECASE
)
_PARAMETER = re.compile(r"""([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s,"']+))""")
"""In single quotes too: no RFC has them, and some registries do."""


@dataclass(frozen=True)
class Challenge:
    """``scheme`` is ``basic`` or ``bearer``."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(values: Sequence[str]) -> list[Challenge]:
    """All that WWW-Authenticate headers ask for, as far as it is known here."""
    found = []
    for value in values:
        for match in _CHALLENGE.finditer(value):
            parameters = {
                name.lower(): re.sub(r"\\(.)", r"\1", quoted) or single or plain
                for name, quoted, single, plain in _PARAMETER.findall(match.group(2))
            }
            found.append(Challenge(match.group(1).lower(), parameters))
    return found


class Authorizer:
    """Answers the challenges of one registry about one repository, and keeps its tokens until they expire."""

    def __init__(
        self,
        client: Client,
        scope: str,
        login: Callable[[], Login],
        may_ask: Callable[[Origin], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param scope: what is wanted, where the registry does not say it itself.
        :param login: finds the login; called when the registry asks for the first time.
        :param may_ask: whether a server of tokens may get the login: where it is spoken to without TLS, only some may.
        """
        self._client = client
        self._scope = scope
        self._find = login
        self._may_ask = may_ask
        self._clock = clock
        self._login: Optional[Login] = None
        self._basic = ""
        self._tokens: dict[str, tuple[str, float]] = {}

    @property
    def used(self) -> Login:
        """The login, as far as anyone has asked for it; else an anonymous one."""
        return self._login or Login()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no message, as far as it has been used."""
        login = self._login.secrets if self._login else ()
        # Servers of tokens get the login so too, and may say in an error what they were sent.
        basic = (_login_header(self._login).partition(" ")[2],) if self._login and self._login.username else ()
        return (*login, *basic, *(token for token, _until in self._tokens.values()))

    def headers(self) -> dict[str, str]:
        """What to send as far as is known; nothing before the first challenge."""
        if self._basic:
            return {"Authorization": self._basic}
        for token, until in self._tokens.values():
            if self._clock() < until:
                return {"Authorization": f"Bearer {token}"}
        return {}

    def answer(self, challenges: Sequence[Challenge], url: str) -> bool:
        """Get what the registry asks for; False where there is nothing new to answer with.

        :param url: what was asked for; realms may be relative to it.
        :raises RequestError: whoever gives out tokens has refused, or cannot be reached.
        :raises StrataError: the login cannot be found out.
        """
        self._tokens.clear()
        login = self._known_login()
        for challenge in sorted(challenges, key=lambda each: each.scheme != "bearer"):
            if challenge.scheme == "bearer":
                self._bear(challenge.parameters, url, login)
                return True
            if login.username:
                sent, self._basic = self._basic, _login_header(login)
                return sent != self._basic
        return False

    def _known_login(self) -> Login:
        if self._login is None:
            self._login = self._find()
        return self._login

    def _bear(self, parameters: Mapping[str, str], url: str, login: Login) -> None:
        scope = parameters.get("scope") or self._scope
        if login.registry_token:
            self._tokens[scope] = (login.registry_token, float("inf"))
            return
        try:
            realm = resolve(url, parameters["realm"])
            origin = origin_of(realm)
        except KeyError as error:
            raise RequestError("it wants tokens and does not say from where") from error
        except ValueError as error:
            raise RequestError(f"it names an invalid address for tokens: {error}") from error
        if not self._may_ask(origin):
            raise RequestError(
                f"it wants tokens from {origin.scheme}://{origin}, an address without TLS, to which no login is sent; "
                "whoever runs the registry has to correct its realm"
            )
        self._tokens[scope] = self._fetch(realm, parameters.get("service") or "", scope, login)

    def _fetch(self, realm: str, service: str, scope: str, login: Login) -> tuple[str, float]:
        fields = [("service", service)] if service else []
        fields += [("scope", each) for each in scope.split(" ")] if not login.identity_token else [("scope", scope)]
        headers = {"Accept": "application/json"}
        data: Optional[bytes] = None
        asked = self._clock()
        if login.identity_token:
            fields += [
                ("grant_type", "refresh_token"),
                ("refresh_token", login.identity_token),
                ("client_id", _CLIENT_ID),
            ]
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(fields).encode()
        else:
            if login.username:
                fields.append(("account", login.username))
                headers["Authorization"] = _login_header(login)
            realm += ("&" if "?" in realm else "?") + urlencode(fields)
        with self._client.open(realm, headers, data, follow=data is None) as response:
            if not response.is_good:
                raise refusal(response, f"for a token, {response.host}", login, self.secrets)
            return _read_token(response.body(_MAX_TOKEN), response.host, asked)


def _login_header(login: Login) -> str:
    return basic(login.username, login.password)


def _read_token(body: bytes, host: str, asked: float) -> tuple[str, float]:
    try:
        facts = read_object(body, "the answer")
    except StrataError as error:
        raise RequestError(f"{host}, asked for a token, gave none: {error}") from error
    token = facts.get("token") or facts.get("access_token")
    if not isinstance(token, str) or not re.match(r"^[\x21-\x7e]+\Z", token):
        raise RequestError(f"{host}, asked for a token, gave none that could be sent")
    lifetime = facts.get("expires_in")
    if not isinstance(lifetime, (int, float)) or not math.isfinite(lifetime):
        lifetime = _LIFETIME
    return token, asked + min(max(lifetime, _LIFETIME), _LONGEST_LIFETIME) - _EARLY
