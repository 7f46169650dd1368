# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Reads image archives of every kind."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image.archive_files import open_files
from ansible_collections.strata.overlay.plugins.module_utils._image.docker_archive import MANIFEST, list_docker
from ansible_collections.strata.overlay.plugins.module_utils._image.image import Image
from ansible_collections.strata.overlay.plugins.module_utils._image.image_list import Wanted, select
from ansible_collections.strata.overlay.plugins.module_utils._image.oci_layout import INDEX, LAYOUT, list_layout


class Read(NamedTuple):
    """What an archive holds of one image.

    :ivar images: one for each platform that is wanted.
    :ivar packed: the archive is compressed as a whole.
    """

    images: list[Image]
    packed: bool


def read_archive(path: str, wanted: Wanted, directory: str, limits: Limits = UNLESS_SET) -> Read:
    """One image of an archive.

    :param directory: for an unnamed copy of a compressed archive, which goes with the process.
    :param limits: that copy may have so many bytes.
    :raises StrataError: what is wrong with the archive, or which images it has.
    """
    files = open_files(path, directory, limits)
    if files.find(LAYOUT) or files.find(INDEX):
        listed = list_layout(files)
    elif files.find(MANIFEST):
        listed = list_docker(files)
    else:
        raise StrataError(f"{path} is no image's archive: it has neither {INDEX} (OCI) nor {MANIFEST} (docker save)")
    return Read(select(listed, wanted, path), files.packed)
