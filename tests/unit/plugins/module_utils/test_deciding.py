# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rarer decisions of a plan, from stacks and hosts written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry, BootFacts
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import MAX_LAYERS
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import MountStyle
from ansible_collections.strata.overlay.plugins.module_utils._definition.stack import Restack
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities, Fault
from ansible_collections.strata.overlay.plugins.module_utils._mount.in_use import InMounts
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import PathFacts
from ansible_collections.strata.overlay.plugins.module_utils._observe.hidden_paths import Shadowed
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired, DesiredStack
from ansible_collections.strata.overlay.plugins.module_utils._plan.driver import (
    Drivers,
    cannot_take_over,
    choose_driver,
)
from ansible_collections.strata.overlay.plugins.module_utils._plan.limits import host_problems
from ansible_collections.strata.overlay.plugins.module_utils._plan.plan import plan
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import HostFacts, Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import SetName, Step, WriteStack
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import Inventory, PrunePlan, Removal
from ansible_collections.strata.overlay.plugins.module_utils._prune.preview_state import after
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import StoreFaults
from ansible_collections.strata.overlay.plugins.module_utils._store.records import Generation, NameRecord, StackRecord
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.deciding import (
    FUSE,
    ID,
    KERNEL,
    SPEC,
    UPPER,
    A,
    B,
    C,
    desired,
    mounted,
    observed,
    record,
)


def words(host: Observed, *stacks: DesiredStack, **more: Any) -> list[str]:
    given: dict[str, Any] = {"names": {}, "dropped_names": (), "dropped_stacks": {}, "origins": {}}
    planned = plan(Desired(stacks=stacks, **{**given, **more}), host)
    assert planned.errors == ()
    return [step.describe() for step in planned.steps]


PERSISTENT = record(writable="persistent")
OWN = mounted(PERSISTENT)
GONE = PathFacts("/srv/web", "directory", False, "", ended="gone")
UNIT = BootEntry("web", "/etc/systemd/system/srv-web.mount", "[Mount]\n")
MOUNT = "mount 2 layers at /srv/web"
RESTACK = Restack("c", "/upper", b"")
COMPARE = "see that nothing in stack web has changed since layer 'c' was made of it"
DETACHED = f"set the persistent layer {UPPER[:12]} of stack web aside"


@pytest.mark.parametrize(
    ("host", "stack", "expected"),
    [
        # The mode of the top directory is otherwise than asked for, and all else is right.
        (
            observed(
                record(writable="persistent", style=MountStyle(mode=0o700)),
                mounts=(OWN,),
                tops={"web": (0, 0, 0o755)},
            ),
            desired(writable="persistent", style=MountStyle(mode=0o700)),
            ["set mode 0700 of /srv/web"],
        ),
        # The process that shows the tree has ended.
        (
            observed(PERSISTENT, mounts=(OWN,), paths={"/srv/web": GONE}),
            desired(writable="persistent"),
            ["unmount /srv/web: gone", f"{MOUNT} (persistent)"],
        ),
        # A persistent layer hides what the new layers change.
        (
            observed(
                record(A, writable="persistent", mounted=False),
                shadowed={"web": Shadowed(("/etc/app",))},
            ),
            desired(writable="persistent", state="unmounted"),
            [
                (
                    "record stack web: layers a become a, b; the writable layer of web hides 1 path that the new "
                    "layers change: /etc/app"
                )
            ],
        ),
        # A copy that can be written is made before its record says that it is there.
        (
            observed(abilities=KERNEL._replace(overlay=False)),
            desired(writable="persistent", driver="copy"),
            [
                "copy the layers a, b into a writable layer of stack web",
                "record stack web: a, b",
                f"{MOUNT} (persistent, a copy)",
            ],
        ),
        # What was read of a writable layer is compared once nobody can write to it.
        (
            observed(PERSISTENT, mounts=(OWN,), written_uppers={"web"}),
            desired(A, B, C, writable="persistent", on_change="reset", restack=RESTACK),
            [
                "unmount /srv/web: its layers change",
                COMPARE,
                DETACHED,
                "record stack web: layers a, b become a, b, c",
                "mount 3 layers at /srv/web (persistent)",
            ],
        ),
        (
            observed(replace(PERSISTENT, mounted=False), written_uppers={"web"}),
            desired(A, B, C, writable="persistent", on_change="reset", restack=RESTACK, state="unmounted"),
            [COMPARE, DETACHED, "record stack web: layers a, b become a, b, c"],
        ),
        # A read-only tree that comes to another path leaves the old one first: no switch.
        (
            observed(record(path="/srv/other"), mounts=(mounted(record()), mounted(record(), "/srv/other"))),
            desired(),
            [
                "unmount /srv/other: the stack moves to /srv/web",
                "record stack web: path /srv/other becomes /srv/web",
                "unmount /srv/web: it moves here",
                f"{MOUNT} (read-only)",
            ],
        ),
    ],
    ids=["top", "ended", "hidden", "copy", "restack mounted", "restack", "moved"],
)
def test_stack_that_differs_gets_these_steps(host: Observed, stack: DesiredStack, expected: list[str]) -> None:
    assert words(host, stack) == expected


def test_run_that_only_stages_links_layers_and_shows_nothing() -> None:
    faults = {link.chain_id: "missing" for link in layer_links((A, B))}
    assert [step.split(" ")[0] for step in words(observed(layer_faults=faults), desired(), stage=True)] == [
        "link",
        "link",
    ]


def test_unit_of_a_stack_that_goes_is_removed_before_it_is_unmounted() -> None:
    known = record()
    host = observed(known, mounts=(mounted(known),), host=HostFacts(boot=BootFacts(entries=(UNIT,))))
    assert words(host, dropped_stacks={"web": False}) == [
        "remove srv-web.mount: stack web is not mounted there at boot",
        "unmount /srv/web: the stack goes away",
        "forget stack web",
    ]


LED_AWAY = {"/srv/web": PathFacts("/srv/other", "directory", False, "")}


@pytest.mark.parametrize(
    ("shown", "at", "paths", "unmounts"),
    [
        ("web", "/srv/web", {}, True),
        ("other", "/srv/web", {}, False),
        ("other", "/srv/other", LED_AWAY, False),
        ("web", "/srv/other", LED_AWAY, True),
        ("nobody", "/srv/web", {}, True),
    ],
)
@pytest.mark.parametrize("other", [record(B, C, name="other"), record(C, name="other")], ids=["overlay", "bind"])
def test_stack_that_goes_unmounts_nothing_that_is_of_another(
    other: StackRecord, shown: str, at: str, paths: Mapping[str, PathFacts], unmounts: bool
) -> None:
    of = {"web": record(), "other": other, "nobody": record(A, C)}
    host = observed(record(), other, mounts=(mounted(of[shown], at),), paths=paths)
    unmount = ["unmount /srv/web: the stack goes away"] if unmounts else []
    assert words(host, dropped_stacks={"web": False}) == [*unmount, "forget stack web"]


NOT_SERVED = StoreFaults(served=Fault("no marks can be kept here", "move the store"))
NO_OVERLAY = (
    "this kernel (6.12.0) has no overlay file system; load or build it, install fuse-overlayfs, or use driver: copy "
    "with writable: none or persistent"
)
NO_UPPER = StoreFaults(upper=Fault("no upper can lie here", "move the store"))


@pytest.mark.parametrize(
    ("stack", "facts", "expected"),
    [
        (
            desired(driver="fuse-overlayfs", writable="persistent"),
            {"abilities": FUSE, "faults": NOT_SERVED},
            "option 'driver': no marks can be kept here; move the store",
        ),
        (
            desired(driver="fuse-overlayfs"),
            {},
            (
                "option 'driver': the program fuse-overlayfs is not installed on this host, or /dev/fuse cannot be "
                "used; install the package of this name, or leave the option out"
            ),
        ),
        (
            desired(writable="persistent"),
            {"faults": NO_UPPER},
            "no upper can lie here; move the store",
        ),
        (
            desired(writable="persistent", driver="overlay")._replace(spec=replace(SPEC, driver="overlay")),
            {"abilities": KERNEL._replace(overlay=False)},
            NO_OVERLAY,
        ),
        (
            desired(driver="copy", writable="volatile"),
            {"abilities": KERNEL._replace(overlay=False)},
            f"option 'writable': volatile: {NO_OVERLAY}",
        ),
        (
            desired(*([A, B] * (MAX_LAYERS // 2)), C),
            {},
            "option 'layers' has 501 layers; this kernel (6.12.0) mounts at most 500",
        ),
        (
            desired(),
            {"unmakeable": {"/srv/web"}},
            (
                "option 'path': /srv/web is missing, and cannot be made: its file system is read-only. Make the "
                "directory where that file system comes from, or choose another path"
            ),
        ),
    ],
)
def test_stack_that_the_host_cannot_show_says_what_to_do(
    stack: DesiredStack, facts: Mapping[str, Any], expected: str
) -> None:
    assert host_problems(stack, observed(**facts)) == [f"stack web: {expected}"]


def test_copy_that_was_written_takes_no_other_layers() -> None:
    before = record(driver="copy", writable="persistent")
    (problem,) = host_problems(desired(A, C, driver="copy", writable="persistent"), observed(before))
    assert problem.startswith("stack web: option 'layers': the stack is a copy that can be written (driver: copy)")


def test_written_layer_that_the_driver_cannot_show_is_a_problem() -> None:
    before = record(driver="fuse-overlayfs", writable="persistent")
    host = observed(before, written_uppers={"web"})
    (problem,) = host_problems(desired(writable="persistent"), host)
    assert problem.startswith("stack web: option 'driver': what was written with fuse-overlayfs")
    assert host_problems(desired(A, C, writable="persistent", on_change="reset"), host) == []


BOTH = KERNEL._replace(fuse_overlayfs=True)


@pytest.mark.parametrize(
    ("driver", "left_out", "before", "abilities", "expected"),
    [
        ("copy", frozenset(), None, KERNEL, ("copy", "the definition asks for it")),
        ("copy", frozenset({"driver"}), None, KERNEL, ("copy", "it is what the stack has")),
        ("auto", frozenset(), None, KERNEL, ("overlay", "the kernel has it")),
        ("auto", frozenset(), "fuse-overlayfs", BOTH, ("fuse-overlayfs", "its persistent layer was written with it")),
        ("auto", frozenset(), "fuse-overlayfs", KERNEL, ("overlay", "the kernel has it")),
        (
            "auto",
            frozenset(),
            None,
            FUSE,
            ("fuse-overlayfs", "this kernel has no overlay file system, and fuse-overlayfs is there"),
        ),
        (
            "auto",
            frozenset(),
            None,
            KERNEL._replace(overlay=False),
            ("copy", "this kernel has no overlay file system, and fuse-overlayfs cannot be used"),
        ),
    ],
)
def test_driver_of_a_persistent_stack_is_chosen_for_a_reason(
    driver: str, left_out: frozenset[str], before: str | None, abilities: Abilities, expected: tuple[str, str]
) -> None:
    spec = replace(SPEC, writable="persistent", driver=driver, left_out=left_out)
    known = record(writable="persistent", driver=before) if before else None
    assert choose_driver(spec, 2, known, Drivers(abilities)) == expected


def test_one_layer_alone_needs_no_driver() -> None:
    assert choose_driver(SPEC, 1, None, Drivers(FUSE)) == ("overlay", "one layer alone needs none")


@pytest.mark.parametrize(
    ("before", "driver", "how"),
    [
        ("overlay", "overlay", ""),
        ("overlay", "fuse-overlayfs", ""),
        ("fuse-overlayfs", "overlay", "commit"),
        ("copy", "overlay", "save"),
        ("overlay", "copy", "save"),
    ],
)
def test_layer_written_with_one_driver_is_shown_by_another_or_the_way_is_named(
    before: str, driver: str, how: str
) -> None:
    known = record(writable="persistent", driver=before)
    problem = cannot_take_over(known, replace(SPEC, writable="persistent"), driver)
    assert bool(problem) is bool(how)
    assert f"or {how} what was written" in problem or not how
    assert cannot_take_over(known, SPEC, driver) == ""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, NameRecord("app", (A,)), "name content aaaaaaaaaaaa 'app'"),
        (NameRecord("app", (A,)), NameRecord("app", (B,)), "move name 'app' from content aaaaaaaaaaaa to bbbbbbbbbbbb"),
        (
            NameRecord("app", (A,)),
            NameRecord("app", (A,), image_id=ID),
            "move name 'app' from content aaaaaaaaaaaa to image 111111111111",
        ),
        (NameRecord("app", (A,)), NameRecord("app", (A,), {"x": "y"}), "change the labels of 'app'"),
    ],
)
def test_name_that_is_set_says_what_it_pointed_at(before: NameRecord | None, after: NameRecord, expected: str) -> None:
    assert SetName(after, before).describe() == expected


def test_step_without_words_of_its_own_is_no_step() -> None:
    with pytest.raises(NotImplementedError):
        Step().describe()
    with pytest.raises(NotImplementedError):
        str(Step().object)


def test_record_of_a_new_stack_has_a_new_layer_and_its_first_generation(tmp_path: Path) -> None:
    stack = desired(writable="persistent", path=f"{tmp_path}/web", generations=1)
    step = WriteStack(stack, None, "", fresh_generation=True, why=())
    made = step.record("now", lambda: UPPER, makes_path=True)
    assert (made.stack_id, made.made_path, made.left) == (UPPER, True, ())
    assert made.history == (Generation(1, (A, B), ("a", "b"), "now"),)
    read_only = WriteStack(desired(path=str(tmp_path)), None, "", fresh_generation=True, why=())
    there = read_only.record("now", str, makes_path=False)
    assert (there.stack_id, there.made_path) == ("", False)


def test_record_of_a_stack_that_is_known_keeps_what_it_has() -> None:
    before = record(writable="persistent", made_path=True, left=("0:60",))
    kept = WriteStack(desired(writable="persistent"), before, UPPER, fresh_generation=False, why=("x",)).record(
        "now", str, makes_path=True
    )
    assert (kept.stack_id, kept.made_path, kept.left, kept.history) == (UPPER, True, ("0:60",), before.history)
    stack = desired(A, C, writable="persistent", generations=1)
    changed = WriteStack(stack, before, UPPER, fresh_generation=True, why=("x",)).record("now", str, makes_path=True)
    assert changed.history == (Generation(2, (A, C), ("a", "c"), "now"),)


@pytest.mark.parametrize("fresh", [True, False])
def test_record_that_a_plan_counts_on_for_a_prune_is_the_one_that_a_run_writes(fresh: bool) -> None:
    before = record(writable="persistent", made_path=True, left=("0:60",))
    stack = desired(A, C, writable="persistent", generations=1)
    step = WriteStack(stack, before, UPPER, fresh_generation=fresh, why=("x",))
    empty = Inventory({}, {}, {}, {}, {}, {}, {}, {}, (), (), InMounts(set(), set(), set()), set(), set(), ())
    assert after(empty, [step], 0.0).stacks == {"web": step.record("", str, makes_path=False)}


def test_plan_of_a_prune_counts_what_it_frees_and_keeps() -> None:
    removal = Removal("content", A, ("/x",), 1.0, "remove content", 10)
    done = PrunePlan((removal,), ("a note",), ("not reached",), 4)
    assert removal.key == ("content", A)
    assert done.result() == {
        "removed": [{"kind": "content", "id": A, "bytes": 10, "text": "remove content"}],
        "reclaimed_bytes": 6,
        "notes": ["a note", "not reached"],
    }
    assert PrunePlan((removal,), (), (), 40).bytes == 0
