# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a check finds in a store: a damage -> the exact findings. Their words and repairs are in test_judge_repairs."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._check.judge import find
from ansible_collections.strata.overlay.plugins.module_utils._check.model import KINDS
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import (
    Changed,
    DamagedRecord,
    LayerRecord,
    MountState,
    StoreSnapshot,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LOST, layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ChangeRecord
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.snapshots import (
    APP,
    BARE,
    BASE,
    COPY,
    IMAGE,
    SITE,
    SOUND,
    TWIN,
    UNUSED,
    WRITABLE,
    A,
    B,
    C,
    D,
    drop,
    forgotten,
    layer,
    layerdb,
    put,
    stack,
)

OLD = layer_links((A, D))[1]
OTHER = layer_links((A, C))[1]
ONE, TWO = "1" * 64, "2" * 64
STRAY = "A" * 26
LINKS = "overlay2/l"
LAYERDB = "image/overlay2/layerdb"
MOUNT = Mount(60, 1, "0:60", "/", "/mnt", ("ro",), "overlay", "overlay", ("ro",))


def sha(name: str) -> str:
    return f"sha256:{name}"


def without_writable(snapshot: StoreSnapshot) -> StoreSnapshot:
    """With the directory of the writable layer, its link and its record in layerdb gone."""
    bare = drop(drop(snapshot, "layers", WRITABLE), "links", link_id(WRITABLE))
    return drop(bare, "mountdb", WRITABLE)


class Found(NamedTuple):
    """A finding in short."""

    severity: str
    kind: str
    object: str


def error(kind: str, what: str) -> Found:
    return Found("error", kind, what)


def warning(kind: str, what: str) -> Found:
    return Found("warning", kind, what)


def notice(kind: str, what: str) -> Found:
    return Found("notice", kind, what)


PLACES: dict[str, tuple[StoreSnapshot, list[Found]]] = {
    "directory missing": (replace(SOUND, directories={"trash": "missing"}), [error("directory_wrong", "trash")]),
    "directory a file": (replace(SOUND, directories={"trash": "a file"}), [error("directory_wrong", "trash")]),
    "short links a link": (
        replace(SOUND, directories={LINKS: "a symbolic link"}),
        [error("short_links_replaced", LINKS)],
    ),
    "short links missing": (replace(SOUND, directories={LINKS: "missing"}), [error("directory_wrong", LINKS)]),
    "directory apart": (replace(SOUND, apart=("content",)), [error("directory_apart", "content")]),
    "record damaged": (
        replace(SOUND, damaged=(DamagedRecord("strata/names/x.json", "it is empty"),)),
        [error("record_damaged", "strata/names/x.json")],
    ),
    "foreign files": (
        replace(SOUND, foreign=("strata/names/notes", "lock")),
        [warning("foreign_file", "strata/names/notes"), warning("foreign_file", "lock")],
    ),
    "leftovers": (
        replace(SOUND, leftovers=("staging/a", "trash/b")),
        [notice("leftover", "staging/a"), notice("leftover", "trash/b")],
    ),
}

CONTENTS: dict[str, tuple[StoreSnapshot, list[Found]]] = {
    "content lost": (drop(SOUND, "contents", hex_of(B)), [error("content_missing", B)]),
    "content lost with its record": (
        drop(drop(SOUND, "contents", hex_of(B)), "content_records", hex_of(B)),
        [error("content_missing", B)],
    ),
    "content a file": (put(SOUND, "contents", hex_of(B), False), [error("content_missing", B)]),
    "content a file and unused": (put(SOUND, "contents", ONE, False), [error("content_missing", sha(ONE))]),
    "content of an older generation lost": (drop(SOUND, "contents", hex_of(D)), [error("content_missing", D)]),
    "content of a change lost": (
        put(SOUND, "changes", "web", ChangeRecord("web", back=(sha(ONE),))),
        [error("content_missing", sha(ONE))],
    ),
    "content changed": (put(SOUND, "changed", B, Changed("other", 3)), [error("content_changed", B)]),
    "content's record lost": (drop(SOUND, "content_records", hex_of(B)), [warning("content_record_missing", B)]),
    "record without content": (
        replace(SOUND, content_records=SOUND.content_records | {ONE}),
        [notice("content_record_orphaned", sha(ONE))],
    ),
    "image's config lost": (replace(SOUND, image_faults={IMAGE: "missing"}), [error("image_missing", IMAGE)]),
    "image's config damaged": (replace(SOUND, image_faults={IMAGE: "damaged"}), [error("image_damaged", IMAGE)]),
    "config without a name damaged": (
        replace(SOUND, image_faults={sha(ONE): "damaged"}),
        [error("image_damaged", sha(ONE))],
    ),
    "tags wrong": (
        replace(SOUND, tags_are_right=False),
        [warning("tags_wrong", "image/overlay2/repositories.json")],
    ),
}

LAYERS: dict[str, tuple[StoreSnapshot, list[Found]]] = {
    "layer lost": (
        drop(SOUND, "layers", APP.layer_id),
        [
            error("layer_missing", APP.chain_id),
            warning("short_link_dangling", f"{LINKS}/{APP.link}"),
        ],
    ),
    "layer of no stack half there": (
        put(SOUND, "records", hex_of(B), LayerRecord(hex_of(B), B, None, "1")),
        [error("layer_missing", B)],
    ),
    "layer of an older generation gone": (
        drop(drop(drop(SOUND, "layers", OLD.layer_id), "records", OLD.layer_id), "links", OLD.link),
        [],
    ),
    "layer of a change gone": (put(SOUND, "changes", "web", ChangeRecord("web", back=(B,))), []),
    "link lost": (layer(SOUND, APP.layer_id, link=None), [error("link_wrong", APP.chain_id)]),
    "lower lost": (layer(SOUND, APP.layer_id, lower=None), [error("lower_wrong", APP.chain_id)]),
    "lower at a base": (layer(SOUND, BASE.layer_id, lower=f"l/{STRAY}"), [error("lower_wrong", BASE.chain_id)]),
    "diff lost": (layer(SOUND, APP.layer_id, diff=""), [error("diff_wrong", APP.chain_id)]),
    "diff a link where the content lies below": (
        layer(TWIN, COPY.layer_id, diff=COPY.diff_target),
        [error("diff_wrong", COPY.chain_id)],
    ),
    "work lost": (layer(SOUND, APP.layer_id, work=None), [error("work_missing", APP.chain_id)]),
    "work not empty": (
        layer(SOUND, APP.layer_id, work=("x", "y")),
        [warning("work_foreign", f"overlay2/{APP.layer_id}/work/{name}") for name in "xy"],
    ),
    "mark lost": (layer(SOUND, APP.layer_id, committed=False), [warning("committed_missing", APP.chain_id)]),
    "all files lost": (
        put(SOUND, "layers", APP.layer_id, BARE),
        [
            error("link_wrong", APP.chain_id),
            error("lower_wrong", APP.chain_id),
            error("diff_wrong", APP.chain_id),
            error("work_missing", APP.chain_id),
            warning("committed_missing", APP.chain_id),
        ],
    ),
    "layerdb lost": (drop(SOUND, "records", APP.layer_id), [error("layer_record_missing", APP.chain_id)]),
    "layerdb wrong": (layerdb(SOUND, APP.layer_id, size="x"), [error("layer_record_wrong", APP.chain_id)]),
    "layer unused and damaged": (layer(UNUSED, APP.layer_id, link=""), [error("link_wrong", APP.chain_id)]),
    "layer unused and lost": (
        drop(UNUSED, "layers", SITE.layer_id),
        [error("layer_missing", SITE.chain_id), warning("short_link_dangling", f"{LINKS}/{SITE.link}")],
    ),
    "layer unused above one that is used": (
        put(SOUND, "records", OTHER.layer_id, LayerRecord(OTHER.layer_id, C, A, "7")),
        [error("layer_missing", OTHER.chain_id)],
    ),
    "chain without a base": (
        put(SOUND, "records", ONE, LayerRecord(ONE, A, sha(TWO), "1")),
        [error("chain_broken", sha(ONE))],
    ),
    "chain in a ring": (
        put(SOUND, "records", ONE, LayerRecord(ONE, A, sha(ONE), "1")),
        [error("chain_broken", sha(ONE))],
    ),
    "chain with a malformed diff": (
        put(SOUND, "records", ONE, LayerRecord(ONE, None, None, "1")),
        [error("chain_broken", sha(ONE))],
    ),
    "chain with a malformed parent": (
        put(SOUND, "records", ONE, LayerRecord(ONE, A, "", "1")),
        [error("chain_broken", sha(ONE))],
    ),
    "chain of another id": (
        put(SOUND, "records", ONE, LayerRecord(ONE, A, None, "1")),
        [error("chain_broken", sha(ONE))],
    ),
    "chain broken with its directory": (
        put(put(SOUND, "records", ONE, LayerRecord(ONE, A, None, "1")), "layers", ONE, BARE),
        [error("chain_broken", sha(ONE))],
    ),
    "orphan": (put(SOUND, "layers", ONE, BARE), [warning("layer_orphaned", f"overlay2/{ONE}")]),
    "orphan with its link": (
        put(put(SOUND, "layers", ONE, BARE), "links", link_id(ONE), f"../{ONE}/diff"),
        [warning("layer_orphaned", f"overlay2/{ONE}")],
    ),
    "orphan with an upper": (
        put(SOUND, "layers", ONE, BARE._replace(upper=True)),
        [warning("writable_orphaned", f"overlay2/{ONE}")],
    ),
    "orphan with a tree": (
        put(SOUND, "layers", ONE, BARE._replace(diff="/", written=True)),
        [warning("writable_orphaned", f"overlay2/{ONE}")],
    ),
    "orphan with a mount's record": (
        replace(put(SOUND, "layers", ONE, BARE), mountdb=SOUND.mountdb | {ONE}),
        [warning("writable_orphaned", f"overlay2/{ONE}")],
    ),
}

SHORT_LINKS: dict[str, tuple[StoreSnapshot, list[Found]]] = {
    "layer's lost": (drop(SOUND, "links", APP.link), [error("short_link_missing", APP.chain_id)]),
    "writable layer's lost": (
        drop(SOUND, "links", link_id(WRITABLE)),
        [error("short_link_missing", f"overlay2/{WRITABLE}")],
    ),
    "lost of a layer set aside": (
        replace(put(SOUND, "layers", ONE, BARE), detached_uppers={ONE: replace(SOUND.stacks["web"], stack_id=ONE)}),
        [error("short_link_missing", f"overlay2/{ONE}")],
    ),
    "a file": (put(SOUND, "links", STRAY, None), [warning("foreign_file", f"{LINKS}/{STRAY}")]),
    "astray": (put(SOUND, "links", APP.link, "/etc"), [error("short_link_wrong", f"{LINKS}/{APP.link}")]),
    "to another layer": (
        put(SOUND, "links", APP.link, f"../{BASE.layer_id}/diff"),
        [error("short_link_wrong", f"{LINKS}/{APP.link}")],
    ),
    "of nothing, astray": (put(SOUND, "links", STRAY, "/etc"), [error("short_link_wrong", f"{LINKS}/{STRAY}")]),
    "of nothing, dangling": (
        put(SOUND, "links", STRAY, f"../{ONE}/diff"),
        [warning("short_link_dangling", f"{LINKS}/{STRAY}")],
    ),
    "a second one": (
        put(SOUND, "links", STRAY, f"../{BASE.layer_id}/diff"),
        [warning("short_link_doubled", f"{LINKS}/{STRAY}")],
    ),
}

STACKS: dict[str, tuple[StoreSnapshot, list[Found]]] = {
    "writable layer lost": (
        replace(without_writable(SOUND), writable_faults={"web": "missing"}),
        [error("writable_missing", "stack web")],
    ),
    "writable layer's tree lost": (
        replace(SOUND, writable_faults={"web": LOST}),
        [error("writable_missing", "stack web")],
    ),
    "volatile layer lost": (
        replace(stack(without_writable(SOUND), "web", writable="volatile"), writable_faults={"web": "missing"}),
        [error("writable_missing", "stack web")],
    ),
    "writable layer damaged": (
        replace(SOUND, writable_faults={"web": "its file 'link' is missing"}),
        [error("writable_wrong", "stack web")],
    ),
    "work directory not empty": (
        replace(SOUND, work_files={"web": ("overlay2/x/work/mine",)}),
        [warning("work_foreign", "overlay2/x/work/mine")],
    ),
    "mount's record without a layer": (
        replace(SOUND, mountdb=SOUND.mountdb | {ONE}),
        [notice("writable_record_orphaned", f"{LAYERDB}/mounts/{ONE}")],
    ),
    "set aside and gone": (
        without_writable(UNUSED),
        [notice("writable_record_orphaned", f"strata/aside/{WRITABLE}.json")],
    ),
    "set aside and still the stack's": (
        replace(without_writable(SOUND), detached_uppers=UNUSED.detached_uppers, writable_faults={"web": "missing"}),
        [error("writable_missing", "stack web")],
    ),
    "one writable layer on two records": (
        put(SOUND, "stacks", "other", replace(SOUND.stacks["web"], name="other")),
        [error("upper_shared", f"overlay2/{WRITABLE}")],
    ),
    "one writable layer in two mounts": (
        replace(SOUND, shared_uppers={"overlay2/x/diff": ("0:60", "0:61")}),
        [error("upper_shared", "overlay2/x/diff")],
    ),
    "file system without types": (
        replace(SOUND, untyped="no d_type; format it anew"),
        [error("d_type_missing", "stack web")],
    ),
    "file system without types and another driver": (
        replace(stack(SOUND, "web", driver="fuse-overlayfs"), untyped="no d_type; format it anew"),
        [],
    ),
    "not mounted": (put(SOUND, "mounted", "web", MountState(0, "")), [warning("mount_missing", "stack web")]),
    "mounted unasked": (put(SOUND, "mounted", "docs", MountState(1, "")), [error("mount_wrong", "stack docs")]),
    "mounted twice": (put(SOUND, "mounted", "web", MountState(2, "")), [error("mount_wrong", "stack web")]),
    "mounted wrongly": (put(SOUND, "mounted", "web", MountState(1, "other")), [error("mount_wrong", "stack web")]),
    "mounted by nobody": (replace(SOUND, unknown_mounts=(MOUNT,)), [warning("mount_unknown", "/mnt")]),
}

DAMAGES = {
    f"{part}: {name}": row
    for part, table in (
        ("places", PLACES),
        ("contents", CONTENTS),
        ("layers", LAYERS),
        ("short links", SHORT_LINKS),
        ("stacks", STACKS),
    )
    for name, row in table.items()
}


@pytest.mark.parametrize("snapshot", [SOUND, TWIN, UNUSED, forgotten(TWIN)], ids=["used", "twin", "unused", "both"])
def test_store_without_damage_has_no_findings(snapshot: StoreSnapshot) -> None:
    assert find(snapshot) == []


@pytest.mark.parametrize("name", DAMAGES)
def test_store_with_one_damage_has_exactly_its_findings(name: str) -> None:
    snapshot, expected = DAMAGES[name]
    assert [(finding.severity, finding.kind, finding.object) for finding in find(snapshot)] == expected


def test_every_kind_of_finding_is_in_the_tables() -> None:
    assert {found.kind for _snapshot, expected in DAMAGES.values() for found in expected} == set(KINDS)


def test_several_damages_are_found_in_the_order_of_the_parts() -> None:
    snapshot = replace(SOUND, leftovers=("trash/x",), unknown_mounts=(MOUNT,), tags_are_right=False)
    snapshot = drop(drop(snapshot, "links", BASE.link), "content_records", hex_of(A))
    snapshot = layer(snapshot, SITE.layer_id, link=None)
    assert [finding.kind for finding in find(snapshot)] == [
        "leftover",
        "content_record_missing",
        "link_wrong",
        "short_link_missing",
        "mount_unknown",
        "tags_wrong",
    ]
