# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What a run learns while it changes the host, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._linux.holders import Holder
    from ansible_collections.strata.overlay.plugins.module_utils._prune.model import PrunePlan


@dataclass
class Outcome:
    """What a run learned while it changed things, by stack.

    :ivar gaps: milliseconds in which nothing was mounted at a path where something was before and after.
    :ivar held_by: who still holds an old tree that was detached.
    :ivar pruned: what was removed at the end.
    :ivar health: the health check's verdict.
    :ivar warnings: what went otherwise than a user may expect, in words.
    """

    gaps: dict[str, float] = field(default_factory=dict)
    held_by: dict[str, list[Holder]] = field(default_factory=dict)
    pruned: Optional[PrunePlan] = None
    health: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
