# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roots of container engines whose owner wants whoever reads them to wait, to fill up or to go astray."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._check.engines import check_engine
from ansible_collections.strata.overlay.plugins.module_utils._engines import records
from ansible_collections.strata.overlay.plugins.module_utils._engines.info import engine_info
from ansible_collections.strata.overlay.plugins.module_utils._engines.records import Foreign
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls

LAYER = "a" * 64


@pytest.fixture(params=["openat2", "by hand"])
def top(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory; where openat2(2) is not to be had, files are found by hand."""
    if request.param == "by hand":

        def missing(*_arguments: Any) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(syscalls, "openat2", missing)
    return tmp_path


@pytest.fixture
def podman(top: Path) -> Path:
    """A root of Podman with one layer."""
    for name in ("overlay-layers", "overlay-images", "overlay-containers", "overlay/l", f"overlay/{LAYER}/diff"):
        (top / name).mkdir(parents=True)
    (top / "overlay-layers/layers.json").write_text(json.dumps([{"id": LAYER}]))
    (top / f"overlay/{LAYER}/link").write_text("A" * 26)
    (top / "overlay/l" / ("A" * 26)).symlink_to(f"../{LAYER}/diff")
    return top


@pytest.fixture
def docker(top: Path) -> Path:
    """A root of Docker with one layer."""
    record = top / "image/overlay2/layerdb/sha256" / LAYER
    for path in (record, top / f"overlay2/{LAYER}/diff", top / "overlay2/l"):
        path.mkdir(parents=True)
    (record / "cache-id").write_text(LAYER)
    (record / "diff").write_text(f"sha256:{LAYER}")
    (record / "size").write_text("5")
    (top / f"overlay2/{LAYER}/link").write_text("A" * 26)
    (top / "overlay2/l" / ("A" * 26)).symlink_to(f"../{LAYER}/diff")
    return top


def damages(root: Path) -> dict[str, str]:
    """What store_info says, and store_check at least."""
    found = {damage["path"]: damage["text"] for damage in engine_info(str(root), size=True)["damages"]}
    told = {finding.object: finding.message for finding in check_engine(str(root)) if finding.kind == "record_damaged"}
    assert found.items() <= told.items()
    return told


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(3 << 30)


def link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/passwd")


HOSTILE: list[tuple[Callable[[Path], None], str]] = [
    (fifo, "it is a FIFO and no regular file"),
    (huge, "it has 3221225472 bytes; more than"),
    (link, "it is a symbolic link and no regular file"),
]


def test_sound_podman_root_has_no_damage(podman: Path) -> None:
    assert check_engine(str(podman)) == []
    assert len(engine_info(str(podman), size=True)["layers"]) == 1


@pytest.mark.parametrize(("make", "words"), HOSTILE)
@pytest.mark.parametrize("name", ["overlay-layers/layers.json", "overlay-images/images.json", f"overlay/{LAYER}/lower"])
def test_hostile_podman_record_is_reported(podman: Path, name: str, make: Callable[[Path], None], words: str) -> None:
    make(podman / name)
    assert words in damages(podman)[name]


@pytest.mark.parametrize(("make", "words"), HOSTILE)
@pytest.mark.parametrize(
    "name",
    [
        f"image/overlay2/layerdb/sha256/{LAYER}/cache-id",
        f"image/overlay2/layerdb/sha256/{LAYER}/size",
        f"image/overlay2/layerdb/sha256/{LAYER}/parent",
        "image/overlay2/repositories.json",
        "buildkit/cache.db",
        f"overlay2/{LAYER}/link",
    ],
)
def test_hostile_docker_record_is_reported(docker: Path, name: str, make: Callable[[Path], None], words: str) -> None:
    (docker / "buildkit").mkdir()
    (docker / "overlay2/unknown").mkdir()
    make(docker / name)
    assert words in damages(docker)[name]


@pytest.mark.parametrize("part", ["image/overlay2/layerdb", "image/overlay2/imagedb/content", "image"])
def test_symlink_in_the_middle_of_a_path_is_not_followed(docker: Path, tmp_path: Path, part: str) -> None:
    (docker / "image/overlay2/imagedb/content/sha256").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    os.rename(docker / part, elsewhere)
    (docker / part).symlink_to(elsewhere)
    told = damages(docker)
    assert any("a part of its path is a symbolic link, and none is followed" in words for words in told.values())
    if part != "image/overlay2/imagedb/content":
        assert engine_info(str(docker), size=True)["layers"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "it is no JSON"),
        ('[{"id": "a", "diff-size": ' + "9" * 5000 + "}]", "a number of 5000 digits"),
        ("[" + "0," * 2_000_001 + "0]", "it has more than 2000000 values"),
        ("", "it is empty"),
    ],
)
def test_unreadable_or_oversized_json_is_reported_as_damaged(podman: Path, text: str, words: str) -> None:
    (podman / "overlay-layers/layers.json").write_text(text)
    assert words in damages(podman)["overlay-layers/layers.json"]


def test_sixty_thousand_layers_in_one_chain_are_read_in_bounded_time(tmp_path: Path) -> None:
    for name in ("overlay-layers", "overlay-images", "overlay/l"):
        (tmp_path / name).mkdir(parents=True)
    layers = [{"id": f"{number}", "parent": f"{number - 1}" if number else ""} for number in range(60_000)]
    (tmp_path / "overlay-layers/layers.json").write_text(json.dumps(layers))
    images = [{"id": f"i{number}", "layer": f"{number}"} for number in range(58_000, 60_000)]
    (tmp_path / "overlay-images/images.json").write_text(json.dumps(images))
    begun = time.process_time()
    found = engine_info(str(tmp_path), size=False)
    assert len(found["layers"]) == 60_000
    assert {image["layers"] for image in found["images"]} == {500}
    assert [damage["text"][:14] for damage in found["damages"]] == ["59500 layers l"]
    assert len(check_engine(str(tmp_path))) > 60_000
    assert time.process_time() - begun < 30


def test_directory_with_too_many_entries_is_read_in_part(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MOST_NAMES", 3)
    (top / "many").mkdir()
    for number in range(4):
        (top / "many" / f"{number}").touch()
    with Foreign(str(top)) as files:
        assert len(files.names("many")) == 3
        assert files.names("none") == []
    assert files.faults == {"many": "it has more than 3 entries; the rest is not looked at"}


def test_file_that_grows_while_it_is_read_is_reported() -> None:
    """Files of /proc have no size before they are read."""
    with Foreign("/proc/self") as files:
        assert files.read("maps", 5) is None
    assert files.faults == {"maps": "it grows while it is read; more than 5 bytes are not read"}


def test_unmeasured_directory_is_reported_by_its_path_in_the_root(
    podman: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def broken(place: Any) -> Any:
        if os.readlink(f"/proc/self/fd/{place}").endswith(f"{LAYER}/diff"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", broken)
    found = engine_info(str(podman), size=True)
    assert found["unmeasured"] == found["warnings"] == [f"overlay/{LAYER}/diff is not measured: Input/output error"]
    assert found["usage"]["total_bytes"] > 0
