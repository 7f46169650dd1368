# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A stack's service, as records hold it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Service(NamedTuple):
    """A unit with its suffix, and what it needs when the tree below it changes.

    :ivar action: ``restart``: stopped while the tree is away; ``reload``: keeps running and is reloaded afterwards.
    """

    unit: str
    action: str = "restart"

    def describe(self) -> str:
        """As records hold it: ``restart app.service``."""
        return f"{self.action} {self.unit}"


def recorded_services(texts: Iterable[str]) -> tuple[Service, ...]:
    """Services from the strings in a record."""
    return tuple(Service(text.partition(" ")[2], text.partition(" ")[0]) for text in texts)
