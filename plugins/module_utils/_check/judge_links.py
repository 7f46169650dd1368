# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Short links: overlay2/l/ against the layers that there are, in both directions. Pure."""

from __future__ import annotations

import re
from typing import Dict, Iterator

from ansible_collections.strata.overlay.plugins.module_utils._check.judge_chains import Chains
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_layers import Mended, mend_unused, mend_wanted
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_places import KEPT
from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Keep,
    RebuildWritable,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import Picture
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256, link_id

_TARGET = re.compile(r"^\.\./([0-9a-f]{64})/diff\Z")


def find_links(picture: Picture, chains: Chains) -> Iterator[Finding]:
    """Everything about overlay2/l/."""
    known = set(chains.wanted) | set(chains.unused) | set(picture.writables())
    of_link: Dict[str, str] = {link_id(layer_id): layer_id for layer_id in known}
    for layer_id in picture.layers:
        if layer_id in known and link_id(layer_id) not in picture.links:
            words = f"its short link overlay2/l/{link_id(layer_id)} is missing"
            yield Finding("short_link_missing", _object(picture, layer_id), words, *_mended(picture, chains, layer_id))
    for name, target in picture.links.items():
        owner = of_link.get(name, "")
        if target is None:
            words = "it is no symbolic link"
            yield Finding("foreign_file", f"overlay2/l/{name}", words, KEPT, Keep(f"overlay2/l/{name}"))
        elif owner and target != f"../{owner}/diff":
            words = f"it points astray, to {target}, and belongs to overlay2/{owner}"
            yield Finding("short_link_wrong", f"overlay2/l/{name}", words, *_mended(picture, chains, owner))
        elif owner and owner not in picture.layers:
            words = f"it dangles: overlay2/{owner} is missing"
            yield Finding("short_link_dangling", f"overlay2/l/{name}", words, *_mended(picture, chains, owner))
        elif not owner:
            yield from _stray(picture, name, target)


def _stray(picture: Picture, name: str, target: str) -> Iterator[Finding]:
    """A link that no known layer has."""
    path = f"overlay2/l/{name}"
    found = _TARGET.match(target)
    to = found.group(1) if found else ""
    if to in picture.layers and link_id(to) == name:
        return  # it goes with its directory, of which another finding tells
    if to in picture.layers:
        kind, words = "short_link_doubled", f"a second link to overlay2/{to}, whose own is {link_id(to)}"
    elif to:
        kind, words = "short_link_dangling", f"it dangles: overlay2/{to} is missing"
    else:
        kind, words = "short_link_wrong", f"it points astray, to {target}"
    yield Finding(kind, path, words, "delete the link", Discard((path,)))


def _object(picture: Picture, layer_id: str) -> str:
    return f"overlay2/{layer_id}" if layer_id in picture.writables() else SHA256 + layer_id


def _mended(picture: Picture, chains: Chains, layer_id: str) -> Mended:
    if layer_id in chains.wanted:
        return mend_wanted(picture, chains.wanted[layer_id])
    if layer_id in chains.unused:
        return mend_unused(picture, layer_id)
    for record in picture.stacks.values():
        if record.stack_id == layer_id:
            return "make it anew", RebuildWritable(record)
    if layer_id in picture.layers:
        return "make it anew", RebuildWritable(picture.asides[layer_id])
    return "delete the link", Discard((f"overlay2/l/{link_id(layer_id)}",))
