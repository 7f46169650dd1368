# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Podman with a root of a test's own and no network."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.tests.integration.docker import write_base
from ansible_collections.strata.overlay.tests.integration.isolation import apart
from ansible_collections.strata.overlay.tests.integration.privileges import (
    need_full_root,
    need_private_namespace,
    need_programs,
)

RUNTIME = "runc"
"""Named, since Podman takes crun where that is installed, which wants more of /dev than a test's namespace has."""

_PATIENCE = 120

CONTAINERFILE = """
FROM localhost/base
COPY app /opt/app
COPY app /etc/os
"""


@dataclass(frozen=True)
class Podman:
    """A root of containers/storage; Podman has no daemon, so nothing runs between two calls.

    :ivar root: with the driver overlay.
    :ivar state: its run root.
    """

    root: Path
    state: Path

    def call(self, *arguments: str, stdin: bytes = b"", patience: float = _PATIENCE) -> str:
        """``podman ARGUMENTS``: what it printed; AssertionError with its words where it fails."""
        command = ["podman", "--root", str(self.root), "--runroot", str(self.state), "--storage-driver", "overlay"]
        command += ["--runtime", RUNTIME, "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        done = subprocess.run(
            apart([*command, *arguments]), input=stdin, capture_output=True, check=False, timeout=patience
        )
        if done.returncode != 0:
            said = (done.stdout[-10_000:] + done.stderr).decode(errors="replace")
            raise AssertionError(f"podman {' '.join(arguments)}: {said}")
        return done.stdout.decode()

    def copy(self, place: Path) -> Path:
        """A root of the test's own, to damage."""
        subprocess.run(["cp", "--archive", self.root, place], check=True)
        return place


@pytest.fixture(scope="session")
def stopped_podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """A root with an image ``app:1`` of three layers, and a container ``held`` of it. To be read, never changed."""
    need_private_namespace()
    need_full_root("is not whom podman is run as here")
    need_programs("podman", RUNTIME, "busybox")
    top = tmp_path_factory.mktemp("podman")
    # Of a length that Podman takes: at most 50 characters.
    state = Path(tempfile.mkdtemp(prefix="strata-podman.", dir="/tmp"))
    podman = Podman(top / "root", state)
    try:
        write_base(top / "base")
        packed = subprocess.run(["tar", "-C", top / "base", "-c", "."], capture_output=True, check=True)
        podman.call("import", "-", "base", stdin=packed.stdout)
        (top / "context").mkdir()
        (top / "context/app").write_text("app\n")
        (top / "context/Containerfile").write_text(CONTAINERFILE)
        podman.call("build", "--network", "none", "--layers", "--tag", "app:1", str(top / "context"))
        podman.call("create", "--name", "held", "app:1", "/bin/busybox", "true")
        yield podman
    finally:
        shutil.rmtree(state, ignore_errors=True)
