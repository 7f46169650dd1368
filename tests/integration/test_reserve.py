# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of some kilobytes that unpack to more than the disk holds: at the defaults, a reserve stays free."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.tests.integration.disk import mounted_ext4
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline

SIZE = 64 << 20


@pytest.fixture
def small(host: Host, tmp_path: Path) -> Iterator[Host]:
    """A host whose store and stacks lie on an ext4 of 64 MB, of which nothing is kept back for root."""
    with mounted_ext4(tmp_path, "-m", "0", size=SIZE) as place:
        yield Host(place)


def one_file(path: Path) -> None:
    with gzip.open(path, "wb", 1) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("much")
        entry.size = 2 * SIZE
        archive.addfile(entry, io.BytesIO(b"much" * (entry.size // 4)))


def files_of_zeros(path: Path) -> None:
    """Each too small for a hole."""
    with gzip.open(path, "wb", 1) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(2 * SIZE // 60_000):
            entry = tarfile.TarInfo(f"{number}")
            entry.size = 60_000
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))


def empty_files(path: Path) -> None:
    """More than there are inodes."""
    with gzip.open(path, "wb", 1) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(20_000):
            archive.addfile(tarfile.TarInfo(f"{number}"))


def refused(host: Host, **parameters: Any) -> str:
    """What the run says; whatever it wrote is gone and never was more than it may."""
    host.run(layers=[inline("before", a="a")])
    before = os.statvfs(host.top)
    with pytest.raises(StrataError) as caught:
        host.run(**parameters)
    after = os.statvfs(host.top)
    assert after.f_ffree == before.f_ffree
    assert list(host.store.names()) == ["before"]
    return str(caught.value)


@pytest.mark.parametrize("make", [one_file, files_of_zeros, empty_files])
def test_layer_bomb_leaves_a_reserve(
    small: Host, tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[os.statvfs_result] = []
    ask = os.fstatvfs

    def look(descriptor: int) -> os.statvfs_result:
        seen.append(ask(descriptor))
        return seen[-1]

    monkeypatch.setattr(os, "fstatvfs", look)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})  # the work is done in this process
    make(tmp_path / "bomb.tar.gz")
    words = refused(small, layers=[{"name": "bomb", "src": str(tmp_path / "bomb.tar.gz")}])
    assert "bomb" in words
    assert "limits.reserve" in words
    assert "strata.overlay.prune" in words
    assert min(facts.f_bavail * facts.f_frsize for facts in seen) > SIZE // 20 - (1 << 20)
    assert min(facts.f_favail for facts in seen) > seen[0].f_files // 20 - 64


def test_compressed_image_archive_bomb_leaves_a_reserve(small: Host, tmp_path: Path) -> None:
    one_file(tmp_path / "image.tar.gz")
    words = refused(small, images=[{"name": "bomb", "src": str(tmp_path / "image.tar.gz"), "remote_src": True}])
    assert "image.tar.gz cannot be decompressed" in words
    assert "limits.reserve" in words


def test_bomb_in_a_layer_of_an_image_leaves_a_reserve(small: Host, tmp_path: Path) -> None:
    one_file(tmp_path / "layer.tar.gz")
    layer = gzip.decompress((tmp_path / "layer.tar.gz").read_bytes())
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    files = {
        "config.json": config,
        "layer.tar": layer,
        "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"]}]).encode(),
    }
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    words = refused(small, images=[{"name": "bomb", "src": str(tmp_path / "image.tar"), "remote_src": True}])
    assert "image bomb" in words
    assert "limits.reserve" in words


def test_reserve_of_zero_lets_a_layer_fill_the_disk(small: Host) -> None:
    free = os.statvfs(small.top).f_bavail * os.statvfs(small.top).f_frsize
    much = {**inline("much", much="x" * (free - (2 << 20))), "limits": {"reserve": "0"}}
    small.run(layers=[much])
    assert os.statvfs(small.top).f_bavail * os.statvfs(small.top).f_frsize < SIZE // 20


def test_inline_files_and_copy_driver_leave_a_reserve(small: Host) -> None:
    half = inline("half", much="x" * 34_000_000)
    small.run(layers=[half])
    stack = {"name": "web", "path": small.path("web"), "layers": ["half"], "driver": "copy", "writable": "persistent"}
    with pytest.raises(StrataError, match=r"stack web: cannot copy.*nearly full.*limits\.reserve"):
        small.run(layers=[half], stacks=[stack])
    with pytest.raises(StrataError, match=r"Cannot unpack.*other.*nearly full.*limits\.reserve"):
        small.run(layers=[inline("other", much="y" * 30_000_000)])
