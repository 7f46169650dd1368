# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Builds or repairs layers and writable layers in a transaction."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._layer.clone import clone_tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import is_directory
from ansible_collections.strata.overlay.plugins.module_utils._store.inspect_layout import (
    Make,
    diff_is_right,
    part_is_right,
    writable_parts,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import (
    LayerLink,
    mount_records,
    top_layer,
    writable_files,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction, write_file


def stage_layer(store: Store, transaction: Transaction, layer: LayerLink, size: int, content: str) -> None:
    """Add a layer's directory, short link, records and its parent's mark to a transaction, in the order of safety.

    :param size: bytes of the diff, for layerdb.
    :param content: where the unpacked diff can be read now.
    """
    directory = store.layer(layer.layer_id)
    files = {"link": layer.link, **({"lower": layer.lower} if layer.parent else {})}
    parts: dict[str, Make] = {}
    if not diff_is_right(directory, layer):
        parts["diff"] = partial(clone_tree, content) if layer.twin else partial(os.symlink, layer.diff_target)
    if layer.parent and not is_directory(f"{directory}/work"):
        parts["work"] = partial(os.mkdir, mode=0o700)
    if not layer.parent:
        store.discard(f"{directory}/lower")  # a base layer has none
    _stage_directory(transaction, directory, files, parts)
    transaction.symlink(f"../{layer.layer_id}/diff", store.link(layer.link))
    if layer.parent:
        transaction.write(f"{store.layer(hex_of(layer.parent))}/committed", "", 0o600)
    _stage_records(transaction, store.layerdb(layer.chain_id), layer.records(size))


def _stage_directory(
    transaction: Transaction, directory: str, files: Mapping[str, str], parts: Mapping[str, Make]
) -> None:
    """A new directory of these files and parts; or, where it is there, these put into it and nothing else touched.

    What is there may be part of a live mount: it is never replaced as a whole.
    """
    if is_directory(directory):
        for name, text in files.items():
            transaction.write(f"{directory}/{name}", text)
        for name, make in parts.items():
            make(transaction.stage(f"{directory}/{name}"))
    else:
        staged = transaction.stage(directory)
        os.mkdir(staged, 0o710)
        for name, text in files.items():
            write_file(f"{staged}/{name}", text)
        for name, make in parts.items():
            make(f"{staged}/{name}")


def _stage_records(transaction: Transaction, directory: str, files: Mapping[str, str]) -> None:
    staged = transaction.stage(directory)
    os.mkdir(staged, 0o755)
    for name, text in files.items():
        write_file(f"{staged}/{name}", text)


def stage_writable(store: Store, transaction: Transaction, record: StackRecord) -> None:
    """Make a stack's writable layer, or bring the files of one that is there up to its record.

    What lies in its diff is never touched; one that is to be the whole tree is not made, see ``stage_whole``.
    """
    directory = store.layer(record.stack_id)
    transaction.write(f"{store.layer(top_layer(record).layer_id)}/committed", "", 0o600)
    wrong = {name for name in writable_parts(record) if not part_is_right(directory, name, record)}
    parts = {name: make for name, make in writable_parts(record).items() if name in wrong}
    if record.whole:
        parts.pop("diff", None)
    # Its record in layerdb first: should the stack's own record not come, `_prune/sweep` finds it by that.
    _stage_records(transaction, store.mountdb(record.stack_id), mount_records(record))
    _stage_directory(transaction, directory, writable_files(record), parts)
    transaction.symlink(f"../{record.stack_id}/diff", store.link(link_id(record.stack_id)))


def stage_whole(store: Store, transaction: Transaction, record: StackRecord, copy: str) -> None:
    """Let a copy become the diff of a writable layer that has none. It goes last, after the stack's record: a layer
    without it holds nothing, so `_prune/sweep` takes it away, or the next run copies once more.
    """
    directory = store.layer(record.stack_id)
    if not is_directory(f"{directory}/diff"):
        transaction.adopt(copy, f"{directory}/diff")
