# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Compares layers and writable layers on disk with `_store/layout`."""

from __future__ import annotations

import os
from functools import partial
from typing import Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import (
    hex_of,
    link_id,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import is_directory, read_text
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import (
    LOST,
    LayerLink,
    mount_records,
    top_layer,
    writable_files,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

Make = Callable[[str], None]
"""Makes one part of a layer's directory at the path that it is given."""


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


def discard_writable(store: Store, stack_id: str) -> None:
    """Throw a writable layer away, with its records; nothing may be mounted from it. The record by which a run that
    finishes this finds it goes last.
    """
    store.discard(store.link(link_id(stack_id)))
    store.discard(store.layer(stack_id))
    store.discard(store.mountdb(stack_id))
    store.discard(store.detached_file(stack_id))


def writable_parts(record: StackRecord) -> dict[str, Make]:
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
