# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Unpacks sources whose DiffID is only known after reading them, before the plan is made.

A plan needs DiffIDs, and to know the DiffID of an archive it has to be read whole. So that a new archive is not read or
loaded twice, once to plan and once to unpack, it is unpacked into the workspace at once. The plan is then made
with what was found, as ever; only a run that may change the host does this, check mode digests and writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Report
from ansible_collections.strata.overlay.plugins.module_utils._run.stage import content_record, stage_unread
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import (
    DigestCache,
    Digested,
    recall,
    source_key,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import describe, sent
from ansible_collections.strata.overlay.plugins.module_utils._source.source import Unread, read_source
from ansible_collections.strata.overlay.plugins.module_utils._source.source_digest import StoredContents
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._source.url import Urls


@dataclass(frozen=True)
class ReadAhead:
    """What was read before planning: the digests by source, and the records of the trees by DiffID.

    :ivar workspace: where the trees lie; "" where there are none.
    """

    digests: Mapping[Source, Digested]
    staged: Mapping[str, ContentRecord]
    workspace: str = ""


_ASKED = ("upper", "url")
"""Kinds of sources that say themselves whether they have something new."""

_READ_HERE = ("src", "dir", *_ASKED)

Found = tuple[dict[Source, Digested], list[Unread]]


def look_ahead(
    definition: Definition, controller_layers: Mapping[str, Mapping[str, Any]], store: Store, cache: DigestCache
) -> Found:
    """What servers say is unchanged; and the sources of unknown DiffID whose content the store likely lacks.

    "Likely", because what was imported from the same place before is mostly there still: that is digested first, and
    unpacked only when it has become something new. A writable layer has become something new whenever it is not known,
    and what lies under a URL when its server does not say otherwise.

    :param controller_layers: what the controller found out of its layers, by their ``label``.
    """
    known: dict[Source, Digested] = {}
    unread: dict[Source, Unread] = {}
    packed = _Packed(definition, store, cache)
    for layer in definition.sources():
        source = layer.read_from
        if layer.label in controller_layers:
            unread.update({item.source: item for item in packed.sent(layer, controller_layers[layer.label])})
            continue
        if source.kind not in _READ_HERE or source in known or source in unread:
            continue
        if layer.digest and not source.selection and store.has_content(layer.digest):
            continue
        if source.keeps_times:
            with contextlib.suppress(OSError, StrataError):
                packed.look(layer, known, unread)
            continue
        with contextlib.suppress(OSError, StrataError):  # resolving reports what is wrong with it
            found = _ask(layer, store, cache) if source.kind == "url" else recall(source_key(source), cache)
            if found is None:
                unread[source] = _unread(source, layer.label)
            elif source.kind == "url":
                known[source] = found
    asked = [item for item in unread.values() if item.source.kind in _ASKED or item.description]
    others = [item for item in unread.values() if item not in asked]
    before = store.imported_from() if others else set()
    return known, asked + [item for item in others if describe(item.source) not in before]


class _Packed:
    """Directories and inline files, whose times are settled against what they replace when they are unpacked: so they
    are unpacked before the plan is made, since only reading gives their DiffID.
    """

    def __init__(self, definition: Definition, store: Store, cache: DigestCache) -> None:
        self._contents = StoredContents(store, definition)
        self._store = store
        self._cache = cache
        self._imported: Optional[set[str]] = None

    def sent(self, layer: LayerSpec, facts: Mapping[str, Any]) -> Iterator[Unread]:
        """One that the controller has packed and sent, if it replaces something and the store has nothing the same."""
        origin = sent(facts)
        if not origin.source_digest or origin.awaited or self._store.has_content(origin.diff_id):
            return
        before = self._before(layer)
        if before:  # else it is what the controller says that it is
            yield Unread(
                origin.source._replace(limits=layer.source.limits),
                description=origin.description,
                diff_id=origin.diff_id,
                source_digest=origin.source_digest,
                before=before,
                inline=bool(facts.get("inline")),
                label=layer.label,
            )

    def look(self, layer: LayerSpec, known: dict[Source, Digested], unread: dict[Source, Unread]) -> None:
        """A directory on this host. One that was imported before is mostly the same still, and is only digested.

        :raises StrataError: it is not usable; :raises OSError: it is not there.
        """
        source = layer.source
        if self._imported is None:
            self._imported = self._store.imported_from()
        key = source_key(source)
        if describe(source) in self._imported or recall(key, self._cache):
            found = read_source(source, self._cache, lambda digest: self._contents.find(layer, digest))
            if self._store.has_content(found.diff_id):
                known[source] = found
                return
        unread[source] = Unread(source, description=describe(source), before=self._before(layer), label=layer.label)

    def _before(self, layer: LayerSpec) -> tuple[str, ...]:
        return tuple(map(self._store.content, self._contents.before(layer)))


def read_ahead(
    workspace: str,
    sources: Sequence[Unread],
    store: Store,
    cache: DigestCache,
    report: Optional[Report],
    meanwhile: Optional[Callable[[], object]] = None,
) -> ReadAhead:
    """Unpack the sources into the workspace.

    :param report, meanwhile: as for ``run_jobs``.
    :raises StrataError: one of them is not usable; :raises OSError: it is not there.
    """
    keys = ["" if item.source.kind == "url" or item.diff_id else source_key(item.source) for item in sources]
    results = stage_unread(workspace, sources, find_abilities(), report, meanwhile)
    digests: dict[Source, Digested] = {}
    staged: dict[str, ContentRecord] = {}
    for item, key, (unpacked, facts) in zip(sources, keys, results):
        source, source_digest = item.source, facts.get("source_digest", "")
        digests[source] = Digested(
            unpacked.diff_id, unpacked.size, source_digest=source_digest, left_out=unpacked.left_out
        )
        staged[unpacked.diff_id] = content_record(unpacked, item.description or describe(source), source_digest)
        if source.kind == "url":
            digests[source] = _urls(store, cache).remember(source, digests[source], facts)
        elif key and key == source_key(source):
            cache.put(key, digests[source].facts())
    return ReadAhead(digests, staged, workspace)


def _ask(layer: LayerSpec, store: Store, cache: DigestCache) -> Optional[Digested]:
    urls = _urls(store, cache)
    return urls.settled(layer) or urls.unchanged(layer)


def _unread(source: Source, label: str) -> Unread:
    if source.kind != "url":
        return Unread(source, label=label)
    from ansible_collections.strata.overlay.plugins.module_utils._source.url import Download

    download = Download(source)
    return Unread(source, download, download.facts, label=label)


def _urls(store: Store, cache: DigestCache) -> Urls:
    # Imported only when needed: most definitions have no URL.
    from ansible_collections.strata.overlay.plugins.module_utils._source.url import Urls

    return Urls(store, cache)
