# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Which sources are unpacked before the plan is made, because reading them is what tells their DiffIDs.

A plan needs DiffIDs, and to know the DiffID of an archive it has to be read whole. So that a new archive is not read or
loaded twice, once to plan and once to unpack, it is unpacked into the workspace at once. The plan is then made
with what was found, as ever; only a run that may change the host does this, check mode digests and writes nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._abilities import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._digestcache import (
    DigestCache,
    Digested,
    recall,
    source_key,
)
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layerspec import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._origin import describe
from ansible_collections.strata.overlay.plugins.module_utils._records import ContentRecord
from ansible_collections.strata.overlay.plugins.module_utils._source import Unread
from ansible_collections.strata.overlay.plugins.module_utils._stage import content_record, stage_unread
from ansible_collections.strata.overlay.plugins.module_utils._store import Store
from ansible_collections.strata.overlay.plugins.module_utils._workers import Report

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._urls import Urls


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


def look_ahead(
    definition: Definition, provided: Mapping[str, Mapping[str, Any]], store: Store, cache: DigestCache
) -> Tuple[Dict[Source, Digested], List[Source]]:
    """What servers say is unchanged; and the sources of unknown DiffID whose content the store likely lacks.

    "Likely", because what was imported from the same place before is mostly there still: that is digested first, and
    unpacked only when it has become something new. A writable layer has become something new whenever it is not known,
    and what lies under a URL when its server does not say otherwise.

    :param provided: what the controller found out of its layers, by their ``where``.
    """
    known: Dict[Source, Digested] = {}
    unread: Dict[Source, None] = {}
    for layer in definition.sources():
        source = layer.source
        if layer.where in provided or source.kind not in _READ_HERE or source in known or source in unread:
            continue
        if layer.digest and store.has_content(layer.digest):
            continue
        with contextlib.suppress(OSError, StrataError):  # what is wrong with it is told when it is resolved
            found = _ask(layer, store, cache) if source.kind == "url" else recall(source_key(source), cache)
            if found is None:
                unread[source] = None
            elif source.kind == "url":
                known[source] = found
    before = store.imported_from() if any(source.kind not in _ASKED for source in unread) else set()
    return known, [source for source in unread if source.kind in _ASKED or describe(source) not in before]


def read_ahead(
    workspace: str,
    sources: Sequence[Source],
    store: Store,
    cache: DigestCache,
    report: Optional[Report],
    meanwhile: Optional[Callable[[], object]] = None,
) -> ReadAhead:
    """Unpack the sources into the workspace.

    :param report, meanwhile: as for ``run_jobs``.
    :raises StrataError: one of them is not usable; :raises OSError: it is not there.
    """
    keys = ["" if source.kind == "url" else source_key(source) for source in sources]
    results = stage_unread(workspace, [_unread(source) for source in sources], find_abilities(), report, meanwhile)
    digests: Dict[Source, Digested] = {}
    staged: Dict[str, ContentRecord] = {}
    for source, key, (unpacked, told) in zip(sources, keys, results):
        digests[source] = Digested(unpacked.diff_id, unpacked.size)
        staged[unpacked.diff_id] = content_record(unpacked, describe(source))
        if source.kind == "url":
            digests[source] = _urls(store, cache).remember(source, digests[source], told)
        elif key and key == source_key(source):
            cache.put(key, {"diff_id": unpacked.diff_id, "size": str(unpacked.size)})
    return ReadAhead(digests, staged, workspace)


def _ask(layer: LayerSpec, store: Store, cache: DigestCache) -> Optional[Digested]:
    urls = _urls(store, cache)
    return urls.settled(layer) or urls.unchanged(layer)


def _unread(source: Source) -> Unread:
    if source.kind != "url":
        return Unread(source)
    from ansible_collections.strata.overlay.plugins.module_utils._urls import Download

    download = Download(source)
    return Unread(source, download, download.told)


def _urls(store: Store, cache: DigestCache) -> Urls:
    # Loaded when it is needed: most definitions have no URL.
    from ansible_collections.strata.overlay.plugins.module_utils._urls import Urls

    return Urls(store, cache)
