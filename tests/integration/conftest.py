# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the integration tests. Nothing stays behind, also when a test fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._apply import rollback
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import Places
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._run import inspect
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError
from ansible_collections.strata.overlay.tests.integration.docker import stopped_docker
from ansible_collections.strata.overlay.tests.integration.fleet import COUNT, Fleet, running_fleet
from ansible_collections.strata.overlay.tests.integration.host import (
    Ansible,
    Host,
    unmount_all,
)
from ansible_collections.strata.overlay.tests.integration.podman import stopped_podman
from ansible_collections.strata.overlay.tests.integration.privileges import (
    in_private_namespace,
    is_full_root,
    need_private_namespace,
)
from ansible_collections.strata.overlay.tests.integration.sshd import Sshd, running_sshd
from ansible_collections.strata.overlay.tests.integration.systemd_machine import Machine, machine

__all__ = ["ansible", "host", "stopped_docker", "stopped_podman"]

HELPER = Places().helper

DRIVER = os.environ.get("DRIVER", "overlay")
REFUSALS = (
    "'context' and 'idmap' need driver: overlay",
    "'writable': volatile: this kernel",
    "the stack is a copy that can be written (driver: copy)",
    "the stack is a copy of its layers (driver: copy)",
)


LONGEST_FIRST = [
    f"test_{name}.py"
    for name in (
        *("crash", "fleet", "build", "execution_environment", "fleet_ways", "rootless", "ansible", "docker_images"),
        *("host_role", "boot", "debian", "ansible_images", "damage", "fuse_driver", "report", "hostile", "progress"),
        *("mount_helper", "fleet_hosts", "commit_services", "races", "changes", "fleet_bytes", "export"),
    )
]
"""Files that take more than some fifteen seconds: begun last, one of them would keep a lane at work alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files in that order, then the others as they are."""
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session", autouse=True)
def _no_helper_of_the_host() -> None:
    """Where this machine has mount.strata installed, runs would write units for the stacks of tests: it is hidden."""
    if in_private_namespace() and os.path.exists(HELPER):
        syscalls.mount("/dev/null", HELPER, None, mount_flags.MS_BIND)


@pytest.fixture(autouse=True)
def _driver(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """DRIVER=fuse-overlayfs, or copy: whatever names no driver is shown by it, as on a host that has no better one."""
    of = request.node.get_closest_marker("drivers")
    if of and DRIVER not in of.args:
        pytest.skip(f"it is about {' and '.join(of.args)}")

    def abilities() -> Abilities:
        found = find_abilities()
        return found._replace(overlay=False, fuse_overlayfs=found.fuse_overlayfs and DRIVER == "fuse-overlayfs")

    if DRIVER != "overlay":
        for module in (inspect, rollback):
            monkeypatch.setattr(module, "find_abilities", abilities)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """What a driver says that it cannot do is no failure of it."""
    try:
        return (yield)
    except DefinitionError as error:
        if DRIVER == "overlay" or not any(words in str(error) for words in REFUSALS):
            raise
        pytest.skip(f"{DRIVER} says: {str(error).splitlines()[-1].strip()}")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host without a store."""
    need_private_namespace()
    yield Host(tmp_path)
    unmount_all(tmp_path)


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    """Ansible with a home, cache and inventory of the test's own."""
    directory = tmp_path / "controller"
    directory.mkdir()
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(directory / "ansible-home"),
        "XDG_CACHE_HOME": str(directory / "cache"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_PYTHON_INTERPRETER": os.environ.get("ANSIBLE_PYTHON_INTERPRETER", "auto_silent"),
    }
    if not is_full_root():
        # Root of a user namespace has root's home, in which the user who made the namespace cannot write.
        environment["ANSIBLE_REMOTE_TMP"] = str(directory / "remote-tmp")
    return Ansible(directory, environment)


@pytest.fixture(scope="module")
def _booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    need_private_namespace()
    top = tmp_path_factory.mktemp("fleet")
    (top / "controller").mkdir()
    environment = {
        **os.environ,
        "ANSIBLE_HOME": str(top / "controller/ansible-home"),
        "XDG_CACHE_HOME": str(top / "controller/cache"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    try:
        with running_fleet(top / "f", Ansible(top / "controller", environment), COUNT) as found:
            yield found
    finally:
        unmount_all(top)


@pytest.fixture
def fleet(_booted: Fleet) -> Iterator[Fleet]:
    """Twelve hosts without a store; those of one file of tests boot once."""
    yield _booted
    for host in _booted.hosts:
        if not host.init:
            _booted.start(host)
    _booted.write_inventory({})
    _booted.clean()


@pytest.fixture
def sshd(tmp_path: Path, host: Host) -> Iterator[Sshd]:
    """Another way to this host."""
    with running_sshd(tmp_path / "ssh") as server:
        yield server


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """A machine that a real systemd has booted."""
    need_private_namespace()
    try:
        with machine(tmp_path) as one:
            yield one
    except UnavailableError as error:
        pytest.skip(str(error))
    finally:
        unmount_all(tmp_path)
        shutil.rmtree(tmp_path / "upper", ignore_errors=True)
