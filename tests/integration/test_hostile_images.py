# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that lie, lead out, go in circles or explode, through the whole engine and beside a canary."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.tests.integration.canary import SECRET, plant, untouched
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.images import Layout, layer_tar, sha256, simple_layout, tar_of
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import (
    hardlink,
    member,
    patched,
    pax,
    symlink,
)
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.hostile import REFUSED, long_name

INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = layer_tar({"etc/app": "one"})
OTHER = layer_tar({"etc/app": "other"})


def config(layer: bytes) -> bytes:
    """The config of an image of one layer."""
    rootfs = {"type": "layers", "diff_ids": [sha256(layer)]}
    return json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()


def manifest(**changes: Any) -> bytes:
    """The manifest.json of an archive of Docker."""
    return json.dumps([{"Config": "config.json", "RepoTags": ["app:1.0"], "Layers": ["layer.tar"], **changes}]).encode()


def docker(*members: bytes, described: bytes | None = None) -> bytes:
    """An archive of ``docker save``: manifest.json, and a config and layer that fit, with more behind them."""
    usual = member(b"config.json", config(LAYER)) + member(b"layer.tar", LAYER)
    return member(b"manifest.json", described or manifest()) + usual + b"".join(members) + END


DOCKER: dict[str, tuple[bytes, str]] = {
    "config out": (docker(described=manifest(Config="../../canary/file")), "canary/file' is missing"),
    "names that a terminal would obey": (
        docker(described=manifest(Config="\x1b[2J\n")),
        r"'\\x1b\[2J\\n' is missing",
    ),
    "tags that a terminal would obey": (
        docker(described=json.dumps(2 * json.loads(manifest(RepoTags=["\x1b[2J"]))).encode()),
        r"has 2 images.*'\\x1b\[2J'",
    ),
    "name of a megabyte": (docker(described=manifest(Config="x" * (1 << 20))), "is missing"),
    "tag of a megabyte": (
        docker(described=json.dumps(2 * json.loads(manifest(RepoTags=["x" * (1 << 20)]))).encode()),
        "has 2 images",
    ),
    "layer out": (docker(described=manifest(Layers=["../../canary/file"])), "canary/file' is missing"),
    "layer is a link out": (docker(symlink(b"layer.tar", b"../../canary/file")), "layer.tar' is missing"),
    "layer is a link to itself": (docker(symlink(b"layer.tar", b"layer.tar")), "circle of links"),
    "links in a circle": (docker(symlink(b"layer.tar", b"b"), symlink(b"b", b"layer.tar")), "circle of links"),
    "layer is a directory": (docker(member(b"layer.tar", kind="directory")), "layer.tar' is missing"),
    "layer is a device": (docker(member(b"layer.tar", kind="char", device=(1, 5))), "layer.tar' is missing"),
    "config missing": (docker(described=manifest(Config="none.json")), "none.json' is missing"),
    "config is noise": (docker(member(b"config.json", b"\xff\xfe")), "config.json' is no JSON"),
    "config of no image": (docker(member(b"config.json", b"{}")), "no image's config"),
    "config without layers": (
        docker(member(b"config.json", b'{"rootfs": {"type": "layers", "diff_ids": []}}')),
        "has no layers",
    ),
    "diff_id leads out": (
        docker(member(b"config.json", b'{"rootfs": {"type": "layers", "diff_ids": ["sha256:../../../canary"]}}')),
        "diff_id 1: its digest .* is not 'sha256:'",
    ),
    "diff_id is a number": (
        docker(member(b"config.json", b'{"rootfs": {"type": "layers", "diff_ids": [5]}}')),
        "diff_id 1: its digest",
    ),
    "diff_id without end": (
        docker(member(b"config.json", b'{"rootfs": {"type": "layers", "diff_ids": ["%s"]}}' % (b"a" * 1_000_000))),
        "diff_id 1: its digest",
    ),
    "more layers than DiffIDs": (
        docker(described=manifest(Layers=["layer.tar", "layer.tar"])),
        "has 2 layers, and its config lists 1",
    ),
    "layer that the config does not mean": (
        docker(member(b"layer.tar", OTHER)),
        rf"\(layer 1 of 1\) has DiffID {sha256(OTHER)}, but the image's config says {sha256(LAYER)}\. .*'digest'",
    ),
    "hostile layer": (
        docker(
            member(b"layer.tar", REFUSED["name out"].archive),
            member(b"config.json", config(REFUSED["name out"].archive)),
        ),
        r"image bad:1.0: content \w+ from .*\(layer 1 of 1\): " + REFUSED["name out"].reason,
    ),
    "layer cut short": (
        docker(
            member(b"layer.tar", LAYER[:700]),
            member(b"config.json", config(LAYER[:700])),
        ),
        r"image bad:1.0: .*\(layer 1 of 1\): the archive is cut short.*in entry 'etc/app'",
    ),
    "manifest.json is noise": (docker(described=b"noise"), "manifest.json is no JSON"),
    "manifest.json of another shape": (docker(described=b'{"Layers": 5}'), "manifest.json is no list"),
    "manifest.json of wrong types": (docker(described=manifest(Layers=[5])), "must have Config, Layers and RepoTags"),
    "manifest.json of brackets": (docker(described=b"[" * 1_000_000), "manifest.json is no JSON"),
    "manifest.json of digits": (docker(described=b"[" + b"9" * 1_000_000 + b"]"), "a number of 1000000 digits"),
    "manifest.json too large": (docker(described=b" " * (5 << 20)), "more than 4194304 are not read"),
    "no manifest at all": (member(b"x") + END, "neither index.json"),
    "archive cut short": (docker()[:-1500], "a tar that can be read: the archive is cut short"),
    "archive with a wrong checksum": (
        docker()[:300] + b"?" + docker()[301:],
        "a tar that can be read: .*no valid header at byte 0",
    ),
    "extended header of a gigabyte": (
        patched(patched(member(b"x")[:512], 124, b"10000000000\0"), 156, b"x") + docker(),
        "a tar that can be read: .*not believable",
    ),
    "size beyond all files": (
        pax((b"size", b"%d" % (2**63 - 1))) + member(b"x")[:512] + docker(),
        "cut short|cannot read",
    ),
    "names that lead out, among them good ones": (
        docker(member(b"../../canary/config.json", b"x"), long_name(b"../" * 60 + b"canary/x", b"L"), member(b"y")),
        "",
    ),
    "compressed bomb": (gzip.compress(bytes(64 << 20)), "unpacks to more than the limit of 1048576 .*'limits.bytes'"),
}
"""Archive and what is said; nothing is said where it is taken."""


def oci_layout(change: Callable[[Layout], object]) -> Callable[[Path, Path], object]:
    """Make a good layout, then spoil it."""

    def make(place: Path, _canary: Path) -> None:
        change(simple_layout(place, {"etc/app": "one"}))

    return make


def first_layer(layout: Layout) -> Path:
    return layout.path(layout.manifest(layout.entries[0])["layers"][0]["digest"])


def relink(path: Path, target: Path | str) -> None:
    path.unlink()
    path.symlink_to(target)


def blobs_out(place: Path, canary: Path) -> None:
    simple_layout(place, {"etc/app": "one"})
    shutil.rmtree(place / "blobs/sha256")
    (place / "blobs/sha256").symlink_to(canary)


def rewrite(layout: Layout, change: Callable[[dict[str, Any]], object]) -> None:
    """Another manifest in place of the first, with the right digest."""
    data = layout.manifest(layout.entries.pop())
    change(data)
    layout.list("1.0", layout.blob(json.dumps(data).encode(), data["mediaType"]))


def fan_out(layout: Layout) -> None:
    """Eight levels of ten indexes, each of which lists all of the next level: ten million images."""
    below = [layout.image({"number": str(number)}) for number in range(10)]
    for _level in range(6):
        bodies = [{"schemaVersion": 2, "mediaType": INDEX, "manifests": below, "number": n} for n in range(10)]
        below = [layout.blob(json.dumps(body).encode(), INDEX) for body in bodies]
    layout.entries.clear()
    layout.list("1.0", layout.index(*below))


def nest(layout: Layout) -> None:
    descriptor = layout.image({"etc/app": "deep"})
    for _level in range(9):
        descriptor = layout.index(descriptor)
    layout.entries.clear()
    layout.list("1.0", descriptor)


def circle(layout: Layout) -> None:
    """No index can hold its own digest; one that says it does is found out by it."""
    digest = "sha256:" + "a" * 64
    entry = {"mediaType": INDEX, "digest": digest, "size": 200}
    layout.path(digest).write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    layout.entries.clear()
    layout.list("1.0", {**entry, "size": layout.path(digest).stat().st_size})


def set_in(key: str, value: object) -> Callable[[Layout], object]:
    """Something wrong in the descriptor of the first layer."""
    return lambda layout: rewrite(layout, lambda data: data["layers"][0].update({key: value}))


LAYOUTS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "layer of another digest": (
        oci_layout(lambda layout: first_layer(layout).write_bytes(first_layer(layout).read_bytes()[::-1])),
        "has digest sha256|is damaged|no tar archive",
    ),
    "layer of another size": (
        oci_layout(lambda layout: first_layer(layout).write_bytes(b"short")),
        "has 5 bytes and should have",
    ),
    "layer missing": (oci_layout(lambda layout: first_layer(layout).unlink()), "is missing; the layout is incomplete"),
    "layer is a link out": (
        lambda place, canary: relink(first_layer(simple_layout(place, {"etc/app": "one"})), canary / "file"),
        "is a link out of the directory, to .*canary/file",
    ),
    "layer is a relative link out": (
        lambda place, canary: relink(first_layer(simple_layout(place, {"a": "b"})), "../../../canary/file"),
        "is a link out of the directory, to .*canary/file",
    ),
    "layer is a link to a device": (
        lambda place, canary: relink(first_layer(simple_layout(place, {"etc/app": "one"})), canary / "device"),
        "is missing; the layout is incomplete",
    ),
    "layer is a link to a fifo": (
        lambda place, canary: relink(first_layer(simple_layout(place, {"etc/app": "one"})), canary / "fifo"),
        "is missing; the layout is incomplete",
    ),
    "index.json is a link out": (
        lambda place, canary: relink(
            simple_layout(place, {"etc/app": "one"}).directory / "index.json", canary / "file"
        ),
        "'index.json' is a link out",
    ),
    "blobs are a link out": (blobs_out, "is missing"),
    "manifest missing": (
        oci_layout(lambda layout: layout.path(layout.entries[0]["digest"]).unlink()),
        "is missing; the layout is incomplete",
    ),
    "config missing": (
        oci_layout(lambda layout: layout.path(layout.manifest(layout.entries[0])["config"]["digest"]).unlink()),
        "is missing; the layout is incomplete",
    ),
    "manifest of another digest": (
        oci_layout(lambda layout: layout.path(layout.entries[0]["digest"]).write_bytes(b"{}")),
        "damaged",
    ),
    "digest that leads out": (oci_layout(set_in("digest", "sha256:../../../../canary/file")), "layer 1: its digest"),
    "digest of another kind": (oci_layout(set_in("digest", "md5:" + "0" * 32)), "layer 1: its digest"),
    "negative size": (oci_layout(set_in("size", -1)), "layer 1: its size -1 is no number of bytes"),
    "huge size": (oci_layout(set_in("size", 2**70)), "layer 1: its size .* is no number of bytes"),
    "layer of an unknown type": (oci_layout(set_in("mediaType", "application/x-sh")), "no layer that can be read"),
    "layer that is elsewhere": (
        oci_layout(set_in("mediaType", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")),
        "its bytes are not part of the image",
    ),
    "manifest that is an index too": (
        oci_layout(lambda layout: rewrite(layout, lambda data: data.update(manifests=[]))),
        "neither clearly a manifest nor clearly an index",
    ),
    "one layer twice": (
        oci_layout(lambda layout: rewrite(layout, lambda data: data["layers"].append(data["layers"][0]))),
        "has 2 layers, and its config lists 1",
    ),
    "indexes too deep": (oci_layout(nest), "indexes lie in indexes more than 8 deep"),
    "index in a circle": (oci_layout(circle), "has digest sha256:.* and should have sha256:aaaa"),
    "indexes that fan out": (oci_layout(fan_out), "list more than any image has"),
    "layout of another version": (
        oci_layout(lambda layout: (layout.directory / "oci-layout").write_text('{"imageLayoutVersion": "2.0"}')),
        "the layout is of version '2.0'",
    ),
}


@pytest.fixture
def canary(host: Host) -> Iterator[Path]:
    """A tree beside the store that the test must leave alone."""
    place = plant(host.top)
    with untouched(place):
        yield place


def image(path: Path, **options: Any) -> dict[str, Any]:
    return {"name": "bad:1.0", "src": str(path), "remote_src": True, **options}


def refuse(host: Host, path: Path, reason: str, **options: Any) -> None:
    with pytest.raises(StrataError) as failure:
        host.run(images=[image(path, **options)])
    text = str(failure.value)
    assert "image bad:1.0: " in text
    assert re.search(reason, text, re.DOTALL), text
    assert SECRET not in text
    assert text.replace("\n", " ").isprintable(), "a terminal would obey something in it"
    assert len(text) < 3000


def assert_works(host: Host) -> None:
    """Nothing has stayed, and a good image goes in."""
    for place in ("content/sha256", "staging", "trash", "strata/names", "image/overlay2/imagedb/content/sha256"):
        assert not (host.root / place).exists() or os.listdir(host.root / place) == [], place
    good = simple_layout(host.top / "good", {"etc/app": "one"})
    assert host.run(images=[{**image(good.directory), "name": "good:1.0"}])["changed"]
    assert (host.root / "content/sha256" / hashlib.sha256(LAYER).hexdigest() / "etc/app").read_text() == "one"
    assert host.check()["findings"] == []


@pytest.mark.parametrize("name", DOCKER)
def test_hostile_docker_archive_is_refused_or_harmless(host: Host, canary: Path, name: str) -> None:
    archive, reason = DOCKER[name]
    (host.top / "bad.tar").write_bytes(archive)
    limits = {"bytes": "1m"} if name == "compressed bomb" else {}
    if reason:
        refuse(host, host.top / "bad.tar", reason, limits=limits)
    else:
        assert host.run(images=[image(host.top / "bad.tar")])["changed"]
        assert host.run(images=[])["changed"] is False
        shutil.rmtree(host.root)
    assert_works(host)


@pytest.mark.parametrize("part", ["config", "layer", "link", "hard link"])
def test_docker_archive_aimed_at_an_absolute_path_is_refused(host: Host, canary: Path, part: str) -> None:
    target = str(canary / "file")
    archive = {
        "config": docker(described=manifest(Config=target)),
        "layer": docker(described=manifest(Layers=[target])),
        "link": docker(symlink(b"layer.tar", os.fsencode(target))),
        "hard link": docker(hardlink(b"layer.tar", os.fsencode(target))),
    }[part]
    (host.top / "bad.tar").write_bytes(archive)
    refuse(host, host.top / "bad.tar", "is missing; the archive is incomplete")
    assert_works(host)


@pytest.mark.parametrize("packed", ["directory", "tar"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_hostile_layout_is_refused(host: Host, canary: Path, name: str, packed: str) -> None:
    make, reason = LAYOUTS[name]
    place = host.top / "bad"
    make(place, canary)
    if packed == "tar":
        # There a link leads nowhere out: what it points at is not in the archive.
        reason = reason + "|is missing" if "link" in name else reason
        place = tar_of(place, host.top / "bad.tar")
    refuse(host, place, reason)
    assert_works(host)


def test_links_within_a_layout_are_followed(host: Host, canary: Path) -> None:
    layout = simple_layout(host.top / "bad", {"etc/app": "one"})
    blob = first_layer(layout)
    blob.rename(layout.directory / "moved")
    blob.symlink_to("../../moved")
    (host.top / "way").symlink_to(layout.directory)
    assert host.run(images=[image(host.top / "way")])["changed"]


def test_archive_that_tarfile_would_read_half_is_refused(host: Host, canary: Path) -> None:
    """Python's tarfile takes damage in the middle for the end, and what lies behind it is then not there."""
    whole = docker()
    (host.top / "bad.tar").write_bytes(whole[:1024] + b"?" + whole[1025:])
    with tarfile.open(host.top / "bad.tar") as archive:
        assert archive.getnames() == ["manifest.json"]
    refuse(host, host.top / "bad.tar", "no valid header at byte 1024, in entry 'manifest.json' or right behind it")
    assert_works(host)
