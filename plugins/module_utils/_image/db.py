# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Images as Docker keeps them: configs in imagedb, and repositories.json, which is made anew from the names.

Format: moby daemon/internal/image (fs.go) and daemon/internal/refstore (store.go).
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterable, List, Mapping, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.image_name import familiar
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import (
    WRONG_TAG,
    _home,
    config_file,
    repositories_file,
)
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import Config, read_config, sha256
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import read_text
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction

Repositories = Dict[str, Dict[str, str]]
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


def stored_images(store: Store) -> List[str]:
    """The ids of all images whose config is there."""
    try:
        return [SHA256 + name for name in sorted(os.listdir(f"{_home(store)}/imagedb/content/sha256"))]
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


def stage_config(store: Store, transaction: Transaction, image_id: str, config: bytes) -> None:
    """Write an image's config; StrataError where it is not what its id says."""
    if sha256(config) != image_id:
        raise StrataError(f"image {image_id}: the config that came with it is another one; run again")
    transaction.write(config_file(store, image_id), config.decode("utf-8"), 0o600)


def stage_repositories(store: Store, transaction: Transaction, changed: Mapping[str, Optional[NameRecord]]) -> None:
    """Make repositories.json anew.

    :param changed: names that are being set, None for those that go; all others are as the store has them.
    """
    records = {name: store.name_record(name) for name in store.names() if name not in changed}
    records.update(changed)
    repositories = repositories_of(record for record in records.values() if record is not None)
    text = json.dumps({"Repositories": repositories}, sort_keys=True, separators=(",", ":"))
    transaction.write(repositories_file(store), text, 0o600)
