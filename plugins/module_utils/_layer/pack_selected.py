# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Packs a directory without the paths that patterns exclude; excluded paths are never read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.writer import END
from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import Selection
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import Directory, TreePacker
from ansible_collections.strata.overlay.plugins.module_utils._layer.select import Choice


class SelectedPacker(TreePacker):
    """Names stay as they are. A file with several names is packed under the first that is taken."""

    def __init__(self, selection: Selection, keep_times: bool, left_out: Optional[LeftOut]) -> None:
        super().__init__(keep_times, left_out=left_out)
        self._choice = Choice(selection)

    def names(self, directory: Directory) -> Iterator[bytes]:
        for base in super().names(directory):
            if not self._choice.excludes(directory.name(base)):
                yield base

    def pack(self, directory: Directory, base: bytes, status: os.stat_result) -> Iterator[bytes]:
        # Whoever reads the stream leaves out directories that are not taken: below them there may be what is.
        if stat.S_ISDIR(status.st_mode) or self._choice.takes_name(directory.name(base)):
            yield from super().pack(directory, base, status)


def pack_selected(
    path: str, selection: Selection, keep_times: bool = False, left_out: Optional[LeftOut] = None
) -> Iterator[bytes]:
    """As ``pack_directory``, without the files that patterns leave out."""
    yield from SelectedPacker(selection, keep_times, left_out).pack_tree(path)
    yield END
