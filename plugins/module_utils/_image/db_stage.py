# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Writes Docker's image database: configs, and repositories.json from the names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image.db import repositories_of
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import config_file, repositories_file
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import sha256
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction


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
