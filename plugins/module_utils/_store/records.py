# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What the store remembers beyond Docker's format: names, stacks, where contents came from. JSON, one file a record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Mapping, Tuple, Type, TypeVar

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


@dataclass(frozen=True, eq=False, repr=False)
class NameRecord(Value):
    """A name and the chain it points at, bottom first.

    :ivar image_id: digest of the config of the image that it names; "" for a layer.
    :ivar manifest_digest: of the manifest that the image was first imported by; "" where it had none.
    """

    name: str
    diff_ids: Tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    image_id: str = ""
    manifest_digest: str = ""

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
    diff_ids: Tuple[str, ...]
    layers: Tuple[str, ...]
    time: str
    back_to: int = 0


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
    history: Tuple[Generation, ...]
    keep: int = 3
    style: MountStyle = field(default_factory=MountStyle)
    project: int = 0
    services: Tuple[str, ...] = ()
    boot: bool = True
    left: Tuple[str, ...] = ()
    driver: str = "overlay"

    @property
    def diff_ids(self) -> Tuple[str, ...]:
        return self.history[0].diff_ids

    @property
    def shown(self) -> Tuple[str, ...]:
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
    def layers(self) -> Tuple[str, ...]:
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
    running: Tuple[str, ...] = ()
    was_mounted: bool = False
    back: Tuple[str, ...] = ()
    back_layers: Tuple[str, ...] = ()


_Record = TypeVar("_Record", NameRecord, ContentRecord, StackRecord, ChangeRecord)


def dump(record: Any) -> str:
    """A record -> its JSON text, keys sorted."""
    data = asdict(record)
    if data.get("driver") == "overlay":
        del data["driver"]  # which a mount.strata of an earlier release, at the next boot, does not know
    if not data.get("source_digest", True):
        del data["source_digest"]  # the records of nearly all contents stay readable for earlier releases
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def load(kind: Type[_Record], text: str, path: str) -> _Record:
    """JSON text -> record; StrataError naming the file where it is damaged."""
    try:
        data: Dict[str, Any] = json.loads(text)
        if kind is StackRecord:
            data["history"] = tuple(Generation(**_tuples(entry)) for entry in data["history"])
            data["style"] = MountStyle(**_tuples(data.get("style") or {}))
            if not data["history"]:
                raise ValueError("it has no generation")
            for generation in data["history"]:
                _check_chain(generation.diff_ids)
        elif kind is NameRecord:
            _check_chain(_tuples(data)["diff_ids"])
            if data.get("image_id") and not DIFF_ID.match(str(data["image_id"])):
                raise ValueError("its image id is no digest")
        elif kind is ChangeRecord and data["back"]:
            _check_chain(_tuples(data)["back"])
        if "://" in str(data.get("source")):
            # Loaded when it is needed. Earlier releases kept URLs whole.
            from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import shown_url

            data["source"] = shown_url(data["source"])
        return kind(**_tuples(data))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise StrataError(
            f"The record {path} is damaged ({error}). Move it away and run again with the definition."
        ) from error


def _check_chain(diff_ids: Any) -> None:
    if not isinstance(diff_ids, tuple) or not diff_ids or not all(DIFF_ID.match(str(item)) for item in diff_ids):
        raise ValueError("its DiffIDs are no list of digests")


def _tuples(data: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
