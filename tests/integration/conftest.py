# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the integration tests. Nothing stays behind, also when a test fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.tests.integration.docker import stopped_docker
from ansible_collections.strata.overlay.tests.integration.host import (
    Ansible,
    Host,
    in_private_namespace,
    unmount_all,
)
from ansible_collections.strata.overlay.tests.integration.podman import stopped_podman

__all__ = ["ansible", "host", "stopped_docker", "stopped_podman"]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host without a store."""
    if not in_private_namespace():
        pytest.skip("needs root in a mount namespace of its own: run it by scripts/integration")
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
    return Ansible(directory, environment)
