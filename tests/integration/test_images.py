# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images from every kind of archive, in the store as Docker has them, and mounted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot
from ansible_collections.strata.overlay.tests.integration.images import (
    Layer,
    Layout,
    layer_tar,
    sha256,
    simple_layout,
    skopeo,
    tar_of,
)

LAYERS: list[Layer] = [
    {"etc/os": "base", "etc/gone": "hidden later", "lib/big": "x" * 100_000},
    {"etc/app": "one"},
    {"etc/app": "two", "etc/gone": None},
]
TREE = {"etc/app": "two", "etc/os": "base", "lib/big": "x" * 100_000}


def image(path: Path, **options: Any) -> dict[str, Any]:
    """One item of ``images`` that the host reads itself."""
    return {"name": "app:1.0", "src": str(path), "remote_src": True, **options}


def web(host: Host, *images: dict[str, Any]) -> dict[str, Any]:
    """A definition of images and a stack of the first."""
    return {
        "images": list(images),
        "stacks": [{"name": "web", "path": host.path("web"), "layers": [images[0]["name"]]}],
    }


def mistakes(host: Host, *images: dict[str, Any]) -> list[str]:
    """What is wrong with a definition; nothing is left on the host."""
    with pytest.raises(DefinitionError) as failure:
        host.run(images=list(images))
    assert not host.root.exists()
    return failure.value.errors


def config_of(layout: Layout) -> bytes:
    return layout.path(layout.manifest(layout.entries[0])["config"]["digest"]).read_bytes()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An OCI layout of one image."""
    return simple_layout(tmp_path / "layout", *LAYERS)


def test_image_name_in_a_stack_stands_for_all_its_layers(host: Host, layout: Layout) -> None:
    done = host.four_steps(**web(host, image(layout.directory)))
    assert host.tree("web") == TREE
    diff_ids = [sha256(layer_tar(layer)) for layer in LAYERS]
    image_id = sha256(config_of(layout))
    manifest_digest = layout.entries[0]["digest"]
    assert done["images"] == {
        "app:1.0": {"image_id": image_id, "manifest_digest": manifest_digest, "diff_ids": diff_ids}
    }
    assert [step["action"] for step in done["plan"]] == [
        "create_store",
        *["import_content"] * 3,
        *["link_layer"] * 3,
        "store_image",
        "set_name",
        "write_stack",
        "mount",
    ]


def test_image_is_stored_as_docker_stores_it(host: Host, layout: Layout) -> None:
    done = host.four_steps(
        images=[
            image(layout.directory, name=name) for name in ("app", "docker.io/library/app:1.0", "r.example:5000/a/b")
        ]
    )
    image_id = sha256(config_of(layout))
    place = host.root / "image/overlay2"
    assert (place / "imagedb/content/sha256" / image_id[7:]).read_bytes() == config_of(layout)
    assert json.loads((place / "repositories.json").read_text()) == {
        "Repositories": {
            "app": {"app:latest": image_id, "app:1.0": image_id},
            "r.example:5000/a/b": {"r.example:5000/a/b:latest": image_id},
        }
    }
    chain = chain_ids(done["diff_ids"])
    sizes = [int((place / "layerdb/sha256" / chain_id[7:] / "size").read_text()) for chain_id in chain]
    assert sizes == [100_016, 3, 3], "Docker counts the bytes of files, not of the archive"
    gone = host.four_steps(images=[{"name": "app", "state": "absent"}])
    assert [step["text"] for step in gone["plan"]] == ["forget the name 'app'"]
    tags = json.loads((place / "repositories.json").read_text())["Repositories"]
    assert tags["app"] == {"app:1.0": image_id}


def test_missing_and_damaged_image_config_and_tags_are_repaired(host: Host, layout: Layout) -> None:
    images = [image(layout.directory)]
    host.run(images=images)
    place = host.root / "image/overlay2"
    content = place / "imagedb/content/sha256" / sha256(config_of(layout))[7:]
    content.unlink()
    assert "store image" in host.four_steps(images=images)["plan"][0]["text"]
    content.write_text("{}")
    assert "its config is damaged" in host.four_steps(images=images)["plan"][0]["text"]
    assert content.read_bytes() == config_of(layout)
    (place / "repositories.json").write_text('{"Repositories": []}')
    assert "its tag in repositories.json is missing or wrong" in host.four_steps(images=images)["plan"][0]["text"]
    assert "app:1.0" in (place / "repositories.json").read_text()


def test_docker_tag_of_two_names_goes_to_the_explicitly_tagged_one(host: Host, layout: Layout) -> None:
    layout.list("2.0", layout.image({"other": "image"}))
    images = [
        image(layout.directory, name="app", reference="1.0"),
        image(layout.directory, name="app:latest", reference="2.0"),
    ]
    done = host.four_steps(images=images)
    tags = json.loads((host.root / "image/overlay2/repositories.json").read_text())["Repositories"]["app"]
    assert tags == {"app:latest": done["images"]["app:latest"]["image_id"]}


def test_every_archive_format_of_an_image_gives_the_same_image(host: Host, layout: Layout, tmp_path: Path) -> None:
    source = f"oci:{layout.directory}:1.0"
    archive = tmp_path / "docker.tar"
    skopeo(source, f"docker-archive:{archive}:app:1.0")
    skopeo(source, f"oci-archive:{tmp_path}/oci.tar:1.0")
    skopeo("--dest-compress-format", "zstd", source, f"oci:{tmp_path}/zstd:1.0")
    with open(tmp_path / "docker.tar.gz", "wb") as packed:
        subprocess.run(["gzip", "-c", archive], check=True, stdout=packed)
    subprocess.run(["zstd", "-q", archive, "-o", tmp_path / "docker.tar.zst"], check=True)
    first = host.run(**web(host, image(archive)))
    assert first["images"]["app:1.0"]["manifest_digest"] == ""
    before = snapshot(host.root / "content") + snapshot(host.root / "overlay2") + snapshot(host.root / "image")
    for name in ("layout", "oci.tar", "zstd", "docker.tar.gz", "docker.tar.zst"):
        again = host.run(**web(host, image(tmp_path / name)))
        assert again["plan"] == [], name
        assert again["images"]["app:1.0"]["diff_ids"] == first["images"]["app:1.0"]["diff_ids"]
    after = snapshot(host.root / "content") + snapshot(host.root / "overlay2") + snapshot(host.root / "image")
    assert before == after
    for name in ("layout", "oci.tar", "zstd", "docker.tar.gz", "docker.tar.zst"):
        other = Host(tmp_path / f"host-{name}")
        other.top.mkdir()
        done = other.run(images=[image(tmp_path / name)])
        assert done["images"]["app:1.0"]["diff_ids"] == first["images"]["app:1.0"]["diff_ids"], name
        assert set(os.listdir(other.root / "overlay2/l")) == set(os.listdir(host.root / "overlay2/l"))


def test_archives_of_old_and_new_docker_save_give_the_same_image(host: Host, layout: Layout, tmp_path: Path) -> None:
    """Old: a link for a layer that another image has; new: an OCI layout with a manifest.json beside it."""
    old = tmp_path / "old"
    tars = [layer_tar(layer) for layer in LAYERS]
    for number, data in enumerate(tars):
        (old / str(number)).mkdir(parents=True)
        (old / str(number) / "layer.tar").write_bytes(data)
    (old / "3").mkdir()
    (old / "3/layer.tar").symlink_to("../2/layer.tar")
    (old / "config.json").write_bytes(config_of(layout))
    names = [f"{number}/layer.tar" for number in (0, 1, 3)]
    manifest = [{"Config": "config.json", "RepoTags": ["app:1.0"], "Layers": names}]
    (old / "manifest.json").write_text(json.dumps(manifest))
    (old / "repositories").write_text('{"app": {"1.0": "3"}}')
    done = host.four_steps(**web(host, image(tar_of(old, tmp_path / "old.tar"), reference="app:1.0")))
    assert host.tree("web") == TREE
    config = layout.manifest(layout.entries[0])["config"]["digest"]
    manifest = [{"Config": f"blobs/sha256/{config[7:]}", "RepoTags": ["app:1.0"], "Layers": []}]
    (layout.directory / "manifest.json").write_text(json.dumps(manifest))
    new = tar_of(layout.directory, tmp_path / "new.tar")
    again = host.run(**web(host, image(new, reference="app:1.0")))
    assert again["plan"] == []
    assert again["images"]["app:1.0"]["image_id"] == done["images"]["app:1.0"]["image_id"]


def test_archive_of_several_images_needs_the_reference_of_one(host: Host, layout: Layout) -> None:
    layout.list("2.0", layout.image({"other": "image"}))
    assert mistakes(host, image(layout.directory)) == [
        f"image app:1.0: {layout.directory} has 2 images; name one in the option 'reference': 1.0, 2.0"
    ]
    assert mistakes(host, image(layout.directory, reference="3.0")) == [
        f"image app:1.0: option 'reference': {layout.directory} has no image '3.0'; it has: 1.0, 2.0"
    ]
    host.four_steps(**web(host, image(layout.directory, reference="2.0")))
    assert host.tree("web") == {"other": "image"}


def test_digest_pins_an_image(host: Host, layout: Layout) -> None:
    layout.list("2.0", layout.image({"other": "image"}))
    image_id = sha256(config_of(layout))
    host.four_steps(**web(host, image(layout.directory, digest=image_id)))
    assert not host.run(**web(host, image(layout.directory, digest=layout.entries[0]["digest"])))["changed"]
    shutil.rmtree(host.root / "strata")
    with pytest.raises(DefinitionError) as failure:
        host.run(images=[image(layout.directory, reference="2.0", digest=image_id)])
    assert failure.value.errors[0].startswith(f"image app:1.0: option 'digest': expected {image_id}, but ")


def test_image_index_gives_image_for_host_or_requested_platform(host: Host, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "many")
    machine = {"x86_64": "linux/amd64", "aarch64": "linux/arm64/v8"}.get(os.uname().machine)
    if machine is None:
        pytest.skip("the test's images are for amd64 and arm64")
    platforms = ["linux/s390x", "linux/amd64", "linux/arm64/v8", "linux/arm/v6"]
    images = [layout.image({"platform": name}, platform=name) for name in platforms]
    said = layout.blob(b"{}", "application/vnd.oci.image.manifest.v1+json")
    attestation = {**said, "platform": {"os": "unknown", "architecture": "unknown"}}
    layout.list("1.0", layout.index(layout.index(*images[:2]), *images[2:], attestation))
    host.four_steps(**web(host, image(layout.directory)))
    assert host.tree("web") == {"platform": machine}
    host.four_steps(**web(host, image(layout.directory, platform="linux/arm/v7")))
    assert host.tree("web") == {"platform": "linux/arm/v6"}
    with pytest.raises(DefinitionError) as failure:
        host.run(images=[image(layout.directory, platform="windows/amd64")])
    there = "linux/amd64, linux/arm/v6, linux/arm64/v8, linux/s390x. Name one of these in the option 'platform'"
    expected = f"image app:1.0: {layout.directory} has nothing for platform windows/amd64; it has: {there}"
    assert failure.value.errors == [expected]


def test_damaged_layers_of_an_image_are_refused_and_leave_nothing(host: Host, layout: Layout, tmp_path: Path) -> None:
    layers = layout.manifest(layout.entries[0])["layers"]
    blob = layout.path(layers[1]["digest"])
    good = blob.read_bytes()
    # Still a whole gzip with the same tar in it: only the digest of the blob can tell.
    blob.write_bytes(good[:9] + bytes([good[9] ^ 1]) + good[10:])
    with pytest.raises(StrataError, match=rf"has digest sha256:\w+ and should have {layers[1]['digest']}"):
        host.run(images=[image(layout.directory)])
    assert os.listdir(host.root / "content/sha256") == []
    blob.write_bytes(good + b"more")
    with pytest.raises(DefinitionError, match=f"blob {layers[1]['digest']} has {len(good) + 4} bytes and should have"):
        host.run(images=[image(layout.directory)])
    blob.write_bytes(good)
    archive = tmp_path / "swapped"
    archive.mkdir()
    (archive / "config.json").write_bytes(config_of(layout))
    for number, layer in enumerate([LAYERS[0], LAYERS[2], LAYERS[1]]):
        (archive / f"{number}.tar").write_bytes(layer_tar(layer))
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["0.tar", "1.tar", "2.tar"]}]
    (archive / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StrataError, match="DiffID"):
        host.run(images=[image(tar_of(archive, tmp_path / "swapped.tar"))])
    assert os.listdir(host.root / "content/sha256") == []
    assert os.listdir(host.root / "staging") == []


def test_missing_or_damaged_image_source_is_refused_with_the_reason(host: Host, layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    missing = f"image app:1.0: cannot read {tmp_path}/missing: No such file or directory"
    assert mistakes(host, image(tmp_path / "missing")) == [missing]
    assert "it has neither index.json (OCI) nor manifest.json" in mistakes(host, image(tmp_path / "empty"))[0]
    assert "it is neither a directory nor a tar" in mistakes(host, image(tmp_path / "noise"))[0]
    layer = layout.manifest(layout.entries[0])["layers"][0]
    layout.path(layer["digest"]).unlink()
    assert f"blob {layer['digest']} is missing" in mistakes(host, image(layout.directory))[0]
    layout.path(layout.entries[0]["digest"]).write_text("{}")
    assert "it is damaged or cut short" in mistakes(host, image(layout.directory))[0]


def test_layers_and_images_share_one_set_of_names(host: Host, layout: Layout) -> None:
    other = {"name": "config", "files": [{"path": "etc/site", "content": "here"}]}
    stack = {"name": "web", "path": host.path("web"), "layers": ["app:1.0", "config"]}
    host.four_steps(images=[image(layout.directory)], layers=[other], stacks=[stack])
    assert host.tree("web") == {**TREE, "etc/site": "here"}
    # The name of a layer becomes an image's and the other way round, and the tag goes with it.
    swapped = [{"name": "app:1.0", "files": [{"path": "x", "content": "x"}]}]
    done = host.four_steps(images=[image(layout.directory, name="config")], layers=swapped)
    assert "move name 'config' from content" in " ".join(step["text"] for step in done["plan"])
    tags = json.loads((host.root / "image/overlay2/repositories.json").read_text())["Repositories"]
    assert list(tags) == ["config"]
    host.four_steps(exclusive=True)
    assert json.loads((host.root / "image/overlay2/repositories.json").read_text())["Repositories"] == {}


def test_image_built_by_umoci_is_mounted(host: Host, tmp_path: Path) -> None:
    if shutil.which("umoci") is None:
        pytest.skip("the Debian package umoci is missing")
    place = f"{tmp_path}/umoci"

    def umoci(*arguments: str) -> None:
        subprocess.run(["umoci", *arguments], check=True, capture_output=True)

    umoci("init", "--layout", place)
    umoci("new", "--image", f"{place}:1.0")
    for number in range(3):
        bundle = tmp_path / f"bundle{number}"
        umoci(
            "unpack",
            "--rootless",
            "--image",
            f"{place}:1.0",
            str(bundle),
        )
        (bundle / "rootfs" / f"file{number}").write_text(str(number))
        if number:
            (bundle / "rootfs" / f"file{number - 1}").unlink()
        umoci("repack", "--image", f"{place}:1.0", str(bundle))
    host.four_steps(**web(host, image(Path(place))))
    assert host.tree("web") == {"file2": "2"}


def test_pruned_image_leaves_nothing_behind(host: Host, layout: Layout) -> None:
    host.run(images=[image(layout.directory)], stacks=[])
    assert host.prune(check=True)["changed"] is False
    announced = host.prune(check=True, unused_for="0s")
    done = host.prune(unused_for="0s")
    assert announced["removed"] == done["removed"]
    assert {removal["kind"] for removal in done["removed"]} == {"name", "image", "layer", "content"}
    docker = host.root / "image/overlay2"
    assert json.loads((docker / "repositories.json").read_text()) == {"Repositories": {}}
    for place in ("imagedb/content/sha256", "imagedb/metadata/sha256", "layerdb/sha256"):
        assert list((docker / place).iterdir()) == []
    assert host.prune(unused_for="0s")["changed"] is False


def test_apply_with_prune_removes_all_parts_of_an_absent_image(host: Host, layout: Layout) -> None:
    host.run(images=[image(layout.directory)], stacks=[])
    done = host.four_steps(images=[{"name": "app:1.0", "state": "absent"}], prune={})
    assert {removal["kind"] for removal in done["removed"]} == {"image", "layer", "content"}


def test_image_beyond_its_limits_is_refused(host: Host, layout: Layout) -> None:
    with pytest.raises(StrataError, match=r"raise the option 'limits.entries'"):
        host.run(images=[{**image(layout.directory), "limits": {"entries": 1}}])
    assert not list((host.root / "content/sha256").iterdir())
    assert host.run(images=[{**image(layout.directory), "limits": {"entries": 1000, "bytes": "1m"}}])["changed"]
