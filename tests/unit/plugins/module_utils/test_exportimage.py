# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image that a chain makes elsewhere: its config, its digests, and what is remembered of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._export.image import Chain, Tree, digest_image
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import Manifest, read_document, sha256
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache

FOREIGN = "sha256:" + "a" * 64

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="whose files they are goes into the layer")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/os").write_text("base")
    for path in (tmp_path / "tree/etc/os", tmp_path / "tree/etc"):
        os.utime(path, (1, 1))
    return Tree(str(tmp_path / "tree"), FOREIGN)


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    (tmp_path / "cache").mkdir()
    return DigestCache(str(tmp_path / "cache"), keep=True)


def config_of(chain: Chain, cache: DigestCache, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(digest_image(chain, changes, cache).config)
    return found


def test_same_tree_gives_the_same_image(tree: Tree, cache: DigestCache) -> None:
    one, other = (digest_image(Chain((tree, tree)), {}, cache) for _time in range(2))
    assert one == other
    assert not one.is_faithful
    data = b"".join(one.layers[0].read())
    assert (sha256(data), len(data)) == (one.layers[0].diff_id, one.layers[0].size)
    manifest = read_document(one.manifest(), "", "it")
    assert isinstance(manifest, Manifest)
    assert [layer.digest for layer in manifest.layers] == list(one.diff_ids)
    assert manifest.config.digest == one.image_id == sha256(one.config)


def test_image_of_a_tree_with_its_packed_diff_id_is_faithful(tree: Tree, cache: DigestCache) -> None:
    packed = digest_image(Chain((tree,)), {}, cache).diff_ids[0]
    assert digest_image(Chain((Tree(tree.path, packed),)), {}, cache).is_faithful


def test_config_with_matching_diff_ids_is_kept_byte_for_byte(tree: Tree, cache: DigestCache) -> None:
    packed = digest_image(Chain((tree,)), {}, cache).diff_ids[0]
    config = json.dumps({"os": "linux", "odd": 1, "rootfs": {"type": "layers", "diff_ids": [packed]}}).encode()
    assert digest_image(Chain((tree,), config), {}, cache).config == config


def test_config_with_other_layers_gets_new_diff_ids_and_history(tree: Tree, cache: DigestCache) -> None:
    history = [{"created_by": "one"}, {"created_by": "none", "empty_layer": True}]
    before = {
        "os": "linux",
        "architecture": "s390x",
        "config": {"Cmd": ["/run"], "User": "app"},
        "rootfs": {"type": "layers", "diff_ids": [FOREIGN]},
        "history": history,
    }
    found = config_of(Chain((tree, tree), json.dumps(before).encode()), cache, Cmd=["/other"])
    assert found["architecture"] == "s390x"
    assert found["config"] == {"Cmd": ["/other"], "User": "app"}
    assert found["history"][:2] == history
    assert [entry["created_by"] for entry in found["history"][2:]] == ["strata.overlay"]
    assert len(found["rootfs"]["diff_ids"]) == 2


def test_tree_changed_after_it_was_digested_is_refused(tree: Tree, cache: DigestCache) -> None:
    image = digest_image(Chain((tree,)), {}, cache)
    Path(tree.path, "etc/os").write_text("late")
    with pytest.raises(StrataError, match="changed while it was exported"):
        list(image.layers[0].read())
