# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Judges a store snapshot and lists findings. Pure."""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._check.judge_chains import Chains
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_contents import find_contents, find_images
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_layers import find_layers
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_links import find_links
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_places import find_places
from ansible_collections.strata.overlay.plugins.module_utils._check.judge_stacks import find_stacks
from ansible_collections.strata.overlay.plugins.module_utils._check.model import Finding
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import StoreSnapshot


def find(snapshot: StoreSnapshot) -> list[Finding]:
    """Everything that is wrong, in the order in which a reader wants to hear of it."""
    chains = Chains(snapshot)
    return [
        *find_places(snapshot),
        *find_contents(snapshot),
        *find_layers(snapshot, chains),
        *find_links(snapshot, chains),
        *find_stacks(snapshot),
        *find_images(snapshot),
    ]
