# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""On the controller: lines on standard error that say how far a host is, while a module or a transfer runs there.

Standard output belongs to the callback: programs read JSON there.
A thread beside the action plugin asks over a connection of its own, now and then, and only once the work takes longer
than that: a run that is soon done says nothing and asks nothing. What goes wrong with asking is nobody's concern.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.color import ANSIBLE_COLOR
from ansible.utils.display import Display
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line
from ansible_collections.strata.overlay.plugins.module_utils._run.progress import PREFIX

VARIABLE = "overlay_progress"
"""Variable of inventories and plays: ``auto``, ``false``, or seconds between two lines."""

ON_TERMINAL = 3.0
IN_LOG = 60.0
"""Seconds between two lines of one host: of one that somebody watches, and of one that is read afterwards."""

_LAST_ANSWER = 10.0
"""Seconds for which an answer that is under way is awaited when there is nothing more to tell."""

_LONGEST_NAME = 63
_MOST_NAMED = 3

_MOST_READ = 1 << 16
"""Bytes of all files of one login; one has less than a thousandth of it."""

# Places of the files: `places` of module_utils/_run/progress, on the host. Only regular files that are the login's own
# are opened, so that nobody else can give another one; their number, size and time are bounded all the same. Which of
# them is this run's, what is in it tells: nothing that others could use is in the list of processes.
READ = (
    "limit=; command -v timeout >/dev/null && limit='timeout 5'; "
    f'for file in /run/{PREFIX}* "$HOME"/.{PREFIX}*; do '
    '[ -f "$file" ] && [ ! -L "$file" ] && [ -O "$file" ] && $limit head -c 8192 "$file" && echo; '
    f"done 2>/dev/null | head -c {_MOST_READ}"
)

Ask = Callable[[], str]
"""A line to be shown, "" for none."""


def interval(wanted: Any) -> float:
    """Seconds between two lines, 0 for none at all.

    :param wanted: value of the variable.
    :raises AnsibleError: it is neither ``auto`` nor a boolean nor a number.
    """
    if str(wanted).lower() != "auto":
        with contextlib.suppress(ValueError):
            return max(0.0, float(str(wanted)))
        try:
            if not boolean(wanted):
                return 0.0
        except TypeError:
            raise AnsibleError(f"variable {VARIABLE}: {wanted!r} must be auto, false, or a number of seconds") from None
    return ON_TERMINAL if _is_watched() else IN_LOG


def _is_watched() -> bool:
    """Whether Ansible's standard error is a terminal. A worker has none of its own, so its parent's is looked at."""
    try:
        return os.readlink(f"/proc/{os.getppid()}/fd/2").startswith(("/dev/pts/", "/dev/tty", "/dev/console"))
    except OSError:
        return bool(ANSIBLE_COLOR)


class Progress:
    """What one host's task tells.

    :param connection: of the action plugin; it is never used from the thread, a copy of it is.
    :param pause: seconds between two lines, 0 for none.
    """

    def __init__(self, host: str, connection: Any, pause: float) -> None:
        self._host = host
        self._connection = connection
        self._pause = pause
        self.token = secrets.token_hex(16) if pause else ""

    @contextlib.contextmanager
    def shown(self, ask: Ask) -> Iterator[None]:
        """Tell what ``ask`` says, now and then, while the block runs."""
        if not self._pause:
            yield
            return
        over = threading.Event()
        reporter = threading.Thread(target=self._report, args=(ask, over), daemon=True)
        reporter.start()
        try:
            yield
        finally:
            over.set()
            reporter.join(_LAST_ANSWER)

    def _report(self, ask: Ask, over: threading.Event) -> None:
        display = Display()
        shown = ""
        while not over.wait(self._pause):
            with contextlib.suppress(Exception):  # the task itself will say what is wrong with the host
                line = ask()
                if line not in ("", shown) and not over.is_set():
                    display.display(one_line(f"{self._host}: {line}"), stderr=True)
                    shown = line

    @contextlib.contextmanager
    def of_module(self) -> Iterator[None]:
        """Tell how far the module is that writes this token into its file."""
        speed = Speed()

        def ask() -> str:
            return module_line(of_run(self._run(READ), self.token), speed)

        with self.shown(ask):
            yield

    @contextlib.contextmanager
    def of_transfer(self, message: str, path: str, total: int) -> Iterator[None]:
        """Tell how much of a file has come to the host.

        :param path: of the file on the host. :param total: its bytes.
        """
        speed = Speed()

        def ask() -> str:
            done = int(self._run(f"wc -c < {shlex.quote(path)}"))
            return f"{message}: {amounts(done, total)}{speed.describe(time.monotonic(), done, total)}"

        with self.shown(ask):
            yield

    def _run(self, command: str) -> str:
        """A command's output. As the user who logs in, so that nothing of the running module's rights is in its way."""
        connection = copy.copy(self._connection)
        connection.become = None
        _code, output, _error = connection.exec_command(f"/bin/sh -c {shlex.quote(command)}", sudoable=False)
        return bytes(output[:_MOST_READ]).decode("utf-8", "replace")


class Speed:
    """Bytes a second between two answers, and the time that the rest takes at that speed."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._text = ""

    def describe(self, moment: float, done: int, total: int = 0) -> str:
        """``, 58 MB/s, 12 s left``; nothing at the first answer, or where nothing has moved.

        :param moment: in seconds. :param total: bytes in all, 0 where nobody knows: then no time is given.
        """
        if self._last is None or moment > self._last[0]:
            moved = done - self._last[1] if self._last else 0
            if self._last and moved > 0:
                speed = moved / (moment - self._last[0])
                left = f", {duration((total - done) / speed)} left" if total > done else ""
                self._text = f", {size(speed)}/s{left}"
            else:
                self._text = ""
            self._last = (moment, done)
        return self._text


def of_run(text: str, token: str) -> str:
    """What the file of one run says, of those of all runs of this login; "" where it has none yet."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            facts = json.loads(line)
            if isinstance(facts, dict) and facts.get("token") == token:
                return line
    return ""


def module_line(text: str, speed: Speed) -> str:
    """What the file of a run says, as a line; "" where it says nothing that can be understood."""
    try:
        facts = json.loads(text)
        line = f"layer {min(facts['finished'] + 1, facts['layers'])} of {int(facts['layers'])}"
        done, total = int(facts["done"]), int(facts["total"])
        line += f", {amounts(done, total)}{speed.describe(float(facts['time']), done, total)}"
        running = [
            f"{_plain(message)} {amounts(done, total)}" for message, done, total in facts["running"][:_MOST_NAMED]
        ]
    except (ValueError, TypeError, KeyError, OverflowError):
        return ""
    return f"{line}: {'; '.join(running)}" if running else line


def _plain(message: str) -> str:
    """What a host says, without anything that a terminal would obey."""
    shown = one_line(str(message))
    half = (_LONGEST_NAME - 3) // 2
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:half]}...{shown[-half:]}"


def amounts(done: int, total: int) -> str:
    """``412 of 980 MB``, in the unit of the total; only what is done where that is not known."""
    return size(done) if not total else f"{size(done, total)} of {size(total)}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(number: float, like: float = 0) -> str:
    """Bytes as people read them.

    :param like: a number whose unit is taken, and not written once more; 0 for none.
    """
    step, unit = max(((step, unit) for step, unit in _UNITS if step <= max(like or number, 1)))
    value = number / step
    text = f"{value:.0f}" if step == 1 or value >= 100 else f"{value:.1f}"
    return text if like else f"{text} {unit}"


_UNITS = ((1, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"))
