# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The one exception that every room raises for something the user can read and act on."""

from __future__ import annotations

from typing import Sequence


class StrataError(Exception):
    """What was being done, to which layer or stack, what is wrong, and what to do: one message in full words."""


class BusyError(StrataError):
    """A mounted stack cannot be unmounted because processes or other mounts hold it."""


class UnhealthyError(StrataError):
    """A change was made, and what uses the stack does not work with it.

    :ivar name: the stack.
    """

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


class DefinitionError(StrataError):
    """Mistakes in a definition, all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        count = len(self.problems)
        head = "1 mistake" if count == 1 else f"{count} mistakes"
        listed = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"The definition has {head}; nothing was changed:{listed}")
