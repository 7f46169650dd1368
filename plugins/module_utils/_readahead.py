# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Which sources are unpacked before the plan is made, because reading them is what tells their DiffIDs.

A plan needs DiffIDs, and to know the DiffID of an archive on the host it has to be read whole. So that a new archive
is not read twice, once to plan and once to unpack, it is unpacked into the workspace at once. The plan is then made
with what was found, as ever; only a run that may change the host does this, check mode digests and writes nothing.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._abilities import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._digestcache import (
    DigestCache,
    Digested,
    recall,
    source_key,
)
from ansible_collections.strata.overlay.plugins.module_utils._layerspec import Source
from ansible_collections.strata.overlay.plugins.module_utils._origin import describe
from ansible_collections.strata.overlay.plugins.module_utils._records import ContentRecord
from ansible_collections.strata.overlay.plugins.module_utils._source import Unread
from ansible_collections.strata.overlay.plugins.module_utils._stage import content_record, stage_unread
from ansible_collections.strata.overlay.plugins.module_utils._store import Store
from ansible_collections.strata.overlay.plugins.module_utils._workers import Report


@dataclass(frozen=True)
class ReadAhead:
    """What was read before planning: the digests by source, and the records of the trees by DiffID."""

    digests: Mapping[Source, Digested]
    staged: Mapping[str, ContentRecord]


NOTHING = ReadAhead({}, {})


def unread_sources(
    definition: Definition, provided: Mapping[str, Mapping[str, Any]], store: Store, cache: DigestCache
) -> List[Source]:
    """Archives and directories of this host whose DiffID is not known, and whose content the store likely lacks.

    "Likely", because what was imported from the same place before is mostly there still: that is digested first, and
    unpacked only when it has become something new. A writable layer has become something new whenever it is not known.

    :param provided: what the controller found out of its layers, by their ``where``.
    """
    if any(not facts.get("path") and not _has(store, facts["diff_id"]) for facts in provided.values()):
        return []  # this call ends by asking for these: the next one does the work
    found: Dict[Source, None] = {}
    for layer in definition.sources():
        if layer.where in provided or layer.source.kind not in ("src", "dir", "upper") or _has(store, layer.digest):
            continue
        with contextlib.suppress(OSError):  # what is wrong with it is told when it is resolved
            if recall(source_key(layer.source), cache) is None:
                found[layer.source] = None
    before = store.imported_from() if found else set()
    return [source for source in found if source.kind == "upper" or describe(source) not in before]


def read_ahead(workspace: str, sources: Sequence[Source], cache: DigestCache, report: Optional[Report]) -> ReadAhead:
    """Unpack the sources into the workspace.

    :raises StrataError: one of them is not usable; :raises OSError: it is not there.
    """
    keys = [source_key(source) for source in sources]
    results = stage_unread(workspace, [Unread(source) for source in sources], find_abilities(), report)
    digests: Dict[Source, Digested] = {}
    staged: Dict[str, ContentRecord] = {}
    for source, key, unpacked in zip(sources, keys, results):
        digests[source] = Digested(unpacked.diff_id, unpacked.size)
        staged[unpacked.diff_id] = content_record(unpacked, describe(source))
        if key and key == source_key(source):
            cache.put(key, {"diff_id": unpacked.diff_id, "size": str(unpacked.size)})
    return ReadAhead(digests, staged)


def _has(store: Store, diff_id: str) -> bool:
    return bool(diff_id) and os.path.isdir(store.content(diff_id))
