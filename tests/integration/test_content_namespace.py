# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of contents mounted in a namespace of the store's own, and what is built of them there."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.image import make_image
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.erofs_mount import image_tree
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import FsContext, Tree, clone_mount
from ansible_collections.strata.overlay.plugins.module_utils._mount.content_namespace import ContentNamespace
from ansible_collections.strata.overlay.tests.integration.disk import mounted_ext4
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root, need_private_namespace
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import member


class Contents:
    """Some images, where they are to be seen, and a stack of them."""

    def __init__(self, top: Path) -> None:
        self.root = top / "store"
        self.stack = top / "stack"
        self.run = top / "run"
        for directory in (self.root / "upper", self.root / "work", self.stack):
            directory.mkdir(parents=True)
        self.images: dict[str, str] = {}
        for number in range(3):
            directory, image = self.root / str(number), self.root / f"{number}.erofs"
            directory.mkdir()
            data = member(b"f%d" % number, b"content %d" % number)
            make_image(io.BytesIO(data + END).read, str(image))
            self.images[str(directory)] = str(image)
        self.space = ContentNamespace(str(self.root), str(self.run))

    def overlay(self) -> Tree:
        with FsContext("overlay") as context:
            for directory in self.images:
                context.set("lowerdir+", directory)
            context.set("upperdir", str(self.root / "upper"))
            context.set("workdir", str(self.root / "work"))
            return context.tree(0)

    def attach(self) -> None:
        with self.space.build(self.images, self.overlay) as tree:
            tree.attach(str(self.stack))


@pytest.fixture
def contents(tmp_path: Path) -> Iterator[Contents]:
    need_full_root("mounts no file system of a file's")
    need_private_namespace()
    found = Contents(tmp_path)
    try:
        image, *_others = found.images.values()
        image_tree(image)[0].__exit__()
    except OSError as error:
        pytest.skip(f"this kernel mounts no EROFS: {error.strerror}")
    yield found
    subprocess.run(["umount", "--lazy", found.stack], check=False, capture_output=True)
    if found.space.exists():
        found.space.end()
    subprocess.run(["umount", found.run], check=False, capture_output=True)


def seen() -> list[str]:
    return [mount.path for mount in mountinfo.read() if mount.fstype == "erofs"]


def test_overlay_of_images_is_built_out_of_sight_and_seen_here(contents: Contents) -> None:
    contents.attach()
    assert sorted(os.listdir(contents.stack)) == ["f0", "f1", "f2"]
    (contents.stack / "f1").write_text("changed")
    assert (contents.root / "upper/f1").read_text() == "changed"
    assert seen() == []
    assert contents.space.mounted() == sorted(contents.images)
    assert os.listdir(next(iter(contents.images))) == []


def test_image_is_mounted_once_for_all_that_is_built_of_it(contents: Contents) -> None:
    directory = next(iter(contents.images))
    numbers = set()
    for _time in range(2):
        with contents.space.build(contents.images, lambda: clone_mount(directory)) as tree:
            numbers.add(os.fstat(tree.fd).st_dev)
    assert len(numbers) == 1
    assert contents.space.mounted() == sorted(contents.images)


def test_what_was_built_outlives_the_images_and_their_namespace(contents: Contents) -> None:
    contents.attach()
    first, *rest = contents.images
    contents.space.leave([first])
    assert contents.space.mounted() == rest
    contents.space.leave(rest)
    assert not contents.space.exists()
    assert not os.path.exists(contents.space.pin)
    assert (contents.stack / "f0").read_text() == "content 0"
    contents.space.leave([first])


def test_namespace_keeps_no_mount_of_the_host_busy(contents: Contents, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with mounted_ext4(other) as place:
        contents.attach()
        subprocess.run(["umount", place], check=True)
        devices = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
        assert str(other) not in devices
        syscalls.mount("tmpfs", str(place), "tmpfs", 0)  # which the end of the block takes away


@pytest.mark.parametrize("error", [StrataError("in words"), OSError(errno.EINVAL, "as the kernel says", "file")])
def test_errors_of_the_work_inside_come_out(contents: Contents, error: Exception) -> None:
    def fail() -> Tree:
        raise error

    with pytest.raises(type(error)) as found:
        contents.space.build(contents.images, fail)
    assert str(found.value) == str(error)
    assert seen() == []
    contents.attach()


def test_damaged_image_is_refused_and_nothing_is_attached(contents: Contents) -> None:
    directory, image = next(iter(contents.images.items()))
    with open(image, "r+b") as stream:
        stream.seek(1024)
        stream.write(bytes(4))
    with pytest.raises(OSError, match=r"(?i)invalid|superblock"):
        contents.attach()
    assert directory not in contents.space.mounted()
    assert os.listdir(contents.stack) == []
