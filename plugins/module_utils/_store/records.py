# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Record types beyond Docker's format: names, stacks, origins of contents. One JSON file per record.

Files outlive the code that wrote them, in both directions: after an upgrade, and where the ``mount.strata`` or
``strata-prune`` on a host is older than the collection that manages it.

- ``KEYS`` names the key of each attribute, so renaming an attribute changes no file.
- A reader keeps the keys that it does not know (``unknown``) and writes them back.
- ``version`` is the version of the format that a record was written in; without it, a record is of version 1. A
  version that only adds keys is read by all. One that older readers would get wrong also sets ``min_reader``, the
  oldest version that may read it; others refuse the record and change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import (
    DIFF_ID,
    HEX_ID,
    is_whole,
    shown_chain,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.value import Value
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import MountStyle
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_mounts import FUSE_OVERLAYFS

VERSION = 1
"""Of the format; raised with every change of it."""


class LaterRecordError(StrataError):
    """A record that this code must not read. It is not damaged: nothing may be done without knowing what it says."""


@dataclass(frozen=True, eq=False, repr=False)
class NameRecord(Value):
    """A name and the chain it points at, bottom first.

    :ivar image_id: digest of the config of the image that it names; "" for a layer.
    :ivar manifest_digest: of the manifest that the image was first imported by; "" where it had none.
    """

    name: str
    diff_ids: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    image_id: str = ""
    manifest_digest: str = ""
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def kind(self) -> str:
        """What it is the name of: "layer" or "image"."""
        return "image" if self.image_id else "layer"


@dataclass(frozen=True, eq=False, repr=False)
class ContentRecord(Value):
    """A content as it was imported.

    :ivar size: bytes of its regular files, hard links counted once.
    :ivar allocated: bytes that its tree took on disk, directories too; -1 where it was not measured.
    :ivar digest: of its tree, see `_layer/tree_digest`; "" where it was not made.
    :ivar source_digest: DiffID that it would have with fixed times; "" where that is its DiffID, or nobody knows.
    """

    diff_id: str
    size: int
    entries: int
    source: str
    imported: str
    allocated: int = -1
    digest: str = ""
    source_digest: str = ""
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def has_digest(self) -> bool:
        """Whether a deep check has something to hold the tree against."""
        return HEX_ID.match(str(self.digest)) is not None


@dataclass(frozen=True, eq=False, repr=False)
class Generation(Value):
    """One chain that a stack has had.

    :ivar layers: the names it was written with.
    :ivar time: since when, ISO 8601 in UTC.
    :ivar back_to: the generation whose chain it brought back; 0 where the definition asked for it.
    """

    number: int
    diff_ids: tuple[str, ...]
    layers: tuple[str, ...]
    time: str
    back_to: int = 0
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, eq=False, repr=False)
class StackRecord(Value):
    """A stack: all that mounting it takes, should every derived file be lost.

    :ivar stack_id: directory of the writable layer in overlay2/, 64 hexadecimal digits; ``""`` where there is none.
    :ivar mounted: whether it is meant to be mounted.
    :ivar made_path: the mount point was made by us, so it goes with the stack.
    :ivar history: newest first; the first one is the present generation.
    :ivar left: devices (``major:minor``) of overlays that were taken from the path while processes used them.
    :ivar project: of the quota that limits a persistent layer, 0 where none does.
    :ivar keep: how many generations are kept.
    :ivar style: how the mount itself is to be.
    :ivar services: units that use it, each after what it needs at a change: ``restart app.service``.
    :ivar driver: what makes one tree of its layers: ``overlay``, ``fuse-overlayfs`` or ``copy``.
    """

    name: str
    path: str
    writable: str
    size: int
    stack_id: str
    mounted: bool
    made_path: bool
    history: tuple[Generation, ...]
    keep: int = 3
    style: MountStyle = field(default_factory=MountStyle)
    project: int = 0
    services: tuple[str, ...] = ()
    boot: bool = True
    left: tuple[str, ...] = ()
    driver: str = "overlay"
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return self.history[0].diff_ids

    @property
    def shown(self) -> tuple[str, ...]:
        """The chain that is mounted, see ``shown_chain``."""
        return shown_chain(self.driver, self.writable, self.diff_ids)

    @property
    def whole(self) -> bool:
        """Whether its writable layer is the whole tree, see ``is_whole``."""
        return is_whole(self.driver, self.writable)

    @property
    def fuse(self) -> bool:
        """Whether fuse-overlayfs writes its writable layer, and leaves marks of its own there."""
        return self.driver == FUSE_OVERLAYFS

    @property
    def layers(self) -> tuple[str, ...]:
        return self.history[0].layers

    @property
    def generation(self) -> int:
        return self.history[0].number


@dataclass(frozen=True, eq=False, repr=False)
class ChangeRecord(Value):
    """A change of a stack that is being made: it is on record until services and health have had their turn.

    :ivar running: units that ran before it.
    :ivar was_mounted: whether the stack was mounted before it.
    :ivar back: DiffIDs of the chain before it, empty where the chain stays; ``back_layers`` as they were written.
    """

    name: str
    running: tuple[str, ...] = ()
    was_mounted: bool = False
    back: tuple[str, ...] = ()
    back_layers: tuple[str, ...] = ()
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False)


KEYS: Mapping[type, Mapping[str, str]] = {
    NameRecord: {
        "name": "name",
        "diff_ids": "diff_ids",
        "labels": "labels",
        "source": "source",
        "image_id": "image_id",
        "manifest_digest": "manifest_digest",
    },
    ContentRecord: {
        "diff_id": "diff_id",
        "size": "size",
        "entries": "entries",
        "source": "source",
        "imported": "imported",
        "allocated": "allocated",
        "digest": "digest",
        "source_digest": "source_digest",
    },
    Generation: {
        "number": "number",
        "diff_ids": "diff_ids",
        "layers": "layers",
        "time": "time",
        "back_to": "back_to",
    },
    MountStyle: {
        "options": "options",
        "propagation": "propagation",
        "context": "context",
        "idmap_uid": "idmap_uid",
        "idmap_gid": "idmap_gid",
        "owner": "owner",
        "group": "group",
        "mode": "mode",
    },
    StackRecord: {
        "name": "name",
        "path": "path",
        "writable": "writable",
        "size": "size",
        "stack_id": "stack_id",
        "mounted": "mounted",
        "made_path": "made_path",
        "history": "history",
        "keep": "keep",
        "style": "style",
        "project": "project",
        "services": "services",
        "boot": "boot",
        "left": "left",
        "driver": "driver",
    },
    ChangeRecord: {
        "name": "name",
        "running": "running",
        "was_mounted": "was_mounted",
        "back": "back",
        "back_layers": "back_layers",
    },
}
"""Attributes and their keys in files. Keys never change: hosts hold files that have them."""

AnyRecord = TypeVar("AnyRecord", NameRecord, ContentRecord, StackRecord, ChangeRecord)


def dump(record: Any) -> str:
    """A record -> its JSON text, keys sorted."""
    return json.dumps(record_data(record), indent=1, sort_keys=True) + "\n"


def record_data(record: Any) -> dict[str, Any]:
    """A record -> what its file holds."""
    data = part_data(record)
    if isinstance(record, StackRecord):
        data["style"] = {**record.unknown.get("style", {}), **data["style"]}
    return {**data, "version": max(VERSION, data.get("version", 0))}


def part_data(part: Any) -> dict[str, Any]:
    """A record or a part of one -> what the file holds of it."""
    known = {key: _plain(getattr(part, attribute)) for attribute, key in KEYS[type(part)].items()}
    return {**getattr(part, "unknown", {}), **known}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return part_data(value) if type(value) in KEYS else value


def load(kind: type[AnyRecord], text: str, path: str) -> AnyRecord:
    """JSON text -> record.

    :raises StrataError: naming the file where it is damaged.
    :raises LaterRecordError: it is of a version that only later releases may read.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        _check_version(data, path)
        values = _values(kind, data)
        if kind is StackRecord:
            values["history"] = tuple(Generation(**_values(Generation, entry)) for entry in data["history"])
            style = _values(MountStyle, data.get("style") or {})
            values["unknown"]["style"] = style.pop("unknown")
            values["style"] = MountStyle(**style)
            if not values["history"]:
                raise ValueError("it has no generation")
            for generation in values["history"]:
                _check_chain(generation.diff_ids)
        elif kind is NameRecord:
            _check_chain(values["diff_ids"])
            if values.get("image_id") and not DIFF_ID.match(str(values["image_id"])):
                raise ValueError("its image id is no digest")
        elif kind is ChangeRecord and values.get("back"):
            _check_chain(values["back"])
        if "://" in str(values.get("source")):
            # Imported only when needed. Earlier releases kept URLs whole.
            from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import shown_url

            values["source"] = shown_url(values["source"])
        return kind(**values)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise StrataError(
            f"The record {path} is damaged ({error}). Move it away and run again with the definition."
        ) from error


def _check_version(data: Mapping[str, Any], path: str) -> None:
    version, min_reader = data.get("version", 1), data.get("min_reader", 1)
    if not isinstance(version, int) or not isinstance(min_reader, int):
        raise ValueError("its version is not a number")
    if min_reader > VERSION:
        raise LaterRecordError(
            f"The record {path} was written by a later release of strata.overlay, in version {version} of the format; "
            f"this one reads version {VERSION}. Nothing was changed. Use that release or a later one; where "
            "mount.strata or strata-prune says this, run the role host, or strata.overlay.prune, of that release again."
        )


def _values(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a file holds -> arguments for the record or part; what nobody knows here goes into ``unknown``."""
    attributes = {key: attribute for attribute, key in KEYS[kind].items()}
    values: dict[str, Any] = {"unknown": {}}
    for key, value in data.items():
        if key in attributes:
            values[attributes[key]] = tuple(value) if isinstance(value, list) else value
        else:
            values["unknown"][key] = value
    return values


def _check_chain(diff_ids: Any) -> None:
    if not isinstance(diff_ids, tuple) or not diff_ids or not all(DIFF_ID.match(str(item)) for item in diff_ids):
        raise ValueError("its DiffIDs are no list of digests")
