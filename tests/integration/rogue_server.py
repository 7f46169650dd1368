# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on loopback that answers with whatever bytes a test wants, with TLS or without, and keeps what it was asked.

``RogueServer`` is any web server; ``RogueRegistry`` is one with an image, of which each answer can be replaced.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import socket
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.strata.overlay.tests.integration.registry import Authority

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Asked:
    """A request. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


Reply = bytes | Iterable[bytes]
Answering = Callable[[Asked], Reply]


def reply(status: int, body: bytes = b"", *headers: str, length: str | None = None) -> bytes:
    """An answer as it goes over the wire.

    :param headers: whole lines.
    :param length: what Content-Length says, if not the truth; "" for none.
    """
    length = str(len(body)) if length is None else length
    lines = [f"HTTP/1.1 {status} Word", *headers, *([f"Content-Length: {length}"] if length else [])]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


@dataclass
class RogueServer:
    """Answers every request by ``answer``; the connection ends with the answer.

    :ivar answer: its bytes, or pieces of them; may be replaced at any time.
    :ivar authority: for TLS with its certificate.
    :ivar reads: bodies of requests that are larger are not read; at 0, they come in after the answer.
    :ivar asked: every request so far.
    :ivar over: set at the end, for answers that wait.
    """

    answer: Answering = lambda _asked: reply(404)
    authority: Authority | None = None
    port: int = 0
    reads: int = 1 << 20
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.authority else 'http'}://{self.host}"

    def credentials(self) -> list[str]:
        """What it was sent in headers that are for one server alone."""
        return [
            each.headers[name] for each in self.asked for name in ("authorization", "x-key") if name in each.headers
        ]

    @contextlib.contextmanager
    def running(self) -> Iterator[RogueServer]:
        """Ended in every case, also with requests that are being answered."""
        context: ssl.SSLContext | None = None
        if self.authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.authority.certificate, self.authority.key)
        connections: list[socket.socket] = []
        threads: list[threading.Thread] = []

        def accept(listening: socket.socket) -> None:
            while not self.over.is_set():
                with contextlib.suppress(OSError):
                    connection, _address = listening.accept()
                    connections.append(connection)
                    threads.append(threading.Thread(target=self._serve, args=(connection, context)))
                    threads[-1].start()

        with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
            self.port = listening.getsockname()[1]
            accepting = threading.Thread(target=accept, args=(listening,))
            accepting.start()
            try:
                yield self
            finally:
                self.over.set()
                with contextlib.suppress(OSError):
                    listening.shutdown(socket.SHUT_RDWR)
                accepting.join()
                for connection in connections:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join()

    def _serve(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        # A client that has read enough goes, and one without TLS is none of this server's.
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            stream = stack.enter_context(context.wrap_socket(connection, server_side=True)) if context else connection
            asked = _read_request(stack.enter_context(stream.makefile("rb")), self.reads)
            if asked is None:
                stream.sendall(reply(400))
                return
            self.asked.append(asked)
            answer = self.answer(asked)
            for piece in [answer] if isinstance(answer, bytes) else answer:
                stream.sendall(piece)
            if not self.reads:
                # As nginx does: what is thrown away is taken until the client goes, or the answer could be lost.
                while stream.recv(1 << 16):
                    pass


def _read_request(stream: Any, most: int) -> Asked | None:
    if stream.peek(1)[:1] == b"\x16":  # the beginning of TLS, from a client that will go on without it
        return None
    lines = [line.decode("latin-1").rstrip("\r\n") for line in iter(stream.readline, b"\r\n") if line or _end()]
    if not lines:
        return None
    method, path, _version = lines[0].split(" ")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines[1:])}
    size = int(headers.get("content-length", "0"))
    return Asked(method, path, headers, stream.read(size) if size <= most else b"")


def _end() -> bool:
    raise ConnectionError("the client has gone")


@dataclass
class RogueRegistry:
    """A registry with the image ``team/app:1.0`` of one layer, whose answers can be replaced by others.

    :ivar replaced: the beginning of a path behind ``/v2/team/app/`` -> what is answered in place of the truth.
    """

    authority: Authority | None = None
    replaced: dict[str, Answering] = field(default_factory=dict)

    def __post_init__(self) -> None:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            member = tarfile.TarInfo("etc/app")
            member.size = 3
            archive.addfile(member, io.BytesIO(b"one"))
        layer = gzip.compress(raw.getvalue(), mtime=0)
        rootfs = {"type": "layers", "diff_ids": [_digest(raw.getvalue())]}
        config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()
        self.layer, self.config = layer, config
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
                "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
            }
        ).encode()
        self.server = RogueServer(self.answer, self.authority)

    @property
    def host(self) -> str:
        return self.server.host

    @contextlib.contextmanager
    def running(self) -> Iterator[RogueRegistry]:
        with self.server.running():
            yield self

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.removeprefix("/v2/team/app/")
        for beginning, answering in self.replaced.items():
            if path.startswith(beginning):
                return answering(asked)
        return self.truth(asked)

    def truth(self, asked: Asked) -> bytes:
        """What an honest registry answers."""
        path = asked.path.removeprefix("/v2/team/app/")
        if path in ("manifests/1.0", f"manifests/{_digest(self.manifest)}"):
            return reply(200, self.manifest, f"Content-Type: {MANIFEST_TYPE}")
        for blob in (self.config, self.layer):
            if path == f"blobs/{_digest(blob)}":
                return reply(200, blob)
        return reply(404, b'{"errors": [{"code": "NAME_UNKNOWN"}]}')


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}
