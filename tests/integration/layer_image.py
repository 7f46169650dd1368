# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of layers, mounted, and held against the trees that the same archives give."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.image import make_image
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import Unpacked, unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.erofs_mount import image_tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack import facts

Facts = dict[bytes, tuple[object, ...]]

_TIME = 2
"""Where `facts` has the time of modification."""


@contextlib.contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """The tree that an image shows."""
    place = image.with_suffix(".mounted")
    place.mkdir()
    tree, _how = image_tree(str(image))
    with tree:
        tree.attach(str(place))
    try:
        yield place
    finally:
        syscalls.umount(str(place))
        place.rmdir()


@contextlib.contextmanager
def both_forms(archive: bytes, limits: Limits = UNLESS_SET) -> Iterator[tuple[Path, Path] | None]:
    """The tree that an archive is unpacked to, and the one that its image shows; None where both refuse it, alike."""
    with tempfile.TemporaryDirectory() as room:
        tree, image = Path(room, "tree"), Path(room, "layer.erofs")
        tree.mkdir()
        try:
            results = [outcome(archive, tree, limits), outcome(archive, image, limits)]
            assert results[0] == results[1]
            if isinstance(results[0], str):
                yield None
                return
            check_by_fsck(image)
            with mounted(image) as place:
                yield tree, place
        finally:
            remove_tree(str(tree))


def outcome(archive: bytes, path: Path, limits: Limits) -> Unpacked | str:
    """What an archive turns out to be, or why it is refused. A directory takes it as a tree."""
    try:
        if path.is_dir():
            return unpack(io.BytesIO(archive).read, str(path), False, limits)
        return make_image(io.BytesIO(archive).read, str(path), limits)
    except StrataError as error:
        return str(error)


def assert_same(tree: Path, image: Path) -> None:
    """File by file: types, modes, owners, times, devices, contents, hard links, attributes."""
    expected, found = facts(tree), facts(image)
    assert sorted(found) == sorted(expected)
    different = {path: (found[path], expected[path]) for path in found if not _is_same(found[path], expected[path])}
    assert different == {}
    for path in found:
        links = [os.lstat(os.path.join(os.fsencode(top), path)).st_nlink for top in (tree, image)]
        assert stat.S_ISDIR(os.lstat(os.path.join(os.fsencode(image), path)).st_mode) or links[0] == links[1]


def _is_same(image: tuple[object, ...], tree: tuple[object, ...]) -> bool:
    """Whiteouts, and directories that no entry stands for, have their own time in a tree and none in an image."""
    if image[_TIME] == 0 and str(image[0]).startswith(("0o4", "0o20000")):
        return image[:_TIME] + image[_TIME + 1 :] == tree[:_TIME] + tree[_TIME + 1 :]
    return image == tree


def check_by_fsck(image: Path) -> None:
    """By the program of erofs-utils, where it is one that knows blocks of 512 bytes (1.6 and later)."""
    program = os.environ.get("FSCK_EROFS") or shutil.which("fsck.erofs")
    if program:
        done = subprocess.run([program, image], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or "isn't supported" in done.stderr, done.stderr
