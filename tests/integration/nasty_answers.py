# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers that no server should give, made at random from what has broken clients before."""

from __future__ import annotations

import random

STATUS_LINES = (
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200",
    "HTTP/1.1 206 Part",
    "HTTP/1.1 401 No",
    "HTTP/1.1 307 There",
    "HTTP/1.1 308 There",
    "HTTP/1.1 202 Accepted",
    "HTTP/1.1 201 Created",
    "HTTP/1.1 404 None",
    "HTTP/1.1 503 Later",
    "HTTP/1.1 204 Nothing",
    "HTTP/1.1 304 Same",
    "HTTP/1.1 100 Go on",
    "HTTP/1.1 999 \x1b[31m",
    "HTTP/1.1 99 Few",
    "HTTP/1.1 \xb2\xb2\xb2 x",
    "HTTP/1.1 -200 x",
    "HTTP/1.1 200000000000000000000000 x",
    "HTTP/9.9 200 OK",
    "HTTP/1.1",
    "ICY 200 OK",
    "<html>",
    "",
    "HTTP/1.1 200 " + "x" * 70_000,
)

NUMBERS = (
    "0",
    "1",
    "5",
    "\xb2",
    "-1",
    "-5",
    "+3",
    "0x5",
    "1_0",
    "5, 6",
    "9" * 18,
    "9" * 400,
    "9" * 5000,
    "1e3",
    "",
    " ",
)

ADDRESSES = (
    "/elsewhere",
    "//a..b/",
    "http://[::1",
    "http://[::1]x/",
    "https://a..b/token",
    "http://h:99999/",
    "http://h:\xb2/",
    "http:///x",
    "ftp://127.0.0.1:1/x",
    "file:///etc/passwd",
    "data:,x",
    "http://\xff\xfe/",
    "?",
    "",
    "x" * 60_000,
    "http://127.0.0.1:1/",
    "http://%00/",
    "http://xn--\xb2/",
    "javascript:alert(1)",
)

CHALLENGES = (
    "Basic",
    'Basic realm="x"',
    "Bearer",
    'Bearer realm="{}"',
    "Bearer realm={}",
    "Bearer realm='{}'",
    'Bearer realm="{}",service="a\\"b",scope="c d"',
    'Bearer realm="' + "\\" * 5000,
    "Bearer " + "a=b," * 5000,
    'Digest realm="x", nonce="", qop=',
    "Digest realm=",
    'Digest realm="x", nonce="1", algorithm="\xb2"',
    "Negotiate",
    "\xff\xfe",
    "=" * 1000,
)

DATES = (
    "Fri, 31 Dec 99999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Foo -1 99:99:99 +9999999999",
    "soon",
)

JSON = (
    b"{}",
    b"[]",
    b"null",
    b'"\xff"',
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"token": "\xe2\x82\xac", "expires_in": ' + b"9" * 400 + b"}",
    b'{"token": "x", "expires_in": ' + b"9" * 5000 + b"}",
    b'{"token": "x", "expires_in": 1e999}',
    b'{"token": "x\\r\\nX: y"}',
    b'{"token": ["x"], "access_token": {}}',
    b'{"token": "x"}',
    b'{"errors": [{"code": {"a": []}, "message": 5}, 7, null]}',
    b'{"errors": {"code": 1}, "error": ["x"], "message": {}}',
    b'{"schemaVersion": 2, "manifests": [{"digest": 5, "size": -1}]}',
    b'{"schemaVersion": 2, "config": {"digest": "sha256:0", "size": 1e400}, "layers": {"a": 1}}',
    b'{"schemaVersion": 2, "mediaType": ["x"], "layers": [[]]}',
    b"\xef\xbb\xbf{}",
    b"{\x00}",
    "{}".encode("utf-16"),
)


def nasty_answer(chance: random.Random, truth: bytes) -> bytes:
    """Bytes of an answer; now and then a part of the true one.

    :param truth: a body that would be right.
    """
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(2000))
    body = _body(chance, truth)
    lines = [chance.choice(STATUS_LINES) if chance.random() < 0.5 else STATUS_LINES[chance.randrange(5)]]
    lines += [header for header in _headers(chance, len(body)) if chance.random() < 0.4]
    chance.shuffle(lines[1:])
    if chance.random() < 0.2:
        lines.append("Transfer-Encoding: chunked")
        body = _chunks(chance, body)
    whole = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    return whole[: chance.randrange(len(whole) + 1)] if chance.random() < 0.1 else whole


def _body(chance: random.Random, truth: bytes) -> bytes:
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(JSON)
    if kind < 0.8:
        return truth
    return chance.choice((b"", truth[:-1], truth + b"x", truth[::-1], chance.randbytes(500), bytes(100_000)))


def _headers(chance: random.Random, size: int) -> list[str]:
    address = chance.choice(ADDRESSES)
    length = chance.choice(NUMBERS) if chance.random() < 0.3 else str(size)
    return [
        f"Content-Length: {length}",
        f"Location: {address}",
        f"WWW-Authenticate: {chance.choice(CHALLENGES).replace('{}', address)}",
        f"Retry-After: {chance.choice((*NUMBERS, *DATES))}",
        f"Last-Modified: {chance.choice(DATES)}",
        f"Date: {chance.choice(DATES)}",
        f"ETag: {chance.choice(NUMBERS)}",
        f"Content-Range: bytes {chance.choice(NUMBERS)}-{chance.choice(NUMBERS)}/{chance.choice(NUMBERS)}",
        f"Content-Type: {chance.choice(('application/json', 'x' * 5000, chr(0xFF), '; ;', ''))}",
        chance.choice(("Content-Encoding: gzip", "no colon", ": no name", " folded", "X: \x00\x01", "X" * 60_000)),
    ]


def _chunks(chance: random.Random, body: bytes) -> bytes:
    size = chance.choice(
        (f"{len(body):x}", "-5", "-1", "\xb2", "", "f" * 400, "5;" + "x" * 60_000, " 5 ", "0x5", "1_0")
    )
    end = chance.choice((b"\r\n0\r\n\r\n", b"\r\n", b"", b"\r\n0\r\n" + b"X: y\r\n" * 200))
    return size.encode("latin-1") + b"\r\n" + body + end
