# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Kinds of findings and their repairs, as values.

`docs/recovery.md` explains each kind and what to do; a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LayerLink
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord

KINDS: Mapping[str, str] = {
    # The store's own directories.
    "directory_wrong": "error",
    "directory_apart": "error",
    "foreign_file": "warning",
    "leftover": "notice",
    "record_damaged": "error",
    # Layers.
    "layer_missing": "error",
    "layer_orphaned": "warning",
    "layer_record_missing": "error",
    "layer_record_wrong": "error",
    "chain_broken": "error",
    "link_wrong": "error",
    "lower_wrong": "error",
    "diff_wrong": "error",
    "work_missing": "error",
    "work_foreign": "warning",
    "committed_missing": "warning",
    "short_links_replaced": "error",
    "short_link_missing": "error",
    "short_link_wrong": "error",
    "short_link_dangling": "warning",
    "short_link_doubled": "warning",
    # Contents.
    "content_missing": "error",
    "content_changed": "error",
    "content_record_missing": "warning",
    "content_record_orphaned": "notice",
    # Stacks.
    "writable_missing": "error",
    "writable_wrong": "error",
    "writable_orphaned": "warning",
    "writable_record_orphaned": "notice",
    "upper_shared": "error",
    "d_type_missing": "error",
    "mount_missing": "warning",
    "mount_wrong": "error",
    "mount_unknown": "warning",
    # Images.
    "image_missing": "error",
    "image_damaged": "error",
    "tags_wrong": "warning",
}
"""Every kind of finding -> how bad it is: ``error`` (something mounts wrongly, or not at all, or is lost), ``warning``
(space is wasted, or only other programs that read the store are misled), ``notice`` (the next change sweeps it).
"""


@dataclass(frozen=True)
class RebuildLayer:
    """Make the derived files of a layer anew from its chain."""

    layer: LayerLink


@dataclass(frozen=True)
class RebuildWritable:
    """Make the files of a stack's writable layer anew from its record; what lies in its diff stays."""

    record: StackRecord


@dataclass(frozen=True)
class Discard:
    """Delete what is derived or empty, or what is a rest of something removed; paths are relative to the store."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Keep:
    """Move to ``strata/lost/``, from where nothing is ever deleted; the path is relative to the store.

    :ivar inode: of what was looked at, 0 where it does not matter: another thing that came there since is not moved.
    """

    path: str
    inode: int = 0


@dataclass(frozen=True)
class RecordContent:
    """Write the record of a content anew, from its tree."""

    diff_id: str


@dataclass(frozen=True)
class MakeDirectories:
    """Make the directories of a store where they are missing."""


@dataclass(frozen=True)
class WriteTags:
    """Write repositories.json anew from the names."""


@dataclass(frozen=True)
class Sweep:
    """Throw away what runs left that were ended."""


Fix = Union[RebuildLayer, RebuildWritable, Discard, Keep, RecordContent, MakeDirectories, WriteTags, Sweep]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    :ivar object: what it is about: a path relative to the root, a ChainID, a DiffID, a stack, an image.
    :ivar repair: in words what repair does, or what has to be done where it can do nothing.
    :ivar fix: what repair does; None where it can do nothing.
    """

    kind: str
    object: str
    message: str
    repair: str
    fix: Optional[Fix] = None

    @property
    def severity(self) -> str:
        return KINDS[self.kind]

    def result(self) -> dict[str, Any]:
        """As ``store_check`` returns it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "object": self.object,
            "message": self.message,
            "repair": self.repair,
            "repairable": self.fix is not None,
        }
