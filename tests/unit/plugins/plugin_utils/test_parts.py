# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions from several variables, and definitions that a lock file pins."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.plugin_utils._lockfile import (
    check_lock,
    lock_image,
    lock_layer,
    lock_stack,
)
from ansible_collections.strata.overlay.plugins.plugin_utils._parts import merge, part_names

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
LOCK = check_lock({"layers": {"files/a.tar": A, "https://example.org/b.tar": B}, "images": {"reg/app:1": A}}, "l.yml")


def test_part_variables_are_found_by_their_prefix() -> None:
    known = ["overlay_stacks__web", "overlay_stacks", "overlay_stacksx", "overlay_stack__y", "overlay_stacks__a", "x"]
    assert part_names("overlay_stacks", known) == ["overlay_stacks", "overlay_stacks__a", "overlay_stacks__web"]
    assert part_names("overlay_layers", known) == []


def test_parts_are_merged_in_order() -> None:
    parts = {"o": [{"name": "b"}, {"src": "x"}], "o__a": None, "o__b": [{"name": "a"}, "whatever"]}
    assert merge(parts) == [{"name": "b"}, {"src": "x"}, {"name": "a"}, "whatever"]
    assert merge({}) == []


def test_all_errors_of_parts_are_reported_together() -> None:
    parts = {"o": [{"name": "a"}, {"name": "a"}], "o__1": {"name": "b"}, "o__2": [{"name": "a"}], "o__3": "text"}
    with pytest.raises(StrataError) as caught:
        merge(parts)
    assert str(caught.value) == (
        "variable o__1: it must be a list, and is {'name': 'b'}; "
        "a is in o and in o__2; keep it in one of them, or rename one; "
        "variable o__3: it must be a list, and is 'text'"
    )


def test_layers_get_the_digest_of_the_lock() -> None:
    item = {"name": "a", "src": "files/a.tar"}
    assert lock_layer(item, LOCK, "l.yml", "") == {**item, "digest": A}
    below = {"name": "a", "src": "/inv/files/a.tar"}
    assert lock_layer(below, LOCK, "l.yml", "/inv") == {**below, "digest": A}
    assert lock_layer({"url": "https://example.org/b.tar"}, LOCK, "l.yml", "")["digest"] == B


def test_part_of_a_source_is_locked_by_source_and_options() -> None:
    item = {"name": "a", "src": "files/a.tar", "strip_components": 1, "exclude": ["doc"], "include": []}
    with pytest.raises(StrataError, match="is not in l.yml"):
        lock_layer(item, LOCK, "l.yml", "")
    lock = check_lock({"layers": {'files/a.tar {"strip_components": 1, "exclude": ["doc"]}': B}}, "l.yml")
    assert lock_layer(item, lock, "l.yml", "")["digest"] == B


@pytest.mark.parametrize(
    "item", [{"name": "c", "files": []}, {"name": "gone", "state": "absent", "src": "x"}, "name", 7]
)
def test_item_without_a_source_to_lock_is_unchanged(item: Any) -> None:
    assert lock_layer(item, LOCK, "l.yml", "") is item


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"name": "n", "src": "other.tar"}, "layer n: other.tar is not in l.yml; run the playbook strata.overlay.lock"),
        ({"dir": "d"}, "layer d: d is not in l.yml"),
        ({"name": "a", "src": "files/a.tar", "digest": B}, f"layer a: option 'digest' is {B}, but l.yml has {A}"),
    ],
)
def test_layer_that_the_lock_lacks_or_contradicts_is_refused(item: dict[str, Any], words: str) -> None:
    with pytest.raises(StrataError, match=words):
        lock_layer(item, LOCK, "l.yml", "")


def test_images_are_pulled_by_their_digest() -> None:
    assert lock_image({"name": "app", "registry": "reg/app:1"}, LOCK, "l.yml", "") == {
        "name": "app",
        "registry": f"reg/app:1@{A}",
    }


def test_layers_in_a_stack_get_the_digest_of_the_lock() -> None:
    stack = {"name": "web", "layers": ["base", {"src": "files/a.tar"}]}
    assert lock_stack(stack, LOCK, "l.yml", "")["layers"] == ["base", {"src": "files/a.tar", "digest": A}]
    assert lock_stack({"name": "web"}, LOCK, "l.yml", "") == {"name": "web"}


@pytest.mark.parametrize("content", [[], "x", {"layers": []}, {"images": {"a": 1}}])
def test_malformed_lock_file_is_refused_and_an_empty_one_accepted(content: Any) -> None:
    if not content:  # an empty file is a lock without sources
        assert check_lock(content, "l.yml") == {"layers": {}, "images": {}}
        return
    with pytest.raises(StrataError, match=r"l\.yml is no lock file"):
        check_lock(content, "l.yml")
