# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every step says what it is, to what, in words and bytes; plans of them are tested in test_plan."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import normalise
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import Restack
from ansible_collections.strata.overlay.plugins.module_utils._plan import steps as steps_module
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import DesiredStack
from ansible_collections.strata.overlay.plugins.module_utils._plan.host_steps import (
    RemoveUnit,
    StartServices,
    StopServices,
    WriteUnit,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    CompareUpper,
    CopyLayers,
    CreateStore,
    ImportContent,
    LinkLayer,
    Plan,
    SetTop,
    Step,
    Unmount,
    origins_of,
    staging,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord

A = "sha256:" + "a" * 64


def test_actions_of_all_step_kinds_are_pinned() -> None:
    kinds = [kind for kind in vars(steps_module).values() if isinstance(kind, type) and issubclass(kind, Step)]
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
def test_unmount_is_described_with_the_number_of_mounts(count: int, words: str) -> None:
    assert Unmount("web", "/w", count, False, "why").describe() == words


def test_only_a_layer_with_a_copy_of_its_content_writes_bytes() -> None:
    first, twin = layer_links((A, A))
    assert [LinkLayer(link, "missing", 1000).bytes for link in (first, twin)] == [0, 1000]


def test_results_of_a_plan_keep_the_order() -> None:
    steps = (CreateStore("/s"), ImportContent(Origin(A, 12, "/a.tar", Source("src", "/a.tar"))))
    assert Plan(steps, ()).results() == [
        {"action": "create_store", "object": "store /s", "text": "create the store /s", "bytes": 0},
        {"action": "import_content", "object": A, "text": "import content aaaaaaaaaaaa from /a.tar", "bytes": 12},
    ]


def desired_stack(**options: Any) -> DesiredStack:
    definition, errors = normalise("apply", {"stacks": [{"name": "web", "path": "/w", "layers": ["a"], **options}]})
    assert not errors
    return DesiredStack(definition.stacks[0], (A,), ("a",))


CHANGE = ChangeRecord("web")
UNIT = BootEntry("web", "/etc/systemd/system/srv-web.mount", "[Mount]\n")
LINE = BootEntry("web", "/etc/fstab", "web /srv/web strata defaults 0 0\n")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (
            SetTop(desired_stack(writable="persistent", mode="0750", owner=7, group=8)),
            "set owner 7, group 8, mode 0750 of /w",
        ),
        (
            CompareUpper("web", Restack("kept", "/upper", b"")),
            "see that nothing in stack web has changed since layer 'kept' was made of it",
        ),
        (
            CopyLayers("web", Origin(A, 12, "the layers a, b", Source(""))),
            "copy the layers a, b into a writable layer of stack web",
        ),
        (StopServices(CHANGE, ("a.service", "b.service")), "stop a.service, b.service"),
        (StartServices(CHANGE, (("start", "a.service"), ("reload", "b.service"))), "start a.service, reload b.service"),
        (WriteUnit(UNIT, frozenset()), "write srv-web.mount, which mounts stack web at boot"),
        (WriteUnit(LINE, frozenset()), "write the line of stack web into /etc/fstab"),
        (RemoveUnit(UNIT), "remove srv-web.mount: stack web is not mounted there at boot"),
        (RemoveUnit(LINE), "remove the line of stack web from /etc/fstab"),
    ],
)
def test_step_result_describes_its_action_and_object(step: Step, words: str) -> None:
    assert step.result() == {"action": step.action, "object": "stack web", "text": words, "bytes": 0}


def test_only_contents_and_copies_are_staged() -> None:
    content = ImportContent(Origin(A, 12, "/a.tar", Source("src", "/a.tar")))
    copy = CopyLayers("web", Origin(A, 12, "the layers a, b", Source("")))
    assert staging([CreateStore("/s"), content, copy]) == [content, copy]
    assert origins_of([content, copy]) == [content.origin, copy.origin]
