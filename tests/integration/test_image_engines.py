# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each image of `image_cases` as Docker, Podman and skopeo have it from a registry: the same here, or a reason."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.tests.integration.docker import PROGRAMS, Docker, running_docker
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.image_cases import CASES, EVERYWHERE, Written
from ansible_collections.strata.overlay.tests.integration.image_upload import Upload, memory, registry
from ansible_collections.strata.overlay.tests.integration.podman import RUNTIME, Podman
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root, need_programs
from ansible_collections.strata.overlay.tests.integration.registry import Registry
from ansible_collections.strata.overlay.tests.integration.test_image_cases import answer

__all__ = ["memory", "registry"]  # fixtures

REFUSED_HERE = {
    "attribute with a meaning": "it would hide files of layers below (docs/images.md)",
    "config of a chart": "its config is no image's: there is no platform and no DiffID to be sure of",
    "image without layers, chosen": "there is nothing to mount",
    "layer cut in a file": "skopeo does not unpack; Docker and Podman refuse it too",
    "only an artifact": "skopeo copies whatever it is",
    "saved for one platform, the other one": "Docker has the same layer already, of another image",
    "windows, chosen": "a foreign layer may not be handed out by a registry; that it is, is luck",
}
"""What an engine takes and is refused here, and why."""

CHOSEN_OTHERWISE = {
    "cosign signature beside it": "skopeo takes the first entry without a platform, here the signature",
    "image without layers beside it, without platforms": "skopeo takes the first entry without a platform",
    "index without platforms": "skopeo takes the first entry without a platform, here the one for arm64",
    "referrer without artifactType in its entry": "skopeo takes the first entry without a platform",
    "SOCI index for a platform beside it": "skopeo takes an artifact for an image",
    "windows beside it, without platforms": "skopeo takes the first entry without a platform, here Windows",
}
"""Where an engine chooses another entry: it looks at no config, and does not pass over what is no image."""

Pull = Callable[[str, str], str]
"""Pulls a reference for an architecture; the image's id, "" where the engine refuses it."""


@pytest.fixture(scope="module")
def docker(memory: Path) -> Iterator[Docker]:
    need_full_root("is whom dockerd is run as here")
    need_programs(*PROGRAMS)
    with running_docker(memory / "docker") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def podman(memory: Path) -> Iterator[Podman]:
    need_full_root("is whom podman is run as here")
    need_programs("podman", RUNTIME, "skopeo")
    state = tempfile.mkdtemp(prefix="podman.")  # Podman wants less than 50 characters
    try:
        yield Podman(memory / "podman", Path(state))
    finally:
        shutil.rmtree(state, ignore_errors=True)


def by_docker(docker: Docker) -> Pull:
    def pull(reference: str, architecture: str) -> str:
        try:
            docker.call("pull", "--platform", f"linux/{architecture}", reference)
        except AssertionError:
            return ""
        return docker.call("image", "inspect", "--format", "{{.Id}}", reference).strip()

    return pull


def by_podman(podman: Podman) -> Pull:
    def pull(reference: str, architecture: str) -> str:
        options = ("--quiet", "--tls-verify=false", "--os", "linux", "--arch", architecture)
        try:
            return "sha256:" + podman.call("pull", *options, reference).strip()
        except AssertionError:
            return ""

    return pull


def by_skopeo(scratch: Path) -> Pull:
    def pull(reference: str, architecture: str) -> str:
        place = scratch / "skopeo"
        shutil.rmtree(place, ignore_errors=True)
        platform = ("--override-os", "linux", "--override-arch", architecture)
        command = ("skopeo", *platform, "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}")
        done = subprocess.run([*command, f"dir:{place}"], capture_output=True, check=False)
        if done.returncode:
            return ""
        found: str = json.loads((place / "manifest.json").read_text())["config"]["digest"]
        return found

    return pull


def test_image_that_an_engine_takes_is_the_same_here_or_refused_for_a_reason(
    memory: Path, registry: Registry, docker: Docker, podman: Podman
) -> None:
    engines = {"docker": by_docker(docker), "skopeo": by_skopeo(memory)}
    refused, otherwise, same = set(), set(), 0
    for name, case in CASES.items():
        if case.ways != EVERYWHERE or name == "pinned by the id of another platform's image":  # engines know no such
            continue
        repository = "engines-" + re.sub(r"\W+", "-", name.lower())
        made = Written(memory / repository / "layout")
        image = case.make(made)
        upload = Upload(registry, repository)
        upload.push(made, image, "1")
        for digest in made.lost:
            upload.delete(digest)
        place = f"{registry.host}/{repository}"
        (memory / repository / "host").mkdir()
        options = {"platform": "linux/amd64", "digest": made.digest or None, **case.options}
        _tree, what = answer(Host(memory / repository / "host"), registry=f"{place}:1", **options)
        architecture = (options["platform"] or "linux/amd64").split("/")[1]
        reference = f"{place}@{made.digest}" if made.digest else f"{place}:1"
        # What is taken here, Podman is not asked about: it chooses as skopeo does, and unpacks as Docker does.
        asked = engines if what else {**engines, "podman": by_podman(podman)}
        for pull in asked.values():
            theirs = pull(reference, architecture)
            if theirs and not what:
                refused.add(name)
            elif theirs and theirs != what[0]:
                otherwise.add(name)
            else:
                same += bool(theirs)
    assert refused == set(REFUSED_HERE)
    assert otherwise == set(CHOSEN_OTHERWISE)
    assert same > 40
