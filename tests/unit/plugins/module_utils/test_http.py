# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP client against servers that lead it astray: what leaves an origin, what it follows, what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec
from ansible_collections.strata.overlay.plugins.module_utils._services.health import check_health
from ansible_collections.strata.overlay.plugins.module_utils._source import http_wire
from ansible_collections.strata.overlay.plugins.module_utils._source.download import UrlStream
from ansible_collections.strata.overlay.plugins.module_utils._source.http import Client, RequestError, skip
from ansible_collections.strata.overlay.plugins.module_utils._source.http_origin import (
    origin_of,
    redirect_target,
    split_login,
)
from ansible_collections.strata.overlay.tests.integration.registry import Authority
from ansible_collections.strata.overlay.tests.integration.rogue_server import Asked, RogueServer, reply

SECRET = {"X-Key": "hunter2"}


@pytest.fixture
def server() -> Iterator[RogueServer]:
    with RogueServer().running() as made:
        yield made


@pytest.fixture
def other() -> Iterator[RogueServer]:
    with RogueServer(lambda _asked: reply(200, b"from elsewhere")).running() as made:
        yield made


@pytest.fixture
def secure(authority: Authority) -> Iterator[RogueServer]:
    with RogueServer(authority=authority).running() as made:
        yield made


def leads_to(url: str) -> Any:
    return lambda _asked: reply(302, b"", f"Location: {url}")


def health(url: str, **options: Any) -> str:
    return check_health(HealthSpec(url, headers=SECRET, retries=0, validate_certs=False, **options)).description


# Origins.


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://H.example", ("https", "h.example", 443)),
        ("https://user:pw@h.example:443/x", ("https", "h.example", 443)),
        ("http://[::1]:8080/", ("http", "::1", 8080)),
        ("http://b\u00fccher.example/", ("http", "xn--bcher-kva.example", 80)),
    ],
)
def test_origin_is_scheme_host_and_port(url: str, expected: tuple[str, str, int]) -> None:
    assert origin_of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://[::1]x/",
        "http://user:hid@[::1/",
        "http://a..b/",
        "http://" + "a" * 64 + ".example/",
        "http://h:99999/",
        "http://h:\xb2/",
        "http://h:0/",
        "http:///x",
        "http://user:hid@/",
        "http://user:hid@h ost/",
        "http://h\\@evil/",
        "http://h%00/",
        "ftp://user:hid@h/",
        "file:///etc/passwd",
        "gopher:x",
        "",
    ],
)
def test_malformed_url_is_refused_without_showing_its_login(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        origin_of(url)
    assert "hid" not in str(raised.value)
    with pytest.raises(RequestError, match="the request cannot be sent: "):
        Client().open(url, {})


def test_login_is_split_from_the_requested_url() -> None:
    assert split_login("https://us%40er:p%3Aw@h:8443/a b?c=\u00e9#f") == (
        "https://h:8443/a%20b?c=%C3%A9",
        ("us@er", "p:w"),
    )


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b c", "https://h/b%20c"),
        ("x?y=1", "https://h/a/x?y=1"),
        ("//other/x", "https://other/x"),
        ("https://user:pw@other/", "https://other/"),
        ("/\xe9", "https://h/%E9"),
    ],
)
def test_redirect_location_is_resolved_to_a_url_without_login(location: str, target: str) -> None:
    assert redirect_target("https://h/a/b", location) == target


@pytest.mark.parametrize(
    "location", ["http://h/", "ftp://h/x", "file:///etc/shadow", "data:,x", "http://[::1", "https://a..b/"]
)
def test_redirect_from_https_to_anything_but_valid_https_is_refused(location: str) -> None:
    with pytest.raises(ValueError):
        redirect_target("https://h/a/b", location)


# What leaves an origin.


def test_redirect_to_another_origin_carries_no_secret_header(server: RogueServer, other: RogueServer) -> None:
    server.answer = leads_to(f"{other.url}/x")
    headers = {**SECRET, "Authorization": "Bearer hid", "Cookie": "hid", "PRIVATE-TOKEN": "hid", "Range": "bytes=1-"}
    with Client().open(server.url, headers) as answer:
        assert (answer.status, answer.redirected, answer.host) == (200, True, other.host)
    kept = {"host", "user-agent", "accept-encoding", "connection", "range"}
    assert set(other.asked[0].headers) == kept


def test_redirect_within_the_origin_keeps_headers(server: RogueServer) -> None:
    server.answer = lambda asked: reply(200) if asked.path == "/there" else reply(307, b"", "Location: /there")
    with Client().open(server.url, SECRET) as answer:
        assert not answer.redirected
    assert server.credentials() == ["hunter2"] * 2


def test_redirect_back_to_the_origin_does_not_restore_headers(server: RogueServer, other: RogueServer) -> None:
    server.answer = lambda asked: reply(200) if asked.path == "/back" else leads_to(f"{other.url}/x")(asked)
    other.answer = leads_to(f"{server.url}/back")
    Client().open(server.url, SECRET).close()
    assert server.credentials() == ["hunter2"]


def test_login_in_a_url_is_sent_to_its_origin_alone(server: RogueServer, other: RogueServer) -> None:
    challenge = 'WWW-Authenticate: Basic realm="x"'

    def asks(asked: Asked) -> bytes:
        known = "authorization" in asked.headers
        return leads_to(f"{other.url}/x")(asked) if known else reply(401, b"", challenge)

    server.answer = asks
    other.answer = lambda _asked: reply(401, b"", challenge)
    with Client().open(f"http://user:pw@{server.host}/", {}) as answer:
        assert (answer.status, answer.host) == (401, other.host)
    assert server.credentials() == ["Basic dXNlcjpwdw=="]
    assert other.credentials() == []


def test_no_login_is_taken_from_netrc(server: RogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Client().open(server.url, {}).close()
    assert health(server.url, statuses=(404,)) == f"GET {server.url}"
    assert server.credentials() == ["hunter2"]


def test_headers_of_a_health_check_stay_with_its_server(server: RogueServer, other: RogueServer) -> None:
    server.answer = leads_to(f"{other.url}/x")
    assert health(server.url) == f"GET {server.url}"
    assert server.credentials() == ["hunter2"]
    assert other.credentials() == []
    other.answer = lambda _asked: reply(401)
    assert health(server.url).endswith(f": redirected to {other.host}, which answered 401, not 200")


@pytest.mark.parametrize("place", ["http", "ftp"])
def test_redirect_from_https_to_a_url_without_tls_is_not_followed(
    secure: RogueServer, other: RogueServer, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ftp_proxy", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, other.url)
    secure.answer = leads_to(f"{place}://{other.host}/x?sig=hid")
    said = f"{secure.host} redirects to {place}://{other.host}, which is not followed: it has no TLS"
    assert health(secure.url).endswith(f": {said}")
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority.ca) if secure.authority else "")
    with pytest.raises(StrataError) as raised:
        UrlStream(f"{secure.url}/layer.tar")
    assert str(raised.value) == f"cannot fetch {secure.url}/layer.tar: {said}"
    assert other.asked == []


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1:1/x", "data:,x"])
def test_redirect_out_of_http_is_refused(server: RogueServer, place: str) -> None:
    server.answer = leads_to(place)
    with pytest.raises(StrataError, match="redirects to"):
        UrlStream(f"{server.url}/layer.tar")


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "socks5://127.0.0.1:1", "http://[::1", "file:///etc/passwd"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_without_a_valid_http_url_is_reported(scheme: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    with pytest.raises(RequestError, match="r.example"):
        Client(timeout=5).open(f"{scheme}://r.example/", {})


def test_proxy_gets_its_own_login_and_not_that_of_the_url(other: RogueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:word@{other.host}")
    with Client().open("http://user:pw@r.example/x", {}) as answer:
        assert answer.host == "r.example"
    (asked,) = other.asked
    assert asked.path == "http://r.example/x", "no login of the URL is in it"
    assert asked.headers["proxy-authorization"] == "Basic bWU6d29yZA=="


def test_header_that_cannot_be_sent_is_named_without_its_value(server: RogueServer) -> None:
    for headers in ({"X-Key": "hid\nden"}, {"X-Key": "hid\u20acden"}):
        with pytest.raises(RequestError, match="the request cannot be sent: header X-Key has a line break, or") as said:
            Client().open(server.url, headers)
        assert "hid" not in str(said.value)
    assert server.asked == []


# How long it waits.


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(http_wire, "_WINDOW", 0.3)
    return Client(timeout=0.2, total=0.3)


def dripping(server: RogueServer, begin: bytes) -> Iterator[bytes]:
    yield begin
    while not server.over.wait(0.02):
        yield b"x"


def for_ever(piece: bytes, begin: bytes = b"") -> Iterator[bytes]:
    yield begin
    while True:
        yield piece


def test_headers_sent_byte_by_byte_are_given_up_in_time(server: RogueServer, quick: Client) -> None:
    server.answer = lambda _asked: dripping(server, b"HTTP/1.1 200 OK\r\nX: ")
    with pytest.raises(RequestError, match="is too slow: its answer was not whole within 0.3 seconds"):
        quick.open(server.url, {})


@pytest.mark.parametrize("piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X: y\r\n"], ids=["interim answers", "headers"])
def test_endless_headers_are_given_up(server: RogueServer, quick: Client, piece: bytes) -> None:
    server.answer = lambda _asked: for_ever(piece, b"" if b"100" in piece else b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(RequestError, match=r"is too slow|got more than 100 headers"):
        quick.open(server.url, {})


def test_small_body_sent_byte_by_byte_is_given_up_in_time(server: RogueServer, quick: Client) -> None:
    server.answer = lambda _asked: dripping(server, reply(200, b"", length="1000"))
    slow = r"is too slow: its answer was not whole within 0\.3 seconds"
    with quick.open(server.url, {}) as answer, pytest.raises(RequestError, match=slow):
        answer.body(1000)


def test_stream_sent_byte_by_byte_is_given_up_in_time(server: RogueServer, quick: Client) -> None:
    server.answer = lambda _asked: dripping(server, reply(200, b"", length="1000"))
    slow = r"is too slow: fewer than 300000 bytes came within 0\.3 seconds"
    with quick.open(server.url, {}) as answer, pytest.raises(RequestError, match=slow):
        skip(answer.read, 1000)


def test_stream_with_a_slow_reader_is_not_given_up(server: RogueServer, quick: Client) -> None:
    content = bytes(2_000_000)
    server.answer = lambda _asked: reply(200, content)
    with quick.open(server.url, {}) as answer:
        got = len(answer.read(1000))
        time.sleep(0.7)
        while piece := answer.read(1 << 16):
            got += len(piece)
    assert got == len(content)


@pytest.mark.parametrize("size", [b"-1", b"-5", b"-80"])
def test_chunk_of_negative_size_is_refused(server: RogueServer, size: bytes) -> None:
    head = reply(200, b"", "Transfer-Encoding: chunked", length="")
    server.answer = lambda _asked: head + size + b"\r\n" + bytes(1000)
    expected = f"it sends a chunk of -{int(size[1:], 16)} bytes"
    with Client().open(server.url, {}) as answer, pytest.raises(RequestError, match=expected):
        answer.read(10)


def test_endless_trailers_are_refused(server: RogueServer) -> None:
    head = reply(200, b"", "Transfer-Encoding: chunked", length="")
    server.answer = lambda _asked: for_ever(b"X: y\r\n", head + b"0\r\n")
    with Client().open(server.url, {}) as answer, pytest.raises(RequestError, match="more than 100 lines after"):
        answer.read(10)


@pytest.mark.parametrize(
    "length", ["\xb2", "9" * 5000, "-1", "1, 2", "0x10", "1_0", "\u0661".encode().decode("latin-1")]
)
def test_content_length_that_is_no_number_is_refused(server: RogueServer, length: str) -> None:
    server.answer = lambda _asked: reply(200, b"x", length=length)
    with pytest.raises(RequestError, match="answers with a Content-Length that is no number"):
        Client().open(server.url, {})


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("5", 5, 5),
        ("9" * 400, 1e9, 1e9),
        ("9" * 5000, 1e9, 1e9),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, 1e9),
        ("Fri, 31 Dec 99999 23:59:59 GMT", 0, 1e9),
        ("Fri, 31 Dec 1999 23:59:59 +9999999999", 0, 1e9),
        ("\xb2", 0, 0),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("Fri, 31 Dec 0 23:59:59 GMT", 0, 0),
    ],
)
def test_retry_after_becomes_a_bounded_wait(server: RogueServer, text: str, least: float, most: float) -> None:
    server.answer = lambda _asked: reply(503, b"", f"Retry-After: {text}")
    with Client().open(server.url, {}) as answer:
        assert least <= answer.wait <= most


def test_answer_that_arrives_before_the_upload_ends_is_read(server: RogueServer) -> None:
    server.reads = 0
    server.answer = lambda _asked: reply(413, b"too large")
    sent = []

    def pieces() -> Iterator[bytes]:
        for number in range(4000):
            sent.append(number)
            yield bytes(1 << 16)

    headers = {"Content-Length": str(4000 << 16)}
    with Client(timeout=10).open(server.url, headers, pieces, "PUT") as answer:
        assert (answer.status, answer.body(100)) == (413, b"too large")
    assert len(sent) < 4000
