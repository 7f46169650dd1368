# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image that the real dockerd built: the same tree through us, and Docker on a copy of our store."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, hex_of
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError, debian_root
from ansible_collections.strata.overlay.tests.integration.docker import PROGRAMS, running_docker
from ansible_collections.strata.overlay.tests.integration.host import Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.images import skopeo
from ansible_collections.strata.overlay.tests.integration.privileges import need_private_namespace, need_programs
from ansible_collections.strata.overlay.tests.integration.registry import running_registry
from ansible_collections.strata.overlay.tests.integration.trees import Tree, assert_same, tree_of

NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""struct vfs_cap_data, version 2: cap_net_raw, permitted and effective (linux/capability.h)."""

DOCKERFILE = """
FROM debian
ADD special.tar /opt/special
RUN rm /etc/issue.net /usr/bin/perlbug
RUN rm -r /usr/share/doc
RUN rm -r /usr/share/locale && mkdir /usr/share/locale && echo new > /usr/share/locale/new
RUN mv /usr/share/perl5 /usr/share/perl5-renamed
RUN rm /etc/issue && mkdir /etc/issue && echo directory > /etc/issue/inside
RUN rm -r /usr/share/base-files && echo file > /usr/share/base-files
RUN ln /usr/bin/dpkg /usr/bin/dpkg-too && ln /usr/bin/dpkg /opt/dpkg-three && chmod 4755 /usr/bin/env
RUN mknod /opt/pipe p && mknod /opt/loop b 7 200 && mknod /opt/null c 1 3 && chown 65534:42 /opt/pipe /opt/loop
RUN rm -r /opt/special/gone && mkdir -p /opt/special/gone && touch /opt/special/gone/back
COPY --chown=33:33 app /srv/app
RUN rm /usr/bin/dpkg-too && chmod 0751 /srv && ln -s ../nowhere /srv/app/link
RUN rm -rf /usr/share/locale && rm /opt/loop && mkdir /opt/loop
"""

DOCKER_S_OWN = (b".dockerenv", b"dev", b"etc/hostname", b"etc/hosts", b"etc/mtab", b"etc/resolv.conf", b"proc", b"sys")
"""What Docker makes in each container for mounts of its own, and so exports as it is there and not in the image."""


@dataclass(frozen=True)
class Built:
    """What Docker says and has of the image ``app:1``."""

    archive: Path
    image_id: str
    diff_ids: list[str]
    layerdb: set[str]
    exported: Tree


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    need_private_namespace()
    need_programs(*PROGRAMS)
    top = tmp_path_factory.mktemp("docker-images")
    yield top
    unmount_all(top)
    shutil.rmtree(top)


def special(path: Path) -> None:
    """What a Dockerfile cannot make itself: capabilities."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("gone/before", "capable"):
            member = tarfile.TarInfo(name)
            member.mode, member.size, member.uid, member.gid = 0o755, 5, 1000, 3_000_000
            if name == "capable":
                # The header's text is UTF-8, and what is no UTF-8 in it stands in surrogates.
                member.pax_headers = {"SCHILY.xattr.security.capability": NET_RAW.decode("utf-8", "surrogateescape")}
            archive.addfile(member, io.BytesIO(b"data\n"))


@pytest.fixture(scope="module")
def built(work: Path) -> Built:
    try:
        debian = debian_root()
    except UnavailableError as error:
        pytest.skip(str(error))
    context = work / "context"
    (context / "app/bin").mkdir(parents=True)
    (context / "app/bin/run").write_text("#!/bin/sh\necho ran\n")
    (context / "app/bin/run").chmod(0o2755)
    special(context / "special.tar")
    (context / "Dockerfile").write_text(DOCKERFILE)
    archive, tree, root = work / "app.tar", work / "exported", work / "docker"
    with running_docker(root, work / "dockerd.log") as docker:
        docker.call("import", str(debian), "debian")
        docker.call("build", "--network", "none", "--tag", "app:1", str(context))
        docker.call("save", "--output", str(archive), "app:1")
        docker.call("create", "--name", "one", "--network", "none", "app:1", "/bin/true")
        docker.call("export", "--output", str(work / "exported.tar"), "one")
        facts = json.loads(docker.call("image", "inspect", "app:1"))[0]
    layerdb = {path.name for path in (root / "image/overlay2/layerdb/sha256").iterdir()}
    shutil.rmtree(root)
    tree.mkdir()
    unpack: list[str | Path] = [
        "tar",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "-xpf",
        work / "exported.tar",
        "-C",
        tree,
    ]
    subprocess.run(unpack, check=True)
    exported = tree_of(tree)
    shutil.rmtree(tree)
    return Built(archive, facts["Id"], facts["RootFS"]["Layers"], layerdb, exported)


@pytest.fixture(scope="module")
def host(work: Path) -> Host:
    return Host(work)


@pytest.fixture(scope="module")
def first(host: Host, built: Built) -> dict[str, Any]:
    """The import of what ``docker save`` wrote, and a stack over it."""
    stack = {"name": "web", "path": host.path("web"), "layers": ["app:1"]}
    return host.run(images=[{"name": "app:1", "src": str(built.archive), "remote_src": True}], stacks=[stack])


def without(tree: Tree, names: tuple[bytes, ...]) -> Tree:
    """A tree without some of its entries and what is below them."""
    return {
        path: facts for path, facts in tree.items() if not any(path == n or path.startswith(n + b"/") for n in names)
    }


def test_imported_layers_have_the_ids_of_docker(first: dict[str, Any], built: Built) -> None:
    assert len(built.diff_ids) >= 12
    assert first["images"]["app:1"]["image_id"] == built.image_id
    assert first["images"]["app:1"]["diff_ids"] == built.diff_ids
    assert {hex_of(chain_id) for chain_id in chain_ids(built.diff_ids)} <= built.layerdb


def test_mounted_tree_is_what_docker_exports(first: dict[str, Any], host: Host, built: Built) -> None:
    assert first["changed"]
    found = tree_of(Path(host.path("web")))
    capable = dict(found[b"opt/special/capable"].xattrs)
    assert capable["security.capability"] == NET_RAW
    assert_same(without(found, DOCKER_S_OWN), without(built.exported, DOCKER_S_OWN))


@pytest.mark.parametrize("options", [(), ("--dest-compress-format", "zstd", "--dest-compress")])
def test_image_in_oci_layout_imports_no_new_content(
    first: dict[str, Any], host: Host, built: Built, work: Path, options: tuple[str, ...]
) -> None:
    layout = work / f"layout{len(options)}"
    skopeo(*options, f"docker-archive:{built.archive}", f"oci:{layout}:app")
    again = host.run(images=[{"name": f"oci{len(options)}", "src": str(layout), "remote_src": True}])
    shutil.rmtree(layout)
    assert again["images"][f"oci{len(options)}"]["diff_ids"] == first["images"]["app:1"]["diff_ids"]
    assert {step["action"] for step in again["plan"]} <= {"set_name", "store_image"}


def test_image_in_registry_imports_no_new_content(first: dict[str, Any], host: Host, built: Built, work: Path) -> None:
    with running_registry(work / "registry") as registry:
        there = f"{registry.host}/team/app:1"
        skopeo("--dest-tls-verify=false", f"docker-archive:{built.archive}", f"docker://{there}")
        again = host.run(images=[{"name": "pulled", "registry": there}])
        assert again["images"]["pulled"]["diff_ids"] == first["images"]["app:1"]["diff_ids"]
        assert {step["action"] for step in again["plan"]} <= {"set_name", "store_image"}
        # And on a host that has nothing of it: every blob is unpacked while it arrives.
        other = Host(work / "other")
        fresh = other.run(images=[{"name": "pulled", "registry": there}])
        assert fresh["images"]["pulled"]["diff_ids"] == first["images"]["app:1"]["diff_ids"]
        asked = [each for each in registry.asked() if each.startswith("blobs/")]
        assert len(asked) == len(set(asked))
        shutil.rmtree(other.top)


def test_docker_runs_from_a_copy_of_the_store(first: dict[str, Any], host: Host, built: Built, work: Path) -> None:
    assert first["images"]
    copy = work / "copy"
    subprocess.run(["cp", "--archive", host.root, copy], check=True)
    with running_docker(copy, work / "copy.log") as docker:
        listed = docker.call("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
        assert f"app:1 {built.image_id}" in listed
        said = docker.call("run", "--rm", "--network", "none", "app:1", "/srv/app/bin/run")
        assert said == "ran\n"
        docker.call("create", "--name", "one", "--network", "none", "app:1", "/bin/true")
        docker.call("export", "--output", str(work / "from-copy.tar"), "one")
    with tarfile.open(work / "from-copy.tar") as archive:
        names = {name.encode("utf-8", "surrogateescape") for name in archive.getnames()}
    (work / "from-copy.tar").unlink()
    shutil.rmtree(copy)
    assert names == set(built.exported) - {b"."}
