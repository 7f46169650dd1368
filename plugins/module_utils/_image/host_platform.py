# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""This host's platform, in the terms of images."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import (
    _MACHINES,
    Platform,
    _runnable,
    parse_platform,
)


def host_platform() -> Platform:
    """The platform of this machine's kernel."""
    machine = os.uname().machine
    if machine in ("mips", "mips64") and sys.byteorder == "little":
        machine += "le"
    return parse_platform(_MACHINES.get(machine, f"linux/{machine}"))


def choose(available: Sequence[Platform], wanted: Optional[Platform], what: str) -> int:
    """Which of the platforms to take: its index.

    :param wanted: None for this host's own; then the only one there is fits too.
    :param what: the image, for the message.
    :raises StrataError: none fits; the message lists those there are.
    """
    if wanted is None and len(available) == 1:
        return 0
    sought = wanted or host_platform()
    plain = [platform.normal() for platform in available]
    for candidate in _runnable(sought):
        if candidate in plain:
            return plain.index(candidate)
    there = ", ".join(sorted({str(platform) for platform in available})) or "none"
    whose = "" if wanted else ", which is this host's"
    raise StrataError(
        f"{what} has nothing for platform {sought}{whose}; it has: {there}. Name one of these in the option 'platform'"
    )
