# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Judges layers: directories in overlay2/ against records in layerdb/. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._check.judge_chains import Chains
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_places import KEPT
from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Fix,
    Keep,
    RebuildLayer,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import LayerSeen, StoreSnapshot
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import LINK_ID, SHA256, hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LayerLink

Remedy = tuple[str, Optional[Fix]]
"""What repair does, in words and as a value."""


def find_layers(snapshot: StoreSnapshot, chains: Chains) -> Iterator[Finding]:
    """Everything about layers but their short links."""
    for layer_id, link in chains.wanted.items():
        there = layer_id in snapshot.layers or layer_id in snapshot.records
        if there or layer_id in chains.required:
            yield from _Layer(snapshot, chains, link, fix_wanted(snapshot, link)).findings()
    for layer_id, link in chains.unused.items():
        yield from _Layer(snapshot, chains, link, fix_unused(snapshot, layer_id)).findings()
    known = {**chains.wanted, **chains.unused}
    for layer_id in snapshot.records:
        if layer_id not in known:
            message = "its records in layerdb do not lead down to a base layer, and nothing refers to it"
            yield Finding("chain_broken", SHA256 + layer_id, message, *fix_unused(snapshot, layer_id))
    writables = snapshot.writables()
    for layer_id, seen in snapshot.layers.items():
        if layer_id not in known and layer_id not in writables and layer_id not in snapshot.records:
            yield _orphan(snapshot, layer_id, seen)


def fix_wanted(snapshot: StoreSnapshot, link: LayerLink) -> Remedy:
    """A layer that a name or a stack has is made anew from its chain, unless that takes its content and it is lost."""
    if link.twin and not snapshot.contents.get(hex_of(link.diff_id)):
        return "the next run with the definition imports its content again and makes the layer anew", None
    return "make its files anew from its chain", RebuildLayer(link)


def fix_unused(snapshot: StoreSnapshot, layer_id: str) -> Remedy:
    """A layer that nothing refers to goes as a whole, unless a mount has it."""
    if layer_id in snapshot.used_layers:
        return "a mount uses it: unmount that, then repair", None
    return "delete what is left of it: nothing refers to it", Discard(paths_of(layer_id))


def paths_of(layer_id: str) -> tuple[str, ...]:
    """Everything that a layer has in a store, but for its content."""
    return (
        f"image/overlay2/layerdb/sha256/{layer_id}",
        f"overlay2/{layer_id}",
        f"overlay2/l/{link_id(layer_id)}",
    )


def _orphan(snapshot: StoreSnapshot, layer_id: str, seen: LayerSeen) -> Finding:
    path = f"overlay2/{layer_id}"
    looks_writable = seen.upper or seen.diff == "/" or layer_id in snapshot.mountdb
    kind = "writable_orphaned" if looks_writable else "layer_orphaned"
    what = "writable layer" if looks_writable else "layer"
    message = f"a directory of a {what} that no record knows" + ("; it holds files" if seen.written else "")
    if layer_id in snapshot.used_layers:
        return Finding(kind, path, message, "a mount uses it: unmount that, then repair")
    if seen.written:
        return Finding(kind, path, message, KEPT, Keep(path))
    return Finding(kind, path, message, "delete it: it holds nothing", Discard(paths_of(layer_id)))


class _Layer:
    """What is wrong with one layer that is known from records."""

    def __init__(self, snapshot: StoreSnapshot, chains: Chains, link: LayerLink, remedy: Remedy) -> None:
        self._snapshot = snapshot
        self._chains = chains
        self._link = link
        self._remedy = remedy

    def findings(self) -> Iterator[Finding]:
        seen = self._snapshot.layers.get(self._link.layer_id)
        if seen is None:
            yield self._finding("layer_missing", "it is on record, and its directory in overlay2/ is missing")
        else:
            yield from self._files(seen)
        yield from self._records()

    def _finding(self, kind: str, message: str) -> Finding:
        return Finding(kind, self._link.chain_id, message, *self._remedy)

    def _files(self, seen: LayerSeen) -> Iterator[Finding]:
        link = self._link
        if seen.link != link.link:
            yield self._finding("link_wrong", f"its file 'link' is {_fault(seen.link, LINK_ID.match)}")
        if seen.lower != (link.lower if link.parent else None):
            yield self._finding("lower_wrong", f"its file 'lower' is {self._lower_fault(seen.lower)}")
        if seen.diff != ("/" if link.twin else link.diff_target):
            yield self._finding("diff_wrong", f"its 'diff' is {self._diff_fault(seen.diff)}")
        if link.parent and seen.work is None:
            yield self._finding("work_missing", "its directory 'work' is missing")
        for name in seen.work or ():
            path = f"overlay2/{link.layer_id}/work/{name}"
            yield Finding("work_foreign", path, "the work directory of a layer is to be empty", KEPT, Keep(path))
        above = self._chains.above.get(link.layer_id)
        if not seen.committed and above is not None:
            message = "a layer lies above it, and its mark 'committed' is missing"
            # It is a file of this layer that comes with the one above.
            advice, fix = fix_wanted(self._snapshot, above)
            yield Finding("committed_missing", link.chain_id, message, advice, fix)

    def _lower_fault(self, lower: Optional[str]) -> str:
        if not self._link.parent:
            return "there, and it is a base layer"
        return _fault(lower, lambda text: all(part[:2] == "l/" and LINK_ID.match(part[2:]) for part in text.split(":")))

    def _diff_fault(self, diff: str) -> str:
        if not diff:
            return "missing, or neither link nor directory"
        if self._link.twin:
            return "a link, and has to be a directory: its content is also further down in the chain"
        return "a directory, and not the link to its content" if diff == "/" else f"a link astray, to {diff}"

    def _records(self) -> Iterator[Finding]:
        link = self._link
        record = self._snapshot.records.get(link.layer_id)
        if record is None:
            yield self._finding("layer_record_missing", "its directory in layerdb/ is missing")
            return
        found = {"cache-id": record.cache_id, "diff": record.diff, "parent": record.parent, "size": record.size}
        wanted = {"parent": None, **link.records(0)}
        wrong = [
            name
            for name, text in found.items()
            if (not (text or "").isdigit() if name == "size" else text != wanted[name])
        ]
        if wrong:
            listed = ", ".join(f"'{name}'" for name in wrong)
            yield self._finding("layer_record_wrong", f"missing, damaged or unlike its chain in layerdb/: {listed}")


def _fault(text: Optional[str], is_well_formed: object) -> str:
    """Missing, empty, malformed, or another one than the record leads to."""
    if text is None:
        return "missing"
    if not text:
        return "empty"
    return "unlike the record" if callable(is_well_formed) and is_well_formed(text) else "malformed"
