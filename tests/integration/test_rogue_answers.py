# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What modules say of servers that answer nonsense: which image or layer, which server, and nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._registry import client
from ansible_collections.strata.overlay.plugins.module_utils._source.retry import PAUSES
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.rogue_server import RogueRegistry, RogueServer, reply

CHUNKED = "Transfer-Encoding: chunked"
ANSWERS = {
    "a length in superscript": (reply(200, b"x", length="\xb2"), "a Content-Length that is no number"),
    "a length of 5,000 digits": (reply(200, b"x", length="9" * 5000), "a Content-Length that is no number"),
    "a year out of reach": (reply(404, b"", "Retry-After: Fri, 31 Dec 99999 23:59:59 GMT"), "answered 404"),
    "a redirect to no host": (reply(307, b"", "Location: http://[::1"), "redirects to an invalid address"),
    "a redirect to a host with an empty part": (
        reply(307, b"", "Location: http://a..b/"),
        "its host 'a..b' is not one",
    ),
    "a negative chunk": (reply(200, b"-5\r\nxxxxx\r\n", CHUNKED, length=""), "a chunk of -5 bytes"),
    "no HTTP": (b"\x00\x01", "an answer that is not HTTP"),
    "deep JSON": (reply(200, b"[" * 200_000), "is no JSON"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, "got more than 100 headers"),
    "a realm that is none": (
        reply(401, b"", 'WWW-Authenticate: Bearer realm="http://[::1"'),
        "names an invalid address",
    ),
}


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSES", (0.0,))
    monkeypatch.setattr(client, "ONE_MORE", (0.0,))
    assert PAUSES, "others have them still"


@pytest.fixture
def rogue() -> Iterator[RogueRegistry]:
    with RogueRegistry().running() as made:
        yield made


def image(address: str, **options: Any) -> dict[str, Any]:
    return {
        "images": [{"name": "app", "registry": f"http://{address}/team/app:1.0", "platform": "linux/amd64", **options}]
    }


def refused(host: Host, definition: dict[str, Any]) -> str:
    with pytest.raises(StrataError) as raised:
        host.run(**definition)
    content = host.root / "content/sha256"
    assert not content.exists() or not list(content.iterdir())
    return str(raised.value)


@pytest.mark.parametrize(("answer", "said"), ANSWERS.values(), ids=ANSWERS.keys())
def test_nonsense_from_a_registry_is_reported_with_image_and_registry(
    host: Host, rogue: RogueRegistry, answer: bytes, said: str
) -> None:
    rogue.replaced["manifests/"] = lambda _asked: answer
    text = refused(host, image(rogue.host))
    assert "image app" in text
    assert rogue.host in text
    assert said in text


@pytest.mark.parametrize("name", ["a length in superscript", "a redirect to no host", "a negative chunk", "no HTTP"])
def test_nonsense_as_a_blob_is_reported_with_image_and_registry(host: Host, rogue: RogueRegistry, name: str) -> None:
    answer, said = ANSWERS[name]
    layer = rogue.layer

    def other(asked: Any) -> bytes:
        truth = rogue.truth(asked)
        return answer if truth.endswith(layer) else truth

    rogue.replaced["blobs/"] = other
    text = refused(host, image(rogue.host))
    assert "image app" in text
    assert rogue.host in text
    assert said in text


@pytest.mark.parametrize("name", ["a length of 5,000 digits", "a redirect to a host with an empty part", "no HTTP"])
def test_nonsense_from_a_layer_server_is_reported_with_layer_and_server(host: Host, name: str) -> None:
    answer, said = ANSWERS[name]
    with RogueServer(lambda _asked: answer).running() as server:
        text = refused(host, {"layers": [{"name": "base", "url": f"{server.url}/base.tar"}]})
    assert "layer base" in text
    assert server.host in text
    assert said in text


def test_mirror_that_answers_nonsense_is_passed_over(host: Host, rogue: RogueRegistry) -> None:
    for answer, _said in ANSWERS.values():
        with RogueServer(lambda _asked, answer=answer: answer).running() as mirror:  # type: ignore[misc]
            definition = image(rogue.host, mirrors=[f"http://{mirror.host}"])
            assert host.run(check=True, **definition)["changed"]
            assert mirror.asked


def test_mirror_that_damages_blobs_is_passed_over(host: Host, rogue: RogueRegistry) -> None:
    with RogueRegistry().running() as mirror:
        mirror.replaced["blobs/"] = lambda asked: mirror.truth(asked)[:-1] + b"?"
        assert host.run(**image(rogue.host, mirrors=[f"http://{mirror.host}"]))["changed"]
        assert len(mirror.server.asked) == 3
