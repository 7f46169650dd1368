# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds the image for a chain: layers as tars, config, manifest. Writes nothing.

Layers are packed from their trees, so one that came from somebody else's archive gets a DiffID of its own; what was
packed here before (by a commit, or in an export that was imported again) keeps its DiffID.
Sources: OCI image-spec config.md and manifest.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.export import ExportSpec
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import nearest
from ansible_collections.strata.overlay.plugins.module_utils._image.db import read_stored
from ansible_collections.strata.overlay.plugins.module_utils._image.host_platform import host_platform
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import OCI_MANIFEST, sha256
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import known_stack
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import pack_content
from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import in_user_namespace
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import NO_DIFFERENCE, upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

PACKING = 2
"""Part of what a packed layer's digest is remembered by; one more whenever `_layer/pack_overlay` makes other bytes."""

_CREATED = "1980-01-01T00:00:00Z"
"""A fixed time, so that exporting the same layers gives the same bytes."""


@dataclass(frozen=True)
class Tree:
    """One layer's tree in the store.

    :ivar diff_id: of the content; "" for a writable layer, which others may write to.
    :ivar fuse: fuse-overlayfs has written it.
    """

    path: str
    diff_id: str
    fuse: bool = False


@dataclass(frozen=True)
class Chain:
    """What is exported: trees bottom first, and the config of the image that they begin with, b"" for none."""

    trees: tuple[Tree, ...]
    config: bytes = b""


@dataclass(frozen=True)
class ExportLayer:
    """A layer as it goes elsewhere; its tar is not compressed, so its digest is its DiffID.

    :ivar size: bytes of the tar.
    :ivar left_out: what of the tree is not in it, as sentences.
    """

    tree: Tree
    diff_id: str
    size: int
    left_out: tuple[str, ...] = ()

    def read(self) -> Iterator[bytes]:
        """Its bytes.

        :raises StrataError: at the end, where they are not what they were when they were digested.
        """
        state = hashlib.sha256()
        for chunk in _pack(self.tree):
            state.update(chunk)
            yield chunk
        if SHA256 + state.hexdigest() != self.diff_id:
            raise StrataError(f"{self.tree.path} changed while it was exported; run again when nothing writes to it")


@dataclass(frozen=True)
class ExportImage:
    """The whole image."""

    config: bytes
    layers: tuple[ExportLayer, ...]

    @property
    def image_id(self) -> str:
        return sha256(self.config)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def is_faithful(self) -> bool:
        """Whether every layer has the DiffID that it has in the store."""
        return all(layer.tree.diff_id in ("", layer.diff_id) for layer in self.layers)

    def manifest(self) -> bytes:
        """Its OCI manifest."""
        layers = [_descriptor(LAYER_TYPE, layer.diff_id, layer.size) for layer in self.layers]
        config = _descriptor(CONFIG_TYPE, self.image_id, len(self.config))
        return to_json({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def to_json(value: Any) -> bytes:
    """Serialise reproducibly: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def find_chain(store: Store, spec: ExportSpec) -> Chain:
    """What a name or a stack stands for; call it with the store locked.

    :raises StrataError: there is no such thing, or a part of it is missing.
    """
    if spec.stack:
        record = known_stack(store, spec.stack)
        trees = [Tree(store.content(diff_id), diff_id) for diff_id in record.diff_ids]
        config = _base_config(store, record.layers, record.diff_ids)
        if spec.changes and record.style.idmapped:
            raise StrataError(
                f"{spec.label}: option 'changes': stack {spec.stack} shows its layers with mapped owners (idmap); "
                "what is written in it has others than its layers have"
            )
        if spec.changes and record.whole:
            raise StrataError(f"{spec.label}: option 'changes': stack {spec.stack} {NO_DIFFERENCE}")
        if spec.changes and not record.stack_id:
            raise StrataError(f"{spec.label}: option 'changes': stack {spec.stack} is read-only, so it has none")
        if spec.changes:
            trees.append(Tree(upper_tree(store, record), "", record.fuse))
            if record.writable == "volatile" and not os.path.isdir(trees[-1].path):
                raise StrataError(
                    f"{spec.label}: option 'changes': stack {spec.stack} is volatile and not mounted, so it has none"
                )
    else:
        name = store.name_record(spec.name)
        if name is None:
            known = store.names()
            raise StrataError(f"{spec.label}: the store {store.root} has no such name{nearest(spec.name, known)}")
        trees = [Tree(store.content(diff_id), diff_id) for diff_id in name.diff_ids]
        config = _config(store, name.image_id)
    for tree in trees:
        if not os.path.isdir(tree.path):
            raise StrataError(f"{spec.label}: {tree.path} is missing; run strata.overlay.store_check")
    return Chain(tuple(trees), config)


def _config(store: Store, image_id: str) -> bytes:
    config = read_stored(store, image_id) if image_id else None
    return config.body if config else b""


def _base_config(store: Store, layers: Sequence[str], diff_ids: Sequence[str]) -> bytes:
    """The config of the image that a stack begins with, where it begins with one."""
    record = store.name_record(layers[0])
    if record is None or not record.image_id or tuple(diff_ids[: len(record.diff_ids)]) != record.diff_ids:
        return b""
    return _config(store, record.image_id)


def digest_image(chain: Chain, changes: Mapping[str, Any], cache: DigestCache) -> ExportImage:
    """Pack every layer once to know its digest, or remember it; and say what the image is.

    :param changes: of the config, as ``ExportSpec.config``.
    """
    layers = tuple(_digested(tree, cache) for tree in chain.trees)
    return ExportImage(_make_config(chain, layers, changes), layers)


def _digested(tree: Tree, cache: DigestCache) -> ExportLayer:
    key = hashlib.sha256(f"export\0{PACKING}\0{tree.diff_id}".encode()).hexdigest() if tree.diff_id else ""
    known = cache.get(key) if key else None
    if known and str(known.get("size", "")).isdigit():
        return ExportLayer(tree, known["diff_id"], int(known["size"]))
    state, size, left_out = hashlib.sha256(), 0, LeftOut()
    for chunk in _pack(tree, left_out):
        state.update(chunk)
        size += len(chunk)
    found = ExportLayer(tree, SHA256 + state.hexdigest(), size, left_out.warnings())
    if key:
        cache.put(key, {"diff_id": found.diff_id, "size": str(size)})
    return found


def _pack(tree: Tree, left_out: Optional[LeftOut] = None) -> Iterator[bytes]:
    return pack_content(tree.path, in_user_namespace(), live=not tree.diff_id, fuse=tree.fuse, left_out=left_out)


def _make_config(chain: Chain, layers: Sequence[ExportLayer], changes: Mapping[str, Any]) -> bytes:
    """The config that the image had, to the byte where nothing in it is otherwise now; else one with these layers."""
    diff_ids = [layer.diff_id for layer in layers]
    before: dict[str, Any] = json.loads(chain.config) if chain.config else {}
    listed: Optional[list[str]] = before["rootfs"]["diff_ids"] if before else None
    if listed == diff_ids and not changes:
        return chain.config
    if not before:
        platform = host_platform()
        before = {"architecture": platform.architecture, "os": platform.os, "created": _CREATED}
        before.update({"variant": platform.variant} if platform.variant else {})
    history = [entry for entry in before.get("history") or [] if isinstance(entry, dict)]
    known = sum(1 for entry in history if not entry.get("empty_layer"))
    history += [{"created": _CREATED, "created_by": "strata.overlay"} for _layer in layers[known:]]
    return to_json(
        {
            **before,
            "config": {**(before.get("config") or {}), **changes},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        }
    )
