# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person sees who logs in on a host of the fleet: testinfra, over the same SSH as Ansible.

testinfra is used as a library: its plugin for pytest would bring a fixture ``host``, and is switched off in pytest.ini.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.strata.overlay.tests.integration.fleet import USER, Fleet, FleetHost
from testinfra.backend.base import CommandResult
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host


class _FromTheController(SshBackend):
    """ssh is started where the fleet's network is."""

    def __init__(self, fleet: Fleet, host: FleetHost, sudo: bool) -> None:
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        super().__init__(
            f"{USER}@{host.address}",
            ssh_identity_file=str(fleet.top / "keys/user"),
            ssh_extra_args=f"{options} -o ControlMaster=auto -o ControlPersist=120s -o ControlPath={fleet.top}/c/%h",
            sudo=sudo,
        )
        self._enter = " ".join(fleet.enter)

    def run_local(self, command: str, *arguments: str) -> CommandResult:
        return super().run_local(f"{self._enter} {command}", *arguments)


def login(fleet: Fleet, host: FleetHost, sudo: bool = False) -> Any:
    """A login of the user that Ansible logs in as, with the rights of that user or, by sudo, of root.

    It is a ``Host`` of testinfra, which makes what it has at run time, so that nobody can know its types.
    """
    return Host(_FromTheController(fleet, host, sudo))
