# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Docker daemon of a test's own: with its own root, its own socket, and no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.tests.integration.isolation import apart
from ansible_collections.strata.overlay.tests.integration.privileges import (
    need_full_root,
    need_private_namespace,
    need_programs,
)

PROGRAMS = ("dockerd", "containerd", "docker", "busybox")
_PATIENCE = 60

DOCKERFILE = """
FROM base
COPY app /opt/app
RUN ["/bin/busybox", "rm", "-r", "/etc/old", "/usr/share"]
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox rm -r /srv && /bin/busybox mkdir /srv && echo new > /srv/new"]
"""


def missing_programs() -> list[str]:
    """What a test needs and this machine has not."""
    return [name for name in PROGRAMS if not shutil.which(name)]


@dataclass
class Docker:
    """A daemon that runs.

    :ivar root: its data root, with the storage driver overlay2.
    """

    root: Path
    socket: Path

    def call(self, *arguments: str, stdin: bytes = b"") -> str:
        """``docker ARGUMENTS``: what it printed; CalledProcessError with its words where it fails."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_HOST": f"unix://{self.socket}"}
        done = subprocess.run(
            ["docker", *arguments], input=stdin, capture_output=True, check=False, env=environment, timeout=_PATIENCE
        )
        if done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def build_example(self, scratch: Path) -> None:
        """An image ``app:1`` of four layers with deleted files, a replaced directory and a container ``held`` of it,
        above an image ``base``.
        """
        context = scratch / "context"
        write_base(scratch / "base")
        packed = subprocess.run(["tar", "-C", scratch / "base", "-c", "."], capture_output=True, check=True)
        self.call("import", "-", "base", stdin=packed.stdout)
        context.mkdir()
        (context / "app").write_text("app\n")
        (context / "Dockerfile").write_text(DOCKERFILE)
        self.call("build", "--network", "none", "--tag", "app:1", str(context))
        self.call("create", "--name", "held", "--network", "none", "app:1", "/bin/busybox", "true")


def write_base(top: Path) -> None:
    """A small root with a program that can delete files."""
    for name in ("bin", "etc", "usr/share", "srv", "proc", "sys", "dev"):
        (top / name).mkdir(parents=True)
    shutil.copy2(shutil.which("busybox") or "", top / "bin/busybox")
    for name in ("etc/os", "etc/old", "usr/share/words", "srv/old"):
        (top / name).write_text(f"{name}\n")


@contextmanager
def running_docker(root: Path, log: Path | None = None) -> Iterator[Docker]:
    """A daemon on a data root, made where it does not exist; ended in every case.

    It runs in a mount namespace of its own, so its mounts end with it.

    :param log: where its output goes.
    """
    run = Path(tempfile.mkdtemp(prefix="strata-docker."))
    docker = Docker(root, run / "socket")
    command = ["dockerd", "--data-root", str(root), "--exec-root", str(run / "exec"), "--pidfile", str(run / "pid")]
    command += ["--host", f"unix://{docker.socket}", "--storage-driver", "overlay2"]
    command += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    with (log or run / "log").open("wb") as output:
        daemon = subprocess.Popen(apart(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            _await(docker, daemon, log or run / "log")
            yield docker
        finally:
            _end(daemon)
            shutil.rmtree(run, ignore_errors=True)


def _await(docker: Docker, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            docker.call("version")
        except AssertionError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"dockerd does not answer:\n{log.read_text(errors='replace')[-3000:]}")


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """It stops its containerd itself when it is asked to end."""
    daemon.terminate()
    try:
        daemon.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


@dataclass(frozen=True)
class StoppedDocker:
    """What a daemon left behind: its root, and ``app:1`` as ``docker save`` wrote it. To be read, never changed."""

    root: Path
    archive: Path

    def copy(self, place: Path) -> Path:
        """A root of the test's own, to damage."""
        subprocess.run(["cp", "--archive", self.root, place], check=True)
        return place


@pytest.fixture(scope="session")
def stopped_docker(tmp_path_factory: pytest.TempPathFactory) -> StoppedDocker:
    """The root of a daemon that has built and saved the example and was stopped."""
    need_private_namespace()
    need_full_root("runs no dockerd")
    need_programs(*PROGRAMS)
    top = tmp_path_factory.mktemp("docker")
    archive = top / "app.tar"
    with running_docker(top / "root", top / "log") as docker:
        docker.build_example(top)
        docker.call("save", "--output", str(archive), "app:1")
    return StoppedDocker(top / "root", archive)
