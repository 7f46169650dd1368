# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""An image's archive of whatever kind -> the image."""

from __future__ import annotations

from typing import List, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._dockerarchive import MANIFEST, list_docker
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._image import Image
from ansible_collections.strata.overlay.plugins.module_utils._imagefiles import open_files
from ansible_collections.strata.overlay.plugins.module_utils._imagelist import select
from ansible_collections.strata.overlay.plugins.module_utils._limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._ocilayout import INDEX, LAYOUT, list_layout


def read_archive(
    path: str, reference: str, digest: str, directory: str, limits: Limits = UNLESS_SET
) -> Tuple[List[Image], bool]:
    """The variants of one image in an archive, and whether the archive is compressed as a whole.

    :param reference: which of several images, "" for the only one.
    :param digest: by which it is pinned, "" for any.
    :param directory: for an unnamed copy of a compressed archive, which goes with the process.
    :param limits: that copy may have so many bytes.
    :raises StrataError: what is wrong with the archive, or which images it has.
    """
    files = open_files(path, directory, limits.bytes)
    if files.find(LAYOUT) or files.find(INDEX):
        listed = list_layout(files)
    elif files.find(MANIFEST):
        listed = list_docker(files)
    else:
        raise StrataError(f"{path} is no image's archive: it has neither {INDEX} (OCI) nor {MANIFEST} (docker save)")
    return select(listed, reference, digest, path), files.packed
