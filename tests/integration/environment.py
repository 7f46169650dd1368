# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The repository's execution environment as a real image: by ansible-builder and Podman, upon a Debian root.

There is no registry for the base image here, so it is built; the collection is that of the checkout. All else is as it
is written in execution-environment.yml.
"""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.strata.overlay.tests.integration.debian_root import (
    CONTROLLER,
    UnavailableError,
    debian_root,
)
from ansible_collections.strata.overlay.tests.integration.isolation import apart
from ansible_collections.strata.overlay.tests.integration.podman import RUNTIME, Podman

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
USER = 1000
"""Whom ansible-builder lets the image run as."""

_BUILD = 900.0
_PATIENCE = 300.0

_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{root}"
runroot = "{state}"
"""
_CONTAINERS = f"""
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "{RUNTIME}"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
# ansible-navigator wants this directory, and machines that are containers themselves may lack it: /dev gets a layer.
_WITH_QUEUES = """
set -e
if [ ! -d /dev/mqueue ]; then
    mkdir -p /mnt/dev/upper /mnt/dev/work /mnt/pts
    mount --rbind /dev/pts /mnt/pts
    mount -t overlay overlay -o lowerdir=/dev,upperdir=/mnt/dev/upper,workdir=/mnt/dev/work /dev
    mkdir /dev/mqueue
    mount --rbind /mnt/pts /dev/pts
fi
exec "$@"
"""
# Podman would ask for more than a machine may give that is a container itself.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


@dataclass(frozen=True)
class Environment:
    """The image."""

    podman: Podman

    def run(self, *command: str, data: Path, network: str = "none") -> str:
        """A command in it, as AWX and ansible-navigator run one; AssertionError with its words where it fails.

        :param data: the directory that it finds as /runner.
        """
        for path in (data, *data.rglob("*")):
            os.chown(path, USER, 0)
        flags = ["--rm", "--network", network, *_LIMITS, "--volume", f"{data}:/runner"]
        return self.podman.call("run", *flags, "environment", *command)

    def navigate(self, *arguments: str, project: Path) -> str:
        """``ansible-navigator ARGUMENTS`` with the image; AssertionError with its words where it fails.

        :param project: the directory in which it is started, and which the image is shown.
        """
        settings = {"CONTAINERS_STORAGE_CONF": _STORAGE, "CONTAINERS_CONF": _CONTAINERS}
        own = {"PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(project), "LC_ALL": "C.UTF-8"}
        for name, text in settings.items():
            path = project / name.lower()
            path.write_text(text.format(root=self.podman.root, state=self.podman.state))
            own[name] = str(path)
        flags = ["--mode", "stdout", "--execution-environment-image", "localhost/environment", "--pull-policy", "never"]
        flags += ["--container-engine", "podman", "--playbook-artifact-enable", "false"]
        flags += ["--log-file", str(project / "navigator.log")]
        command = ["sh", "-c", _WITH_QUEUES, "sh", "ansible-navigator", *arguments, *flags]
        done = subprocess.run(
            apart(command), cwd=project, env=own, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextlib.contextmanager
def built_environment(top: Path) -> Iterator[Environment]:
    """Build it; it is gone at the end.

    :raises UnavailableError: Podman or the base cannot be had here.
    """
    lacking = [name for name in ("podman", RUNTIME) if shutil.which(name) is None]
    if lacking:
        raise UnavailableError(f"building an image needs the Debian packages {' and '.join(lacking)}")
    base = debian_root(CONTROLLER)
    # Of a length that Podman takes: at most 50 characters.
    state = Path(tempfile.mkdtemp(prefix="strata-podman.", dir="/tmp"))
    podman = Podman(top / "images", state)
    try:
        podman.call("import", str(base), "base")
        flags = ["--layers=false", "--network", "host", "--build-arg", "EE_BASE_IMAGE=localhost/base"]
        volumes = [flag for volume in _pip_volumes(top) for flag in ("--volume", volume)]
        podman.call("build", *flags, *volumes, "--tag", "environment", str(_context(top)), patience=_BUILD)
        yield Environment(podman)
    finally:
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(podman.root, ignore_errors=True)


def _context(top: Path) -> Path:
    """What ansible-builder makes of the definition."""
    _call("ansible-galaxy", "collection", "build", "--output-path", str(top), str(CHECKOUT))
    (archive,) = top.glob("*.tar.gz")
    definition: dict[str, Any] = yaml.safe_load((CHECKOUT / "execution-environment.yml").read_text())
    definition["additional_build_files"] = [{"src": str(archive), "dest": "collection"}]
    collection = {"name": f"collection/{archive.name}", "type": "file"}
    definition["dependencies"]["galaxy"]["collections"] = [collection]
    path, context = top / "definition.yml", top / "context"
    path.write_text(yaml.safe_dump(definition))
    flags = ["--file", str(path), "--context", str(context), "--output-filename", "Containerfile"]
    _call("ansible-builder", "create", *flags)
    return context


def _call(program: str, *arguments: str) -> None:
    done = subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _pip_volumes(top: Path) -> list[str]:
    """Volumes with which pip in a container takes packages from where it takes them on this machine."""
    settings = _pip_settings()
    path = top / "pip.conf"
    path.write_text("[global]\n" + "".join(f"{option} = {value}\n" for option, value in settings.items()))
    places = {place for value in settings.values() for word in value.split() for place in _place(word)}
    return [f"{path}:/etc/pip.conf:ro", *(f"{place}:{place}:ro" for place in sorted(places))]


def _pip_settings() -> dict[str, str]:
    """From its files and from the environment, of which a build knows nothing."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    found: dict[str, str] = {}
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        name, equals, value = line.partition("=")
        section, _dot, option = name.rpartition(".")
        if equals and section in ("global", "install", ":env:"):
            found[option] = " ".join(str(ast.literal_eval(value)).split())
    return found


def _place(word: str) -> list[str]:
    """Where on this machine a word of pip's settings leads to: for an index, what is beside it belongs to it."""
    path = word.removeprefix("file://").rstrip("/")
    if not path.startswith("/") or not os.path.exists(path):
        return []
    return [path if path == word else os.path.dirname(path)]
