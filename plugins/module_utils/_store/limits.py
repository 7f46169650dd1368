# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What a store's file system cannot support, as values. Pure: `_store/faults` probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import NO_FAULT, Fault


class StoreFaults(NamedTuple):
    """What a store cannot have where it lies.

    :ivar mount: any mount: this process may not mount.
    :ivar layers: layers shown by the kernel's overlay.
    :ivar upper: a writable layer of the kernel's overlay, in the store.
    :ivar served: a writable layer of fuse-overlayfs.
    """

    mount: Fault = NO_FAULT
    layers: Fault = NO_FAULT
    upper: Fault = NO_FAULT
    served: Fault = NO_FAULT

    def overlay(self, writable: str) -> Fault:
        """Why the kernel's overlay cannot show a stack of several layers or a writable one.

        :param writable: ``none``, ``persistent`` or ``volatile``; a volatile layer does not lie in the store.
        """
        return self.layers if self.layers.why or writable != "persistent" else self.upper


def apart_text(root: str, apart: Sequence[str]) -> str:
    """What is wrong with directories of a store that ``find_places_apart`` has found, and what to do."""
    places = " and on ".join(f"{root}/{name}" for name in apart)
    return (
        f"something is mounted on {places} in the store {root}, or it is another subvolume. A store has to lie on one "
        "file system as a whole, since everything comes into it and leaves it by renaming; unmount it there, and mount "
        f"at {root} what is to hold the store"
    )
