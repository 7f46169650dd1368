# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Pushes an image: the missing blobs, then the manifest.

Source: OCI distribution-spec, "Push": "POST then PUT".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Callable
from urllib.parse import quote

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import short
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import Reference
from ansible_collections.strata.overlay.plugins.module_utils._export.image import ExportImage
from ansible_collections.strata.overlay.plugins.module_utils._export.write import ExportStep, blob_steps
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import (
    INDEXES,
    MANIFESTS,
    MAX_MANIFEST,
    OCI_MANIFEST,
    sha256,
)
from ansible_collections.strata.overlay.plugins.module_utils._registry.client import Access, Endpoint, login_finder
from ansible_collections.strata.overlay.plugins.module_utils._source.http import RequestError, Response
from ansible_collections.strata.overlay.plugins.module_utils._source.http_origin import origin_of, redirect_target
from ansible_collections.strata.overlay.plugins.module_utils._source.retry import PAUSES, persist

_NOT_SO = (403, 405, 501)
"""How some registries, and what stands before them, answer a method that they do not allow."""


class RegistryDestination:
    """A repository that an image is pushed to, under the reference's tag."""

    def __init__(self, image: ExportImage, reference: Reference, access: Access) -> None:
        self._image = image
        self._manifest = image.manifest()
        self._tag = reference.tag
        self._place = f"{reference.host}/{reference.repository}"
        self._endpoint = _PushEndpoint(
            access.client(),
            reference.address,
            reference.repository,
            f"registry {reference.host}",
            login_finder(reference, access),
            plain_http=reference.plain_http,
            pauses=PAUSES,
            actions="pull,push",
        )

    def before(self) -> str:
        return persist(lambda: self._endpoint.tagged(self._tag), PAUSES)

    def plan(self) -> list[ExportStep]:
        digest = sha256(self._manifest)
        if self.before() == digest:
            return []  # a registry takes no manifest whose blobs it has not
        missing = [step for blob, step in blob_steps(self._image, "push").items() if not self._has(blob)]
        message = f"push manifest {short(digest)} as {self._place}:{self._tag}"
        return [*missing, ExportStep("push_manifest", digest, message, len(self._manifest))]

    def write(self) -> None:
        for layer in {layer.diff_id: layer for layer in self._image.layers}.values():
            if not self._has(layer.diff_id):
                persist(lambda one=layer: self._endpoint.push(one.diff_id, one.size, one.read), PAUSES)  # type: ignore[misc]
        config = self._image.config
        if not self._has(self._image.image_id):
            persist(lambda: self._endpoint.push(self._image.image_id, len(config), lambda: [config]), PAUSES)
        persist(lambda: self._endpoint.tag(self._tag, self._manifest), PAUSES)

    def _has(self, digest: str) -> bool:
        return persist(lambda: self._endpoint.has(digest), PAUSES)


class _PushEndpoint(Endpoint):
    def tagged(self, tag: str) -> str:
        """The digest of what is under a tag, "" for nothing."""
        with self._ask(f"manifests/{tag}", {"Accept": ", ".join((*MANIFESTS, *INDEXES))}) as response:
            if response.status == 404:
                return ""
            self._expect(response, (200,), f"for manifest {tag}")
            return sha256(response.body(MAX_MANIFEST))

    def has(self, digest: str) -> bool:
        """Whether a blob is there; where that cannot be found out, it is not known to be."""
        for method in ("HEAD", "GET"):
            # Of what GET brings, no more than comes with the headers is read.
            with self._ask(f"blobs/{digest}", {}, method=method) as response:
                if response.status in _NOT_SO:
                    continue
                if response.status == 404:
                    return False
                self._expect(response, (200,), f"for blob {digest}")
                return True
        return False

    def push(self, digest: str, size: int, read: Callable[[], Iterable[bytes]]) -> None:
        """Bring a blob there, whole or not at all.

        :param read: its bytes in pieces, as often as it is called: who takes it may say to send it elsewhere.
        :raises StrataError: the registry refused, or reading the chunks failed.
        """
        with self._ask("blobs/uploads/", {"Content-Length": "0"}, b"", "POST") as response:
            self._expect(response, (202,), "to take a blob")
            place = self._upload_place(response)
        url = f"{place}{'&' if '?' in place else '?'}digest={quote(digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        if self._is_own(origin_of(url)):
            headers.update(self._authorizer.headers())
        failure = _Failure()
        try:
            response = self._client.open(url, headers, lambda: failure.noticed(read()), "PUT")
        except RequestError:
            failure.raise_own()
            raise
        with response:
            failure.raise_own()
            self._expect(response, (201, 204), f"to take blob {digest}")

    def _upload_place(self, response: Response) -> str:
        location = response.header("Location")
        if not location:
            raise RequestError(f"{self.description} does not say where a blob is to be sent")
        try:
            return redirect_target(self._url("blobs/uploads/"), location)
        except ValueError as error:
            raise RequestError(f"{self.description} wants a blob to be sent to {error}") from error

    def tag(self, tag: str, manifest: bytes) -> None:
        """Make what has been pushed an image."""
        headers = {"Content-Type": OCI_MANIFEST}
        with self._ask(f"manifests/{tag}", headers, manifest, "PUT") as response:
            self._expect(response, (200, 201, 202), f"to take manifest {tag}")

    def _expect(self, response: Response, good: Iterable[int], asked: str) -> None:
        if response.status not in good:
            raise self._refused(response, f"{asked} of {self._repository}")


class _Failure:
    """An error of what is being sent; http.client would hide it behind one of its own."""

    def __init__(self) -> None:
        self._error: list[Exception] = []

    def noticed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except Exception as error:
            self._error.append(error)
            raise OSError("what was to be sent could not be read") from error

    def raise_own(self) -> None:
        if self._error:
            raise self._error[0]
