# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian's docker-registry on loopback, as it is run in earnest: with TLS, logins, tokens and a bad network."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.strata.overlay.tests.integration.host import free_port
from ansible_collections.strata.overlay.tests.integration.images import Layout, skopeo
from ansible_collections.strata.overlay.tests.integration.web import serving

USER, PASSWORD = "puller", "pass-word-1"
SERVICE, ISSUER = "registry of the test", "token server of the test"


@dataclass
class Registry:
    """A registry that runs, and its log."""

    port: int
    log: Path
    address: str = "127.0.0.1"
    read: int = 0

    @property
    def host(self) -> str:
        return f"{self.address}:{self.port}"

    def asked(self) -> list[str]:
        """What has been asked for since the last question: manifests and blobs."""
        text = self.log.read_text()
        new, self.read = text[self.read :], len(text)
        return re.findall(r'"GET /v2/team/app/((?:manifests|blobs)/\S+) ', new)

    def push(self, layout: Layout, name: str, tag: str, *options: str, enter: Sequence[str] = ()) -> None:
        """Push an image of a layout to team/app, by skopeo.

        :param enter: the command that runs another one where the registry is heard.
        """
        source = f"oci:{layout.directory}:{name}"
        skopeo("--dest-tls-verify=false", *options, source, f"docker://{self.host}/team/app:{tag}", enter=enter)
        self.asked()


@dataclass(frozen=True)
class Place:
    """Where a registry runs.

    :ivar enter: the command that runs another one there.
    """

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


HERE = Place()


@contextlib.contextmanager
def running_registry(
    directory: Path, data: Path | None = None, place: Place = HERE, **sections: Any
) -> Iterator[Registry]:
    """A registry with its data in a directory, ended in every case.

    :param data: where the images are, for two registries of one content.
    :param sections: of its configuration, as ``auth`` and ``tls`` below make them.
    """
    if shutil.which("docker-registry") is None:
        pytest.skip("the Debian package docker-registry is missing")
    port = free_port()
    directory.mkdir()
    config, log = directory / "registry.yml", directory / "registry.log"
    settings = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(data or directory / "data")}},
        "http": {"addr": f"{place.address}:{port}", **({"tls": sections.pop("tls")} if "tls" in sections else {})},
        **sections,
    }
    config.write_text(json.dumps(settings))  # which is YAML
    with (
        open(log, "w") as stream,
        subprocess.Popen(
            [*place.enter, "docker-registry", "serve", config], stdout=stream, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            for _try in range(200):
                if "listening on" in log.read_text():
                    break
                assert server.poll() is None, log.read_text()
                time.sleep(0.05)
            assert "listening on" in log.read_text(), f"docker-registry does not answer:\n{log.read_text()}"
            yield Registry(port, log, place.address)
        finally:
            server.kill()


@dataclass(frozen=True)
class Authority:
    """A certificate authority and a key with a certificate of it, for 127.0.0.1 unless made for other addresses."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, *addresses: str) -> Authority:
        directory.mkdir()
        made = cls(directory / "ca.pem", directory / "server.pem", directory / "server.key")
        ca_key, request, extensions = directory / "ca.key", directory / "request", directory / "extensions"
        new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
        _quietly([*new, "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", ca_key, "-out", made.ca])
        _quietly([*new, "-subj", "/CN=127.0.0.1", "-keyout", made.key, "-out", request])
        extensions.write_text("subjectAltName=" + ",".join(f"IP:{each}" for each in addresses or ("127.0.0.1",)) + "\n")
        sign = ["openssl", "x509", "-req", "-days", "2", "-in", request, "-CA", made.ca, "-CAkey", ca_key]
        _quietly([*sign, "-CAcreateserial", "-extfile", extensions, "-out", made.certificate])
        return made

    @property
    def tls(self) -> dict[str, str]:
        return {"certificate": str(self.certificate), "key": str(self.key)}


def _quietly(command: list[Any]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def password_file(path: Path) -> dict[str, Any]:
    """The section ``auth`` for basic authentication; the hash is made by Perl's crypt, which knows bcrypt."""
    script = "print crypt($ARGV[0], '$2y$05$abcdefghijklmnopqrstuu')"
    hashed = subprocess.run(["perl", "-e", script, PASSWORD], capture_output=True, text=True, check=True).stdout
    path.write_text(f"{USER}:{hashed}\n")
    return {"htpasswd": {"realm": "test", "path": str(path)}}


@dataclass
class TokenServer:
    """Gives tokens to whoever knows the password; the registry trusts its certificate.

    :ivar asked: the queries that it was asked.
    """

    authority: Authority
    port: int = 0
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    @property
    def auth(self) -> dict[str, Any]:
        """The section ``auth`` of a registry that believes in its tokens."""
        realm = f"https://127.0.0.1:{self.port}/token"
        bundle = str(self.authority.certificate)
        return {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}

    @contextlib.contextmanager
    def running(self) -> Iterator[TokenServer]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.authority.certificate, self.authority.key)
        with serving(type("Handler", (_TokenHandler,), {"tokens": self})) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            self.port = server.server_address[1]
            yield self

    def token(self, scope: str) -> str:
        """A JSON Web Token, signed with RS256, its certificate beside it (RFC 7515, x5c)."""
        _kind, name, actions = scope.split(":")
        pem = self.authority.certificate.read_text()
        der = "".join(pem.split("-----")[2].split())
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 60, "nbf": now - 5, "iat": now, "jti": "1"}
        claims["access"] = [{"type": "repository", "name": name, "actions": actions.split(",")}]
        parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims)]
        text = ".".join(_url64(part) for part in parts)
        sign: list[str | Path] = ["openssl", "dgst", "-sha256", "-sign", self.authority.key]
        return f"{text}.{_url64(subprocess.run(sign, input=text.encode(), capture_output=True, check=True).stdout)}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Nothing: what was asked is kept by the server."""

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _TokenHandler(_Quiet):
    tokens: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.tokens.asked.append(query)
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            said = {"errors": [{"code": "UNAUTHORIZED", "message": f"not {self.headers.get('Authorization')}"}]}
            self.answer(401, json.dumps(said).encode())
        else:
            self.answer(200, json.dumps({"token": self.tokens.token(query["scope"][0]), "expires_in": 60}).encode())


@dataclass
class BadNetwork:
    """A proxy before a registry without TLS that does what networks do. Each fault is used up by one answer to a blob.

    :ivar faults: ``cut`` ends the connection half-way, ``whole`` leaves Range out of account, ``flip`` changes a byte,
        a number is answered as a status.
    :ivar ranges: Range of each request for a blob, "" where there was none.
    :ivar credentials: what came in Authorization headers.
    """

    upstream: Registry
    port: int = 0
    faults: list[str | int] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[BadNetwork]:
        with serving(type("Handler", (_BadHandler,), {"network": self})) as server:
            self.port = server.server_address[1]
            yield self


class _BadHandler(_Quiet):
    network: BadNetwork

    def do_GET(self) -> None:
        network = self.network
        network.credentials += [self.headers["Authorization"]] if "Authorization" in self.headers else []
        is_blob = "/blobs/" in self.path
        fault = network.faults.pop(0) if is_blob and network.faults else ""
        if is_blob:
            network.ranges.append(self.headers.get("Range", ""))
        if isinstance(fault, int):
            self.answer(fault, b"{}", Retry_After="1")
            return
        kept = {name: value for name, value in self.headers.items() if name in ("Accept", "Range")}
        if fault == "whole":
            kept.pop("Range", None)
        connection = http.client.HTTPConnection("127.0.0.1", network.upstream.port)
        with contextlib.closing(connection):
            connection.request("GET", self.path, headers=kept)
            found = connection.getresponse()
            body = found.read()
        if fault == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(found.status)
        for name in ("Content-Type", "Content-Range", "Docker-Content-Digest"):
            if found.headers.get(name):
                self.send_header(name, found.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
