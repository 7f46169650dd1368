# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses and formats sizes such as 512m or 2g."""

from __future__ import annotations

import re
from typing import Any, Optional

_SIZE = re.compile(r"^([0-9]{1,18})([kmgtp]?)(?:i?b)?\Z", re.IGNORECASE)


def parse_size(text: Any) -> Optional[int]:
    """Bytes; a letter counts in powers of 1024. None for what is no size."""
    match = _SIZE.match(str(text).strip())
    if not match:
        return None
    power: int = " kmgtp".index(match.group(2).lower() or " ")
    return int(match.group(1)) * int(1024**power)
