# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads Docker's image database: imagedb and repositories.json.

Format: moby daemon/internal/image (fs.go) and daemon/internal/refstore (store.go).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.image_name import familiar
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import (
    WRONG_TAG,
    config_file,
    docker_home,
    repositories_file,
)
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import Config, read_config, sha256
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import read_text
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

Repositories = dict[str, dict[str, str]]
"""What repositories.json says: image id by full reference, by repository."""


def read_stored(store: Store, image_id: str) -> Optional[Config]:
    """An image's config from the store; None where it is missing or is not what its name says."""
    try:
        with open(config_file(store, image_id), "rb") as stream:
            body = stream.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    if sha256(body) != image_id:
        return None
    try:
        return read_config(body, f"config {image_id}")
    except StrataError:
        return None


def stored_images(store: Store) -> list[str]:
    """The ids of all images whose config is there."""
    try:
        return [SHA256 + name for name in sorted(os.listdir(f"{docker_home(store)}/imagedb/content/sha256"))]
    except (FileNotFoundError, NotADirectoryError):
        return []


def repositories_of(names: Iterable[NameRecord]) -> Repositories:
    """What repositories.json has to say. Names that Docker could not have are left out: it knows them by id only."""
    found: Repositories = {}
    for record in sorted(names, key=lambda record: record.name):
        reference = familiar(record.name)
        if record.image_id and reference:
            tags = found.setdefault(reference.repository, {})
            # A name that has its tag written out goes before one that leaves it to be `latest`.
            if reference.full not in tags or record.name == reference.full:
                tags[reference.full] = record.image_id
    return found


def read_repositories(store: Store) -> Repositories:
    """What repositories.json says now; nothing where it is missing or damaged."""
    try:
        data: Any = json.loads(read_text(repositories_file(store)) or "{}")
        repositories = data.get("Repositories") or {}
        return {name: dict(tags) for name, tags in repositories.items()}
    except (ValueError, RecursionError, TypeError, AttributeError):
        return {}


def inspect_image(store: Store, record: NameRecord, names: Mapping[str, NameRecord]) -> Optional[str]:
    """What is wrong with a named image's files of Docker's: None when nothing is.

    :param names: every name; read only where the tag is another image's.
    """
    if read_stored(store, record.image_id) is None:
        return "missing" if not os.path.exists(config_file(store, record.image_id)) else "its config is damaged"
    reference = familiar(record.name)
    if reference is None:
        return None
    tagged = read_repositories(store).get(reference.repository, {}).get(reference.full)
    if tagged == record.image_id:
        return None
    # Two names of ours may be one of Docker's, such as `debian` and `debian:latest`.
    wanted = repositories_of([*(names[name] for name in names if name != record.name), record])
    if tagged is not None and tagged == wanted[reference.repository][reference.full]:
        return None
    return WRONG_TAG
