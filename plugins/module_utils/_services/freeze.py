# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Freezes or stops services while their tree is read, and brings them back even if the reader dies.

A process of its own brings them back. It does so when the reader is done, and when it is killed as well.
Source: systemctl(1), "freeze" (systemd 246, control groups of version 2).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._services.systemd import ServiceManager, runs_in_unit

_VERBS = {"freeze": ("freeze", "thaw"), "stop": ("stop", "start")}


@dataclass(frozen=True)
class ServiceFreeze:
    """What is done to running units around a reading, in order.

    :ivar jobs: verb and unit; ``back``: what undoes them.
    """

    jobs: tuple[tuple[str, str], ...] = ()
    back: tuple[tuple[str, str], ...] = ()


def plan_freeze(how: str, units: Sequence[str]) -> ServiceFreeze:
    """What keeps running units still. Pure.

    :param how: ``freeze``, ``stop``, or ``run`` for nothing at all.
    :param units: those named first are stopped last and started first.
    """
    if how not in _VERBS:
        return ServiceFreeze()
    before, after = _VERBS[how]
    return ServiceFreeze(tuple((before, unit) for unit in reversed(units)), tuple((after, unit) for unit in units))


@contextlib.contextmanager
def services_frozen(stack: str, freeze: ServiceFreeze, manager: ServiceManager) -> Iterator[None]:
    """Do it, and undo it at the end.

    :raises StrataError: a unit cannot be frozen or stopped; then those before it are as they were. Or one does not
        come back.
    """
    if not freeze.jobs:
        yield
        return
    units = [unit for _verb, unit in freeze.jobs]
    if runs_in_unit(os.getpid(), units):
        raise StrataError(
            f"stack {stack}: option 'services': this run belongs to one of {', '.join(units)} and would hold itself "
            "still; run it elsewhere"
        )
    with _guarded(stack, freeze, manager):
        for verb, unit in freeze.jobs:
            manager.act(verb, unit)
        yield


@contextlib.contextmanager
def _guarded(stack: str, freeze: ServiceFreeze, manager: ServiceManager) -> Iterator[None]:
    """A process that undoes it as soon as this one has left the block, in whatever way."""
    watched, held = os.pipe()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        os.close(reader)
        _bring_back(watched, writer, freeze, manager)
    os.close(watched)
    os.close(writer)
    try:
        yield
    finally:
        os.close(held)
        with open(reader, encoding="utf-8", errors="replace") as stream:
            failed = stream.read()
        os.waitpid(child, 0)
        if failed:
            raise StrataError(f"stack {stack}: {failed}")


def _bring_back(watched: int, writer: int, freeze: ServiceFreeze, manager: ServiceManager) -> NoReturn:
    """In the process that brings them back: wait for the end, undo, report what did not work."""
    try:
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # Nobody should wait for this process because it holds their output open.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        os.read(watched, 1)
        failed: list[str] = []
        for verb, unit in freeze.back:
            try:
                manager.act(verb, unit)
            except StrataError as error:
                failed.append(str(error))
        os.write(writer, "; ".join(failed).encode("utf-8", "backslashreplace"))
    finally:
        os._exit(0)
