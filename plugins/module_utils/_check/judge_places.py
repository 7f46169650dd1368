# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Judges the store's own directories, unreadable records and foreign files. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Finding,
    Keep,
    MakeDirectories,
    Sweep,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import StoreSnapshot

KEPT = "move it to strata/lost/, where nothing deletes it"


def find_places(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """Everything about single files and directories of the store."""
    for path, state in snapshot.directories.items():
        if state == "missing":
            yield Finding("directory_wrong", path, "a directory of the store is missing", "make it", MakeDirectories())
        else:
            kind = "short_links_replaced" if path == "overlay2/l" else "directory_wrong"
            message = f"{state} is in the place of a directory of the store"
            yield Finding(kind, path, message, f"{KEPT}, and make the directory", Keep(path))
    for path in snapshot.apart:
        message = (
            "something is mounted on it, or it is another subvolume, so nothing can be renamed into it or out of it"
        )
        advice = "unmount it there, or move what it holds; a store lies on one file system as a whole"
        yield Finding("directory_apart", path, message, advice)
    for record in snapshot.damaged:
        advice = f"{KEPT}; the next run with the definition writes it anew"
        yield Finding(
            "record_damaged", record.path, f"the record cannot be read: {record.description}", advice, Keep(record.path)
        )
    for path in snapshot.foreign:
        if path == "lock":
            message = "it is no file, so no change of the store can lock it"
            yield Finding("foreign_file", path, message, "delete it by hand while no run is under way")
            continue
        yield Finding("foreign_file", path, "it is nothing that the store puts there", KEPT, Keep(path))
    for path in snapshot.leftovers:
        yield Finding(
            "leftover", path, "a run that was ended has left it", "delete it, as the next change does", Sweep()
        )
