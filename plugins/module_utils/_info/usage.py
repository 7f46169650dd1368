# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Disk usage of a store, as `docker system df`: every byte counted once. Reads only.

Contents never change, so their size is on record since they were imported; all else is measured.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure, entries
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


class Usage:
    """Bytes on disk of one store.

    :param measure: whether to measure what no record has the size of; without it these bytes are None.
    :ivar uppers: bytes of each stack's writable layer; of a volatile one what it takes in memory.
    """

    def __init__(
        self, store: Store, names: Mapping[str, NameRecord], stacks: Mapping[str, StackRecord], measure: bool
    ) -> None:
        self._store = store
        self._measure = measure
        self._missed: list[str] = []
        self._names = {name: set(record.diff_ids) for name, record in names.items()}
        self._present = [set(record.diff_ids) for record in stacks.values()]
        self._kept = {d for record in stacks.values() for generation in record.history for d in generation.diff_ids}
        self._users = Counter(diff_id for chain in self._names.values() for diff_id in chain)
        self._stacks = stacks
        self._sizes = self._content_sizes()
        self.uppers: dict[str, Optional[int]] = {
            name: self._tree(os.path.realpath(f"{store.layer(record.stack_id)}/diff")) if record.stack_id else 0
            for name, record in stacks.items()
        }

    def _tree(self, path: str) -> Optional[int]:
        return self._measured(path) if self._measure else None

    def _measured(self, path: str) -> int:
        measure = Measure()
        found = measure.tree(path)
        self._missed += measure.missed
        return found

    def missed(self) -> list[str]:
        """What could not be measured, in words; all else is counted. Call it when all has been measured."""
        return list(dict.fromkeys(self._missed))

    def _content_sizes(self) -> dict[str, int]:
        directory = os.path.dirname(self._store.content(f"{SHA256}x"))
        sizes = {}
        for name in entries(directory):
            diff_id = SHA256 + name
            record = self._store.content_record(diff_id)
            known = record.allocated if record is not None else -1
            sizes[diff_id] = known if known >= 0 else self._measured(f"{directory}/{name}")
        return sizes

    def of_name(self, name: str) -> dict[str, int]:
        """Bytes of what a name stands for: all of it, and what no other name, stack or kept generation needs."""
        chain = self._names[name]
        alone = {diff_id for diff_id in chain - self._kept if self._users[diff_id] == 1}
        return {"bytes": self._sum(chain), "unique_bytes": self._sum(alone)}

    def totals(self) -> dict[str, Optional[int]]:
        """The ``usage`` of ``store_info``."""
        users = Counter(diff_id for chain in self._present for diff_id in chain)
        unused = set(self._sizes) - self._kept - set(self._users)
        contents = self._sum(self._sizes)
        others = self._others()
        return {
            "content_bytes": contents,
            "used_bytes": self._sum(users),
            "shared_bytes": self._sum(diff_id for diff_id, count in users.items() if count > 1),
            "reclaimable_bytes": self._sum(unused),
            "writable_bytes": self._persistent(),
            "total_bytes": None if others is None else contents + others,
        }

    def _persistent(self) -> Optional[int]:
        if not self._measure:
            return None
        return sum(self.uppers[name] or 0 for name, record in self._stacks.items() if record.writable == "persistent")

    def _others(self) -> Optional[int]:
        """Everything in the store but the trees of contents."""
        if not self._measure:
            return None
        contents = os.path.dirname(self._store.content(f"{SHA256}x"))
        measure = Measure()
        places = [self._store.root, os.path.dirname(contents), contents]
        total = sum(measure.alone(place) for place in places)
        total += sum(
            measure.tree(f"{self._store.root}/{name}") for name in entries(self._store.root) if name != "content"
        )
        self._missed += measure.missed
        return total

    def _sum(self, chosen: Iterable[str]) -> int:
        return sum(self._sizes.get(diff_id, 0) for diff_id in set(chosen))
