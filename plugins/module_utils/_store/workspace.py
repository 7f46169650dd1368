# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Each run's own build directory, and how abandoned ones are recognised.

A run holds a lock (flock(2)) on its directory for as long as it lives, and the kernel lets go of it however the run
ends. Making and locking one are two calls, so both happen under a lock on the directory above, which whoever asks
for those that were left takes too: one that is seen without a lock has had its run, and nobody will ever use it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED


def make_workspace(staging: str) -> tuple[str, int]:
    """A new directory in ``staging``, and the descriptor that holds its lock: close it when the directory is gone."""
    with _nobody_else(staging):
        path = f"{staging}/{os.urandom(8).hex()}"
        os.mkdir(path, 0o700)
        descriptor = os.open(path, LISTED)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return path, descriptor


def abandoned(staging: str) -> list[str]:
    """Sorted names in ``staging`` that no run uses, including foreign files."""
    try:
        with _nobody_else(staging):
            return [name for name in sorted(os.listdir(staging)) if not _is_in_use(f"{staging}/{name}")]
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextlib.contextmanager
def _nobody_else(staging: str) -> Iterator[None]:
    descriptor = os.open(staging, LISTED)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_in_use(path: str) -> bool:
    try:
        descriptor = os.open(path, LISTED)
    except FileNotFoundError:
        return True  # its run has just ended and removed it
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
