# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What is mounted from a store, as a value. Pure: `_mount/namespaces` looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InMounts:
    """What of a store is mounted, by the names of its directories.

    :ivar contents: hexadecimal digits of DiffIDs.
    :ivar layers: names of directories in overlay2/.
    :ivar links: short links.
    """

    contents: set[str]
    layers: set[str]
    links: set[str]
