# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Stops, starts and reloads a stack's services by systemctl.

Only systemd can be asked (systemctl(1)); on a host with another init system a definition with services is refused.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from typing import Protocol

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._services.units import UnitState

_LONGEST_JOB = 300.0
"""Seconds that a unit may take to stop or start; systemd's own limit is 90 unless a unit says otherwise."""

_LONGEST_QUESTION = 30.0


class ServiceManager(Protocol):
    """What the rest of the code needs of an init system."""

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """Every unit as it is now; StrataError if systemd does not answer."""

    def act(self, verb: str, unit: str) -> None:
        """``stop``, ``start``, ``restart``, ``reload``, ``freeze`` or ``thaw`` a unit and wait until it is done;
        StrataError if it fails.
        """

    def reread(self) -> None:
        """Take note of unit files that were written or removed."""


class Systemd:
    """systemd, by systemctl: arguments as a list, never through a shell, never waiting for ever."""

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        names = list(dict.fromkeys(units))
        if not names:
            return {}
        properties = ("LoadState", "ActiveState", "UnitFileState")
        shown = _systemctl(["show", f"--property={','.join(properties)}", "--", *names], _LONGEST_QUESTION)
        blocks = shown.strip("\n").split("\n\n")
        if len(blocks) != len(names):
            raise StrataError(f"systemctl showed {len(blocks)} units instead of {len(names)}: {', '.join(names)}")
        return {name: _state(block) for name, block in zip(names, blocks)}

    def act(self, verb: str, unit: str) -> None:
        # reload-or-restart: a unit that cannot reload is restarted, as its user wants the new tree to be seen.
        word = "reload-or-restart" if verb == "reload" else verb
        _systemctl([word, "--", unit], _LONGEST_JOB)

    def reread(self) -> None:
        _systemctl(["daemon-reload"], _LONGEST_JOB)


def _state(block: str) -> UnitState:
    values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    return UnitState(values.get("LoadState", ""), values.get("ActiveState", ""), values.get("UnitFileState", ""))


def _systemctl(arguments: Sequence[str], timeout: float) -> str:
    """What systemctl printed; StrataError with its own words."""
    command = ["systemctl", "--no-pager", "--no-ask-password", *arguments]
    shown = f"systemctl {' '.join(argument for argument in arguments if argument != '--')}"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise StrataError(f"'{shown}' is not possible: this host has no systemctl") from error
    except subprocess.TimeoutExpired as error:
        raise StrataError(f"'{shown}' had not ended after {timeout:g} s") from error
    if done.returncode != 0:
        output = " ".join(done.stderr.decode(errors="replace").split()).rstrip(".")
        raise StrataError(f"'{shown}' failed: {output or f'it ended with {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def runs_in_unit(pid: int, units: Sequence[str]) -> bool:
    """Whether a process belongs to one of these units, by its control group (cgroups(7))."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as table:
            groups = [line.rstrip("\n").split(":", 2)[-1].split("/") for line in table]
    except OSError:
        return False
    return any(unit in parts for parts in groups for unit in units)
