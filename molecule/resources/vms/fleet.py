# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machines of one scenario, and the files by which Ansible and testinfra find them."""

from __future__ import annotations

import json
from pathlib import Path

from vms.image import PLATFORMS, UnavailableError
from vms.machine import Machine


def machines(directory: Path) -> dict[str, Machine]:
    """The machines that are there, by name."""
    found = json.loads((directory / "machines.json").read_text())
    return {name: Machine(directory / name, platform) for name, platform in found.items()}


def up(directory: Path, platforms: dict[str, str]) -> None:
    """Fresh machines; what a crashed run has left in the directory goes first.

    :param platforms: of each machine, by its name.
    :raises UnavailableError: a platform is not known, or machines cannot run here.
    """
    unknown = sorted(set(platforms.values()) - set(PLATFORMS))
    if unknown:
        raise UnavailableError(f"there is no platform {', '.join(unknown)}; there are {', '.join(PLATFORMS)}")
    down(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "machines.json").write_text(json.dumps(platforms))
    for machine in machines(directory).values():
        seconds = machine.create()
        print(
            f"vm: {machine.name} ({machine.platform}): SSH answers {seconds:.1f} s after a snapshot resumed", flush=True
        )
    tell(directory)


def tell(directory: Path) -> None:
    """Write where the machines are now: they have other ports after each start."""
    found = machines(directory)
    blocks = [
        f"Host {name}\n  HostName 127.0.0.1\n"
        + "".join(f"  {option.replace('=', ' ', 1)}\n" for option in machine.ssh_options()[1::2])
        for name, machine in found.items()
    ]
    (directory / "ssh_config").write_text("\n".join(blocks))
    hosts = {
        name: {
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_args": f"-F '{directory.resolve() / 'ssh_config'}'",
            "ansible_timeout": 120,
            "platform": machine.platform,
        }
        for name, machine in found.items()
    }
    # JSON is YAML, and needs nothing but Python's own library.
    (directory / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts}}, indent=2) + "\n")


def down(directory: Path) -> None:
    """No machine of this directory runs any longer, whoever has started it."""
    for place in sorted(directory.glob("*/")):
        Machine(place, "").destroy()
    for name in ("machines.json", "inventory.yml", "ssh_config"):
        (directory / name).unlink(missing_ok=True)
