# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A store and stacks of a test's own, on the real kernel; and the real programs of Ansible."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._check.run import check as check_store
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo, mounts, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.idmap import idmap_fault
from ansible_collections.strata.overlay.plugins.module_utils._prune.run import prune
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store


@dataclass
class Host:
    """One store and the room for its stacks, below a directory of the test's own."""

    top: Path

    def needs_idmap(self) -> None:
        """Skip the test where owners cannot be mapped here."""
        fault = idmap_fault(str(self.top))
        if fault:
            pytest.skip(f"no mapped mounts here: {fault}")

    @property
    def root(self) -> Path:
        return self.top / "store"

    @property
    def store(self) -> Store:
        return Store(str(self.root))

    def path(self, name: str) -> str:
        """A stack's path."""
        return str(self.top / "srv" / name)

    def run(self, module: str = "apply", check: bool = False, **parameters: Any) -> dict[str, Any]:
        """A module's work in this process, with the result that the module would give."""
        result: dict[str, Any] = Run(module, {"root": str(self.root), **parameters}, check).execute()
        return result

    def prune(self, check: bool = False, **parameters: Any) -> dict[str, Any]:
        """The work of the module ``prune`` in this process."""
        return prune({"root": str(self.root), **parameters}, check)

    def check(self, check: bool = False, **parameters: Any) -> dict[str, Any]:
        """The work of the module ``store_check`` in this process."""
        return check_store({"root": str(self.root), **parameters}, check)

    def four_steps(self, module: str = "apply", **parameters: Any) -> dict[str, Any]:
        """Check, do, do again, check again: what was announced is done, and only once. Returns what was done."""
        announced = self.run(module, check=True, **parameters)
        done = self.run(module, **parameters)
        again = self.run(module, **parameters)
        checked = self.run(module, check=True, **parameters)
        assert announced["changed"]
        assert done["changed"]
        assert announced["plan"] == done["plan"]
        assert announced["diff"] == done["diff"]
        assert (again["changed"], again["plan"]) == (False, [])
        assert (checked["changed"], checked["plan"]) == (False, [])
        return done

    def mounts(self, name: str) -> list[mounts.Mount]:
        """What is mounted at a stack's path, lowest first."""
        return mounts.by_path(mountinfo.read()).get(os.path.realpath(self.path(name)), [])

    def tree(self, name: str) -> dict[str, str]:
        """Files of a stack: path -> text."""
        top = Path(self.path(name))
        return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


def snapshot(top: Path) -> list[tuple[str, int, int, int]]:
    """Every file below a directory: to see that nothing was touched."""
    facts = ((str(path), path.lstat()) for path in sorted(top.rglob("*")))
    return [(name, stat.st_mode, stat.st_ino, stat.st_mtime_ns) for name, stat in facts]


def unmount_all(top: Path) -> None:
    """Everything mounted below a directory, the last one first."""
    for mount in reversed(mountinfo.read()):
        if mount.path.startswith(f"{top}/"):
            syscalls.umount(mount.path, syscalls.MNT_DETACH)


@dataclass
class Ansible:
    """The real programs, over the local connection."""

    directory: Path
    environment: dict[str, str]

    def module(self, name: str, arguments: dict[str, Any], *flags: str) -> dict[str, Any]:
        """One task by ``ansible``: its result."""
        done = self.call("ansible", "localhost", "-m", f"strata.overlay.{name}", "-a", json.dumps(arguments), *flags)
        _head, _arrow, text = done.stdout.partition("=> ")
        result: dict[str, Any] = json.loads(text) if text else {}
        return result or pytest.fail(f"no result:\n{done.stdout}\n{done.stderr}")

    def playbook(self, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """A playbook by ``ansible-playbook``."""
        path = self.directory / "playbook.yml"
        path.write_text(text)
        return self.call("ansible-playbook", str(path), *flags)

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Any of Ansible's programs."""
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment, cwd=self.directory
        )


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
