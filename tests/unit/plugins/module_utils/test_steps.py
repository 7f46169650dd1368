# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every step says what it is, to what, in words and bytes; plans of them are tested in test_plan."""

from __future__ import annotations

import pytest
from ansible_collections.strata.overlay.plugins.module_utils import _steps
from ansible_collections.strata.overlay.plugins.module_utils._layerspec import Source
from ansible_collections.strata.overlay.plugins.module_utils._layout import layer_links
from ansible_collections.strata.overlay.plugins.module_utils._origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._steps import (
    CreateStore,
    ImportContent,
    LinkLayer,
    Plan,
    Step,
    Unmount,
)

A = "sha256:" + "a" * 64


def test_actions_are_the_names_of_the_steps() -> None:
    kinds = [kind for kind in vars(_steps).values() if isinstance(kind, type) and issubclass(kind, Step)]
    assert sorted(kind.__new__(kind).action for kind in kinds if kind is not Step) == [
        "compare_upper",
        "copy_layers",
        "create_store",
        "drop_name",
        "forget_stack",
        "import_content",
        "link_layer",
        "mount",
        "set_aside",
        "set_name",
        "set_top",
        "store_image",
        "switch",
        "unmount",
        "write_stack",
    ]


@pytest.mark.parametrize(("count", "words"), [(1, "unmount /w: why"), (2, "unmount /w (2 mounts): why")])
def test_words_of_an_unmount(count: int, words: str) -> None:
    assert Unmount("web", "/w", count, False, "why").words() == words


def test_only_a_layer_with_a_copy_of_its_content_writes_bytes() -> None:
    first, twin = layer_links((A, A))
    assert [LinkLayer(link, "missing", 1000).bytes for link in (first, twin)] == [0, 1000]


def test_results_of_a_plan_keep_the_order() -> None:
    steps = (CreateStore("/s"), ImportContent(Origin(A, 12, "/a.tar", Source("src", "/a.tar"))))
    assert Plan(steps, ()).results() == [
        {"action": "create_store", "object": "store /s", "text": "create the store /s", "bytes": 0},
        {"action": "import_content", "object": A, "text": "import content aaaaaaaaaaaa from /a.tar", "bytes": 12},
    ]
