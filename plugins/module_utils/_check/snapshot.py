# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A store as `_check/scan` saw it, as values for `_check/judge`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord, NameRecord, StackRecord


class LayerSeen(NamedTuple):
    """A directory in overlay2/.

    :ivar link: text of its files; None where one is missing or is no file.
    :ivar diff: target of the link, ``"/"`` for a real directory, ``""`` for anything else.
    :ivar work: names in its work directory; None where there is no such directory.
    :ivar written: whether a real diff directory holds anything.
    """

    link: Optional[str]
    lower: Optional[str]
    diff: str
    work: Optional[tuple[str, ...]]
    committed: bool
    upper: bool
    written: bool


class LayerRecord(NamedTuple):
    """A directory in layerdb/sha256/: text of its files, None where one is missing."""

    cache_id: Optional[str]
    diff: Optional[str]
    parent: Optional[str]
    size: Optional[str]


@dataclass(frozen=True)
class DamagedRecord:
    """A file of the store's own records that cannot be read; ``words`` say what is wrong with it."""

    path: str
    description: str


@dataclass(frozen=True)
class Changed:
    """A content that is not what was imported; ``inode`` is that of its top directory."""

    description: str
    inode: int


@dataclass(frozen=True)
class MountState:
    """What is mounted at a stack's path: so many mounts of the store, and what is wrong with the last, ``""`` if
    nothing is.
    """

    count: int
    fault: str


@dataclass(frozen=True)
class StoreSnapshot:
    """Everything in a store that a check looks at. Paths are relative to the store's root.

    :ivar directories: directories of the store that are not there as such -> ``missing`` or what they are.
    :ivar foreign: what lies where the store puts only things of its own.
    :ivar leftovers: what killed runs left.
    :ivar links: names in overlay2/l -> target, None for what is no symbolic link.
    :ivar mountdb: names of directories in layerdb/mounts.
    :ivar contents: names in content/sha256 -> whether it is a directory.
    :ivar content_records: hexadecimal digits of DiffIDs that have a sound record.
    :ivar writable_faults: by stack: what is wrong with its writable layer, ``missing`` where it is not there.
    :ivar work_files: by stack: what lies in its work directory and is not overlayfs's.
    :ivar image_faults: by image id: ``missing`` or ``damaged``.
    :ivar used_layers: directories in overlay2/ that mounts of any namespace use; ``used_contents`` likewise.
    :ivar shared_uppers: upper directory -> devices of the overlays that write into it, where there are several.
    :ivar unknown_mounts: mounts of the store's layers that no stack's record speaks of.
    :ivar changed: by DiffID, from a deep look.
    :ivar apart: directories of the store that lie on another file system than its root.
    :ivar untyped: why the kernel's overlay shows deleted files here, and what to do; "" where it does not.
    """

    directories: Mapping[str, str]
    foreign: tuple[str, ...]
    leftovers: tuple[str, ...]
    damaged: tuple[DamagedRecord, ...]
    names: Mapping[str, NameRecord]
    stacks: Mapping[str, StackRecord]
    detached_uppers: Mapping[str, StackRecord]
    changes: Mapping[str, ChangeRecord]
    layers: Mapping[str, LayerSeen]
    records: Mapping[str, LayerRecord]
    links: Mapping[str, Optional[str]]
    mountdb: frozenset[str]
    contents: Mapping[str, bool]
    content_records: frozenset[str]
    writable_faults: Mapping[str, str]
    work_files: Mapping[str, tuple[str, ...]]
    images: frozenset[str]
    image_faults: Mapping[str, str]
    tags_are_right: bool
    used_layers: set[str]
    used_contents: set[str]
    shared_uppers: Mapping[str, tuple[str, ...]]
    mounted: Mapping[str, MountState]
    unknown_mounts: tuple[Mount, ...]
    changed: Mapping[str, Changed]
    apart: tuple[str, ...] = ()
    untyped: str = ""

    def writables(self) -> dict[str, StackRecord]:
        """Records of writable layers, of stacks and detached, by their directory's name."""
        known = {record.stack_id: record for record in self.stacks.values() if record.stack_id}
        return {**self.detached_uppers, **known}
