# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""DiffIDs, ChainIDs, short links and the text of `lower`. Pure.

Sources: OCI image-spec config.md, section "Layer ChainID"; moby daemon/graphdriver/overlay2.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache

SHA256 = "sha256:"
DIFF_ID = re.compile(r"^sha256:[0-9a-f]{64}\Z")
HEX_ID = re.compile(r"^[0-9a-f]{64}\Z")
LINK_ID = re.compile(r"^[A-Z2-7]{26}\Z")
MAX_LAYERS = 500
"""The kernel's own limit of lowers in one mount (fs/overlayfs/params.h, OVL_MAX_STACK)."""


def hex_of(digest: str) -> str:
    """``sha256:<hex>`` -> ``<hex>``."""
    return digest[len(SHA256) :]


def short(digest: str) -> str:
    """The first 12 hexadecimal digits, as Docker shows an id."""
    return hex_of(digest)[:12]


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The ChainID of each layer of a chain, bottom first: ``chain_ids((a, b))[1]`` is the ChainID of a with b above.

    ChainID(L0) = DiffID(L0); ChainID(L0..Ln) = SHA256(ChainID(L0..Ln-1) + " " + DiffID(Ln)).
    """
    chain = []
    parent = ""
    for diff_id in diff_ids:
        parent = diff_id if not parent else SHA256 + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()
        chain.append(parent)
    return tuple(chain)


@cache
def link_id(layer_id: str) -> str:
    """The short link of a layer directory: 26 characters A-Z2-7, as in Docker.

    Docker draws it by chance. Here it is derived from the directory's name, so that a lost link can be rebuilt and
    two runs at once agree.
    """
    return base64.b32encode(hashlib.sha256(f"link {layer_id}".encode()).digest()).decode()[:26]


def lower_text(lower_links: Sequence[str]) -> str:
    """The content of a ``lower`` file: ``l/A:l/B``, top to bottom, no newline.

    :param lower_links: short links of the layers below, bottom first.
    """
    return ":".join(f"l/{link}" for link in reversed(lower_links))


def has_twin_below(diff_ids: Sequence[str], index: int) -> bool:
    """Whether the content of layer ``index`` also lies further down in the same chain.

    The kernel refuses one directory as two lowers (ELOOP), so such a layer needs a diff directory of its own.
    """
    return diff_ids[index] in diff_ids[:index]


def copy_id(diff_ids: Sequence[str], stack: str = "") -> str:
    """The name, in the form of a DiffID, of the one content that is the copy of a whole chain (``driver: copy``).

    :param stack: the stack that alone has it, to write into.
    """
    of = f" for {stack}" if stack else ""
    return SHA256 + hashlib.sha256(f"copy of {chain_ids(diff_ids)[-1]}{of}".encode()).hexdigest()


def shown_chain(driver: str, writable: str, diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The chain that is mounted for a stack: its own, or that of the copy of it. One layer needs no copy, and a copy
    that can be written is no layer but lies where other stacks have their changes.
    """
    copied = driver == "copy" and writable == "none" and len(diff_ids) > 1
    return (copy_id(diff_ids),) if copied else tuple(diff_ids)


def is_whole(driver: str, writable: str) -> bool:
    """Whether a stack's writable layer is the whole tree: a copy of all layers, and what has been written into it."""
    return driver == "copy" and writable == "persistent"
