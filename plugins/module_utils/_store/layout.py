# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Files of a layer and of a writable layer on disk: one list for building and for checking.

Format: moby daemon/graphdriver/overlay2 and daemon/internal/layer (layerdb), see DESIGN section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import (
    chain_ids,
    has_twin_below,
    hex_of,
    link_id,
    lower_text,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.paths import StorePaths
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord

NO_DIFFERENCE = "is a copy of its layers (driver: copy), which holds everything and not what is otherwise than below"
"""Why nothing can be made of the writable layer of a stack that is a whole tree."""

LOST = "its directory 'diff' is missing"
"""What is wrong with a persistent layer that has lost all that was written into it."""


class LayerLink(NamedTuple):
    """One link of a chain, with all that its files say."""

    chain_id: str
    diff_id: str
    parent: str
    lower: str
    twin: bool

    @property
    def layer_id(self) -> str:
        return hex_of(self.chain_id)

    @property
    def link(self) -> str:
        return link_id(self.layer_id)

    @property
    def diff_target(self) -> str:
        return f"../../content/sha256/{hex_of(self.diff_id)}"

    def records(self, size: int) -> dict[str, str]:
        """Files of the layer's directory in layerdb."""
        files = {"cache-id": self.layer_id, "diff": self.diff_id, "size": str(size)}
        return {**files, "parent": self.parent} if self.parent else files


@lru_cache(maxsize=256)
def layer_links(diff_ids: tuple[str, ...]) -> tuple[LayerLink, ...]:
    """Every link of a chain, bottom first."""
    chain = chain_ids(diff_ids)
    links = [link_id(hex_of(chain_id)) for chain_id in chain]
    return tuple(
        LayerLink(
            chain_id=chain_id,
            diff_id=diff_ids[index],
            parent=chain[index - 1] if index else "",
            lower=lower_text(links[:index]),
            twin=has_twin_below(diff_ids, index),
        )
        for index, chain_id in enumerate(chain)
    )


def lower_trees(store: StorePaths, diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Where the tree of each layer of a chain lies, without links on the way; top to bottom."""
    return tuple(
        f"{store.layer(link.layer_id)}/diff" if link.twin else store.content(link.diff_id)
        for link in reversed(layer_links(diff_ids))
    )


def upper_tree(store: StorePaths, record: StackRecord) -> str:
    """Where the tree of a stack's writable layer lies, without links on the way. Of a volatile one it is there only
    while the stack is mounted.
    """
    return f"{store.layer(record.stack_id)}/{'volatile/' if record.writable == 'volatile' else ''}diff"


def top_layer(record: StackRecord) -> LayerLink:
    """The uppermost layer below a stack."""
    return layer_links(record.diff_ids)[-1]


def writable_files(record: StackRecord) -> dict[str, str]:
    """Files of a writable layer's directory."""
    link = link_id(record.stack_id)
    lowers = [layer.link for layer in layer_links(record.diff_ids)]
    return {"link": link, "lower": lower_text(lowers), "upper": f"l/{link}"}


def mount_records(record: StackRecord) -> dict[str, str]:
    """Files of a writable layer's directory in layerdb."""
    return {"mount-id": record.stack_id, "parent": top_layer(record).chain_id}
