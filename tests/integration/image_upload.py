# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts a layout into a registry as it is, and a registry in memory for it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.image_cases import Written
from ansible_collections.strata.overlay.tests.integration.privileges import need_private_namespace
from ansible_collections.strata.overlay.tests.integration.registry import Registry, running_registry


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in memory: what 150 stores sync to a disk is not what is looked at here."""
    need_private_namespace()
    top = tmp_path_factory.mktemp("memory")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top], check=True)
    yield top
    subprocess.run(["umount", top], check=True)


@pytest.fixture(scope="module")
def registry(memory: Path) -> Iterator[Registry]:
    storage = {"filesystem": {"rootdirectory": str(memory / "data")}, "delete": {"enabled": True}}
    with running_registry(memory / "registry", storage=storage) as registry:
        yield registry


class Upload:
    """A layout as it is, to the byte, in a registry: skopeo would mend what is odd in it."""

    def __init__(self, server: Registry, repository: str) -> None:
        self._server = server
        self._place = f"/v2/{repository}"
        self._sent: set[str] = set()

    def push(self, made: Written, top: dict[str, Any], tag: str) -> None:
        for path in sorted((made.layout.directory / "blobs/sha256").iterdir()):
            self._blob(f"sha256:{path.name}", path.read_bytes())
        self._manifest(made, top, tag)

    def delete(self, digest: str) -> None:
        for kind in ("blobs", "manifests"):
            self._ask("DELETE", f"{self._place}/{kind}/{digest}", b"", {}, (202, 404, 405))

    def _blob(self, digest: str, body: bytes) -> None:
        place = self._ask("POST", f"{self._place}/blobs/uploads/", b"", {}, (202,))
        sign = "&" if "?" in place else "?"
        there = re.sub(r"^http://[^/]*", "", place)
        headers = {"Content-Type": "application/octet-stream"}
        self._ask("PUT", f"{there}{sign}digest={digest}", body, headers, (201,))

    def _manifest(self, made: Written, entry: dict[str, Any], name: str) -> None:
        if name in self._sent or entry["mediaType"].startswith("application/vnd.example"):
            return
        self._sent.add(name)
        body = made.layout.path(entry["digest"]).read_bytes()
        for below in json.loads(body).get("manifests") or []:
            self._manifest(made, below, below["digest"])
        self._ask("PUT", f"{self._place}/manifests/{name}", body, {"Content-Type": entry["mediaType"]}, (201,))

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str], good: tuple[int, ...]) -> str:
        connection = http.client.HTTPConnection(self._server.address, self._server.port)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in good, f"{method} {path}: {answer.status} {said!r}"
            return answer.headers.get("Location") or ""
        finally:
            connection.close()
