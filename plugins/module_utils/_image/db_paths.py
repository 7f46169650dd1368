# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Paths of Docker's image database in a store. Pure."""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._store.paths import StorePaths

WRONG_TAG = "its tag in repositories.json is missing or wrong"
"""The one fault of an image that goes when its name is set."""


def config_file(store: StorePaths, image_id: str) -> str:
    """Where an image's config lies; its name is its digest."""
    return f"{docker_home(store)}/imagedb/content/sha256/{hex_of(image_id)}"


def metadata_directory(store: StorePaths, image_id: str) -> str:
    """Where Docker keeps what it knows of an image beyond its config."""
    return f"{docker_home(store)}/imagedb/metadata/sha256/{hex_of(image_id)}"


def repositories_file(store: StorePaths) -> str:
    """Docker's list of tags."""
    return f"{docker_home(store)}/repositories.json"


def docker_home(store: StorePaths) -> str:
    return f"{store.root}/image/overlay2"
