# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Resolves every layer's source to its DiffID and the way to its bytes, on the managed host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache, Digested
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin, describe, sent
from ansible_collections.strata.overlay.plugins.module_utils._source.source import check_digest, read_source
from ansible_collections.strata.overlay.plugins.module_utils._source.source_digest import StoredContents
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


class Resolver:
    """Finds the origins of all layers of a definition, each mistake and not only the first."""

    def __init__(self, store: Store, controller_layers: Mapping[str, Mapping[str, Any]], cache: DigestCache) -> None:
        """
        :param controller_layers: what the controller found out, by the layer's ``label``: diff_id, size, words,
            and path when it has sent the archive.
        :param cache: the store's.
        :ivar warnings: what is no part of layers though it is in their sources.
        """
        self._store = store
        self._controller_layers = controller_layers
        self._read: Mapping[Source, Digested] = {}
        self._contents = StoredContents(store, Definition("", (), ()))
        self._cache = cache
        self.warnings: list[str] = []

    def resolve(
        self, definition: Definition, errors: list[str], read: Optional[Mapping[Source, Digested]] = None
    ) -> dict[str, Origin]:
        """Origin by the layer's ``label``; a layer whose source is not usable is left out and reported in ``errors``.

        :param read: what this run has read already.
        """
        self._read = read or {}
        self._contents = StoredContents(self._store, definition)
        origins: dict[str, Origin] = {}
        for layer in definition.sources():
            if not layer.source.kind and layer.label not in self._controller_layers:
                continue  # normalise has reported it
            try:
                origins[layer.label] = replace(self._origin(layer), label=layer.label)
            except StrataError as error:
                text = str(error)
                errors.append(text if text.startswith(layer.label) else f"{layer.label}: {text}")
            except OSError as error:
                errors.append(f"{layer.label}: cannot read {describe(layer.source)}: {error.strerror or error}")
        return origins

    def _origin(self, layer: LayerSpec) -> Origin:
        if layer.label in self._controller_layers:
            origin = sent(self._controller_layers[layer.label])
            origin = replace(origin, source=origin.source._replace(limits=layer.source.limits))
            # Where it was unpacked, its times may have been settled.
            found = self._read.get(origin.source)
            return replace(origin, diff_id=found.diff_id) if found else origin
        present = self._pinned_and_present(layer)
        if present:
            record = self._store.content_record(present)
            return Origin(present, record.size if record else 0, describe(layer.source), layer.source)
        if layer.source.kind == "url":
            return self._from_url(layer)
        found = self._read.get(layer.read_from) or read_source(
            layer.read_from, self._cache, lambda digest: self._contents.find(layer, digest)
        )
        check_digest(layer, found)
        self._warn(layer, found)
        message = describe(layer.source)
        return Origin(found.diff_id, found.size, message, layer.source, source_digest=found.source_digest)

    def _warn(self, layer: LayerSpec, found: Digested) -> None:
        self.warnings += [f"{layer.label}: {message}" for message in found.left_out]

    def _pinned_and_present(self, layer: LayerSpec) -> str:
        """The DiffID of the content that the layer's ``digest`` asks for; "" where there is none.

        The digest of a plain tar is a DiffID, that of all of it: a layer of a part is known when its source was read.
        """
        if layer.source.selection:
            return ""
        if not layer.digest or self._store.has_content(layer.digest):
            return layer.digest
        return self._contents.find(layer, layer.digest) if layer.source.keeps_times else ""

    def _from_url(self, layer: LayerSpec) -> Origin:
        # Imported only when needed: most definitions have no URL.
        from ansible_collections.strata.overlay.plugins.module_utils._source.url import Download, Urls

        urls = Urls(self._store, self._cache)
        found = self._read.get(layer.read_from) or urls.settled(layer) or urls.look(layer)
        check_digest(layer, found)
        self._warn(layer, found)
        opener = Download(layer.read_from)
        return Origin(found.diff_id, found.size, describe(layer.source), layer.source, opener=opener, remote=True)
