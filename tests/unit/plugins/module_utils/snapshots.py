# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sound store in miniature, as a check sees it, and small damages to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import (
    LayerRecord,
    LayerSeen,
    MountState,
    StoreSnapshot,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LayerLink, layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import Generation, NameRecord, StackRecord

A, B, C, D = (f"sha256:{letter * 64}" for letter in "abcd")
IMAGE = "sha256:" + "e" * 64
WRITABLE = "5" * 64
BARE = LayerSeen(None, None, "", None, committed=False, upper=False, written=False)
"""A directory that holds nothing."""


def sound(*diff_ids: str) -> StoreSnapshot:
    """Stack web of this chain, with a persistent layer and an older generation (A, D); stack docs of A alone; a name
    for B, which is a layer of the chain and lies nowhere alone; and an image of the chain.
    """
    links = {link.layer_id: link for link in (*layer_links((A, D)), *layer_links(diff_ids))}
    top = layer_links(diff_ids)[-1]
    own = LayerSeen(link_id(WRITABLE), "", "/", ("work",), committed=False, upper=True, written=True)
    contents = {hex_of(link.diff_id) for link in links.values()}
    history = (Generation(2, diff_ids, ("chain",), ""), Generation(1, (A, D), ("old",), ""))
    web = StackRecord("web", "/srv/web", "persistent", 0, WRITABLE, True, False, history)
    docs = StackRecord("docs", "/srv/docs", "none", 0, "", False, False, (Generation(1, (A,), ("base",), ""),))
    return StoreSnapshot(
        directories={},
        foreign=(),
        leftovers=(),
        damaged=(),
        names={"app": NameRecord("app", (B,)), "image": NameRecord("image", diff_ids, image_id=IMAGE)},
        stacks={"web": web, "docs": docs},
        detached_uppers={},
        changes={},
        layers={**{name: _seen(link, name != top.layer_id) for name, link in links.items()}, WRITABLE: own},
        records={name: LayerRecord(name, link.diff_id, link.parent or None, "7") for name, link in links.items()},
        links={link_id(name): f"../{name}/diff" for name in (*links, WRITABLE)},
        mountdb=frozenset({WRITABLE}),
        contents=dict.fromkeys(contents, True),
        content_records=frozenset(contents),
        writable_faults={},
        work_files={},
        images=frozenset({IMAGE}),
        image_faults={},
        tags_are_right=True,
        used_layers=set(),
        used_contents=set(),
        shared_uppers={},
        mounted={"web": MountState(1, ""), "docs": MountState(0, "")},
        unknown_mounts=(),
        changed={},
    )


def _seen(link: LayerLink, committed: bool) -> LayerSeen:
    diff = "/" if link.twin else link.diff_target
    lower, work = (link.lower, ()) if link.parent else (None, None)
    return LayerSeen(link.link, lower, diff, work, committed, upper=False, written=link.twin)


def forgotten(snapshot: StoreSnapshot) -> StoreSnapshot:
    """The same where no name and no stack has anything any more: the writable layer is set aside."""
    detached_uppers = {WRITABLE: snapshot.stacks["web"]}
    return replace(snapshot, names={}, stacks={}, mounted={}, detached_uppers=detached_uppers)


def layer(snapshot: StoreSnapshot, layer_id: str, **changes: Any) -> StoreSnapshot:
    """With a layer's directory in overlay2/ changed."""
    return put(snapshot, "layers", layer_id, snapshot.layers[layer_id]._replace(**changes))


def layerdb(snapshot: StoreSnapshot, layer_id: str, **changes: Any) -> StoreSnapshot:
    """With a layer's directory in layerdb/ changed."""
    return put(snapshot, "records", layer_id, snapshot.records[layer_id]._replace(**changes))


def stack(snapshot: StoreSnapshot, name: str, **changes: Any) -> StoreSnapshot:
    """With a stack's record changed."""
    return put(snapshot, "stacks", name, replace(snapshot.stacks[name], **changes))


def put(snapshot: StoreSnapshot, part: str, key: str, value: Any) -> StoreSnapshot:
    """With one more, or another, entry in one part of the snapshot."""
    return _with(snapshot, part, {**getattr(snapshot, part), key: value})


def drop(snapshot: StoreSnapshot, part: str, *keys: str) -> StoreSnapshot:
    """Without these entries in one part of the snapshot."""
    before = getattr(snapshot, part)
    if isinstance(before, frozenset):
        return _with(snapshot, part, before - set(keys))
    return _with(snapshot, part, {key: value for key, value in before.items() if key not in keys})


def _with(snapshot: StoreSnapshot, part: str, value: Any) -> StoreSnapshot:
    changes: dict[str, Any] = {part: value}
    return replace(snapshot, **changes)


SOUND = sound(A, B, C)
TWIN = sound(A, B, A)
UNUSED = forgotten(SOUND)
BASE, APP, SITE = layer_links((A, B, C))
COPY = layer_links((A, B, A))[2]
