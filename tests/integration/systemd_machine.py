# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine of a test's own that a real systemd boots: a Debian root in namespaces of its own, on this kernel.

It is as near to a host as the test's kernel allows: systemd is process 1, units are started and stopped by systemctl,
mount(8) is Debian's, and a reboot keeps the disk and nothing else. What it is not: it has no boot loader and no initrd.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible
import pytest
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.tests.integration.debian_root import (
    UnavailableError,
    cache_directory,
    locked_cache,
)
from ansible_collections.strata.overlay.tests.integration.privileges import is_full_root

PACKAGES = ("dbus", "mount", "python3", "systemd", "systemd-sysv")
RECIPE = (
    "mmdebstrap",
    "--quiet",
    "--variant=minbase",
    f"--include={','.join(PACKAGES)}",
    "--format=directory",
    "bookworm",
)

COLLECTIONS = "/opt/collections"
LIBRARIES = "/opt/libraries"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": f"{COLLECTIONS}:{LIBRARIES}",
    "PYTHONDONTWRITEBYTECODE": "1",
}

NAMESPACES = (
    "unshare",
    "--cgroup",
    "--pid",
    "--fork",
    "--mount",
    "--uts",
    "--ipc",
    "--net",
    "--propagation",
    "private",
)

BOOT = r"""
set -eu
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir -p dev/pts dev/shm
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p .old
pivot_root . .old
umount -l /.old
# As systemd does where it takes itself for no container's: what is unmounted goes from the namespaces of services too.
mount --make-rshared /
exec env -i container=strata PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=console --show-status=0
"""

RUNNER = r"""
import json, sys
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
request = json.load(sys.stdin)
try:
    if request["module"] == "commit":
        print(json.dumps(commit(request["parameters"], request["check"])))
    else:
        print(json.dumps(Run(request["module"], request["parameters"], request["check"]).execute()))
except StrataError as error:
    print(json.dumps({"error": str(error)}))
"""


def systemd_root() -> Path:
    """An unpacked Debian with systemd, built once and never written to.

    :raises UnavailableError: it cannot be built here.
    """
    cache = cache_directory()
    root = cache / f"systemd-{hashlib.sha256(' '.join(RECIPE).encode()).hexdigest()[:16]}"
    if not is_full_root():
        raise UnavailableError("building and booting a Debian root needs root, with all user ids")
    if root.exists():
        return root
    if shutil.which(RECIPE[0]) is None:
        raise UnavailableError("building a Debian root needs the program mmdebstrap")
    cache.mkdir(parents=True, exist_ok=True)
    with locked_cache(cache):
        if not root.exists():
            unfinished = root.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            done = subprocess.run([*RECIPE, str(unfinished)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise UnavailableError(f"mmdebstrap could not build a Debian root: {done.stderr.strip()[-300:]}")
            unfinished.rename(root)
    return root


@dataclass
class Machine:
    """One machine. Its root is an overlay over Debian; its store lies on the test's own disk."""

    top: Path
    group: Path
    process: subprocess.Popen[bytes] | None = None
    init: int = 0
    log: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.top / "root"

    @property
    def store(self) -> Path:
        """/var/lib/strata, as it is seen from outside."""
        return self.top / "store"

    def boot(self) -> None:
        """Switch it on, and wait until systemd says that all units have had their turn."""
        self.group.mkdir()
        with (self.top / "console").open("ab") as console:
            self.process = subprocess.Popen(
                [*NAMESPACES, "bash", "-c", BOOT, "boot", str(self.root)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                preexec_fn=lambda: _enter(self.group),  # noqa: PLW1509  # no thread of a test holds a lock here
                start_new_session=True,
            )
        for _attempt in range(600):
            if self.process.poll() is not None:
                pytest.fail(f"the machine did not boot: {self.console()}")
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children:
                self.init = int(children[0])
                if self.call("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.1)
        pytest.fail(f"the machine did not come up within 60 s: {self.console()}")

    def crash(self) -> None:
        """Pull the plug: every process is gone at once, and every mount with them."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init or self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process, self.init = None, 0
        for _attempt in range(100):
            for group in sorted((path for path in self.group.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
            with contextlib.suppress(OSError):
                self.group.rmdir()
            if not self.group.exists():
                return
            time.sleep(0.05)

    def reboot(self) -> None:
        self.crash()
        self.boot()

    def console(self) -> str:
        """The end of what it said."""
        return (self.top / "console").read_text(errors="replace")[-2000:]

    def call(self, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return subprocess.run(
            ["nsenter", "--target", str(self.init), "--all", "--", *command],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )

    def do(self, *command: str) -> str:
        """Run a command that must not fail; what it printed."""
        done = self.call(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def run(self, module: str = "apply", check: bool = False, **parameters: Any) -> dict[str, Any]:
        """A module's work in the machine: its result, or ``{"error": its message}``."""
        request = json.dumps({"module": module, "parameters": parameters, "check": check})
        done = self.call("python3", "-c", RUNNER, given=request)
        result: dict[str, Any] = json.loads(done.stdout) if done.stdout else pytest.fail(done.stderr)
        return result

    def start(self, module: str = "apply", **parameters: Any) -> subprocess.Popen[str]:
        """A module's work that is not waited for."""
        process = subprocess.Popen(
            ["nsenter", "--target", str(self.init), "--all", "--", "python3", "-c", RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
        assert process.stdin is not None
        json.dump({"module": module, "parameters": parameters, "check": False}, process.stdin)
        process.stdin.close()
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill what ``start`` has started: nsenter and the process in the machine that it waits for."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in [int(child) for child in children]:
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def wait_for(self, path: str) -> None:
        """Until a file is there."""
        for _attempt in range(600):
            if self.exists(path):
                return
            time.sleep(0.05)
        pytest.fail(f"{path} did not appear")

    def install_helper(self) -> None:
        """As the module mount_helper does."""
        module = "ansible_collections.strata.overlay.plugins.module_utils._boot.programs"
        self.do("python3", "-c", f"from {module} import *; install(helper_files())")

    def write(self, path: str, text: str) -> None:
        """A file of the machine."""
        place = Path(f"/proc/{self.init}/root{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def read(self, path: str) -> str:
        return Path(f"/proc/{self.init}/root{path}").read_text()

    def exists(self, path: str) -> bool:
        return os.path.lexists(f"/proc/{self.init}/root{path}")

    def unit(self, name: str, *lines: str) -> None:
        """A unit file, known to systemd."""
        self.write(f"/etc/systemd/system/{name}", "\n".join(lines) + "\n")
        self.do("systemctl", "daemon-reload")

    def active(self, unit: str) -> str:
        return self.call("systemctl", "is-active", unit).stdout.strip()

    def main_pid(self, unit: str) -> str:
        return self.do("systemctl", "show", "--value", "--property=MainPID", unit)


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def machine(top: Path) -> Iterator[Machine]:
    """A machine that is switched on, and gone without a trace in the end. Call it in a private mount namespace."""
    debian = systemd_root()
    groups = top / "groups"
    for name in ("root", "upper", "work", "store", "groups"):
        (top / name).mkdir()
    syscalls.mount("cgroup2", str(groups), "cgroup2", 0)
    one = Machine(top, groups / f"strata-{os.getpid()}-{os.urandom(4).hex()}")
    options = f"lowerdir={debian},upperdir={top}/upper,workdir={top}/work"
    syscalls.mount("overlay", str(one.root), "overlay", 0, options)
    _show(one.store, one.root / "var/lib/strata")
    _show(Path(__file__).parents[2], one.root / f"{COLLECTIONS[1:]}/ansible_collections/strata/overlay")
    _show(Path(ansible.__file__).parents[1], one.root / LIBRARIES[1:])
    try:
        one.boot()
        yield one
    finally:
        one.crash()


def _show(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    syscalls.mount(str(source), str(target), None, mount_flags.MS_BIND)


def install_app(box: Machine, name: str = "app.service", *lines: str) -> None:
    """A service that notes what it found in the tree when it started, and holds the tree."""
    start = f"echo {name} >> /run/order; cp /srv/web/version /run/{name.partition('.')[0]}"
    box.unit(
        name,
        "[Service]",
        "Type=exec",
        "WorkingDirectory=/srv/web",
        f"ExecStartPre=/bin/sh -c '{start}'",
        "ExecStart=/bin/sleep infinity",
        *lines,
        "[Install]",
        "WantedBy=multi-user.target",
    )
