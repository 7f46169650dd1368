# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Writes a run's progress to a small file that the controller reads meanwhile.

Ansible shows nothing of a module before it ends. The file is readable by the logged-in user only, is created when there
is progress to report, and is removed with the run. Reporting never fails a run. It lies where no other user can write.
Its name is random: the controller recognises it by the token inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._linux.files import CREATE
from ansible_collections.strata.overlay.plugins.module_utils._linux.trust import untrusted
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Progress, Report

PREFIX = "strata.overlay-progress-"

_TOKEN = re.compile(r"[0-9a-f]{32}\Z")
_SHOWN = 3
"""Layers that are named; there may be hundreds, and all of them are counted."""

_STALE = 24 * 3600
"""Seconds after which what a killed run left is swept."""


def places() -> list[tuple[str, str]]:
    """Directories where the file may be, the best first, and how names begin there."""
    return [("/run", PREFIX), (os.path.expanduser("~"), f".{PREFIX}")]


@contextlib.contextmanager
def progress_file(token: str) -> Iterator[Optional[Report]]:
    """A report that writes a file with this token in it; None where the controller gave none.

    :param token: 32 hexadecimal digits that nobody else knows.
    """
    if not _TOKEN.match(token):
        yield None
        return
    file = _File(token)
    try:
        yield file.report
    finally:
        file.close()


class _File:
    def __init__(self, token: str) -> None:
        self._token = token
        self._path = ""
        self._descriptor = -1
        self._refused = False

    def report(self, jobs: Sequence[Progress]) -> None:
        """Write how far all jobs are; one write, so that a reader rarely sees half of it."""
        if self._refused:
            return
        with contextlib.suppress(OSError):
            if self._descriptor < 0 and not self._open():
                self._refused = True
                return
            text = _text(self._token, jobs)
            os.pwrite(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
                os.unlink(self._path)
            self._descriptor = -1

    def _open(self) -> bool:
        login = os.environ.get("SUDO_UID", "")
        for directory, prefix in places():
            self._path = os.path.join(directory, prefix + os.urandom(8).hex())
            # O_EXCL: nobody can have put a file or a link of this name there.
            flags = CREATE
            try:
                if untrusted(directory):
                    continue
                _sweep(directory, prefix)
                self._descriptor = os.open(self._path, flags, 0o600)
            except OSError:
                continue
            try:
                if login.isdigit():
                    os.fchown(self._descriptor, int(login), -1)
            except OSError:  # who runs this is neither root nor who has logged in: the file would be of no use
                self.close()
                return False
            return True
        return False


def _sweep(directory: str, prefix: str) -> None:
    """Remove what runs that were killed have left."""
    limit = time.time() - _STALE
    for name in os.listdir(directory):
        if name.startswith(prefix):
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                if os.lstat(path).st_mtime < limit:
                    os.unlink(path)


def _text(token: str, jobs: Sequence[Progress]) -> bytes:
    running = [job for job in jobs if job.state == "running"]
    facts = {
        "token": token,
        "time": time.monotonic(),
        "layers": len(jobs),
        "finished": sum(job.state == "finished" for job in jobs),
        "done": sum(job.total if job.state == "finished" else job.done for job in jobs),
        # Where one size is not known, neither is the sum.
        "total": sum(job.total for job in jobs) if all(job.total for job in jobs) else 0,
        "running": [[job.description, job.done, job.total] for job in running[:_SHOWN]],
    }
    return json.dumps(facts).encode()
