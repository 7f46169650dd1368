# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file system of a test's own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls

SIZE = 64 << 20


XFS_SIZE = 320 << 20
"""The least that mkfs.xfs makes is 300 MB, nearly all of them a hole."""


def mounted_ext4(directory: Path, *options: str, size: int = SIZE) -> contextlib.AbstractContextManager[Path]:
    """An ext4, mounted; skips the test where that cannot be done.

    :param options: for mkfs.ext4.
    :param size: in bytes, 64 MB.
    """
    return _mounted(directory, "ext4", options, size)


def mounted_xfs(directory: Path, *options: str) -> contextlib.AbstractContextManager[Path]:
    """An XFS, mounted; skips the test where that cannot be done.

    :param options: for mkfs.xfs.
    """
    return _mounted(directory, "xfs", options, XFS_SIZE)


@contextlib.contextmanager
def _mounted(directory: Path, kind: str, options: tuple[str, ...], size: int) -> Iterator[Path]:
    if not shutil.which(f"mkfs.{kind}"):
        pytest.skip(f"needs mkfs.{kind}")
    image, place = directory / "disk", directory / "mounted"
    place.mkdir()
    with image.open("wb") as stream:
        stream.truncate(size)
    subprocess.run([f"mkfs.{kind}", "-q", *options, image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this host mounts no image: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", place], check=True)


@contextlib.contextmanager
def mounted_overlay(directory: Path) -> Iterator[Path]:
    """A writable overlay, such as the root of a container is."""
    place = directory / "mounted"
    for name in ("lower", "upper", "work", "mounted"):
        (directory / name).mkdir()
    options = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
    syscalls.mount("overlay", str(place), "overlay", 0, options)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", place], check=True)
