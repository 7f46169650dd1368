# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each image of `image_cases` from a directory, from a tar and from a real registry: one answer, and the right one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.image_cases import CASES, Written
from ansible_collections.strata.overlay.tests.integration.image_upload import Upload, memory, registry
from ansible_collections.strata.overlay.tests.integration.images import tar_of
from ansible_collections.strata.overlay.tests.integration.registry import Registry

__all__ = ["memory", "registry"]  # fixtures


def answer(host: Host, **item: Any) -> tuple[Any, Any]:
    """What comes of an image: the files of its layers and what it is, or why it is refused."""
    options = {key: value for key, value in item.items() if value is not None}
    try:
        image = host.run(images=[{"name": "app", **options}])["images"]["app"]
    except StrataError as error:
        return str(error), None
    tree: dict[str, str] = {}
    for diff_id in image["diff_ids"]:
        top = Path(host.store.content(diff_id))
        tree.update({str(path.relative_to(top)): path.read_text() for path in top.rglob("*")})
    return tree, (image["image_id"], image["manifest_digest"], image["diff_ids"])


@pytest.mark.parametrize("name", CASES)
def test_image_from_directory_tar_and_registry_gives_one_answer(memory: Path, registry: Registry, name: str) -> None:
    case = CASES[name]
    repository = re.sub(r"\W+", "-", name.lower())
    top = memory / repository
    made = Written(top / "layout")
    image = case.make(made)
    made.layout.list("1", image)
    for path, body in made.beside.items():
        (made.layout.directory / path).write_bytes(body)
    upload = Upload(registry, repository)
    if "registry" in case.ways:
        upload.push(made, image, "1")
    for digest in made.lost:
        made.layout.path(digest).unlink()
        upload.delete(digest)
    options: dict[str, Any] = {"platform": "linux/amd64", "digest": made.digest or None, **case.options}
    ways = {
        "directory": {"src": str(made.layout.directory), "remote_src": True, **options},
        "tar": {"src": str(tar_of(made.layout.directory, top / "image.tar")), "remote_src": True, **options},
        "registry": {"registry": f"{registry.host}/{repository}:1", **options},
    }
    found = {}
    for way in case.ways:
        (top / way).mkdir()
        found[way] = answer(Host(top / way), **ways[way])
    for way, (shown, _what) in found.items():
        if case.tree is not None:
            assert shown == case.tree, way
        else:
            assert isinstance(shown, str), way
            assert re.search(case.reason, shown, re.DOTALL), f"{way}: {shown}"
    assert len({json.dumps(each) for _shown, each in found.values()}) == 1, found


def test_attributes_left_out_of_an_image_give_one_warning_per_kind(host: Host) -> None:
    made = Written(host.top / "layout")
    made.layout.list("1", CASES["attributes that mean nothing"].make(made))
    done = host.run(images=[{"name": "app", "src": str(made.layout.directory), "remote_src": True}])
    (overlay, foreign) = done["warnings"]
    assert overlay.startswith("image app: 2 attributes of overlayfs were left out")
    assert foreign.startswith(
        "image app: 1 attribute was left out, which no Linux file system can hold: 'com.apple.provenance'"
    )
    content = host.store.content(done["images"]["app"]["diff_ids"][0])
    assert os.listxattr(Path(content, "app")) == []
