# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that answer anything: whoever asks them gets what is right, or an error in words, and soon."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import parse_platform
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import parse_reference
from ansible_collections.strata.overlay.plugins.module_utils._export import push as push_module
from ansible_collections.strata.overlay.plugins.module_utils._registry import client
from ansible_collections.strata.overlay.plugins.module_utils._registry.blob import BlobStream
from ansible_collections.strata.overlay.plugins.module_utils._registry.client import Access, Registry
from ansible_collections.strata.overlay.plugins.module_utils._registry.pull import pull
from ansible_collections.strata.overlay.plugins.module_utils._services.health import check_health
from ansible_collections.strata.overlay.plugins.module_utils._source.download import UrlStream
from ansible_collections.strata.overlay.plugins.module_utils._source.http import Client
from ansible_collections.strata.overlay.tests.integration.nasty_answers import nasty_answer
from ansible_collections.strata.overlay.tests.integration.registry import PASSWORD, USER
from ansible_collections.strata.overlay.tests.integration.rogue_server import Asked, RogueRegistry, reply

CASES = 250
LONGEST = 5.0
"""Seconds that one case may take; none waits for anything."""


@pytest.fixture
def rogue(monkeypatch: pytest.MonkeyPatch) -> Iterator[RogueRegistry]:
    def at_once(_seconds: float) -> None:
        pass

    for module in (client, push_module):
        monkeypatch.setattr(module, "persist", partial(module.persist, sleep=at_once))
    monkeypatch.setattr(client, "BlobStream", partial(BlobStream, sleep=at_once))
    with RogueRegistry().running() as made:
        yield made


def survives(rogue: RogueRegistry, ask: Callable[[random.Random], None], part: str = "") -> int:
    """Ask again and again; how often it came out right in spite of all. Nothing but StrataError may come out otherwise.

    :param part: the beginning of paths that are answered at random; the others are answered by the truth.
    """
    right = 0
    for number in range(CASES):
        chance = random.Random(f"{part} {number}")

        def answer(asked: Asked, chance: random.Random = chance) -> bytes:
            if chance.random() < 0.1:
                return rogue.truth(asked)
            return nasty_answer(chance, rogue.truth(asked).partition(b"\r\n\r\n")[2])

        rogue.replaced = {part: answer}
        rogue.server.asked.clear()
        begin = time.monotonic()
        said = ""
        try:
            ask(chance)
            right += 1
        except StrataError as error:
            said = str(error)
        except Exception as error:
            error.add_note(f"case {number}")
            raise
        assert PASSWORD not in said
        assert time.monotonic() - begin < LONGEST, f"case {number}"
    return right


def access(**options: Any) -> Access:
    return Access(**{"username": USER, "password": PASSWORD, "timeout": 2, **options})


def source(rogue: RogueRegistry, **options: Any) -> Registry:
    return Registry(parse_reference(f"http://{rogue.host}/team/app:1.0", "app"), access(**options))


def pulled(registry: Registry) -> None:
    image = pull(registry, "1.0", parse_platform("linux/amd64"), "app", lambda _digest: None, lambda _digest: None)
    for layer in image.layers:
        assert layer.opener is not None
        with layer.opener() as stream:
            assert stream.read()


@pytest.mark.parametrize("part", ["manifests/", "blobs/", ""])
def test_pull_with_random_answers_succeeds_or_fails_cleanly(rogue: RogueRegistry, part: str) -> None:
    right = survives(rogue, lambda _chance: pulled(source(rogue)), part)
    assert right < CASES
    assert right or not part


def test_token_request_with_random_answers_succeeds_or_fails_cleanly(rogue: RogueRegistry) -> None:
    def ask(chance: random.Random) -> None:
        tokens = rogue.replaced[""]
        rogue.replaced = {
            "/token": tokens,
            "manifests/": lambda asked: (
                rogue.truth(asked)
                if "authorization" in asked.headers
                else reply(401, b"", f'WWW-Authenticate: Bearer realm="/token",service="{chance.random()}"')
            ),
        }
        source(rogue).manifest("1.0")

    assert 0 < survives(rogue, ask) < CASES


def test_mirror_with_random_answers_never_fails_the_request(rogue: RogueRegistry) -> None:
    with RogueRegistry().running() as honest:

        def ask(_chance: random.Random) -> None:
            reference = parse_reference(f"http://{honest.host}/team/app:1.0", "app")
            registry = Registry(reference, access(mirrors=(f"http://{rogue.host}",)))
            served = registry.manifest("1.0")
            if served.body == honest.manifest:
                digest = json.loads(honest.manifest)["config"]["digest"]
                with registry.opener(digest, len(honest.config))() as stream:
                    assert stream.read(1 << 20) == honest.config

        assert survives(rogue, ask) == CASES


def test_push_with_random_answers_succeeds_or_fails_cleanly(rogue: RogueRegistry) -> None:
    def ask(_chance: random.Random) -> None:
        endpoint = push_module._PushEndpoint(
            Client(timeout=2),
            rogue.host,
            "team/app",
            f"registry {rogue.host}",
            client.login_finder(parse_reference(f"http://{rogue.host}/team/app:1.0", "app"), access()),
            plain_http=True,
            pauses=(),
            actions="pull,push",
        )
        endpoint.tagged("1.0")
        digest = json.loads(rogue.manifest)["config"]["digest"]
        if not endpoint.has(digest):
            endpoint.push(digest, len(rogue.config), lambda: [rogue.config])
        endpoint.tag("1.0", rogue.manifest)

    survives(rogue, ask)


def test_download_with_random_answers_succeeds_or_fails_cleanly(rogue: RogueRegistry) -> None:
    def ask(chance: random.Random) -> None:
        login = "" if chance.random() < 0.5 else f"{USER}:{PASSWORD}@"
        url = f"http://{login}{rogue.host}/v2/team/app/manifests/1.0"
        seen = {"etag": "1", "last_modified": "x"} if chance.random() < 0.5 else None
        with UrlStream(url, seen, sleep=lambda _seconds: None) as stream, contextlib.suppress(BufferError):
            for _piece in range(100):
                if not stream.read(4096):
                    break

    assert 0 < survives(rogue, ask) < CASES


def test_health_check_with_random_answers_gives_a_verdict_in_words(rogue: RogueRegistry) -> None:
    def ask(_chance: random.Random) -> None:
        verdict = check_health(HealthSpec(f"http://{USER}:{PASSWORD}@{rogue.host}/", retries=0, headers={"X-Key": "k"}))
        assert PASSWORD not in verdict.description
        assert verdict.healthy or ": " in verdict.description

    assert survives(rogue, ask) == CASES, "it says what was wrong"
