# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Checks a stack's health: HTTP, a TCP port or a command, for a bounded time."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Callable

from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec

_MOST_SHOWN = 300
"""Characters of a failing command's output that are shown."""


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    :ivar description: what was asked, and what was wrong with the last answer.
    """

    healthy: bool
    description: str
    tries: int


def check_health(spec: HealthSpec) -> Verdict:
    """Ask until the answer is right, at most ``retries + 1`` times, ``delay`` seconds apart.

    One try ends after ``timeout`` seconds whatever it waits for, so all of it is bounded too.
    """
    fault = ""
    for number in range(1, spec.retries + 2):
        if number > 1:
            time.sleep(spec.delay)
        fault = _run(spec) if spec.command else _within(spec.timeout, lambda: _reach(spec))
        if not fault:
            return Verdict(True, spec.describe(), number)
    return Verdict(False, f"{spec.describe()}: {fault}", spec.retries + 1)


def _within(seconds: float, ask: Callable[[], str]) -> str:
    """What ``ask`` says; a server that sends a byte now and then, or a name that never resolves, cannot hold it up."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:g} s"


def _reach(spec: HealthSpec) -> str:
    """One try over the network: "" when all is well, else what was wrong."""
    try:
        if spec.address:
            with socket.create_connection(spec.address, timeout=spec.timeout):
                return ""
        return _get(spec)
    except OSError as error:
        return f"{error.strerror or error}"


def _get(spec: HealthSpec) -> str:
    # Imported only when needed: few stacks have a URL, and this pulls in much.
    from ansible_collections.strata.overlay.plugins.module_utils._source.http import Client, RequestError

    wanted = " or ".join(str(status) for status in spec.statuses)
    # One second more than it is waited for, so that no thread is left behind for long.
    client = Client(validate_certs=spec.validate_certs, timeout=spec.timeout, total=spec.timeout + 1)
    follow = not any(300 <= status < 400 for status in spec.statuses)
    try:
        with client.open(spec.url, spec.headers, follow=follow) as answer:
            found, host, redirected = answer.status, answer.host, answer.redirected
    except RequestError as error:
        return str(error)
    if found in spec.statuses:
        return ""
    return f"{f'redirected to {host}, which ' if redirected else ''}answered {found}, not {wanted}"


def _run(spec: HealthSpec) -> str:
    """One run of the command; what it started goes with it when its time is over."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                spec.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            return f"it cannot be run: {error.strerror}"
        try:
            code = process.wait(spec.timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"it had not ended after {spec.timeout} s"
        if code == 0:
            return ""
        output.seek(0)
        answers = " ".join(output.read(1 << 16).decode(errors="replace").split())
    ended = f"it ended with {code}" if code > 0 else f"it was ended by signal {-code}"
    return f"{ended}: {answers[-_MOST_SHOWN:]}" if answers else ended
