# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Retries a request with growing pauses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Callable, TypeVar

from ansible_collections.strata.overlay.plugins.module_utils._source.http import RequestError

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before the second, third, ... attempt, unless the server asks for more."""

ONE_MORE = PAUSES[:1]
"""For a server that another one can stand in for."""

ENOUGH = 1 << 18
"""Bytes between two breaks of a connection after which breaks are counted anew; with fewer, a server could break it for
ever, a byte at a time."""

_LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is not waited for: somebody sits in front of this run."""

Result = TypeVar("Result")
Sleep = Callable[[float], None]


def persist(action: Callable[[], Result], pauses: Sequence[float], sleep: Sleep = time.sleep) -> Result:
    """Do it until it succeeds, or fails in a way that lasts, or has been tried once more than there are pauses."""
    for pause in pauses:
        try:
            return action()
        except RequestError as error:
            if not is_worth_waiting(error):
                raise
            sleep(max(pause, error.wait))
    return action()


def is_worth_waiting(error: RequestError) -> bool:
    """Whether the same request may succeed in a while that a user has patience for."""
    return error.passing and error.wait <= _LONGEST_WAIT
