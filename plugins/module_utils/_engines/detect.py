# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Recognises Docker and Podman roots and stores. Reads only, and leaves no trace."""

from __future__ import annotations

import os

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._engines import docker as docker_module
from ansible_collections.strata.overlay.plugins.module_utils._engines import podman as podman_module
from ansible_collections.strata.overlay.plugins.module_utils._engines.model import EngineRoot, deep_chains, with_faults
from ansible_collections.strata.overlay.plugins.module_utils._engines.records import Foreign

_OTHER: tuple[tuple[str, str], ...] = (
    ("vfs-layers", "a root of containers/storage with the driver vfs, which has no layers on disk, only whole copies"),
    ("btrfs-layers", "a root of containers/storage with the driver btrfs"),
    ("zfs-layers", "a root of containers/storage with the driver zfs"),
    ("image/vfs", "a Docker root with the driver vfs, which has no layers on disk, only whole copies"),
    ("image/btrfs", "a Docker root with the driver btrfs"),
    ("image/zfs", "a Docker root with the driver zfs"),
    ("image/fuse-overlayfs", "a Docker root with the driver fuse-overlayfs"),
    ("containerd/daemon/io.containerd.metadata.v1.bolt", "a Docker root with containerd's image store"),
)


def engine_of(root: str) -> str:
    """``docker``, ``podman``, or ``""`` for a store of ours or no root at all.

    :raises StrataError: it is an engine's, with a storage driver whose format is not read.
    """
    # Either of these identifies a strata store, even if the other is lost.
    if os.path.lexists(f"{root}/strata") or os.path.lexists(f"{root}/content/sha256"):
        return ""
    if os.path.isdir(f"{root}/{podman_module.RECORDS}"):
        return "podman"
    if os.path.isdir(f"{root}/{docker_module.RECORDS}") and os.path.isdir(f"{root}/{docker_module.HOME}"):
        return "docker"
    for name, message in _OTHER:
        if os.path.isdir(f"{root}/{name}"):
            raise StrataError(
                f"option 'root': {root} is {message}; roots of Docker's overlay2 and Podman's overlay are read"
            )
    return ""


def read_engine_root(root: str, view: str) -> EngineRoot:
    """Read an engine's root, as recognised by ``engine_of``.

    :param view: a path by which it is read, see ``_linux/noatime.untouched``.
    """
    is_podman = engine_of(root) == "podman"
    with Foreign(view) as files:
        if is_podman:
            found, records = podman_module.read_podman_root(root, files), podman_module.RECORDS
        else:
            found, records = docker_module.read_docker_root(root, files), f"{docker_module.RECORDS}/layerdb"
        return with_faults(found, {**files.faults, **deep_chains(found.layers, records)})
