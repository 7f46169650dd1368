# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that open and read files of a tree in tight loops, for tests and measurements of switches."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_PROGRAM = """
import json, os, signal, sys
top, names = sys.argv[1], sys.argv[2:]
count, mixed, errors, ended = 0, 0, [], []
signal.signal(signal.SIGTERM, lambda *_arguments: ended.append(1))
def read(name, directory):
    fd = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
print("ready", flush=True)
while not ended:
    try:
        # By the path, as any program does: each is one look-up of the mount point.
        for name in names:
            read(os.path.join(top, name), None)
        # By one descriptor of the top: what is read through it is of one tree.
        directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        try:
            mixed += len({read(name, directory) for name in names}) != 1
        finally:
            os.close(directory)
        count += 1
    except OSError as error:
        errors.append(str(error))
print(json.dumps([count, mixed, errors[:20]]))
"""


@dataclass(frozen=True)
class Reads:
    """What readers saw.

    :ivar count: rounds without an error; ``mixed``: those that saw files of two trees at once.
    """

    count: int
    mixed: int
    errors: list[str]


class Readers:
    """Readers of the same files, each a process. A context manager: none of them outlives it."""

    def __init__(self, top: str, names: Sequence[str], processes: int) -> None:
        self._command = [sys.executable, "-S", "-c", _PROGRAM, top, *names]
        self._count = processes
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Readers:
        try:
            for _reader in range(self._count):
                self._running.append(subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True))
            for reader in self._running:
                assert reader.stdout is not None
                assert reader.stdout.readline() == "ready\n"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for reader in self._running:
            reader.kill()
            reader.wait()
            if reader.stdout is not None:
                reader.stdout.close()
        self._running = []

    def stop(self) -> Reads:
        """End them and say what they saw."""
        for reader in self._running:
            reader.send_signal(signal.SIGTERM)
        seen = [json.loads(reader.communicate()[0]) for reader in self._running]
        return Reads(
            sum(one[0] for one in seen), sum(one[1] for one in seen), [error for one in seen for error in one[2]]
        )
