# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Remembers digests and ETags of URLs, so that unchanged files are not downloaded again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Optional, cast
from urllib.parse import urlsplit

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import (
    PACKING,
    DigestCache,
    Digested,
    digested,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.http_origin import basic
from ansible_collections.strata.overlay.plugins.module_utils._source.source import digest_tar, open_tar
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._source.download import UrlStream


class Download:
    """Opens the archive under a URL, each time anew; an ``Opener``."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stream: Optional[UrlStream] = None

    def __call__(self) -> AbstractContextManager[IO[bytes]]:
        """:raises StrataError: the server does not give it."""
        self._stream = _open(self._source)
        return cast("AbstractContextManager[IO[bytes]]", self._stream)

    def facts(self) -> Mapping[str, str]:
        """What ``Urls.remember`` wants to know of an archive that was read to its end."""
        return _facts(self._stream) if self._stream is not None else {}


class Urls:
    """What earlier runs know of URLs.

    Of each: the DiffID and the size of what was imported from there, the digest of the archive as it lay there, and the
    server's marks of it.
    """

    def __init__(self, store: Store, cache: DigestCache) -> None:
        self._store = store
        self._cache = cache

    def settled(self, layer: LayerSpec) -> Optional[Digested]:
        """What a layer is without a word of the server: what was imported from there has the digest that is wanted."""
        if not layer.digest:
            return None
        facts = self._facts(layer.read_from)
        known = facts.get("blob"), facts.get("pinned"), facts.get("diff_id")
        return digested(facts) if layer.digest in known else None

    def unchanged(self, layer: LayerSpec) -> Optional[Digested]:
        """What a layer is where its server says that it is still what was imported; None where it has something new.

        :raises StrataError: the server did not answer.
        """
        facts = self._seen(layer)
        if not facts:
            return None
        with _open(layer.read_from, facts) as stream:
            return digested(facts) if stream.unchanged else None

    def look(self, layer: LayerSpec) -> Digested:
        """What a layer is, of which the archive is read and not kept if it is new.

        :raises StrataError: it cannot be had, or is no archive.
        """
        facts = self._seen(layer)
        with _open(layer.read_from, facts) as stream:
            if stream.unchanged:
                return digested(facts)
            with open_tar(layer.read_from, lambda: cast("AbstractContextManager[IO[bytes]]", stream)) as read:
                found = digest_tar(read, layer.source.limits, layer.read_from.pinned)
            return self.remember(layer.read_from, found, _facts(stream))

    def remember(self, source: Source, found: Digested, facts: Mapping[str, str]) -> Digested:
        """Keep what a download was; the same with the digest of the archive as it lay there."""
        unended = {"unended": "yes"} if source.pinned else {}  # its end was not looked at
        self._cache.put(_key(source), {**found.facts(), **unended, **facts})
        return replace(found, blob=facts.get("blob", ""))

    def _facts(self, source: Source) -> Mapping[str, str]:
        """What is known, if the content is still there; nothing otherwise."""
        facts = self._cache.get(_key(source)) or {}
        if facts.get("unended") and not source.pinned:
            return {}
        try:
            found = digested(facts)
        except (KeyError, TypeError, ValueError):
            return {}
        return facts if self._store.has_content(found.diff_id) else {}

    def _seen(self, layer: LayerSpec) -> Mapping[str, str]:
        """What the server may be asked about: of records of earlier versions only the archive tells its digest."""
        facts = self._facts(layer.read_from)
        known = facts.get("blob") or not layer.digest or layer.digest == facts.get("diff_id")
        return facts if known and (facts.get("etag") or facts.get("last_modified")) else {}


def _open(source: Source, seen: Optional[Mapping[str, str]] = None) -> UrlStream:
    # Imported only when needed: it is large, and most runs have no URLs.
    from ansible_collections.strata.overlay.plugins.module_utils._source.download import UrlStream

    return UrlStream(source.location, seen, headers=_headers(source))


def _headers(source: Source) -> dict[str, str]:
    """Headers with the login, for this server only.

    :raises StrataError: the file of logins cannot be read, or has none for it.
    """
    access = source.access
    if access is None:
        return {}
    headers = dict(access.headers)
    if access.username:
        headers["Authorization"] = basic(access.username, access.password)
    elif access.auth_file and "authorization" not in (name.lower() for name in headers):
        headers["Authorization"] = _of_file(source.location, access.auth_file)
    return headers


def _of_file(url: str, path: str) -> str:
    # Imported only when needed: few have such a file.
    from ansible_collections.strata.overlay.plugins.module_utils._source.credentials import find_login

    parts = urlsplit(url)
    login = find_login(parts.netloc.lower(), parts.path.strip("/"), path, {})
    if login.registry_token:
        return f"Bearer {login.registry_token}"
    if not login.username:
        kind = "an identity token, which only registries take," if login.identity_token else "no login"
        raise StrataError(
            f"the file of logins {path} has {kind} for {parts.netloc}; correct auth_file, or give username and password"
        )
    return basic(login.username, login.password)


def _facts(stream: UrlStream) -> dict[str, str]:
    return {"blob": stream.digest, **stream.marks}


def _key(source: Source) -> str:
    """Query values are in it, since they may choose the file; a password is not. Only the store's owner can see it."""
    name = f"\0{source.access.username}" if source.access and source.access.username else ""
    selection = f"\0{PACKING}\0{source.selection!r}" if source.selection else ""
    text = f"url\0{source.location}{name}{selection}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
