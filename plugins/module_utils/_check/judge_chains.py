# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Works out from the records which layers a store must have. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import LayerRecord, StoreSnapshot
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import DIFF_ID, SHA256, chain_ids, hex_of
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LayerLink, layer_links


class Chains:
    """Every layer that records lead to.

    :ivar wanted: by layer id: layers of chains that a name or a stack has.
    :ivar required: ids of those that have to be there: of the present generations of stacks, and of images.
    :ivar above: by layer id: a layer that lies directly above it.
    :ivar unused: by layer id: layers that only layerdb knows, and whose records there are sound.
    """

    def __init__(self, snapshot: StoreSnapshot) -> None:
        self.wanted: dict[str, LayerLink] = {}
        self.required: set[str] = set()
        present = [chain for record in snapshot.stacks.values() for chain in (record.diff_ids, record.shown)]
        present += [record.diff_ids for record in snapshot.names.values() if record.image_id]
        for diff_ids in dict.fromkeys(present):
            self.required.update(link.layer_id for link in self._add(diff_ids))
        others = [record.diff_ids for record in snapshot.names.values()]
        others += [change.back for change in snapshot.changes.values() if change.back]
        others += [generation.diff_ids for record in snapshot.stacks.values() for generation in record.history]
        for diff_ids in dict.fromkeys(others):
            self._add(diff_ids)
        self.unused = _Unused(snapshot, self.wanted).layers()
        known = [*self.wanted.values(), *self.unused.values()]
        self.above = {hex_of(link.parent): link for link in known if link.parent}

    def _add(self, diff_ids: Sequence[str]) -> tuple[LayerLink, ...]:
        links = layer_links(diff_ids)
        for link in links:
            self.wanted[link.layer_id] = link
        return links


class _Unused:
    """Follows layerdb from layers that no record of ours leads to down to their base."""

    def __init__(self, snapshot: StoreSnapshot, wanted: dict[str, LayerLink]) -> None:
        self._records = snapshot.records
        self._wanted = wanted
        self._chains: dict[str, Optional[tuple[str, ...]]] = {}

    def layers(self) -> dict[str, LayerLink]:
        found: dict[str, LayerLink] = {}
        for layer_id in self._records:
            if layer_id not in self._wanted and layer_id not in found:
                chain = self._chain(layer_id)
                if chain is not None:
                    for link in layer_links(chain):
                        if link.layer_id not in self._wanted:
                            found.setdefault(link.layer_id, link)
        return found

    def _chain(self, layer_id: str) -> Optional[tuple[str, ...]]:
        """DiffIDs down to the base, bottom first; None where a record on the way is missing or wrong."""
        diff_ids: list[str] = []
        seen: set[str] = set()
        at = layer_id
        while at:
            record = self._records.get(at)
            if record is None or at in seen or not _is_sound(record):
                return None
            seen.add(at)
            diff_ids.append(record.diff or "")
            at = hex_of(record.parent or "")
        chain = tuple(reversed(diff_ids))
        # A ChainID says of itself which chain it is.
        return chain if chain_ids(chain)[-1] == SHA256 + layer_id else None


def _is_sound(record: LayerRecord) -> bool:
    return bool(DIFF_ID.match(record.diff or "")) and (record.parent is None or bool(DIFF_ID.match(record.parent)))
