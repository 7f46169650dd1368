# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Whether systemd runs this host."""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import is_roots
from ansible_collections.strata.overlay.plugins.module_utils._linux.system_paths import SYSTEMD_RUNS


def has_systemd() -> bool:
    """Whether systemd runs this host, and obeys: in a user namespace of an ordinary user it is somebody else's."""
    return is_roots(SYSTEMD_RUNS)
