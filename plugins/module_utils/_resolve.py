# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Every layer's source -> the DiffID it stands for and the way to its bytes, on the managed host."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import IO, Any, ContextManager, Dict, List, Mapping, Optional

from ansible_collections.strata.overlay.plugins.module_utils._definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._digestcache import DigestCache, Digested
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layerspec import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._origin import Opener, Origin, describe, sent
from ansible_collections.strata.overlay.plugins.module_utils._source import (
    check_digest,
    digest_tar,
    open_tar,
    read_source,
)
from ansible_collections.strata.overlay.plugins.module_utils._store import Store, existing_above


class Resolver:
    """Finds the origins of all layers of a definition, each mistake and not only the first."""

    def __init__(self, store: Store, provided: Mapping[str, Mapping[str, Any]], keep: bool) -> None:
        """
        :param provided: what the controller found out, by the layer's ``where``: diff_id, size, words, and path when it
            has sent the archive.
        :param keep: digests may be remembered in the store.
        """
        self._store = store
        self._provided = provided
        self._read: Mapping[Source, Digested] = {}
        self.cache = DigestCache(os.path.dirname(store.source_file("")), keep)

    def resolve(
        self, definition: Definition, problems: List[str], read: Optional[Mapping[Source, Digested]] = None
    ) -> Dict[str, Origin]:
        """Origin by the layer's ``where``; a layer whose source is not usable is left out and told in ``problems``.

        :param read: what this run has read already.
        """
        self._read = read or {}
        origins: Dict[str, Origin] = {}
        for layer in definition.sources():
            if not layer.source.kind and layer.where not in self._provided:
                continue  # normalise has told already
            try:
                origins[layer.where] = replace(self._origin(layer), where=layer.where)
            except StrataError as error:
                text = str(error)
                problems.append(text if text.startswith(layer.where) else f"{layer.where}: {text}")
            except OSError as error:
                problems.append(f"{layer.where}: cannot read {describe(layer.source)}: {error.strerror or error}")
        return origins

    def _origin(self, layer: LayerSpec) -> Origin:
        if layer.where in self._provided:
            origin = sent(self._provided[layer.where])
            return replace(origin, source=origin.source._replace(limits=layer.source.limits))
        if self._pinned_and_present(layer):
            record = self._store.content_record(layer.digest)
            return Origin(layer.digest, record.size if record else 0, describe(layer.source), layer.source)
        if layer.source.kind == "url":
            return self._download(layer)
        found = self._read.get(layer.source) or read_source(layer.source, self.cache)
        check_digest(layer, found)
        return Origin(found.diff_id, found.size, describe(layer.source), layer.source)

    def _pinned_and_present(self, layer: LayerSpec) -> bool:
        return bool(layer.digest) and os.path.isdir(self._store.content(layer.digest))

    def _download(self, layer: LayerSpec) -> Origin:
        # Loaded when it is needed, as all that downloads.
        from ansible_collections.strata.overlay.plugins.module_utils._fetch import fetch

        url = layer.source.location
        key = hashlib.sha256(f"url\0{url}".encode()).hexdigest()
        known = self.cache.get(key) or {}
        if known and not os.path.isdir(self._store.content(known["diff_id"])):
            known = {}
        if known and layer.digest and known.get("pinned") == layer.digest:
            return _origin_of(layer, Digested(known["diff_id"], int(known["size"])), None)
        opener: Optional[Opener] = None
        fetched = fetch(url, known, existing_above(self._store.root))
        if fetched.stream is None:
            found = Digested(known["diff_id"], int(known["size"]))
            if layer.digest and layer.digest != found.diff_id:
                # Which digest the file itself has was not kept: only the file can tell.
                fetched = fetch(url, {}, existing_above(self._store.root))
        if fetched.stream is not None:
            opener = _rewound(fetched.stream)
            with open_tar(layer.source, opener) as read:
                found = digest_tar(read, layer.source.limits)
            check_digest(layer, found, opener)
        facts = {"diff_id": found.diff_id, "size": str(found.size), "pinned": layer.digest}
        self.cache.put(key, {**facts, **fetched.marks})
        return _origin_of(layer, found, opener)


def _origin_of(layer: LayerSpec, found: Digested, opener: Optional[Opener]) -> Origin:
    return Origin(found.diff_id, found.size, describe(layer.source), layer.source, opener=opener)


def _rewound(stream: IO[bytes]) -> Opener:
    """Opens a temporary file that has no name; a description of its own each time, so that readers do not meet."""

    def opener() -> ContextManager[IO[bytes]]:
        return open(f"/proc/self/fd/{stream.fileno()}", "rb")

    return opener
