# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""strata-prune: runs the module `prune` with fixed options, for timers."""

from __future__ import annotations

import json
import sys

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line, readable
from ansible_collections.strata.overlay.plugins.module_utils._prune.run import prune


def main(options: str) -> int:
    """Prune and print what was removed, for the journal if a timer runs it.

    :param options: those of the module ``prune``, as JSON.
    """
    try:
        result = prune(json.loads(options), False)
    except StrataError as error:
        sys.stderr.write(f"{readable(str(error))}\n")
        return 1
    sys.stdout.write(f"{len(result['removed'])} removed, {result['reclaimed_bytes']} bytes\n")
    for entry in result["removed"]:
        sys.stdout.write(f"{entry['kind']} {one_line(entry['id'])}: {entry['bytes']} bytes\n")
    return 0
