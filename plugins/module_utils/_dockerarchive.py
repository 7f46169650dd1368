# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Archives of ``docker save`` and ``podman save`` that are no OCI layouts: manifest.json, configs, layers.

Source: moby daemon/internal/image/tarexport; image-spec v1.2 "Combined Image JSON + Filesystem Changeset Format". A
file ``repositories`` says less than manifest.json and is not needed; archives with nothing else are from before 2016.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._blob import Blob
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image import Image
from ansible_collections.strata.overlay.plugins.module_utils._imagefiles import Files
from ansible_collections.strata.overlay.plugins.module_utils._imagelist import Listed, assemble
from ansible_collections.strata.overlay.plugins.module_utils._manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    check_count,
    read_config,
    read_json,
)

MANIFEST = "manifest.json"


def read_tags(files: Files) -> List[Tuple[str, Tuple[str, ...]]]:
    """The config's name and the tags of each image in manifest.json; nothing where there is no such file."""
    if files.find(MANIFEST) is None:
        return []
    return [(entry["Config"], _tags(entry)) for entry in _entries(files)]


def list_docker(files: Files) -> List[Listed]:
    """The images in manifest.json.

    :raises StrataError: it is missing or not what it should be.
    """
    return [Listed(_tags(entry), lambda entry=entry: [_load(files, entry)]) for entry in _entries(files)]  # type: ignore[misc]


def _entries(files: Files) -> List[Mapping[str, Any]]:
    what = f"{files.what}: {MANIFEST}"
    data = read_json(_find(files, MANIFEST).read(MAX_MANIFEST, what), what)
    if not isinstance(data, list) or not data:
        raise StrataError(f"{what} is no list of images")
    for number, entry in enumerate(data, 1):
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("Config"), str)
            or not _is_list_of_names(entry.get("Layers"))
            or not _is_list_of_names(entry.get("RepoTags") or [])
        ):
            raise StrataError(f"{what}: image {number} must have Config, Layers and RepoTags")
    return data


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _tags(entry: Mapping[str, Any]) -> Tuple[str, ...]:
    return tuple(entry.get("RepoTags") or ())


def _load(files: Files, entry: Mapping[str, Any]) -> Image:
    what = f"{files.what}: config {entry['Config']!r:.200}"
    config = read_config(_find(files, entry["Config"]).read(MAX_CONFIG, what), what)
    check_count(len(entry["Layers"]), config, f"{files.what}: {MANIFEST}")
    return assemble(config, [_find(files, name) for name in entry["Layers"]], (), "")


def _find(files: Files, name: str) -> Blob:
    blob = files.find(name)
    if blob is None:
        raise StrataError(f"{files.what}: {name!r:.200} is missing; the archive is incomplete")
    return blob
