# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Which form a store's contents take where it lies, found by trying: an image of next to nothing, mounted nowhere."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._layer.image import make_image
from ansible_collections.strata.overlay.plugins.module_utils._linux.erofs_mount import FROM_FILE, image_tree

AUTO, TREE, IMAGE = "auto", "tree", "image"
"""Forms as users ask for them; contents have one of the last two."""

_WHY = {
    errno.EPERM: "this user may mount no image; only root outside any user namespace may",
    errno.ENODEV: "the kernel has no EROFS; see whether its module can be loaded (modprobe erofs)",
    errno.ENOENT: "the kernel mounts no image from a file here, and there are no loop devices (modprobe loop)",
}


class ImageSupport(NamedTuple):
    """How images are mounted.

    :ivar how: `FROM_FILE`, `BY_LOOP`, or "" where they are not. :ivar why: the reason then.
    """

    how: str
    why: str = ""


def image_support(workspace: str) -> ImageSupport:
    """Try it in a directory of the caller's own on the store's file system. Nothing stays.

    :raises OSError: nothing can be written there.
    """
    path = f"{workspace}/probe-{os.urandom(8).hex()}.erofs"
    pieces = iter([END, b""])
    try:
        make_image(lambda _size: next(pieces), path)
        tree, how = image_tree(path)
        with tree:
            return ImageSupport(how)
    except OSError as error:
        if not os.path.exists(path):
            raise
        return ImageSupport("", _WHY.get(error.errno or 0) or f"the kernel mounts no image here: {error.strerror}")
    finally:
        if os.path.exists(path):
            os.unlink(path)


def chosen_form(asked: str, support: ImageSupport) -> str:
    """The form of new contents: ``auto`` is an image where the kernel mounts it from its file, for loop devices are few
    and add a layer. What is asked for and cannot be had is the caller's to refuse, by ``support.why``.
    """
    if asked == AUTO:
        return IMAGE if support.how == FROM_FILE else TREE
    return asked
