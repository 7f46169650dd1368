# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pushing to registries that lead uploads elsewhere, refuse HEAD, or answer before all has been sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._export.push import _PushEndpoint
from ansible_collections.strata.overlay.plugins.module_utils._source.credentials import Login
from ansible_collections.strata.overlay.plugins.module_utils._source.http import Client, RequestError
from ansible_collections.strata.overlay.plugins.module_utils._source.retry import PAUSES, persist
from ansible_collections.strata.overlay.tests.integration.registry import PASSWORD, USER, Authority
from ansible_collections.strata.overlay.tests.integration.rogue_server import Asked, RogueServer, reply

BLOB = b"blob" * 1000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


@pytest.fixture(params=["plain", "tls"])
def registry(request: pytest.FixtureRequest, authority: Authority) -> Iterator[RogueServer]:
    with RogueServer(authority=authority if request.param == "tls" else None).running() as made:
        yield made


@pytest.fixture
def other(registry: RogueServer) -> Iterator[RogueServer]:
    with RogueServer(lambda _asked: reply(201), registry.authority).running() as made:
        yield made


def endpoint(registry: RogueServer) -> _PushEndpoint:
    ca_path = str(registry.authority.ca) if registry.authority else ""
    return _PushEndpoint(
        Client(ca_path, timeout=10),
        registry.host,
        "team/app",
        f"registry {registry.host}",
        lambda: Login(USER, PASSWORD),
        plain_http=registry.authority is None,
        pauses=PAUSES,
        actions="pull,push",
    )


def takes(asked: Asked) -> bytes:
    """A registry that wants a login and takes uploads."""
    if "authorization" not in asked.headers:
        return reply(401, b"", 'WWW-Authenticate: Basic realm="x"')
    if asked.method == "POST":
        return reply(202, b"", "Location: /upload")
    return reply(201)


def test_upload_follows_a_307_redirect_without_the_login(registry: RogueServer, other: RogueServer) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.path.startswith("/upload"):
            return reply(307, b"", f"Location: {other.url}/there?sig=1")
        return takes(asked)

    registry.answer = answer
    endpoint(registry).push(DIGEST, len(BLOB), lambda: [BLOB[:100], BLOB[100:]])
    (asked,) = other.asked
    assert (asked.method, asked.path, asked.body) == ("PUT", "/there?sig=1", BLOB)
    assert other.credentials() == []
    assert len(registry.credentials()) == 2


def test_upload_start_follows_a_redirect_within_the_registry(registry: RogueServer) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.path.endswith("/blobs/uploads/"):
            return reply(308, b"", "Location: /begin")
        return takes(asked)

    registry.answer = answer
    endpoint(registry).push(DIGEST, len(BLOB), lambda: [BLOB])
    assert [asked.body for asked in registry.asked if asked.method == "PUT"] == [BLOB]


def test_upload_redirect_to_an_address_without_tls_is_refused(registry: RogueServer) -> None:
    with RogueServer(lambda _asked: reply(201)).running() as plain:
        registry.answer = lambda asked: (
            reply(307, b"", f"Location: ftp://{plain.host}/")
            if asked.path.startswith("/upload") and registry.authority is None
            else reply(307, b"", f"Location: {plain.url}/")
            if asked.path.startswith("/upload")
            else takes(asked)
        )
        with pytest.raises(RequestError, match="which is not followed: it has no TLS"):
            endpoint(registry).push(DIGEST, len(BLOB), lambda: [BLOB])
        assert plain.asked == []


def test_refusal_during_an_upload_is_reported_and_not_retried(registry: RogueServer) -> None:
    registry.reads = 0
    registry.answer = lambda asked: reply(413) if asked.method == "PUT" else takes(asked)
    size = 1000 << 16
    with pytest.raises(RequestError, match=r"answered 413 .* It takes none so large: raise the limit"):
        persist(
            lambda: endpoint(registry).push(DIGEST, size, lambda: (bytes(1 << 16) for _number in range(1000))),
            PAUSES,
            sleep=lambda _seconds: pytest.fail("it was to be sent again"),
        )
    assert [asked.method for asked in registry.asked].count("PUT") == 1


@pytest.mark.parametrize("status", [403, 405, 501])
def test_blob_is_looked_up_by_get_when_head_is_refused(registry: RogueServer, status: int) -> None:
    there = 200

    def answer(asked: Asked) -> bytes:
        if "authorization" not in asked.headers:
            return takes(asked)
        return reply(status, b"" if asked.method == "HEAD" else b"x") if asked.method == "HEAD" else reply(there, BLOB)

    registry.answer = answer
    asking = endpoint(registry)
    assert asking.has(DIGEST)
    there = 404
    assert not asking.has(DIGEST)
    there = status
    assert not asking.has(DIGEST), "then it is sent"
