# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real sshd on loopback, for what only happens over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.tests.integration.host import free_port
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root

PROGRAM = "/usr/sbin/sshd"


@dataclass
class Sshd:
    """One that lets root in with a key, in this test's mount namespace."""

    port: int
    key: Path

    def inventory(self, remote_tmp: str) -> str:
        """An inventory of one host, ``target``, that is reached through it."""
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ControlPath=none -o ControlMaster=no"
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_python_interpreter": sys.executable,
            "ansible_remote_tmp": remote_tmp,
            "ansible_ssh_common_args": options,
        }
        return json.dumps({"all": {"hosts": {"target": variables}}})


@contextlib.contextmanager
def running_sshd(directory: Path) -> Iterator[Sshd]:
    """Start it; skips the test where it cannot be had."""
    if not os.path.exists(PROGRAM):
        pytest.skip("the Debian package openssh-server is missing")
    need_full_root("runs no sshd")
    directory.mkdir(0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    os.makedirs("/run/sshd", 0o755, exist_ok=True)
    port = free_port()
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "user.pub",
        "StrictModes": "no",
        "PidFile": "none",
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
    with subprocess.Popen([PROGRAM, "-D", "-e", "-f", "/dev/null", *flags], stderr=subprocess.PIPE) as server:
        try:
            _wait_for_banner(port, server)
            yield Sshd(port, directory / "user")
        finally:
            server.terminate()


def _wait_for_banner(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until sshd speaks."""
    for _try in range(100):
        assert server.poll() is None, server.stderr.read().decode() if server.stderr else ""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as talking:
                if talking.recv(8).startswith(b"SSH-2.0"):
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail("sshd did not answer")
