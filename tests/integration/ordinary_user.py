# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An ordinary user of this host, who is there for as long as a test runs: known, with a home and ids of their own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.tests.integration.host import Ansible
from ansible_collections.strata.overlay.tests.integration.module_process import call_module

NAME = "strata-ordinary"
_OURS = os.getpid() % 1000
ID = 54_000 + _OURS
"""Another one in each run of the tests: runs find a user's namespaces by it, and those of others are none of theirs."""
FIRST = 7_000_000 + _OURS * 65536
"""The first of the ids that are set aside for the user."""

PYTHON = "/usr/bin/python3"
_SET_DUMPABLE = 4
"""PR_SET_DUMPABLE of linux/prctl.h."""


@dataclass(frozen=True)
class Ordinary:
    """The user, as a controller reaches them: by sudo, without rights of root."""

    home: Path
    ansible: Ansible

    @property
    def root(self) -> str:
        return str(self.home / ".local/share/strata")

    def path(self, name: str) -> str:
        return str(self.home / "srv" / name)

    def module(self, module: str, **arguments: Any) -> dict[str, Any]:
        """A module's own ``main`` in a process of this user's: its result.

        :param arguments: with ``check``, whether it only says what it would change.
        """
        check = bool(arguments.pop("check", False))
        return call_module(module, {"root": self.root, **arguments}, check, self.become)

    def become(self) -> None:
        """Be this user, in this process, as after sudo."""
        os.setgroups([])
        os.setresgid(ID, ID, ID)
        os.setresuid(ID, ID, ID)
        # Without this, as after a change of ids without exec, its files in /proc are root's.
        syscalls.libc("prctl", ctypes.c_int(_SET_DUMPABLE), ctypes.c_ulong(1))
        os.environ.update(HOME=str(self.home), USER=NAME, LOGNAME=NAME)
        os.chdir("/")

    def by_ansible(self, module: str, *flags: str, **arguments: Any) -> dict[str, Any]:
        """One task as this user: its result."""
        variables = {
            "ansible_become": True,
            "ansible_become_user": NAME,
            "ansible_pipelining": True,
            "ansible_python_interpreter": PYTHON,
        }
        return self.ansible.module(module, {"root": self.root, **arguments}, "-e", json.dumps(variables), *flags)

    def processes(self) -> list[int]:
        """All that run as this user, or as one of the ids set aside."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                owner = os.stat(f"/proc/{pid}").st_uid
                if owner == ID or FIRST <= owner < FIRST + 65536:
                    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                    found += [int(pid)] if state != "Z" else []  # some take their time to wait for it
        return found

    def end(self) -> None:
        """End them all, and with them the mounts that only they saw."""
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.01)

    def inside(self, keeper: int, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of the user's in the namespaces that a process keeps, as docs/rootless.md says it."""
        enter = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", str(keeper), "--", *command]
        person = ["setpriv", f"--reuid={ID}", f"--regid={ID}", "--clear-groups", "--"]
        return subprocess.run([*person, *enter], capture_output=True, text=True, check=False, cwd="/")


@contextlib.contextmanager
def ordinary_user(top: Path, ansible: Ansible) -> Iterator[Ordinary]:
    """Let the user be known, in this mount namespace alone."""
    home = Path(tempfile.mkdtemp(prefix="strata-ordinary.", dir="/tmp"))  # the user cannot pass a test's directory
    _cover_etc(top, home)
    device = _let_use_fuse(home)
    os.chown(home, ID, ID)
    user = Ordinary(home, ansible)
    try:
        yield user
    finally:
        user.end()
        syscalls.umount("/etc", syscalls.MNT_DETACH)
        if device:
            syscalls.umount(device, syscalls.MNT_DETACH)
        shutil.rmtree(home)


def _let_use_fuse(home: Path) -> str:
    """/dev/fuse is for all users on most hosts, and not on this one; what has been covered, "" where there is none."""
    device = "/dev/fuse"
    if not os.path.exists(device):
        return ""
    node = home / "fuse"
    os.mknod(node, stat.S_IFCHR, os.stat(device).st_rdev)
    node.chmod(0o666)
    syscalls.mount(str(node), device, None, mount_flags.MS_BIND)
    return device


def _cover_etc(top: Path, home: Path) -> None:
    upper, work = top / "etc-upper", top / "etc-work"
    upper.mkdir()
    work.mkdir()
    syscalls.mount("overlay", "/etc", "overlay", 0, f"lowerdir=/etc,upperdir={upper},workdir={work}")
    for name, line in (
        ("passwd", f"{NAME}:*:{ID}:{ID}::{home}:/bin/sh"),
        ("group", f"{NAME}:x:{ID}:"),
        ("subuid", f"{NAME}:{FIRST}:65536"),
        ("subgid", f"{NAME}:{FIRST}:65536"),
    ):
        with Path("/etc", name).open("a", encoding="utf-8") as table:
            table.write(f"{line}\n")
