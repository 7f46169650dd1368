# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roots of real engines, whole and damaged, read without a trace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._engines.detect import engine_of, read_engine_root
from ansible_collections.strata.overlay.plugins.module_utils._engines.info import engine_info
from ansible_collections.strata.overlay.plugins.module_utils._engines.model import EngineRoot
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, mountapi, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import untouched
from ansible_collections.strata.overlay.tests.integration.docker import StoppedDocker
from ansible_collections.strata.overlay.tests.integration.host import Ansible
from ansible_collections.strata.overlay.tests.integration.podman import Podman


def read(root: Path) -> EngineRoot:
    with untouched(str(root)) as view:
        return read_engine_root(str(root), view)


def traces(top: Path) -> list[tuple[Any, ...]]:
    """Everything that reading or writing could change, taken without changing it."""
    found = []
    for path in [top, *sorted(top.rglob("*"))]:
        facts = path.lstat()
        found.append((str(path), facts.st_mode, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_atime_ns))
    return found


def disk_use(path: Path) -> int:
    """Bytes on disk as du(1) counts them."""
    done = subprocess.run(["du", "--summarize", "--block-size=1", path], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


@pytest.fixture
def docker_root(stopped_docker: StoppedDocker, tmp_path: Path) -> Path:
    return stopped_docker.copy(tmp_path / "docker")


@pytest.fixture
def podman_root(stopped_podman: Podman, tmp_path: Path) -> Path:
    return stopped_podman.copy(tmp_path / "podman")


def test_images_and_containers_of_a_docker_root_are_read(stopped_docker: StoppedDocker) -> None:
    assert engine_of(str(stopped_docker.root)) == "docker"
    found = read(stopped_docker.root)
    assert (found.damages, found.orphans) == ((), ())
    (image,) = [image for image in found.images if image.names == ("app:1",)]
    assert len(found.chain(image.top)) == 4
    (container,) = found.containers
    assert (container.name, container.image_id, container.parent) == ("held", image.image_id, image.top)
    assert len(container.layer_ids) == 2
    assert found.missing(set(os.listdir(stopped_docker.root / "overlay2"))) == []


def test_images_and_containers_of_a_podman_root_are_read(stopped_podman: Podman) -> None:
    assert engine_of(str(stopped_podman.root)) == "podman"
    found = read(stopped_podman.root)
    assert (found.damages, found.orphans) == ((), ())
    (image,) = [image for image in found.images if image.names == ("localhost/app:1",)]
    assert len(found.chain(image.top)) == 3
    (container,) = found.containers
    assert (container.name, container.image_id, container.parent) == ("held", image.image_id, image.top)
    assert len(container.layer_ids) == 1
    assert found.missing(set(os.listdir(stopped_podman.root / "overlay"))) == []


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_reading_a_root_writes_nothing_and_keeps_access_times(request: pytest.FixtureRequest, engine: str) -> None:
    root: Path = request.getfixturevalue(f"{engine}_root")
    # Long ago, so that reading would change it.
    for path in [root, *root.rglob("*")]:
        os.utime(path, (0, path.lstat().st_mtime), follow_symlinks=False)
    before = traces(root)
    found = engine_info(str(root), size=True)
    assert found["images"]
    assert traces(root) == before


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_reading_a_root_without_mount_permission_writes_nothing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    root: Path = request.getfixturevalue(f"{engine}_root")
    for path in [root, *root.rglob("*")]:
        os.utime(path, (0, path.lstat().st_mtime), follow_symlinks=False)
    before = traces(root)

    def refused(path: str) -> int:
        raise PermissionError(path)

    monkeypatch.setattr(mountapi, "read_only_view", refused)
    assert engine_info(str(root), size=True)["images"]
    assert traces(root) == before


def test_root_on_a_read_only_file_system_gives_the_same_info(docker_root: Path, tmp_path: Path) -> None:
    place = tmp_path / "read-only"
    place.mkdir()
    syscalls.mount(str(docker_root), str(place), None, mount_flags.MS_BIND)
    try:
        syscalls.mount("", str(place), None, mount_flags.MS_REMOUNT | mount_flags.MS_BIND | mount_flags.MS_RDONLY)
        there, here = engine_info(str(place), size=True), engine_info(str(docker_root), size=True)
        assert there == here
    finally:
        syscalls.umount(str(place))


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_reported_bytes_equal_those_of_du(request: pytest.FixtureRequest, engine: str) -> None:
    root: Path = request.getfixturevalue(f"{engine}_root")
    found = engine_info(str(root), size=True)
    home = root / ("overlay2" if engine == "docker" else "overlay")
    for layer in found["layers"]:
        assert layer["bytes"] == disk_use(home / layer["layer_id"])
    usage = found["usage"]
    assert usage["total_bytes"] == disk_use(root)
    assert usage["content_bytes"] == sum(layer["bytes"] for layer in found["layers"])
    (container,) = found["containers"]
    assert usage["writable_bytes"] == container["writable_bytes"] > 0
    # Every layer is below the one container; `base` is part of `app:1`, which has layers of its own.
    assert (usage["used_bytes"], usage["reclaimable_bytes"]) == (usage["content_bytes"], 0)
    app = next(image for image in found["images"] if any(name.endswith("app:1") for name in image["names"]))
    assert app["bytes"] == usage["content_bytes"]
    assert 0 < app["unique_bytes"] < app["bytes"]
    unmeasured = engine_info(str(root), size=False)
    assert set(unmeasured["usage"].values()) == {None}
    assert [layer["diff_id"] for layer in unmeasured["layers"]] == [layer["diff_id"] for layer in found["layers"]]


# Damage, as the threads describe it.


def remove_image_record(root: Path) -> None:
    """`docker rmi` cut short: the layer's record has gone, its directory has not (moby #45939)."""
    records = root / "image/overlay2/layerdb/sha256"
    top = max(records.iterdir(), key=lambda path: (path / "parent").exists() and path.stat().st_mtime)
    shutil.rmtree(top)


def test_orphaned_directories_of_docker_are_reported(docker_root: Path) -> None:
    strange = docker_root / "overlay2" / ("ab" * 32)
    (strange / "diff").mkdir(parents=True)
    (strange / "diff/large").write_bytes(b"x" * 300_000)
    (docker_root / "image/overlay2/layerdb/tmp/write-set-123").mkdir()
    remove_image_record(docker_root)
    found = engine_info(str(docker_root), size=True)
    orphans = {orphan["path"]: orphan for orphan in found["orphans"]}
    assert orphans[f"overlay2/{'ab' * 32}"]["bytes"] == disk_use(strange)
    assert orphans["image/overlay2/layerdb/tmp/write-set-123"]["kind"] == "leftover"
    assert len(orphans) == 3
    assert found["usage"]["orphaned_bytes"] == sum(orphan["bytes"] for orphan in orphans.values())


def test_directory_known_to_buildkit_is_build_cache_not_orphaned_layer(docker_root: Path) -> None:
    name = "k3x9v0a7b1c2d3e4f5g6h7i8j"
    for directory in (name, f"{name}-init", "z" * 25):
        (docker_root / "overlay2" / directory / "diff").mkdir(parents=True)
    (docker_root / "buildkit/snapshots.db").write_bytes(b"\0\1bucket" + b"\0" + name.encode() + b"\0tail")
    kinds = {orphan.name: orphan.kind for orphan in read(docker_root).orphans}
    assert kinds == {name: "build_cache", f"{name}-init": "build_cache", "z" * 25: "layer"}


def damaged(path: Path, how: str) -> None:
    path.unlink()
    if how == "emptied":
        path.touch()
    elif how == "malformed":
        path.write_text("{nonsense")
    elif how == "replaced by a directory":
        path.mkdir()
    elif how == "replaced by a link":
        path.symlink_to("/etc/passwd")


DAMAGES = ["emptied", "malformed", "removed", "replaced by a directory", "replaced by a link"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("record", ["cache-id", "diff"])
def test_damaged_docker_record_is_reported_and_the_rest_is_read(docker_root: Path, record: str, damage: str) -> None:
    top = next((docker_root / "image/overlay2/layerdb/sha256").iterdir())
    damaged(top / record, damage)
    found = read(docker_root)
    assert [told.path for told in found.damages] == [str((top / record).relative_to(docker_root))]
    assert (len(found.images), len(found.layers)) == (4, 4)
    # Its directory is one that no record knows any more.
    assert len(found.orphans) == (1 if record == "cache-id" else 0)


@pytest.mark.parametrize("name", ["overlay-layers/layers.json", "overlay-images/images.json"])
@pytest.mark.parametrize("damage", ["emptied", "malformed"])
def test_damaged_podman_record_is_reported_and_the_rest_is_read(podman_root: Path, name: str, damage: str) -> None:
    damaged(podman_root / name, damage)
    found = read(podman_root)
    assert [told.path for told in found.damages] == [name]
    assert len(found.containers) == 1


def test_orphaned_directories_of_podman_are_reported(podman_root: Path) -> None:
    for name in ("ab" * 32, "staging/half", "tempdirs/temp-dir-1"):
        (podman_root / "overlay" / name).mkdir(parents=True)
    layers = json.loads((podman_root / "overlay-layers/layers.json").read_text())
    (podman_root / "overlay-layers/layers.json").write_text(json.dumps(layers[1:]))
    found = engine_info(str(podman_root), size=True)
    kinds = {orphan["path"]: orphan["kind"] for orphan in found["orphans"]}
    assert kinds == {
        f"overlay/{'ab' * 32}": "layer",
        f"overlay/{layers[0]['id']}": "layer",
        "overlay/staging/half": "leftover",
        "overlay/tempdirs/temp-dir-1": "leftover",
    }
    assert found["usage"]["orphaned_bytes"] == sum(orphan["bytes"] for orphan in found["orphans"]) > 0


@pytest.mark.parametrize(
    ("directory", "words"),
    [("vfs-layers", "driver vfs"), ("image/vfs", "driver vfs"), ("image/btrfs", "driver btrfs")],
)
def test_root_of_another_driver_is_refused(tmp_path: Path, directory: str, words: str) -> None:
    (tmp_path / directory).mkdir(parents=True)
    with pytest.raises(StrataError, match=words):
        engine_of(str(tmp_path))


def test_store_info_through_ansible_reads_root_and_writes_nothing(docker_root: Path, ansible: Ansible) -> None:
    before = traces(docker_root)
    found = ansible.module("store_info", {"root": str(docker_root)})
    assert (found["engine"], found["changed"]) == ("docker", False)
    assert len(found["images"]) == 4
    assert found["abilities"]["overlay"]
    assert traces(docker_root) == before
