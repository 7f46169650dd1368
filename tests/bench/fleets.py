# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many hosts: what a run that changes nothing costs beside a ping of the same hosts."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.tests.bench.measure import (
    FailedError,
    call,
    heading,
    medians,
    ratio,
    row,
    seconds,
)

HOSTS = 100
STACKS = 10
FORKS = 10
ROUNDS = 3

_MEASURE = """
import resource, subprocess, sys

subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""The kernel tells the largest of a process's descendants in KiB, so the run is the only child of a process."""


class Fleet:
    """Hosts over the local connection, each with a store and stacks of its own."""

    def __init__(self, work: Path, hosts: int, layers: int = 3) -> None:
        self._work = work
        home = "{{ playbook_home }}/{{ inventory_hostname }}"
        names = [f"l{number}" for number in range(layers)]
        variables: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "playbook_home": str(work),
            "overlay_root": f"{home}/store",
            "overlay_layers": [{"name": name, "files": [{"path": f"etc/{name}", "content": name}]} for name in names],
            "overlay_stacks": [
                {"name": f"s{number}", "path": f"{home}/s{number}", "layers": names} for number in range(STACKS)
            ],
        }
        all_hosts: dict[str, dict[str, str]] = {f"h{number}": {} for number in range(hosts)}
        (work / "hosts.json").write_text(json.dumps({"all": {"hosts": all_hosts, "vars": variables}}))

    def ping(self) -> None:
        self._call("ansible", "all", "-m", "ansible.builtin.ping", "-o")

    def site(self, *arguments: str) -> str:
        return self._call("ansible-playbook", "strata.overlay.site", *arguments)

    def memory_of_site(self) -> int:
        """Bytes that the largest process of a run had at most: the one that everything is kept in, or a fork of it."""
        command, environment = self._command("ansible-playbook", "strata.overlay.site")
        said = call([sys.executable, "-c", _MEASURE, *command], environment)
        return int(said.split()[-1]) * 1024

    def take_down(self) -> None:
        self.site("-e", json.dumps({"overlay_layers": [], "overlay_stacks": [], "overlay_exclusive": True}))

    def _call(self, program: str, *arguments: str) -> str:
        command, environment = self._command(program, *arguments)
        return call(command, environment)

    def _command(self, program: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        own = {
            "ANSIBLE_COLLECTIONS_PATH": os.environ["PYTHONPATH"],
            "ANSIBLE_HOME": str(self._work / "ansible"),
            "ANSIBLE_REMOTE_TEMP": str(self._work / "ansible"),
            "ANSIBLE_FORKS": str(FORKS),
            "LC_ALL": "C.UTF-8",
            "XDG_CACHE_HOME": str(self._work / "cache"),
        }
        others = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}
        return [program, "-i", str(self._work / "hosts.json"), *arguments], {**others, **own}


def measure_fleet(work: Path) -> None:
    """A run over many hosts that changes nothing."""
    heading(f"{HOSTS} hosts, {STACKS} stacks of 3 layers each, local connection, {FORKS} forks, nothing to change")
    fleet = Fleet(work, HOSTS)
    fleet.site()
    if "changed=1" in fleet.site():
        raise FailedError("the second run has changed something")
    took = medians({"ping": fleet.ping, "site": partial(fleet.site)}, ROUNDS)
    seconds(f"ansible -m ping, {HOSTS} hosts", took["ping"])
    seconds(f"strata.overlay.site, {HOSTS} hosts", took["site"])
    ratio("site / ping", took["site"] / took["ping"], "aim: at most 1.3")
    row("milliseconds that a host costs beside its ping", f"{(took['site'] - took['ping']) / HOSTS * 1000:.0f} ms")
    fleet.take_down()
