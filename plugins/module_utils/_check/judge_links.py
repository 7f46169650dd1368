# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Judges short links: overlay2/l/ against the layers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._check.judge_chains import Chains
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_layers import Remedy, fix_unused, fix_wanted
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_places import KEPT
from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Keep,
    RebuildWritable,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import StoreSnapshot
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256, link_id

_TARGET = re.compile(r"^\.\./([0-9a-f]{64})/diff\Z")


def find_links(snapshot: StoreSnapshot, chains: Chains) -> Iterator[Finding]:
    """Everything about overlay2/l/."""
    known = set(chains.wanted) | set(chains.unused) | set(snapshot.writables())
    of_link: dict[str, str] = {link_id(layer_id): layer_id for layer_id in known}
    for layer_id in snapshot.layers:
        if layer_id in known and link_id(layer_id) not in snapshot.links:
            message = f"its short link overlay2/l/{link_id(layer_id)} is missing"
            yield Finding(
                "short_link_missing", _object(snapshot, layer_id), message, *_remedy(snapshot, chains, layer_id)
            )
    for name, target in snapshot.links.items():
        owner = of_link.get(name, "")
        if target is None:
            message = "it is no symbolic link"
            yield Finding("foreign_file", f"overlay2/l/{name}", message, KEPT, Keep(f"overlay2/l/{name}"))
        elif owner and target != f"../{owner}/diff":
            message = f"it points astray, to {target}, and belongs to overlay2/{owner}"
            yield Finding("short_link_wrong", f"overlay2/l/{name}", message, *_remedy(snapshot, chains, owner))
        elif owner and owner not in snapshot.layers:
            message = f"it dangles: overlay2/{owner} is missing"
            yield Finding("short_link_dangling", f"overlay2/l/{name}", message, *_remedy(snapshot, chains, owner))
        elif not owner:
            yield from _stray(snapshot, name, target)


def _stray(snapshot: StoreSnapshot, name: str, target: str) -> Iterator[Finding]:
    """A link that no known layer has."""
    path = f"overlay2/l/{name}"
    found = _TARGET.match(target)
    to = found.group(1) if found else ""
    if to in snapshot.layers and link_id(to) == name:
        return  # it goes with its directory, which has a finding of its own
    if to in snapshot.layers:
        kind, message = "short_link_doubled", f"a second link to overlay2/{to}, whose own is {link_id(to)}"
    elif to:
        kind, message = "short_link_dangling", f"it dangles: overlay2/{to} is missing"
    else:
        kind, message = "short_link_wrong", f"it points astray, to {target}"
    yield Finding(kind, path, message, "delete the link", Discard((path,)))


def _object(snapshot: StoreSnapshot, layer_id: str) -> str:
    return f"overlay2/{layer_id}" if layer_id in snapshot.writables() else SHA256 + layer_id


def _remedy(snapshot: StoreSnapshot, chains: Chains, layer_id: str) -> Remedy:
    if layer_id in chains.wanted:
        return fix_wanted(snapshot, chains.wanted[layer_id])
    if layer_id in chains.unused:
        return fix_unused(snapshot, layer_id)
    for record in snapshot.stacks.values():
        if record.stack_id == layer_id:
            return "make it anew", RebuildWritable(record)
    if layer_id in snapshot.layers:
        return "make it anew", RebuildWritable(snapshot.detached_uppers[layer_id])
    return "delete the link", Discard((f"overlay2/l/{link_id(layer_id)}",))
