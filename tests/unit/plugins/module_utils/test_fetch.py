# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Downloads from a server on loopback that breaks connections, changes its mind or labels what it has oddly."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._source.download import UrlStream
from ansible_collections.strata.overlay.plugins.module_utils._source.retry import PAUSES
from ansible_collections.strata.overlay.tests.integration.web import serving

CONTENT = random.Random(1).randbytes(3_000_000)
CHANGED = "Sat, 28 Nov 2020 12:00:00 GMT"


@dataclass
class Behaviour:
    """What the server does next.

    :ivar cuts: after how many bytes of each of the next bodies the connection ends.
    :ivar codes: with which each of the next requests is answered, where not with what was asked for.
    """

    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    content: bytes = CONTENT
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


class _Handler(http.server.BaseHTTPRequestHandler):
    behaviour: Behaviour

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        how = self.behaviour
        how.asked.append(self.headers.get("Range") or "all")
        if how.codes:
            self.send_error(how.codes.pop(0))
            return
        seen = self.headers.get("If-None-Match"), self.headers.get("If-Modified-Since")
        if any(seen) and seen == (how.headers.get("ETag"), how.headers.get("Last-Modified")):
            self.send_response(304)
            self.end_headers()
            return
        start = self.start(how)
        body = how.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(how.content) - 1}/{len(how.content)}")
        for name, value in how.headers.items():
            self.send_header(name, value)
        if how.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who has read enough goes
            self.wfile.write(body[: how.cuts.pop(0)] if how.cuts else body)

    def start(self, how: Behaviour) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        current = self.headers.get("If-Range") in (how.headers.get("ETag"), how.headers.get("Last-Modified"))
        return int(asked[1]) if asked and how.ranges and current else 0


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def url(behaviour: Behaviour) -> Iterator[str]:
    with serving(type("Handler", (_Handler,), {"behaviour": behaviour})) as server:
        yield f"http://127.0.0.1:{server.server_port}/layer.tar"


def load(url: str, slept: list[float] | None = None) -> bytes:
    with UrlStream(url, sleep=(slept if slept is not None else []).append) as stream:
        content = b"".join(iter(lambda: stream.read(100_000), b""))
        assert stream.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
        return content


def test_marks_of_a_download_show_whether_the_file_changed(url: str, behaviour: Behaviour) -> None:
    behaviour.headers["Last-Modified"] = CHANGED
    assert load(url) == CONTENT
    with UrlStream(url) as stream:
        assert (stream.size, stream.unchanged) == (len(CONTENT), False)
        assert stream.marks == {"etag": '"one"', "last_modified": CHANGED}
    with UrlStream(url, stream.marks) as again:
        assert again.unchanged
        assert again.read(10) == b""
    behaviour.headers["ETag"] = '"two"'
    with UrlStream(url, stream.marks) as changed:
        assert not changed.unchanged


def test_content_encoding_header_changes_no_byte(url: str, behaviour: Behaviour) -> None:
    behaviour.headers["Content-Encoding"] = "gzip"
    assert load(url) == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("mark", [("ETag", '"one"'), ("Last-Modified", CHANGED)])
def test_broken_download_is_resumed_with_or_without_ranges(
    url: str, behaviour: Behaviour, mark: tuple[str, str], ranges: bool
) -> None:
    behaviour.headers, behaviour.ranges = dict([mark]), ranges
    behaviour.cuts = [1_000_000, 500_000 if ranges else 1_500_000]
    slept: list[float] = []
    assert load(url, slept) == CONTENT
    assert behaviour.asked == ["all", "bytes=1000000-", "bytes=1500000-"]
    assert slept == [PAUSES[0]] * 2, "what came in between begins the count anew"


def test_download_resumes_after_the_server_was_down_for_a_moment(url: str, behaviour: Behaviour) -> None:
    behaviour.cuts = [10]
    slept: list[float] = []
    with UrlStream(url, sleep=slept.append) as stream:
        first = stream.read(10)
        behaviour.codes = [503, 502]
        rest = b"".join(iter(lambda: stream.read(1 << 20), b""))
    assert first + rest == CONTENT
    assert slept == list(PAUSES[:3])


def test_download_from_a_server_that_stays_down_fails(url: str, behaviour: Behaviour) -> None:
    behaviour.cuts = [1000] + [0] * 20
    with pytest.raises(StrataError, match="layer.tar broke off after 1000 of 3000000 bytes: the server ended the conn"):
        load(url)
    assert len(behaviour.asked) == 1 + len(PAUSES)


def test_download_that_breaks_off_after_each_byte_is_given_up(url: str, behaviour: Behaviour) -> None:
    behaviour.cuts = [1] * 1000
    with pytest.raises(StrataError, match="broke off after 5 of 3000000 bytes"):
        load(url)
    assert len(behaviour.asked) == 1 + len(PAUSES)


def test_download_of_a_file_that_changed_is_not_resumed(url: str, behaviour: Behaviour) -> None:
    behaviour.cuts = [1000]
    slept: list[float] = []
    with UrlStream(url, sleep=slept.append) as stream:
        assert stream.read(1000) == CONTENT[:1000]
        behaviour.headers, behaviour.content = {"ETag": '"two"'}, bytes(len(CONTENT))
        with pytest.raises(StrataError, match="broke off after 1000 of 3000000 bytes: it has changed on the server"):
            stream.read(1000)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"ETag": 'W/"one"'}, id="weak"),
        pytest.param({"Last-Modified": CHANGED.replace("2020", "2090")}, id="not before it was sent"),
    ],
)
def test_download_without_a_strong_validator_is_not_resumed(
    url: str, behaviour: Behaviour, headers: dict[str, str]
) -> None:
    behaviour.headers, behaviour.cuts = headers, [1000]
    with pytest.raises(StrataError, match="broke off after 1000 of 3000000 bytes"):
        load(url)
    assert behaviour.asked == ["all"]


def test_download_without_content_length_is_read_whole(url: str, behaviour: Behaviour) -> None:
    behaviour.length = False
    with UrlStream(url) as stream:
        assert stream.size is None
    assert load(url) == CONTENT


def test_failed_first_request_is_reported_at_once(url: str, behaviour: Behaviour) -> None:
    behaviour.codes = [404]
    with pytest.raises(StrataError, match=r"the server answered 404 Not Found to a request for http://127\.0\.0\.1"):
        UrlStream(url)
    behaviour.codes = [304]  # a proxy that answers what was not asked
    with pytest.raises(StrataError, match="the server answered 304 Not Modified to a request for"):
        UrlStream(url)
    with pytest.raises(StrataError, match="cannot fetch http://127.0.0.1:1/x"):
        UrlStream("http://127.0.0.1:1/x")


def test_file_url_is_read_and_a_missing_file_reported(tmp_path: Path) -> None:
    (tmp_path / "a b.tar").write_bytes(CONTENT)
    address = f"file://{tmp_path}/a%20b.tar"
    assert load(address) == CONTENT
    with pytest.raises(StrataError, match="cannot fetch file://"):
        UrlStream(f"file://{tmp_path}/missing")
