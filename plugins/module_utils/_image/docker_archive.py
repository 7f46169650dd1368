# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads archives of `docker save` and `podman save` that are not OCI layouts.

Source: moby daemon/internal/image/tarexport; image-spec v1.2 "Combined Image JSON + Filesystem Changeset Format". A
file ``repositories`` says less than manifest.json and is not needed; archives with nothing else are from before 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image.archive_files import Files
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image
from ansible_collections.strata.overlay.plugins.module_utils._image.image_list import Listed, assemble
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    Config,
    check_count,
    read_config,
    read_json,
)

MANIFEST = "manifest.json"


class Saved(NamedTuple):
    """An image in manifest.json.

    :ivar config: the name of its config in the archive.
    :ivar names: of its layers, bottom first; None if not given, as for an image without layers.
    """

    config: str
    tags: tuple[str, ...]
    names: Optional[tuple[str, ...]]

    def layers(self, files: Files, config: Config) -> list[Blob]:
        """Where its layers lie.

        :raises StrataError: they are not all there.
        """
        names = self.names or ()
        check_count(len(names), config, f"{files.what}: {MANIFEST}: image {self}")
        return [_find(files, name) for name in names]

    def __str__(self) -> str:
        return f"{(self.tags or (self.config,))[0]!r:.200}"


def read_saved(files: Files) -> list[Saved]:
    """The images in manifest.json; none where there is no such file.

    :raises StrataError: it is not what it should be.
    """
    found = files.find(MANIFEST)
    if found is None:
        return []
    what = f"{files.what}: {MANIFEST}"
    data = read_json(found.read(MAX_MANIFEST, what), what)
    if isinstance(data, dict) and files.find("version") is not None:
        raise StrataError(
            f"{files.what} is a directory of skopeo's transport 'dir:', which has no names; copy it to 'oci:' or "
            "'docker-archive:' and give that"
        )
    if not isinstance(data, list) or not data:
        raise StrataError(f"{what} is no list of images")
    return [_saved(entry, f"{what}: image {number}") for number, entry in enumerate(data, 1)]


def list_docker(files: Files) -> list[Listed]:
    """The images in manifest.json.

    :raises StrataError: it is missing or not what it should be.
    """
    return list_saved(files, read_saved(files))


def list_saved(files: Files, images: Sequence[Saved]) -> list[Listed]:
    """Images as they are listed."""
    return [Listed(saved.tags, lambda wanted, saved=saved: [_load(files, saved)]) for saved in images]  # type: ignore[misc]


def _saved(entry: Any, what: str) -> Saved:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("Config"), str)
        or not _is_list_of_names(entry.get("Layers") or [])
        or not _is_list_of_names(entry.get("RepoTags") or [])
    ):
        raise StrataError(f"{what} must have Config, Layers and RepoTags")
    layers = entry.get("Layers")
    return Saved(entry["Config"], tuple(entry.get("RepoTags") or ()), None if layers is None else tuple(layers))


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _load(files: Files, saved: Saved) -> Image:
    what = f"{files.what}: image {saved}: config {saved.config!r:.200}"
    config = read_config(_find(files, saved.config).read(MAX_CONFIG, what), what)
    return assemble(config, saved.layers(files, config), (), "")


def _find(files: Files, name: str) -> Blob:
    blob = files.find(name)
    if blob is None:
        raise StrataError(f"{files.what}: {name!r:.200} is missing; the archive is incomplete")
    return blob
