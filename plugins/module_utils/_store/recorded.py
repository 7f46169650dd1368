# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads a store's records: contents, names, stacks, detached uppers, removals."""

from __future__ import annotations

import contextlib
import os
from typing import Optional
from urllib.parse import unquote

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import is_directory, read_text
from ansible_collections.strata.overlay.plugins.module_utils._store.paths import StorePaths
from ansible_collections.strata.overlay.plugins.module_utils._store.records import (
    AnyRecord,
    ChangeRecord,
    ContentRecord,
    LaterRecordError,
    NameRecord,
    StackRecord,
    load,
)


def lower_links(directory: str) -> list[str]:
    """What the file ``lower`` of a layer's directory names, ``l/A`` and so on, top to bottom."""
    text = read_text(f"{directory}/lower")
    return text.split(":") if text else []


class StoreRecords(StorePaths):
    """The records of one store. Lock the store (`_store/store`) to read records that agree with each other."""

    def exists(self) -> bool:
        """Whether there is a store at the root."""
        return os.path.isdir(self.home)

    def has_content(self, diff_id: str) -> bool:
        return os.path.isdir(self.content(diff_id))

    def name_record(self, name: str) -> Optional[NameRecord]:
        return _read(NameRecord, self.name_file(name))

    def content_record(self, diff_id: str) -> Optional[ContentRecord]:
        return _read(ContentRecord, self.content_file(diff_id))

    def stack_record(self, name: str) -> Optional[StackRecord]:
        return _read(StackRecord, self.stack_file(name))

    def change_record(self, name: str) -> Optional[ChangeRecord]:
        return _read(ChangeRecord, self.change_file(name))

    def names(self) -> list[str]:
        return self._recorded("names")

    def stacks(self) -> dict[str, StackRecord]:
        """Every stack's record by name."""
        found = ((name, self.stack_record(name)) for name in self._recorded("stacks"))
        return {name: record for name, record in found if record is not None}

    def recorded_contents(self) -> list[str]:
        """DiffIDs of the contents that have a record."""
        return [f"sha256:{name}" for name in self._recorded("contents")]

    def imported_from(self) -> set[str]:
        """Origins of contents as recorded; unreadable records are left out."""
        found: set[str] = set()
        for diff_id in self.recorded_contents():
            with contextlib.suppress(StrataError):
                record = self.content_record(diff_id)
                found |= {record.source} if record is not None else set()
        return found

    def detached_uppers(self) -> list[StackRecord]:
        """Records of detached uppers, as their stacks were then; damaged ones are left out."""
        found: list[StackRecord] = []
        for path in [self.detached_file(stack_id) for stack_id in self._recorded("aside")]:
            text = read_text(path)
            try:
                found += [load(StackRecord, text, path)] if text is not None else []
            except LaterRecordError:
                raise
            except StrataError:
                continue
        return found

    def _recorded(self, kind: str) -> list[str]:
        try:
            files = os.listdir(f"{self.root}/strata/{kind}")
        except FileNotFoundError:
            return []
        return sorted(unquote(name[: -len(".json")]) for name in files if name.endswith(".json"))

    def removal_journals(self) -> list[str]:
        """Names of journals whose paths may not have been moved away yet, see `_store/removals`."""
        if not self.is_own("strata/condemned"):
            return []
        return sorted(os.listdir(f"{self.root}/strata/condemned"))

    def is_own(self, name: str) -> bool:
        """Whether a path within the store is a directory, and no part of it a symbolic link.

        Whatever empties, sweeps or moves asks first: a link in the place of a directory leads out of the store.
        """
        parts = name.split("/")
        return all(is_directory(f"{self.root}/{'/'.join(parts[: end + 1])}") for end in range(len(parts)))


def _read(kind: type[AnyRecord], path: str) -> Optional[AnyRecord]:
    """The record in a file; None where there is no file. Errors as for ``load``."""
    text = read_text(path)
    return None if text is None else load(kind, text, path)
