# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finds contents by source digest: the same tree, whatever its file times. Reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import DIFF_ID
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

_MOST_BEFORE = 100
"""Contents that one layer is compared with; each takes two descriptors."""


def with_stored(
    controller_layers: Mapping[str, Mapping[str, Any]], definition: Definition, store: Store
) -> dict[str, Mapping[str, Any]]:
    """What the controller found out, with the DiffID of what the store has already where it is the same but for times.

    :param controller_layers: as in ``Request``.
    """
    contents = StoredContents(store, definition)
    found = dict(controller_layers)
    for layer in definition.sources():
        facts = controller_layers.get(layer.label) or {}
        if facts.get("source_digest"):
            diff_id = contents.find(layer, facts["source_digest"], facts["diff_id"])
            found[layer.label] = {**facts, "diff_id": diff_id or facts["diff_id"]}
    return found


class SourceDigests:
    """What hosts are compared by: the source digests of contents, which do not depend on times."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, str] = {}

    def of(self, diff_id: str) -> str:
        """A content's source digest; its DiffID where it has none of its own."""
        if diff_id not in self._known:
            with contextlib.suppress(StrataError):
                record = self._store.content_record(diff_id) if DIFF_ID.match(diff_id) else None
                self._known[diff_id] = record.source_digest if record else ""
        return self._known.get(diff_id) or diff_id


class StoredContents:
    """The contents of a store, for the layers of one definition.

    Looked at first is what the layer has been until now: so a run that changes nothing reads one record of each layer,
    and of two contents that differ in times only the stacks keep the one that they have.
    """

    def __init__(self, store: Store, definition: Definition) -> None:
        self._store = store
        self._stacks = {
            item.label: stack.name for stack in definition.stacks for item in stack.layers if not isinstance(item, str)
        }
        self._users: dict[str, set[str]] = {}
        for stack in definition.stacks:
            for item in stack.layers:
                if isinstance(item, str):
                    self._users.setdefault(item, set()).add(stack.name)
        self._all: Optional[dict[str, list[str]]] = None

    def find(self, layer: LayerSpec, source_digest: str, otherwise: str = "") -> str:
        """The DiffID of a content that is there and has this source digest; "" where there is none.

        :param otherwise: a DiffID that has it, whether it is there or not.
        """
        for diff_id in self._present(layer):
            if diff_id in (otherwise, source_digest):
                return diff_id
            record = self._record(diff_id)
            if record is not None and record.source_digest == source_digest:
                return diff_id
        for diff_id in (otherwise, source_digest):
            if diff_id and self._store.has_content(diff_id):
                return diff_id
        return next(iter(self._everywhere().get(source_digest, [])), "")

    def before(self, layer: LayerSpec) -> list[str]:
        """What the layer may replace: what it was until now, and all that had times of its own in the generations of
        the stacks that use it, or used it, under whatever name. DiffIDs of contents that are there, the latest first.
        """
        if layer.label in self._stacks:
            found = list(filter(self._is_packed, self._present(layer)))
        else:
            found = list(self._present(layer))
            for record in self._stack_records():
                for generation in record.history:
                    if record.name in self._users.get(layer.name, ()) or layer.name in generation.layers:
                        found += filter(self._is_packed, self._there(generation.diff_ids))
        return list(dict.fromkeys(found))[:_MOST_BEFORE]

    def _is_packed(self, diff_id: str) -> bool:
        """Whether it was a directory or files of a definition, and has their times."""
        record = self._record(diff_id)
        return bool(record and record.source_digest)

    def _present(self, layer: LayerSpec) -> Iterator[str]:
        with contextlib.suppress(StrataError):  # a damaged record is reported when it is needed
            named = self._store.name_record(layer.name) if layer.name and layer.label not in self._stacks else None
            yield from self._there(named.diff_ids if named else ())
            stack = self._stacks.get(layer.label)
            record = self._store.stack_record(stack) if stack else None
            for generation in record.history if record else ():
                yield from self._there(generation.diff_ids)

    def _there(self, diff_ids: Sequence[str]) -> Iterator[str]:
        return filter(self._store.has_content, diff_ids)

    def _stack_records(self) -> list[StackRecord]:
        try:
            return list(self._store.stacks().values())
        except StrataError:
            return []

    def _record(self, diff_id: str) -> Optional[ContentRecord]:
        try:
            return self._store.content_record(diff_id)
        except StrataError:
            return None

    def _everywhere(self) -> Mapping[str, list[str]]:
        """DiffIDs by source digest. Read once, for a layer that is new or was another one before."""
        if self._all is None:
            self._all = {}
            for diff_id in self._there(self._store.recorded_contents()):
                record = self._record(diff_id)
                if record is not None and record.source_digest:
                    self._all.setdefault(record.source_digest, []).append(diff_id)
        return self._all
