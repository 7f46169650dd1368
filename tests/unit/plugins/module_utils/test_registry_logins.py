# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whom a registry's login is given to, where registries, their redirects and their servers of tokens ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import parse_reference
from ansible_collections.strata.overlay.plugins.module_utils._registry.client import Access, Registry
from ansible_collections.strata.overlay.tests.integration.registry import PASSWORD, USER, Authority
from ansible_collections.strata.overlay.tests.integration.rogue_server import Asked, RogueRegistry, RogueServer, reply

IDENTITY = "identity-token-of-the-user"
GIVEN = "token-for-the-registry"


@pytest.fixture
def registry(authority: Authority) -> Iterator[RogueRegistry]:
    with RogueRegistry(authority).running() as made:
        yield made


@pytest.fixture
def other(authority: Authority) -> Iterator[RogueServer]:
    """Gives a token to whoever asks, and asks for logins everywhere else."""
    with RogueServer(authority=authority).running() as made:
        made.answer = lambda asked: _gives_tokens(made, asked)
        yield made


def _gives_tokens(server: RogueServer, asked: Asked) -> bytes:
    if asked.path.startswith("/token"):
        return reply(200, json.dumps({"token": GIVEN}).encode())
    return wants(f'Bearer realm="{server.url}/token",service="s"')


def wants(challenge: str) -> bytes:
    return reply(401, b"", f"WWW-Authenticate: {challenge}")


@pytest.fixture(params=["password", "identity token"])
def access(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Callable[[RogueRegistry], Access]:
    def made(registry: RogueRegistry) -> Access:
        ca_path = str(authority.ca)
        if request.param == "password":
            return Access(USER, PASSWORD, ca_path=ca_path, timeout=5)
        file = tmp_path / "auth.json"
        file.write_text(json.dumps({"auths": {registry.host: {"identitytoken": IDENTITY}}}))
        return Access(auth_file=str(file), ca_path=ca_path, timeout=5)

    return made


Accesses = Callable[[RogueRegistry], Access]


def opened(registry: RogueRegistry, access: Accesses, scheme: str = "") -> Registry:
    return Registry(parse_reference(f"{scheme}{registry.host}/team/app:1.0", "app"), access(registry))


def refused(registry: RogueRegistry, access: Accesses, scheme: str = "") -> str:
    with pytest.raises(StrataError) as raised:
        opened(registry, access, scheme).manifest("1.0")
    assert PASSWORD not in str(raised.value)
    assert IDENTITY not in str(raised.value)
    return str(raised.value)


def asks_for(registry: RogueRegistry, challenge: str) -> None:
    """The truth for those who have the token, and the challenge for all others."""

    def answer(asked: Asked) -> bytes:
        has = asked.headers.get("authorization") == f"Bearer {GIVEN}"
        return registry.truth(asked) if has else wants(challenge)

    registry.replaced[""] = answer


def test_login_is_sent_to_the_token_server_named_by_the_registry(
    registry: RogueRegistry, other: RogueServer, access: Accesses
) -> None:
    asks_for(registry, f'Bearer realm="{other.url}/token",service="s"')
    assert opened(registry, access).manifest("1.0").body == registry.manifest
    (asked,) = other.asked
    assert "authorization" in asked.headers or IDENTITY.encode() in asked.body


def test_ca_is_accepted_as_text_and_refused_without_a_certificate(
    registry: RogueRegistry, authority: Authority
) -> None:
    text = f"# \u20ac\n{authority.ca.read_text()}"
    assert opened(registry, lambda _registry: Access(ca=text)).manifest("1.0").body == registry.manifest
    wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for ca in (wrong, text[: len(text) // 2], "\u20ac"):
        said = refused(registry, lambda _registry, ca=ca: Access(ca=ca))  # type: ignore[misc]
        assert "the text of option ca has no certificate in PEM form" in said


@pytest.mark.parametrize("challenge", ["Bearer", "Basic"])
def test_redirect_target_gets_no_login_and_names_no_token_server(
    registry: RogueRegistry, other: RogueServer, access: Accesses, challenge: str
) -> None:
    if challenge == "Basic":
        other.answer = lambda _asked: wants('Basic realm="x"')
    registry.replaced["manifests/"] = lambda _asked: reply(307, b"", f"Location: {other.url}/m")
    said = refused(registry, access)
    assert (
        f"registry {registry.host} redirects to {other.host}, which answered 401 Unauthorized. It gets no login" in said
    )
    assert other.credentials() == []
    assert [asked.path for asked in other.asked] == ["/m"], "no token was asked for"


def test_redirect_target_gets_no_token_of_the_registry(
    registry: RogueRegistry, other: RogueServer, access: Accesses
) -> None:
    asks_for(registry, f'Bearer realm="{other.url}/token",service="s"')
    truth = registry.replaced.pop("")
    registry.replaced["blobs/"] = lambda _asked: reply(307, b"", f"Location: {other.url}/b")
    registry.replaced[""] = truth
    source = opened(registry, access)
    source.manifest("1.0")
    digest = json.loads(registry.manifest)["config"]["digest"]
    with pytest.raises(StrataError, match="It gets no login"), source.opener(digest, 3)() as stream:
        stream.read(3)
    assert GIVEN not in repr([asked.headers for asked in other.asked])
    assert [asked.path for asked in other.asked if not asked.path.startswith("/token")] == ["/b"]


def test_token_server_without_tls_gets_no_login_of_a_tls_registry(registry: RogueRegistry, access: Accesses) -> None:
    with RogueServer(lambda _asked: reply(200, b'{"token": "t"}')).running() as plain:
        asks_for(registry, f'Bearer realm="{plain.url}/token"')
        assert f"it wants tokens from http://{plain.host}, an address without TLS" in refused(registry, access)
        assert plain.asked == []


def test_login_does_not_follow_a_redirect_of_the_token_server(
    registry: RogueRegistry, other: RogueServer, access: Accesses
) -> None:
    with RogueServer(
        lambda _asked: reply(307, b"", f"Location: {other.url}/token"), registry.server.authority
    ).running() as first:
        asks_for(registry, f'Bearer realm="{first.url}/token"')
        source = opened(registry, access)
        if access(registry).username:
            source.manifest("1.0")  # as somebody without a login
        else:
            with pytest.raises(StrataError, match="answered 307"):
                source.manifest("1.0")
    assert other.credentials() == []
    assert IDENTITY.encode() not in b"".join(asked.body for asked in other.asked)


def test_loopback_registry_without_tls_sends_no_login_away_without_tls(access: Accesses) -> None:
    """Nobody has written http:// here: it was found out."""
    with RogueRegistry().running() as plain:
        asks_for(plain, 'Bearer realm="http://tokens.invalid/token"')
        assert "it wants tokens from http://tokens.invalid, an address without TLS" in refused(plain, access)
        with RogueServer(lambda _asked: reply(200, json.dumps({"token": GIVEN}).encode())).running() as near:
            asks_for(plain, f'Bearer realm="{near.url}/token"')
            assert opened(plain, access).manifest("1.0").body == plain.manifest


def test_redirect_target_without_tls_cannot_turn_off_tls_of_the_registry(
    registry: RogueRegistry, access: Accesses
) -> None:
    """What it leads to speaks no TLS; that says nothing of the registry."""
    with RogueServer().running() as plain:
        registry.replaced["manifests/"] = lambda _asked: reply(307, b"", f"Location: https://{plain.host}/m")
        assert f"{plain.host} does not speak TLS" in refused(registry, access)
    assert len(registry.server.asked) == 1


@pytest.mark.parametrize(
    ("realm", "said"),
    [
        ('realm="http://[::1"', "it names an invalid address for tokens: its host is not one"),
        ('realm="https://a..b/token"', "it names an invalid address for tokens: its host 'a..b' is not one"),
        ('realm="ftp://127.0.0.1:1/token"', "it names an invalid address for tokens: ftp://127.0.0.1:1"),
        ('service="x"', "it wants tokens and does not say from where"),
    ],
)
def test_malformed_or_missing_realm_is_reported(
    registry: RogueRegistry, access: Accesses, realm: str, said: str
) -> None:
    asks_for(registry, f"Bearer {realm}")
    assert f"registry {registry.host}: {said}" in refused(registry, access)


@pytest.mark.parametrize(
    "body",
    [
        '{"token": "\u20ac"}',
        '{"token": "a b"}',
        '{"token": "a\\r\\nX: y"}',
        '{"token": 5}',
        '{"token": ""}',
        "[" * 100_000,
        '{"token": "x", "expires_in": ' + "9" * 400 + "}",
        '{"token": "x", "expires_in": ' + "9" * 5000 + "}",
        "not JSON",
        "[]",
        "\x00",
    ],
)
def test_malformed_token_is_reported(registry: RogueRegistry, other: RogueServer, access: Accesses, body: str) -> None:
    asks_for(registry, f'Bearer realm="{other.url}/token"')
    other.answer = lambda _asked: reply(200, body.encode())
    assert f"registry {registry.host}: {other.host}, asked for a token, gave none" in refused(registry, access)


@pytest.mark.parametrize("lifetime", ["-5", "0", "1e300", "NaN", "Infinity", '"60"', "null", "[]", "true"])
def test_token_with_an_odd_lifetime_is_used(
    registry: RogueRegistry, other: RogueServer, access: Accesses, lifetime: str
) -> None:
    asks_for(registry, f'Bearer realm="{other.url}/token"')
    other.answer = lambda _asked: reply(200, f'{{"token": "{GIVEN}", "expires_in": {lifetime}}}'.encode())
    assert opened(registry, access).manifest("1.0").body == registry.manifest


def test_unsendable_token_of_a_login_file_is_reported_without_its_text(registry: RogueRegistry, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {registry.host: {"registrytoken": "hid\u20acden"}}}))
    asks_for(registry, 'Bearer realm="https://127.0.0.1:1/"')

    def access(_registry: RogueRegistry) -> Any:
        authority = registry.server.authority
        return Access(auth_file=str(file), ca_path=str(authority.ca) if authority else "")

    said = refused(registry, access)
    assert "header Authorization has a line break, or letters that are not in latin-1" in said
    assert "hid" not in said
