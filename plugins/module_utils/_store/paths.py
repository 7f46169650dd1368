# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Paths of everything in a store. Pure."""

from __future__ import annotations

import os
from urllib.parse import quote

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of


class StorePaths:
    """The paths of one store; nothing is looked at."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self.home = os.path.join(self.root, "overlay2")

    def content(self, diff_id: str) -> str:
        return f"{self.root}/content/sha256/{hex_of(diff_id)}"

    def layer(self, layer_id: str) -> str:
        """Directory of a layer or of a stack's writable layer."""
        return f"{self.home}/{layer_id}"

    def link(self, link: str) -> str:
        return f"{self.home}/l/{link}"

    def layerdb(self, chain_id: str) -> str:
        return f"{self.root}/image/overlay2/layerdb/sha256/{hex_of(chain_id)}"

    def mountdb(self, stack_id: str) -> str:
        return f"{self.root}/image/overlay2/layerdb/mounts/{stack_id}"

    def name_file(self, name: str) -> str:
        return f"{self.root}/strata/names/{quote(name, safe='')}.json"

    def content_file(self, diff_id: str) -> str:
        return f"{self.root}/strata/contents/{hex_of(diff_id)}.json"

    def stack_file(self, name: str) -> str:
        return f"{self.root}/strata/stacks/{quote(name, safe='')}.json"

    def detached_file(self, stack_id: str) -> str:
        return f"{self.root}/strata/aside/{stack_id}.json"

    def change_file(self, name: str) -> str:
        return f"{self.root}/strata/changes/{quote(name, safe='')}.json"

    @property
    def sources(self) -> str:
        """The directory of the digests of sources."""
        return f"{self.root}/strata/sources"

    def source_file(self, key: str) -> str:
        return f"{self.sources}/{key}.json"
