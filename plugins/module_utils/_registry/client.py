# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Client for one repository of a registry and its mirrors: manifests and blobs.

Source: OCI distribution-spec, "Pull". `_image/manifest` parses the documents.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Callable, Optional, TypeVar, cast

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import (
    Mirror,
    Reference,
    is_loopback,
    parse_mirror,
    parse_reference,
)
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import (
    INDEXES,
    MANIFESTS,
    MAX_MANIFEST,
    read_document,
    sha256,
)
from ansible_collections.strata.overlay.plugins.module_utils._registry.auth import Authorizer, parse_challenges
from ansible_collections.strata.overlay.plugins.module_utils._registry.blob import BlobStream, last_of
from ansible_collections.strata.overlay.plugins.module_utils._registry.errors import refusal
from ansible_collections.strata.overlay.plugins.module_utils._source.credentials import Login, find_login
from ansible_collections.strata.overlay.plugins.module_utils._source.http import Body, Client, RequestError, Response
from ansible_collections.strata.overlay.plugins.module_utils._source.http_origin import Origin, origin_of
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Opener
from ansible_collections.strata.overlay.plugins.module_utils._source.retry import ONE_MORE, PAUSES, persist

__all__ = ["Access", "Reference", "Registry", "Served", "parse_reference"]

_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))

Result = TypeVar("Result")


@dataclass(frozen=True)
class Access:
    """How a registry is spoken to. ``password`` is a secret: it is in no message, and in no text of this value.

    :ivar auth_file: a file of logins; "" for those of Podman and Docker. Not looked at where there is a username,
        except for mirrors.
    :ivar mirrors: ``host[:port][/prefix]``, asked in this order before the registry. They never get its login.
    :ivar timeout: seconds without a sign of life.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    auth_file: str = ""
    ca_path: str = ""
    validate_certs: bool = True
    mirrors: tuple[str, ...] = ()
    timeout: float = 60
    ca: str = ""

    def client(self) -> Client:
        return Client(self.ca_path, self.validate_certs, self.timeout, ca=self.ca)


@dataclass(frozen=True)
class Served:
    """A manifest or index as it was served. ``media_type`` is without parameters, "" if not given."""

    body: bytes
    media_type: str
    digest: str


class Registry:
    """The repository that a reference is to. It may be used after a fork: each request is a connection of its own."""

    def __init__(self, reference: Reference, access: Access) -> None:
        """:raises StrataError: a mirror is not one."""
        client = access.client()
        mirrors = [_mirror(client, reference, parse_mirror(text), access) for text in access.mirrors]
        self._endpoints = [*mirrors, _main(client, reference, access)]
        self._reasons: list[str] = []

    def manifest(self, wanted: str) -> Served:
        """By its tag or digest, from the first that has it.

        :raises StrataError: no server has it; with the answer of each.
        """
        return self._from_first(lambda endpoint: endpoint.manifest(wanted), _check_document)

    def opener(self, digest: str, size: int) -> Opener:
        """Opens a blob, from its first byte each time; it connects when it is read. See `BlobStream`."""

        def opened() -> AbstractContextManager[IO[bytes]]:
            # What readers of archives call is `read`; IO[bytes] is the name that all streams go by.
            return cast("IO[bytes]", BlobStream(self._endpoints, digest, size))

        return opened

    def _from_first(self, ask: Callable[[Endpoint], Result], check: Callable[[Result, str], object]) -> Result:
        """
        :param check: raises StrataError where what a mirror gives is no use. What the registry gives, others judge.
        """
        reasons = list(self._reasons)
        for endpoint in list(self._endpoints[:-1]):
            try:
                found = persist(lambda one=endpoint: ask(one), endpoint.pauses)  # type: ignore[misc]
                check(found, endpoint.description)
                return found
            except StrataError as error:
                reasons.append(str(error))
                if not isinstance(error, RequestError) or error.status != 404:
                    # One that cannot be spoken to would be waited for at each blob again.
                    self._endpoints.remove(endpoint)
                    self._reasons.append(str(error))
        last = self._endpoints[-1]
        try:
            return persist(lambda: ask(last), last.pauses)
        except StrataError as error:
            raise StrataError(last_of([*reasons, str(error)])) from error


def _check_document(served: Served, message: str) -> None:
    read_document(served.body, served.media_type, f"{message}: manifest {served.digest}")


class Endpoint:
    """A registry or mirror, as the place of one repository.

    :ivar description: it, for messages.
    """

    def __init__(
        self,
        client: Client,
        address: str,
        repository: str,
        message: str,
        login: Callable[[], Login],
        *,
        plain_http: bool,
        pauses: Sequence[float],
        actions: str = "pull",
    ) -> None:
        """
        :param actions: that are wanted of the repository: ``pull``, or ``pull,push``.
        """
        self.description = message
        self.pauses = pauses
        self._client = client
        self._address = address
        self._repository = repository
        self._plain_http = plain_http
        self._answers_plain_http = plain_http
        self._authorizer = Authorizer(client, f"repository:{repository}:{actions}", login, self._may_ask_for_tokens)

    def manifest(self, wanted: str) -> Served:
        """:raises StrataError: it refused, or served something wrong."""
        what = f"manifest {wanted}"
        with self._get(f"manifests/{wanted}", {"Accept": _ACCEPT}, what) as response:
            body = response.body(MAX_MANIFEST)
            media_type = response.header("Content-Type").partition(";")[0].strip().lower()
        if len(body) > MAX_MANIFEST:
            raise RequestError(f"{self.description}: {what} has more than {MAX_MANIFEST} bytes, which are not read")
        digest = sha256(body)
        if ":" in wanted and digest != wanted:
            raise RequestError(f"{self.description} served {digest} for {what}; it is damaged")
        return Served(body, media_type, digest)

    def blob(self, digest: str, offset: int) -> Response:
        """As `BlobSource` has it."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self._get(f"blobs/{digest}", headers, f"blob {digest}")

    def _get(self, path: str, headers: dict[str, str], what: str) -> Response:
        response = self._ask(path, headers)
        if response.is_good:
            return response
        with response:
            raise self._refused(response, f"for {what} of {self._repository}")

    def _refused(self, response: Response, asked: str) -> RequestError:
        return refusal(response, f"{asked}, {self.description}", self._authorizer.used, self._authorizer.secrets)

    def _ask(self, path: str, headers: dict[str, str], data: Optional[Body] = None, method: str = "") -> Response:
        """Any answer; one that asks who wants to know is answered first."""
        response = self._open(path, headers, data, method)
        # Whoever the registry leads to may ask for a login too, and gets none: it is the registry's.
        if response.status != 401 or not self._is_own(response.origin):
            return response
        try:
            has_more = self._authorize(response, path)
        except BaseException:
            response.close()
            raise
        if not has_more:
            return response
        response.close()
        return self._open(path, headers, data, method)

    def _is_own(self, origin: Origin) -> bool:
        return origin == origin_of(self._url(""))

    def _may_ask_for_tokens(self, origin: Origin) -> bool:
        """A login goes without TLS only where the user wrote so, or where it does not leave this machine."""
        if origin.scheme == "https" or self._answers_plain_http:
            return True
        return self._plain_http and is_loopback(str(origin))

    def _authorize(self, response: Response, path: str) -> bool:
        """Get what an answer without success asks for; whether there is something new to be sent."""
        try:
            challenges = parse_challenges(response.all("WWW-Authenticate"))
            return self._authorizer.answer(challenges, self._url(path))
        except RequestError as error:
            message = f"{self.description}: {error}"
            raise RequestError(message, error.passing, error.wait, error.status) from error

    def _open(self, path: str, headers: dict[str, str], data: Optional[Body], method: str) -> Response:
        try:
            return self._open_redirected(path, headers, data, method)
        except RequestError as error:
            # As with Docker, a registry on this machine may do without TLS and nobody has to say so.
            if not error.speaks_http or not is_loopback(self._address):
                raise
            self._plain_http = True
            return self._open_redirected(path, headers, data, method)

    def _open_redirected(self, path: str, headers: dict[str, str], data: Optional[Body], method: str) -> Response:
        return self._client.open(self._url(path), {**headers, **self._authorizer.headers()}, data, method)

    def _url(self, path: str) -> str:
        scheme = "http" if self._plain_http else "https"
        return f"{scheme}://{self._address}/v2/{self._repository}/{path}"


def login_finder(reference: Reference, access: Access) -> Callable[[], Login]:
    """What finds the login for a registry when it asks for one."""

    def login() -> Login:
        if access.username:
            return Login(access.username, access.password)
        return find_login(reference.host, reference.repository, access.auth_file, os.environ)

    return login


def _main(client: Client, reference: Reference, access: Access) -> Endpoint:
    return Endpoint(
        client,
        reference.address,
        reference.repository,
        f"registry {reference.host}",
        login_finder(reference, access),
        plain_http=reference.plain_http,
        pauses=PAUSES,
    )


def _mirror(client: Client, reference: Reference, mirror: Mirror, access: Access) -> Endpoint:
    repository = mirror.prefix + reference.repository

    def login() -> Login:
        return find_login(mirror.host, repository, access.auth_file, os.environ)

    message = f"mirror {mirror.host}"
    return Endpoint(client, mirror.host, repository, message, login, plain_http=mirror.plain_http, pauses=ONE_MORE)
