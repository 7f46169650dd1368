# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Why something cannot be had, and what to do about it. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """Why something cannot be had, in words, and what to do about it; both "" where it can be had."""

    why: str = ""
    cure: str = ""


_NO_FAULT = Fault()
