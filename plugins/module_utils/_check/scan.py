# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Scans a whole store for a check: every directory, record and link, but no file of a content. Reads only.

What a removal journal lists counts as gone. Damage is noted and never an error.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import NamedTuple, Optional, TypeVar, Union

from ansible_collections.strata.overlay.plugins.module_utils._check.scan_mounts import look_at_mounts
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import (
    Changed,
    DamagedRecord,
    LayerRecord,
    LayerSeen,
    StoreSnapshot,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import HEX_ID, LINK_ID, SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image.db import (
    read_repositories,
    read_stored,
    repositories_of,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED, READ_FILE
from ansible_collections.strata.overlay.plugins.module_utils._prune.inventory import leftovers
from ansible_collections.strata.overlay.plugins.module_utils._store.faults import types_fault
from ansible_collections.strata.overlay.plugins.module_utils._store.inspect_layout import inspect_writable
from ansible_collections.strata.overlay.plugins.module_utils._store.records import (
    ChangeRecord,
    ContentRecord,
    LaterRecordError,
    NameRecord,
    StackRecord,
    load,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.removals import journaled_paths
from ansible_collections.strata.overlay.plugins.module_utils._store.store import DIRECTORIES, Store

_AnyRecord = TypeVar("_AnyRecord", NameRecord, ContentRecord, StackRecord, ChangeRecord)

_SomeRecord = Union[NameRecord, ContentRecord, StackRecord, ChangeRecord]

_JSON = re.compile(r"^.+\.json\Z", re.DOTALL)
_OF_QUOTA = ("l", "backingFsBlockDev")
_OF_OVERLAYFS = ("work", "index")
_LONGEST = 1 << 20
"""Bytes of the longest file that is read: a record is far shorter, and what replaced one may be anything."""


def look(store: Store, changed: Optional[Mapping[str, Changed]] = None) -> StoreSnapshot:
    """Take the snapshot. Call it with the store locked, for reading at least.

    :param changed: what a deep look at contents has found.
    """
    return _Look(store).snapshot(changed or {})


def read_small(path: str) -> Optional[str]:
    """A regular file's text, whatever bytes it has; None where there is no such file."""
    try:
        descriptor = os.open(path, READ_FILE)
    except OSError:
        return None
    try:
        return os.read(descriptor, _LONGEST).decode("utf-8", "surrogateescape")
    except OSError:
        return None
    finally:
        os.close(descriptor)


class _Records(NamedTuple):
    names: dict[str, NameRecord]
    stacks: dict[str, StackRecord]
    detached_uppers: dict[str, StackRecord]
    changes: dict[str, ChangeRecord]
    contents: frozenset[str]


class _Look:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = store.root
        self._gone: set[str] = set()
        self._wrong = self._directories()
        for path in journaled_paths(store):
            self._gone.add(os.path.relpath(path, store.root))
        self._foreign: list[str] = []
        self._damaged: list[DamagedRecord] = []

    def snapshot(self, changed: Mapping[str, Changed]) -> StoreSnapshot:
        store = self._store
        records = self._records()
        if os.path.lexists(f"{self._root}/lock") and not os.path.isfile(f"{self._root}/lock"):
            self._foreign.append("lock")
        layers = self._layers()
        mounts = look_at_mounts(store, records.stacks, set(layers))
        images, image_faults = self._images(records.names)
        return StoreSnapshot(
            directories=self._wrong,
            leftovers=() if {"staging", "trash"} & set(self._wrong) else tuple(leftovers(store)),
            names=records.names,
            stacks=records.stacks,
            detached_uppers=records.detached_uppers,
            changes=records.changes,
            layers=layers,
            records=self._layer_records(),
            links=self._links(),
            mountdb=frozenset(self._names_in("image/overlay2/layerdb/mounts", HEX_ID)),
            contents=self._contents(),
            content_records=records.contents,
            writable_faults=self._writable_faults(records.stacks),
            work_files=self._work_files(records.stacks),
            images=images,
            image_faults=image_faults,
            tags_are_right=read_repositories(store) == repositories_of(records.names.values()),
            used_layers=mounts.layers,
            used_contents=mounts.contents,
            shared_uppers=mounts.shared,
            mounted=mounts.states,
            unknown_mounts=mounts.unknown,
            changed=changed,
            apart=mounts.apart,
            untyped="; ".join(filter(None, types_fault(self._root))),
            # Last: the looks above have filled these.
            foreign=tuple(self._foreign),
            damaged=tuple(self._damaged),
        )

    def _directories(self) -> dict[str, str]:
        found = {}
        for name, _mode in DIRECTORIES:
            message = _other_than_directory(f"{self._root}/{name}")
            # What is below something missing or replaced is not reported again.
            if message and os.path.dirname(name) not in found:
                found[name] = message
        return found

    def _names_in(self, place: str, pattern: re.Pattern[str], also: tuple[str, ...] = ()) -> list[str]:
        """Names in a directory that are well-formed; the others are noted as foreign."""
        if any(place == wrong or place.startswith(f"{wrong}/") for wrong in self._wrong):
            return []  # what lies there is not the store's
        listed = sorted(_listed(f"{self._root}/{place}") or ())
        found = []
        for name in listed:
            path = f"{place}/{name}"
            if path in self._gone:
                continue
            if pattern.match(name):
                found.append(name)
            elif name not in also:
                self._foreign.append(path)
        return found

    # Records of our own.

    def _records(self) -> _Records:
        names = self._read_all("names", NameRecord)
        stacks = self._read_all("stacks", StackRecord)
        detached_uppers = self._read_all("aside", StackRecord)
        changes = self._read_all("changes", ChangeRecord)
        contents = self._read_all("contents", ContentRecord)
        return _Records(
            {record.name: record for record in names.values()},
            {record.name: record for record in stacks.values()},
            detached_uppers,
            {record.name: record for record in changes.values()},
            frozenset(contents),
        )

    def _read_all(self, kind: str, record_type: type[_AnyRecord]) -> dict[str, _AnyRecord]:
        """Sound records by their file's name without ``.json``; the others are noted."""
        found = {}
        for name in self._names_in(f"strata/{kind}", _JSON):
            path = f"strata/{kind}/{name}"
            text = read_small(f"{self._root}/{path}")
            stem = name[: -len(".json")]
            try:
                if text is None:
                    raise StrataError("it is no file")
                record = load(record_type, text, path)
                _check_record(self._store, kind, record, stem)
            except LaterRecordError:
                raise  # it is sound, and nothing can be judged without it
            except StrataError as error:
                message = "it is empty" if text == "" else str(error)
                self._damaged.append(DamagedRecord(path, message))
            else:
                found[stem] = record
        return found

    # Layers.

    def _layers(self) -> dict[str, LayerSeen]:
        home = self._store.home
        found = {}
        for name in self._names_in("overlay2", HEX_ID, _OF_QUOTA):
            seen = _layer(f"{home}/{name}")
            if seen is None:
                self._foreign.append(f"overlay2/{name}")
            else:
                found[name] = seen
        return found

    def _layer_records(self) -> dict[str, LayerRecord]:
        top = "image/overlay2/layerdb/sha256"
        found = {}
        for name in self._names_in(top, HEX_ID):
            path = f"{self._root}/{top}/{name}"
            if _other_than_directory(path):
                self._foreign.append(f"{top}/{name}")
                continue
            found[name] = LayerRecord(
                read_small(f"{path}/cache-id"),
                read_small(f"{path}/diff"),
                read_small(f"{path}/parent"),
                read_small(f"{path}/size"),
            )
        return found

    def _links(self) -> dict[str, Optional[str]]:
        found: dict[str, Optional[str]] = {}
        for name in self._names_in("overlay2/l", LINK_ID):
            try:
                found[name] = os.readlink(f"{self._store.home}/l/{name}")
            except OSError:
                found[name] = None
        return found

    # Contents and images.

    def _contents(self) -> dict[str, bool]:
        top = "content/sha256"
        return {name: not _other_than_directory(f"{self._root}/{top}/{name}") for name in self._names_in(top, HEX_ID)}

    def _images(self, names: Mapping[str, NameRecord]) -> tuple[frozenset[str], dict[str, str]]:
        store = self._store
        stored = {SHA256 + name for name in self._names_in("image/overlay2/imagedb/content/sha256", HEX_ID)}
        named = {record.image_id for record in names.values() if record.image_id}
        faults = {}
        for image_id in stored | named:
            if read_stored(store, image_id) is None:
                faults[image_id] = "damaged" if image_id in stored else "missing"
        return frozenset(stored), faults

    # Stacks.

    def _writable_faults(self, stacks: Mapping[str, StackRecord]) -> dict[str, str]:
        inspected = {name: inspect_writable(self._store, record) for name, record in stacks.items()}
        return {name: fault for name, fault in inspected.items() if fault}

    def _work_files(self, stacks: Mapping[str, StackRecord]) -> dict[str, tuple[str, ...]]:
        found = {}
        for name, record in stacks.items():
            if (
                record.stack_id
                and record.writable == "persistent"
                and self._store.is_own(f"overlay2/{record.stack_id}")
            ):
                place = f"overlay2/{record.stack_id}/work"
                inside = _listed(f"{self._root}/{place}") or ()
                foreign = tuple(f"{place}/{item}" for item in inside if item not in _OF_OVERLAYFS)
                if foreign:
                    found[name] = foreign
        return found


def _layer(path: str) -> Optional[LayerSeen]:
    """One directory in overlay2/; None if it is not a directory."""
    if _other_than_directory(path):
        return None
    try:
        diff = os.readlink(f"{path}/diff")
    except OSError:
        diff = "" if _other_than_directory(f"{path}/diff") else "/"
    return LayerSeen(
        link=read_small(f"{path}/link"),
        lower=read_small(f"{path}/lower"),
        diff=diff,
        work=_listed(f"{path}/work"),
        committed=os.path.isfile(f"{path}/committed"),
        upper=os.path.lexists(f"{path}/upper"),
        written=diff == "/" and bool(_listed(f"{path}/diff")),
    )


def _listed(path: str) -> Optional[tuple[str, ...]]:
    """Names in a directory; None if there is no such directory. A link to one does not count."""
    try:
        descriptor = os.open(path, LISTED)
    except OSError:
        return None
    try:
        return tuple(os.listdir(descriptor))
    finally:
        os.close(descriptor)


def _other_than_directory(path: str) -> str:
    """``""`` for a directory, else ``missing`` or what is there."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return "missing"
    if stat.S_ISDIR(mode):
        return ""
    return "a symbolic link" if stat.S_ISLNK(mode) else "a file"


def _check_record(store: Store, kind: str, record: _SomeRecord, stem: str) -> None:
    """Whether a record is the one that its file is named for, and what it says can be."""
    if isinstance(record, ContentRecord):
        numbers = (record.size, record.entries, record.allocated)
        if record.diff_id != SHA256 + stem:
            raise StrataError("it is the record of another content")
        if not all(isinstance(number, int) for number in numbers):
            raise StrataError("its numbers are none")
        if not record.has_digest:
            raise StrataError("it has no digest of the content's tree")
    elif kind == "aside":
        if not isinstance(record, StackRecord) or record.stack_id != stem:
            raise StrataError("it is the record of another writable layer")
    else:
        place = store.name_file(str(record.name))  # files of stacks and of their changes are called by the same rule
        if os.path.basename(place) != f"{stem}.json":
            raise StrataError(f"it is the record of another of the {kind}")
        if isinstance(record, StackRecord):
            _check_stack(record)


def _check_stack(record: StackRecord) -> None:
    has_writable = record.writable != "none"
    if record.writable not in ("none", "persistent", "volatile") or not isinstance(record.path, str):
        raise StrataError("what it says can be of no stack")
    if has_writable != bool(record.stack_id) or (has_writable and not HEX_ID.match(str(record.stack_id))):
        raise StrataError("its writable layer is none")
