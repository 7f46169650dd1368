# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Contents that the store lacks -> verified trees in a run's workspace. Needs no lock, publishes nothing."""

from __future__ import annotations

import os
from typing import Dict, Iterable

from ansible_collections.strata.overlay.plugins.module_utils._abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._chain import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._records import ContentRecord, now
from ansible_collections.strata.overlay.plugins.module_utils._source import open_origin
from ansible_collections.strata.overlay.plugins.module_utils._steps import ImportContent, Step, short
from ansible_collections.strata.overlay.plugins.module_utils._unpack import unpack


def stage_contents(workspace: str, steps: Iterable[Step], abilities: Abilities) -> Dict[str, ContentRecord]:
    """Unpack every content that is to be imported to ``workspace/<hex>``, with its digest checked. Needs no lock.

    :returns: the record of each by DiffID.
    """
    staged: Dict[str, ContentRecord] = {}
    for step in steps:
        if isinstance(step, ImportContent) and step.origin.diff_id not in staged:
            staged[step.origin.diff_id] = _unpack_one(workspace, step, abilities)
    return staged


def _unpack_one(workspace: str, step: ImportContent, abilities: Abilities) -> ContentRecord:
    origin = step.origin
    directory = f"{workspace}/{hex_of(origin.diff_id)}"
    os.mkdir(directory, 0o755)
    os.chmod(directory, 0o755)
    try:
        with open_origin(origin) as read:
            unpacked = unpack(read, directory, abilities.userxattr)
    except OSError as error:
        raise StrataError(
            f"Cannot unpack content {short(origin.diff_id)} from {origin.words}: {error.strerror or error}"
            f"{' at ' + repr(error.filename) if error.filename else ''}. Nothing of it was kept."
        ) from error
    except StrataError as error:
        raise StrataError(f"Cannot unpack content {short(origin.diff_id)} from {origin.words}: {error}") from error
    if unpacked.diff_id != origin.diff_id:
        raise StrataError(
            f"{origin.words} changed while it was read: it had DiffID {origin.diff_id} and now has {unpacked.diff_id}. "
            "Nothing of it was kept; run again."
        )
    return ContentRecord(origin.diff_id, unpacked.size, unpacked.entries, origin.words, now())
