# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What a layer and a stack's writable layer look like on disk: one list of files, for building and for inspecting.

Format: moby daemon/graphdriver/overlay2 and daemon/internal/layer (layerdb), see DESIGN section 2.
"""

from __future__ import annotations

import os
from functools import lru_cache, partial
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._chain import (
    chain_ids,
    has_twin_below,
    hex_of,
    link_id,
    lower_text,
)
from ansible_collections.strata.overlay.plugins.module_utils._records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store import Store, is_directory, read_text

NO_DIFFERENCE = "is a copy of its layers (driver: copy), which holds everything and not what is otherwise than below"
"""Why nothing can be made of the writable layer of a stack that is a whole tree."""

LOST = "its directory 'diff' is missing"
"""What is wrong with a persistent layer that has lost all that was written into it."""

Make = Callable[[str], None]
"""Makes one part of a layer's directory at the path that it is given."""


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

    def records(self, size: int) -> Dict[str, str]:
        """Files of the layer's directory in layerdb."""
        files = {"cache-id": self.layer_id, "diff": self.diff_id, "size": str(size)}
        return {**files, "parent": self.parent} if self.parent else files


@lru_cache(maxsize=256)
def layer_links(diff_ids: Tuple[str, ...]) -> Tuple[LayerLink, ...]:
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


def lower_trees(store: Store, diff_ids: Sequence[str]) -> Tuple[str, ...]:
    """Where the tree of each layer of a chain lies, without links on the way; top to bottom."""
    return tuple(
        f"{store.layer(link.layer_id)}/diff" if link.twin else store.content(link.diff_id)
        for link in reversed(layer_links(diff_ids))
    )


def upper_tree(store: Store, record: StackRecord) -> str:
    """Where the tree of a stack's writable layer lies, without links on the way. Of a volatile one it is there only
    while the stack is mounted.
    """
    return f"{store.layer(record.stack_id)}/{'volatile/' if record.writable == 'volatile' else ''}diff"


def _points_to(path: str, target: str) -> bool:
    try:
        return os.readlink(path) == target
    except OSError:
        return False


def inspect_layer(store: Store, layer: LayerLink) -> Optional[str]:
    """What is wrong with a layer on disk: None when nothing is, ``"missing"`` when it is not there at all."""
    directory = store.layer(layer.layer_id)
    if not is_directory(directory):
        return "missing"
    if read_text(f"{directory}/link") != layer.link:
        return "its file 'link' is missing or wrong"
    if (read_text(f"{directory}/lower") or "") != layer.lower:
        return "its file 'lower' is missing or wrong"
    if not _points_to(store.link(layer.link), f"../{layer.layer_id}/diff"):
        return f"its short link l/{layer.link} is missing or wrong"
    if not diff_is_right(directory, layer):
        return "its 'diff' is missing or wrong"
    if layer.parent and not is_directory(f"{directory}/work"):
        return "its directory 'work' is missing"
    if layer.parent and not os.path.isfile(f"{store.layer(hex_of(layer.parent))}/committed"):
        return "the layer below is not marked 'committed'"
    return _inspect_records(store, layer)


def diff_is_right(directory: str, layer: LayerLink) -> bool:
    """Whether a layer's diff leads to its content, or is a copy of its own where one chain has the content twice."""
    if layer.twin:
        return is_directory(f"{directory}/diff")
    return _points_to(f"{directory}/diff", layer.diff_target)


def _inspect_records(store: Store, layer: LayerLink) -> Optional[str]:
    directory = store.layerdb(layer.chain_id)
    for name, text in layer.records(0).items():
        found = read_text(f"{directory}/{name}")
        right = found is not None and (found.isdigit() if name == "size" else found == text)
        if not right:
            return f"its record layerdb/{name} is missing or wrong"
    return None


def inspect_writable(store: Store, record: StackRecord) -> Optional[str]:
    """What is wrong with a stack's writable layer on disk, as ``inspect_layer``."""
    if not record.stack_id:
        return None
    directory = store.layer(record.stack_id)
    if not is_directory(directory):
        return "missing"
    for name, text in writable_files(record).items():
        if read_text(f"{directory}/{name}") != text:
            return f"its file '{name}' is missing or wrong"
    if not _points_to(store.link(link_id(record.stack_id)), f"../{record.stack_id}/diff"):
        return "its short link is missing or wrong"
    wrong = [name for name in writable_parts(record) if not part_is_right(directory, name, record)]
    if "diff" in wrong and record.writable == "persistent":
        return LOST
    if wrong:
        return "one of its directories is missing or wrong"
    for name, text in mount_records(record).items():
        if read_text(f"{store.mountdb(record.stack_id)}/{name}") != text:
            return f"its record layerdb/mounts/{name} is missing or wrong"
    if not os.path.isfile(f"{store.layer(top_layer(record).layer_id)}/committed"):
        return "the layer below is not marked 'committed'"
    return None


def part_is_right(directory: str, name: str, record: StackRecord) -> bool:
    """Whether one of the directories of a writable layer is there."""
    if record.writable == "volatile" and name in ("diff", "work"):
        return _points_to(f"{directory}/{name}", f"volatile/{name}")
    return is_directory(f"{directory}/{name}")


def top_layer(record: StackRecord) -> LayerLink:
    """The uppermost layer below a stack."""
    return layer_links(record.diff_ids)[-1]


def writable_files(record: StackRecord) -> Dict[str, str]:
    """Files of a writable layer's directory."""
    link = link_id(record.stack_id)
    lowers = [layer.link for layer in layer_links(record.diff_ids)]
    return {"link": link, "lower": lower_text(lowers), "upper": f"l/{link}"}


def mount_records(record: StackRecord) -> Dict[str, str]:
    """Files of a writable layer's directory in layerdb."""
    return {"mount-id": record.stack_id, "parent": top_layer(record).chain_id}


def discard_writable(store: Store, stack_id: str) -> None:
    """Throw a writable layer away, with its records; nothing may be mounted from it. The record by which a run that
    finishes this finds it goes last.
    """
    store.discard(store.link(link_id(stack_id)))
    store.discard(store.layer(stack_id))
    store.discard(store.mountdb(stack_id))
    store.discard(store.aside_file(stack_id))


def writable_parts(record: StackRecord) -> Dict[str, Make]:
    """Directories of a writable layer; a volatile one has its diff and work on a tmpfs of their own."""
    closed = partial(os.mkdir, mode=0o700)
    if record.writable == "volatile":
        links = {name: partial(os.symlink, f"volatile/{name}") for name in ("diff", "work")}
        return {**links, "merged": closed, "volatile": closed}
    return {"diff": _make_open_directory, "work": closed, "merged": closed}


def _make_open_directory(path: str) -> None:
    """With this mode whatever the umask is: it shows as the top of the mounted tree."""
    os.mkdir(path)
    os.chmod(path, 0o755)
