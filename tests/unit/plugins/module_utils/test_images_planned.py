# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images in definitions and plans: one name, its whole chain, and what Docker reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import normalise
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import parse_platform
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import WRONG_TAG
from ansible_collections.strata.overlay.plugins.module_utils._image.image import (
    Image,
    ImageLayer,
    ImageOrigin,
    check_pinned,
    dump_image,
    load_image,
    pick,
    placed,
    sent_image,
)
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Desired, Known, desire
from ansible_collections.strata.overlay.plugins.module_utils._plan.plan import plan
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord, dump, load

A, B, C, ID, OTHER = (f"sha256:{letter * 64}" for letter in "abc12")
MANIFEST = "sha256:" + "3" * 64
LINUX = parse_platform("linux/amd64")


def image(*diff_ids: str, image_id: str = ID, platform: str = "linux/amd64", **values: Any) -> Image:
    layers = tuple(ImageLayer(diff_id, 5, Blob("/app.tar", 512, 5, C)) for diff_id in diff_ids)
    return replace(Image(image_id, MANIFEST, (MANIFEST, image_id), parse_platform(platform), b"{}", layers), **values)


def name_record(name: str, *diff_ids: str, image_id: str = ID, **values: Any) -> NameRecord:
    return NameRecord(name, diff_ids, values.pop("labels", {}), "elsewhere", image_id, MANIFEST)


def desired_of(
    definition: Mapping[str, Any], known: Mapping[str, NameRecord], **images: Image
) -> tuple[Desired, list[str]]:
    wanted, errors = normalise("apply", definition)
    origins = {f"image {name}": ImageOrigin(each, "app.tar") for name, each in images.items()}
    return desire(wanted, {}, Known(known, {}), errors, origins), errors


def steps_of(
    definition: Mapping[str, Any],
    known: Mapping[str, NameRecord] | None = None,
    contents: tuple[str, ...] = (),
    missing_layers: bool = True,
    faults: Mapping[str, str] | None = None,
    **images: Image,
) -> list[str]:
    """What a host would do, in words; what is not said is as after a run that went well."""
    desired, errors = desired_of(definition, known or {}, **images)
    chains = {chain_id for chain in desired.chains() for chain_id in chain_ids(chain)}
    observed = Observed(
        root="/var/lib/strata",
        home="/var/lib/strata/overlay2",
        exists=True,
        abilities=Abilities("6.12.0", overlay=True, lowerdir_append=True, userxattr=False, page_size=4096),
        known=Known(known or {}, {}),
        contents=set(contents),
        layer_faults=dict.fromkeys(chains, "missing") if missing_layers else {},
        writable_faults={},
        written_uppers=set(),
        paths={},
        mounts=(),
        mounts_at={},
        sizes={},
        image_faults=faults or {},
    )
    planned = plan(desired, observed)
    assert not errors
    assert not planned.errors
    return [step.describe() for step in planned.steps]


APP = {"images": [{"name": "app", "src": "app.tar"}]}


def test_new_image_is_imported_linked_stored_and_named() -> None:
    chain = [chain_id[7:19] for chain_id in chain_ids((A, B, A))]
    assert steps_of(APP, contents=(B,), faults={"app": "missing"}, app=image(A, B, A)) == [
        "import content aaaaaaaaaaaa from app.tar (layer 3 of 3)",
        f"link layer {chain[0]} (content aaaaaaaaaaaa)",
        f"link layer {chain[1]} (content bbbbbbbbbbbb) above {chain[0]}",
        f"link layer {chain[2]} (content aaaaaaaaaaaa) above {chain[1]}",
        "store image 111111111111",
        "name image 111111111111 'app'",
    ]


@pytest.mark.parametrize(
    ("before", "fault", "expected"),
    [
        (name_record("app", A), None, []),
        (name_record("app", A), "missing", ["store image 111111111111"]),
        (name_record("app", A), WRONG_TAG, [f"repair image 111111111111: {WRONG_TAG}"]),
        (name_record("app", A), "its config is damaged", ["repair image 111111111111: its config is damaged"]),
        # The tag comes with the name.
        (None, WRONG_TAG, ["name image 111111111111 'app'"]),
        (
            name_record("app", A, image_id=OTHER),
            WRONG_TAG,
            ["move name 'app' from image 222222222222 to 111111111111"],
        ),
        (
            name_record("app", B, image_id=""),
            WRONG_TAG,
            ["move name 'app' from content bbbbbbbbbbbb to image 111111111111"],
        ),
        (name_record("app", A, labels={"x": "y"}), None, ["change the labels of 'app'"]),
        (
            None,
            "its config is damaged",
            ["repair image 111111111111: its config is damaged", "name image 111111111111 'app'"],
        ),
    ],
)
def test_image_plan_has_only_needed_steps(before: NameRecord | None, fault: str | None, expected: list[str]) -> None:
    known = {"app": before} if before else {}
    faults = {"app": fault} if fault else {}
    assert steps_of(APP, known, (A,), missing_layers=False, faults=faults, app=image(A)) == expected


def test_same_image_by_another_manifest_is_no_change() -> None:
    known = {"app": name_record("app", A)}
    assert steps_of(APP, known, (A,), missing_layers=False, app=image(A, manifest_digest="")) == []


def test_absent_and_exclusive_forget_image_names_like_layer_names() -> None:
    known = {"app": name_record("app", A), "base": NameRecord("base", (A,))}
    absent = {"images": [{"name": "app", "state": "absent"}]}
    assert steps_of(absent, known) == ["forget the name 'app'"]
    assert steps_of({"exclusive": True}, known) == ["forget the name 'app'", "forget the name 'base'"]
    kept = {"images": [{"name": "app", "src": "app.tar"}], "exclusive": True}
    assert steps_of(kept, known, (A,), missing_layers=False, app=image(A)) == ["forget the name 'base'"]


def test_stack_of_an_image_has_its_whole_chain() -> None:
    stacks = [{"name": "web", "path": "/srv/web", "layers": ["app", "old"]}]
    known = {"old": name_record("old", C, A)}
    desired, errors = desired_of({**APP, "stacks": stacks}, known, app=image(A, B))
    assert errors == []
    assert desired.stacks[0].diff_ids == (A, B, C, A)
    gone = {"images": [{"name": "old", "state": "absent"}], "stacks": stacks}
    assert "no layer is named 'old'" in " ".join(desired_of(gone, known)[1])


def test_name_record_of_an_image_is_read_back_unchanged() -> None:
    record = name_record("app", A, B)
    assert load(NameRecord, dump(record), "x") == record
    with pytest.raises(StrataError, match="its image id is no digest"):
        load(NameRecord, dump(replace(record, image_id="x")), "x")


def test_image_sent_to_the_host_awaits_layers_that_were_not_sent() -> None:
    found = image(A, B)
    assert load_image(dump_image(found, with_config=True)) == found
    bare = load_image(dump_image(placed(found, {}), with_config=False))
    assert bare.config == b""
    assert [origin.awaited for origin in ImageOrigin(bare, "app.tar").origins()] == [True, True]
    sent = Blob("/tmp/b.tar", 0, 5, C)
    facts = {"words": "app.tar", "choices": [dump_image(placed(found, {B: sent}), with_config=False)]}
    origin = sent_image(facts, None)
    assert [layer.blob for layer in origin.image.layers] == [None, sent]
    assert [each.awaited for each in origin.origins()] == [True, False]


def test_image_is_picked_by_platform_unless_ambiguous() -> None:
    arm = image(A, image_id=OTHER, platform="linux/arm64")
    assert pick([image(A), arm], parse_platform("linux/arm64/v8"), "app") is arm
    with pytest.raises(StrataError, match="app has 2 images for platform linux/amd64; name one of them"):
        pick([image(A), image(B, image_id=OTHER)], LINUX, "app")
    assert pick([image(A), image(A)], LINUX, "app").image_id == ID


def test_digest_pins_an_image_by_manifest_or_image_id() -> None:
    assert check_pinned([image(A)], "", "app") == [image(A)]
    assert check_pinned([image(A)], ID, "app") == check_pinned([image(A)], MANIFEST, "app") == [image(A)]
    with pytest.raises(StrataError, match=rf"expected {C}, but app has {MANIFEST}, {ID} \(manifest and image id\)"):
        check_pinned([image(A)], C, "app")
