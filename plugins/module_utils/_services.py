# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The services of a stack: how users write them, what they do on this host, and how they are stopped and started.

Only systemd can be asked (systemctl(1)); on a host with another init system a definition with services is refused.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Protocol, Sequence, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._service import Service
from ansible_collections.strata.overlay.plugins.module_utils._validate import check_options, nearest

_NAME = re.compile(r"^[A-Za-z0-9_.:\\][A-Za-z0-9_.:@\\-]{0,254}\Z")
_SUFFIXES = (".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount", ".swap", ".slice", ".scope")
_ACTIONS = ("restart", "reload")

_LONGEST_JOB = 300.0
"""Seconds that a unit may take to stop or start; systemd's own limit is 90 unless a unit says otherwise."""

_LONGEST_QUESTION = 30.0


class UnitState(NamedTuple):
    """A unit as systemd sees it: LoadState, ActiveState and UnitFileState of org.freedesktop.systemd1(5)."""

    load: str
    active: str
    file: str = ""

    @property
    def running(self) -> bool:
        """It works, or is about to: what a change must bring back."""
        return self.active in ("active", "activating", "reloading", "refreshing")

    @property
    def enabled(self) -> bool:
        """The next boot would start it."""
        return self.file in ("enabled", "enabled-runtime")

    @property
    def fault(self) -> str:
        """Why nothing can be done with it, "" when nothing speaks against it."""
        if self.load == "not-found":
            return "systemd knows no such unit"
        return f"systemd cannot load it ({self.load})" if self.load in ("bad-setting", "error") else ""


def read_services(where: str, written: Any, problems: List[str]) -> Tuple[Service, ...]:
    """The option ``services``: names, or ``{name, action}``; what is wrong goes to ``problems``."""
    found: Dict[str, Service] = {}
    for number, item in enumerate(written or (), 1):
        service = _read_service(f"{where}: service {number}", item, problems)
        if service.unit in found:
            problems.append(f"{where}: option 'services' names {service.unit} more than once")
        if service.unit:
            found[service.unit] = service
    return tuple(found.values())


def _read_service(where: str, item: Any, problems: List[str]) -> Service:
    options: Mapping[str, Any] = {"name": item, "action": "restart"}
    if not isinstance(item, str):
        options = check_options(where, item, service_spec(), problems)
    name = options["name"] or ""
    if name and not _NAME.match(name):
        problems.append(f"{where}: {name!r} is no name of a systemd unit; write it as 'app.service'")
        name = ""
    return Service(_with_suffix(name), options["action"])


def service_spec() -> Dict[str, Any]:
    """One item of ``services`` that is not only a name."""
    return {
        "name": {"type": "str", "required": True},
        "action": {"type": "str", "choices": list(_ACTIONS), "default": "restart"},
    }


def _with_suffix(name: str) -> str:
    return name if not name or name.endswith(_SUFFIXES) else f"{name}.service"


class ServiceManager(Protocol):
    """What the rest of the code needs of an init system."""

    def states(self, units: Iterable[str]) -> Dict[str, UnitState]:
        """Every unit as it is now; StrataError where that cannot be told."""

    def act(self, verb: str, unit: str) -> None:
        """``stop``, ``start``, ``restart``, ``reload``, ``freeze`` or ``thaw`` a unit and wait until it is done;
        StrataError if it fails.
        """

    def reread(self) -> None:
        """Take note of unit files that were written or removed."""


class Systemd:
    """systemd, by systemctl: arguments as a list, never through a shell, never waiting for ever."""

    def states(self, units: Iterable[str]) -> Dict[str, UnitState]:
        names = list(dict.fromkeys(units))
        if not names:
            return {}
        properties = ("LoadState", "ActiveState", "UnitFileState")
        shown = _systemctl(["show", f"--property={','.join(properties)}", "--", *names], _LONGEST_QUESTION)
        blocks = shown.strip("\n").split("\n\n")
        if len(blocks) != len(names):
            raise StrataError(f"systemctl told of {len(blocks)} units and not of {len(names)}: {', '.join(names)}")
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
        said = " ".join(done.stderr.decode(errors="replace").split()).rstrip(".")
        raise StrataError(f"'{shown}' failed: {said or f'it ended with {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def service_problems(
    where: str, services: Sequence[Service], systemd: bool, states: Mapping[str, UnitState]
) -> List[str]:
    """What speaks against using these services on this host. Pure.

    :param systemd: whether systemd runs this host.
    """
    if services and not systemd:
        words = "needs systemd, which does not run this host or does not obey this user; leave the option out"
        return [f"{where}: option 'services' {words}"]
    problems = []
    for service in services:
        state = states.get(service.unit)
        if state is not None and state.fault:
            known = [unit for unit, other in states.items() if not other.fault]
            problems.append(
                f"{where}: option 'services': {service.unit}: {state.fault}{nearest(service.unit, known)}; "
                "install the unit first, or leave it out"
            )
    return problems


def runs_in_unit(pid: int, units: Sequence[str]) -> bool:
    """Whether a process belongs to one of these units, by its control group (cgroups(7))."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as table:
            groups = [line.rstrip("\n").split(":", 2)[-1].split("/") for line in table]
    except OSError:
        return False
    return any(unit in parts for parts in groups for unit in units)
