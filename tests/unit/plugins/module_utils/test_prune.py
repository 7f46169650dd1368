# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a prune chooses: pure, from inventories written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, hex_of
from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import PruneSpec, read_prune
from ansible_collections.strata.overlay.plugins.module_utils._mount.in_use import InMounts
from ansible_collections.strata.overlay.plugins.module_utils._prune.model import Inventory, PrunePlan
from ansible_collections.strata.overlay.plugins.module_utils._prune.plan import Measured, plan_prune, removable
from ansible_collections.strata.overlay.plugins.module_utils._store.records import Generation, NameRecord, StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

DAY = 86400.0
NOW = 1000 * DAY
STORE = Store("/nonexistent/store")
A, B, C, D = (f"sha256:{letter * 64}" for letter in "abcd")

EMPTY = Inventory({}, {}, {}, {}, {}, {}, {}, {}, (), (), InMounts(set(), set(), set()), set(), set(), ())


def name(label: str, *diff_ids: str, **labels: str) -> NameRecord:
    return NameRecord(label, diff_ids, labels)


def stack(label: str, *generations: tuple[str, ...], layers: tuple[str, ...] = ()) -> StackRecord:
    history = tuple(Generation(9 - number, chain, layers, "") for number, chain in enumerate(generations))
    return StackRecord(label, f"/srv/{label}", "none", 0, "", True, True, history)


def holding(
    *diff_ids: str,
    names: tuple[NameRecord, ...] = (),
    stacks: tuple[StackRecord, ...] = (),
    age: float = 0,
    **more: Any,
) -> Inventory:
    """A store of these contents, and a layer for each link of each chain; all last used so many days ago."""
    used = NOW - age * DAY
    chains = [record.diff_ids for record in names]
    chains += [generation.diff_ids for record in stacks for generation in record.history]
    layers = {chain_id for chain in chains for chain_id in chain_ids(chain)} | set(diff_ids)
    return replace(
        EMPTY,
        names={record.name: record for record in names},
        name_use={record.name: used for record in names},
        stacks={record.name: record for record in stacks},
        contents=dict.fromkeys(diff_ids, used),
        layers=dict.fromkeys(layers, used),
        **more,
    )


def chosen(inventory: Inventory, protected: set[str] | None = None, **options: Any) -> PrunePlan:
    return plan_prune(STORE, inventory, PruneSpec(**options), protected or set(), NOW)


def keys(plan: PrunePlan) -> set[tuple[str, str]]:
    return {removal.key for removal in plan.removals}


def test_empty_store_has_nothing_to_prune() -> None:
    assert chosen(EMPTY) == PrunePlan((), ())


def test_unreferenced_contents_and_layers_are_pruned() -> None:
    inventory = holding(A, B, C, names=(name("a", A),), stacks=(stack("s", (A, B)),))
    assert keys(chosen(inventory)) == {("content", C), ("layer", B), ("layer", C)}


def test_contents_of_every_kept_generation_are_kept() -> None:
    inventory = holding(A, B, C, D, stacks=(stack("s", (A, B), (A, C)),))
    assert ("content", C) not in keys(chosen(inventory))
    assert ("content", D) in keys(chosen(inventory))


def test_chain_that_an_unfinished_change_returns_to_is_kept() -> None:
    inventory = holding(A, B, names=(), stacks=(stack("s", (B,)),), returns=((A,),))
    assert keys(chosen(inventory)) == set()
    assert keys(chosen(replace(inventory, returns=()))) == {("content", A), ("layer", A)}


def test_name_is_pruned_only_when_asked_for_unused_and_not_protected() -> None:
    inventory = holding(A, names=(name("a", A),), age=100)
    assert keys(chosen(inventory)) == set()
    assert keys(chosen(inventory, unused_for=99 * 86400)) == {("name", "a"), ("content", A), ("layer", A)}
    assert keys(chosen(inventory, unused_for=101 * 86400)) == set()
    assert keys(chosen(inventory, unused_for=0, keep=("a",))) == set()
    assert keys(chosen(inventory, unused_for=0, keep=("[a-c]",))) == set()
    assert keys(chosen(inventory, {"a"}, unused_for=0)) == set()


@pytest.mark.parametrize(
    "used_by",
    [
        stack("s", (C, A, B)),
        stack("s", (D,), layers=("image",)),
        stack("s", (D,), (A, B, C)),
    ],
)
def test_name_used_by_a_stack_is_kept(used_by: StackRecord) -> None:
    inventory = holding(A, B, C, D, names=(name("image", A, B),), stacks=(used_by,), age=100)
    assert ("name", "image") not in keys(chosen(inventory, unused_for=0))


def test_image_with_only_some_layers_in_a_stack_is_pruned() -> None:
    inventory = holding(A, B, names=(name("image", A, B),), stacks=(stack("s", (A,)),), age=100)
    removed = keys(chosen(inventory, unused_for=0))
    assert removed == {("name", "image"), ("content", B), ("layer", chain_ids((A, B))[1]), ("layer", B)}


def test_content_is_pruned_only_with_its_last_name() -> None:
    inventory = holding(A, B, names=(name("one", A, B), name("two", A)), age=10)
    fresh = replace(inventory, name_use={"one": NOW - 10 * DAY, "two": NOW})
    removed = keys(chosen(fresh, unused_for=86400))
    assert ("name", "one") in removed
    assert ("content", B) in removed
    assert ("content", A) not in removed


def test_last_use_of_a_content_is_that_of_its_name() -> None:
    inventory = replace(holding(A, names=(name("a", A),), age=100), name_use={"a": NOW - 5 * DAY})
    (content,) = [item for item in chosen(inventory, unused_for=0).removals if item.kind == "content"]
    assert content.used == NOW - 5 * DAY


def test_only_names_with_all_given_labels_are_pruned() -> None:
    inventory = holding(A, B, C, names=(name("a", A, k="v", other="x"), name("b", B, k="w")))
    assert keys(chosen(inventory, labels=(("k", "v"),))) == {("name", "a"), ("content", A), ("layer", A)}
    assert keys(chosen(inventory, labels=(("k", "v"), ("other", "y")))) == set()


def test_mounted_contents_and_layers_are_kept() -> None:
    inventory = holding(A, B, C, mounted_contents={A}, mounted_layers={hex_of(B)})
    assert keys(chosen(inventory)) == {("layer", A), ("content", B), ("content", C), ("layer", C)}


def test_prune_with_unreadable_mounts_keeps_all_that_they_may_use() -> None:
    upper = replace(stack("old", (A,)), stack_id="e" * 64, writable="persistent")
    inventory = holding(
        A,
        names=(name("b", B),),
        unreadable=("the mounts of process 7 cannot be read",),
        leftovers=("staging/x",),
        detached_uppers={upper.stack_id: upper},
        detached_use={upper.stack_id: 0.0},
    )
    plan = chosen(inventory, unused_for=0)
    assert keys(plan) == {("name", "b"), ("leftover", "staging/x")}
    assert "process 7" in plan.notes[0]


def test_detached_upper_is_pruned_unless_recent_kept_or_mounted() -> None:
    upper = replace(stack("old", (A,)), stack_id="e" * 64, writable="persistent")
    detached: dict[str, Any] = {"detached_uppers": {upper.stack_id: upper}, "detached_use": {upper.stack_id: NOW - DAY}}
    assert keys(chosen(holding(**detached))) == {("upper", upper.stack_id)}
    assert keys(chosen(holding(**detached), unused_for=2 * 86400)) == set()
    assert keys(chosen(holding(**detached), keep=("old",))) == set()
    assert keys(chosen(holding(**detached), labels=(("k", "v"),))) == set()
    mounted = chosen(holding(**detached, mounted_layers={upper.stack_id}))
    assert keys(mounted) == set()
    assert "still mounted" in mounted.notes[0]
    assert "no record knows" in chosen(holding(lost_uppers=("f" * 64,))).notes[0]


def test_max_bytes_prunes_the_oldest_first_until_the_store_fits() -> None:
    inventory = holding(A, B, C, names=(name("a", A), name("b", B), name("c", C)))
    inventory = replace(
        inventory, layers={}, contents=dict.fromkeys((A, B, C), 0.0), name_use={"a": 3 * DAY, "b": DAY, "c": 2 * DAY}
    )
    spec = PruneSpec(max_bytes=150)
    could = removable(STORE, inventory, spec, set())
    expected = {("name", "a"), ("name", "b"), ("name", "c"), ("content", A), ("content", B), ("content", C)}
    assert {item.key for item in could} == expected
    sizes = {item.key: 100 if item.kind == "content" else 1 for item in could}

    def removed(most: int, total: int = 303) -> set[tuple[str, str]]:
        return keys(plan_prune(STORE, inventory, PruneSpec(max_bytes=most), set(), NOW, Measured(total, sizes)))

    assert removed(303) == set()
    assert removed(302) == {("name", "b"), ("content", B)}
    assert removed(150) == {("name", "b"), ("content", B), ("name", "c"), ("content", C)}
    assert len(removed(0)) == 6
    stuck = plan_prune(STORE, inventory, PruneSpec(max_bytes=10), set(), NOW, Measured(400, sizes))
    assert stuck.notes == ("max_bytes: 97 bytes are in use or kept; the store cannot shrink to 10 bytes",)


def test_references_are_pruned_before_their_targets() -> None:
    inventory = holding(A, names=(name("a", A),), age=9, leftovers=("trash/x",))
    assert [item.kind for item in chosen(inventory, unused_for=0).removals] == ["name", "layer", "content", "leftover"]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("7d", 604800), ("12h", 43200), ("30m", 1800), ("45s", 45), ("2w", 1209600), ("90", 90), (" 1 D ", 86400), (0, 0)],
)
def test_unused_for_is_read_with_and_without_a_unit(written: object, seconds: int) -> None:
    errors: list[str] = []
    assert read_prune({"unused_for": written}, "", errors).unused_for == seconds
    assert errors == []


@pytest.mark.parametrize(
    ("written", "count"), [("10g", 10 << 30), ("512M", 512 << 20), ("1KiB", 1024), ("2tb", 2 << 40), (77, 77), ("0", 0)]
)
def test_max_bytes_is_read_with_and_without_a_unit(written: object, count: int) -> None:
    errors: list[str] = []
    assert read_prune({"max_bytes": written}, "", errors).max_bytes == count
    assert errors == []


@pytest.mark.parametrize(
    "options",
    [
        {"unused_for": "x"},
        {"unused_for": "-1d"},
        {"unused_for": "1.5h"},
        {"max_bytes": "many"},
        {"keep": [""]},
        {"keep": [1]},
    ],
)
def test_malformed_prune_option_is_reported_by_name(options: dict[str, Any]) -> None:
    errors: list[str] = []
    read_prune(options, "prune", errors)
    (told,) = errors
    assert told.startswith(f"prune: option '{next(iter(options))}'")


def test_image_is_pruned_with_its_last_name() -> None:
    first, second = (replace(name(label, A, B), image_id=C) for label in ("one", "two"))
    inventory = holding(A, B, names=(first, second), age=9, images={C: 0.0, D: 0.0})
    assert keys(chosen(inventory)) == {("image", D), ("layer", B)}
    assert ("image", C) not in keys(chosen(inventory, unused_for=0, keep=("one",)))
    assert ("image", C) in keys(chosen(inventory, unused_for=0))
