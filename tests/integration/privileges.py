# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests may do here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def in_private_namespace() -> bool:
    """Whether mounts can be made here and are seen nowhere else."""
    if os.geteuid() != 0:
        return False
    try:
        return os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt")
    except PermissionError:
        return True  # root of a user namespace: process 1 is out of its reach


def need_private_namespace() -> None:
    """Skip the test where mounts cannot be made, or would be seen elsewhere."""
    if not in_private_namespace():
        pytest.skip("needs root in a mount namespace of its own: run it by scripts/integration")


def is_full_root() -> bool:
    """Whether this is root outside any user namespace that lacks ids: only such a user can give files to anyone."""
    mapped = Path("/proc/self/uid_map").read_text().split()
    return os.geteuid() == 0 and mapped == ["0", "0", str(2**32 - 1)]


def need_full_root(why: str) -> None:
    """Skip the test as root of a user namespace.

    :param why: what such a root cannot do.
    """
    if not is_full_root():
        pytest.skip(f"root of a user namespace {why}")


def need_programs(*names: str) -> None:
    """Skip the test where this machine lacks programs."""
    lacking = [name for name in names if not shutil.which(name)]
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}: scripts/setup --packages installs them")
