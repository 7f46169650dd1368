# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that a host pulls from Debian's docker-registry, and what the registry is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.images import Layer, Layout
from ansible_collections.strata.overlay.tests.integration.registry import Registry, running_registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running_registry(tmp_path / "registry") as registry:
        yield registry


LAYERS: list[Layer] = [{"etc/os": "base"}, {"etc/app": "one"}]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image for two platforms under 1.0, and the same for one of them as 2.0."""
    layout = Layout(tmp_path / "layout")
    platforms = ("linux/amd64", "linux/arm64")
    images = [layout.image(*LAYERS, {"platform": platform}, platform=platform) for platform in platforms]
    layout.list("1.0", layout.index(*images))
    layout.list("2.0", images[0])
    return layout


def item(server: Registry, **options: Any) -> dict[str, Any]:
    return {"name": "app", "registry": f"{server.host}/team/app:1.0", "platform": "linux/amd64", **options}


def kinds(asked: list[str]) -> list[str]:
    return [each.split("/")[0] for each in asked]


def test_host_asks_the_registry_only_for_what_it_lacks(host: Host, registry: Registry, layout: Layout) -> None:
    registry.push(layout, "1.0", "1.0", "--all")
    stack = {"name": "web", "path": host.path("web"), "layers": ["app"]}
    done = host.run(images=[item(registry)], stacks=[stack])
    assert host.tree("web") == {"etc/app": "one", "etc/os": "base", "platform": "linux/amd64"}
    assert sorted(kinds(registry.asked())) == ["blobs"] * 4 + ["manifests"] * 2, "three layers and a config"
    assert not host.run(images=[item(registry)])["changed"]
    assert registry.asked() == ["manifests/1.0"]
    for digest in (
        done["images"]["app"]["manifest_digest"],
        done["images"]["app"]["image_id"],
        layout.entries[0]["digest"],
    ):
        assert not host.run(images=[item(registry, digest=digest)])["changed"]
    assert registry.asked() == [], "pinned and here: nothing is asked"
    other = host.run(images=[item(registry, platform="linux/arm64")])
    assert [step["action"] for step in other["plan"]] == ["import_content", "link_layer", "store_image", "set_name"]
    assert sorted(kinds(registry.asked())) == ["blobs"] * 2 + ["manifests"] * 2


def test_pulled_image_converges_and_lost_contents_come_back(host: Host, registry: Registry, layout: Layout) -> None:
    registry.push(layout, "2.0", "2.0")
    host.four_steps(images=[item(registry, name="team/app:2.0", registry=registry.host)])
    shutil.rmtree(host.root / "content")
    done = host.four_steps(images=[item(registry, name="team/app:2.0", registry=registry.host)])
    assert [step["action"] for step in done["plan"]] == ["import_content"] * 3


def test_digest_in_the_reference_pins_the_image(host: Host, registry: Registry, layout: Layout) -> None:
    registry.push(layout, "2.0", "2.0")
    digest = layout.entries[1]["digest"]
    pinned = item(registry, registry=f"{registry.host}/team/app@{digest}")
    assert host.run(images=[pinned])["images"]["app"]["manifest_digest"] == digest
    registry.asked()
    assert not host.run(images=[pinned])["changed"]
    assert registry.asked() == []
    with pytest.raises(DefinitionError, match=f"expected sha256:{'0' * 64}, but "):
        host.run(images=[item(registry, registry=f"{registry.host}/team/app:2.0", digest="sha256:" + "0" * 64)])
