# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a check says of a damage, and what repair does about it; which damages are found is in test_judge."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._check.judge import find
from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Fix,
    Keep,
    MakeDirectories,
    RebuildLayer,
    RebuildWritable,
    RecordContent,
    Sweep,
    WriteTags,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import (
    Changed,
    DamagedRecord,
    LayerRecord,
    MountState,
    StoreSnapshot,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LOST
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
    layer,
    layerdb,
    put,
    stack,
)

WEB = SOUND.stacks["web"]
VOLATILE = stack(SOUND, "web", writable="volatile")
WHOLE = stack(SOUND, "web", driver="copy")
ONE = "1" * 64
STRAY = "A" * 26
CONTENT = f"content/sha256/{hex_of(B)}"
CONFIG = f"image/overlay2/imagedb/content/sha256/{hex_of(IMAGE)}"
REBUILT = RebuildLayer(APP)
USERS = "name app, name image, stack web"


def paths_of(layer_id: str) -> tuple[str, str, str]:
    return (
        f"image/overlay2/layerdb/sha256/{layer_id}",
        f"overlay2/{layer_id}",
        f"overlay2/l/{link_id(layer_id)}",
    )


def first(snapshot: StoreSnapshot) -> Finding:
    return find(snapshot)[0]


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        (layer(SOUND, APP.layer_id, link=None), "its file 'link' is missing"),
        (layer(SOUND, APP.layer_id, link=""), "its file 'link' is empty"),
        (layer(SOUND, APP.layer_id, link="nonsense\n"), "its file 'link' is malformed"),
        (layer(SOUND, APP.layer_id, link=STRAY), "its file 'link' is unlike the record"),
        (layer(SOUND, APP.layer_id, lower="../../etc"), "its file 'lower' is malformed"),
        (layer(SOUND, APP.layer_id, lower=f"l/{STRAY}:l/{STRAY}"), "its file 'lower' is unlike the record"),
        (layer(SOUND, BASE.layer_id, lower=""), "its file 'lower' is there, and it is a base layer"),
        (layer(SOUND, APP.layer_id, diff=""), "its 'diff' is missing, or neither link nor directory"),
        (layer(SOUND, APP.layer_id, diff="/"), "its 'diff' is a directory, and not the link to its content"),
        (layer(SOUND, APP.layer_id, diff="/etc"), "its 'diff' is a link astray, to /etc"),
        (
            layer(TWIN, COPY.layer_id, diff="/etc"),
            "its 'diff' is a link, and has to be a directory: its content is also further down in the chain",
        ),
        (
            layerdb(SOUND, APP.layer_id, diff=C, size=None),
            "missing, damaged or unlike its chain in layerdb/: 'diff', 'size'",
        ),
        (
            layerdb(SOUND, BASE.layer_id, cache_id=ONE, parent=C, size="-1"),
            "missing, damaged or unlike its chain in layerdb/: 'cache-id', 'parent', 'size'",
        ),
        (drop(SOUND, "contents", hex_of(B)), f"the content is not in the store; it is needed by {USERS}"),
        (put(SOUND, "contents", hex_of(B), False), f"{CONTENT} is no directory; it is needed by {USERS}"),
        (put(SOUND, "contents", ONE, False), f"content/sha256/{ONE} is no directory"),
        (
            drop(SOUND, "contents", hex_of(D)),
            "the content is not in the store; it is needed by generation 1 of stack web",
        ),
        (
            put(SOUND, "changes", "web", ChangeRecord("web", back=(f"sha256:{ONE}",))),
            "the content is not in the store; it is needed by the change of stack web that is not done",
        ),
        (replace(SOUND, image_faults={IMAGE: "missing"}), "the config of image image is not in the store"),
        (replace(SOUND, image_faults={IMAGE: "damaged"}), "the config of image image is damaged"),
        (layer(SOUND, APP.layer_id, lower="l/short"), "its file 'lower' is malformed"),
        (
            put(SOUND, "layers", ONE, BARE._replace(diff="/", written=True)),
            "a directory of a writable layer that no record knows; it holds files",
        ),
        (put(SOUND, "layers", ONE, BARE), "a directory of a layer that no record knows"),
        (put(SOUND, "links", APP.link, "/etc"), f"it points astray, to /etc, and belongs to overlay2/{APP.layer_id}"),
        (
            put(SOUND, "links", STRAY, f"../{BASE.layer_id}/diff"),
            f"a second link to overlay2/{BASE.layer_id}, whose own is {BASE.link}",
        ),
        (
            replace(SOUND, writable_faults={"web": LOST}),
            f"its writable layer overlay2/{WRITABLE}/diff is missing, with all that was written there",
        ),
        (put(SOUND, "mounted", "web", MountState(0, "")), "it is to be mounted at /srv/web, and is not"),
        (put(SOUND, "mounted", "web", MountState(3, "")), "3 mounts lie one over the other at /srv/web"),
        (put(SOUND, "mounted", "web", MountState(1, "wrong")), "what is mounted at /srv/web: wrong"),
        (
            put(SOUND, "mounted", "docs", MountState(1, "")),
            "it is not to be mounted, and something of the store is at /srv/docs",
        ),
        (
            put(SOUND, "stacks", "other", replace(WEB, name="other")),
            "the records of stacks web, other have the same writable layer",
        ),
        (replace(SOUND, untyped="no d_type; format it anew"), "no d_type"),
    ],
)
def test_damage_that_is_found_says_what_is_wrong(snapshot: StoreSnapshot, words: str) -> None:
    assert first(snapshot).message == words


def lost_writable(snapshot: StoreSnapshot, fault: str = "missing") -> StoreSnapshot:
    return replace(snapshot, writable_faults={"web": fault})


def unlinked(snapshot: StoreSnapshot) -> StoreSnapshot:
    """With the link of the writable layer lost."""
    return drop(snapshot, "links", link_id(WRITABLE))


@pytest.mark.parametrize(
    ("snapshot", "fix"),
    [
        (replace(SOUND, directories={"trash": "missing"}), MakeDirectories()),
        (replace(SOUND, directories={"trash": "a file"}), Keep("trash")),
        (replace(SOUND, foreign=("strata/names/notes",)), Keep("strata/names/notes")),
        (replace(SOUND, damaged=(DamagedRecord("strata/names/x.json", "empty"),)), Keep("strata/names/x.json")),
        (replace(SOUND, leftovers=("trash/a",)), Sweep()),
        (put(SOUND, "changed", B, Changed("other", 3)), Keep(CONTENT, 3)),
        (put(SOUND, "contents", hex_of(B), False), Keep(CONTENT)),
        (drop(SOUND, "content_records", hex_of(B)), RecordContent(B)),
        (
            replace(SOUND, content_records=SOUND.content_records | {ONE}),
            Discard((f"strata/contents/{ONE}.json",)),
        ),
        (replace(SOUND, image_faults={IMAGE: "damaged"}), Discard((CONFIG,))),
        (replace(SOUND, tags_are_right=False), WriteTags()),
        (layer(SOUND, APP.layer_id, link=None), REBUILT),
        (drop(SOUND, "records", APP.layer_id), REBUILT),
        (drop(SOUND, "links", APP.link), REBUILT),
        (layer(SOUND, APP.layer_id, committed=False), RebuildLayer(SITE)),
        (layer(TWIN, COPY.layer_id, diff=""), RebuildLayer(COPY)),
        (layer(UNUSED, APP.layer_id, link=None), Discard(paths_of(APP.layer_id))),
        (drop(UNUSED, "links", APP.link), Discard(paths_of(APP.layer_id))),
        (put(SOUND, "records", ONE, LayerRecord(ONE, A, None, "1")), Discard(paths_of(ONE))),
        (put(SOUND, "layers", ONE, BARE), Discard(paths_of(ONE))),
        (put(SOUND, "layers", ONE, BARE._replace(diff="/", written=True)), Keep(f"overlay2/{ONE}")),
        (put(SOUND, "links", STRAY, None), Keep(f"overlay2/l/{STRAY}")),
        (put(SOUND, "links", STRAY, "/etc"), Discard((f"overlay2/l/{STRAY}",))),
        (unlinked(SOUND), RebuildWritable(WEB)),
        (unlinked(UNUSED), RebuildWritable(WEB)),
        (drop(UNUSED, "layers", WRITABLE), Discard((f"overlay2/l/{link_id(WRITABLE)}",))),
        (lost_writable(SOUND), RebuildWritable(WEB)),
        (lost_writable(SOUND, "its file 'link' is missing"), RebuildWritable(WEB)),
        (lost_writable(VOLATILE), RebuildWritable(VOLATILE.stacks["web"])),
        (replace(SOUND, work_files={"web": ("overlay2/x/work/a",)}), Keep("overlay2/x/work/a")),
        (
            replace(SOUND, mountdb=SOUND.mountdb | {ONE}),
            Discard((f"image/overlay2/layerdb/mounts/{ONE}",)),
        ),
    ],
)
def test_damage_that_repair_can_undo_says_how(snapshot: StoreSnapshot, fix: Fix) -> None:
    found = first(snapshot)
    assert found.fix == fix
    assert found.result()["repairable"] is True


@pytest.mark.parametrize(
    ("snapshot", "advice"),
    [
        (
            replace(SOUND, apart=("content",)),
            "unmount it there, or move what it holds; a store lies on one file system as a whole",
        ),
        (replace(SOUND, foreign=("lock",)), "delete it by hand while no run is under way"),
        (drop(SOUND, "contents", hex_of(B)), "the next run with the definition imports it again"),
        (
            replace(put(SOUND, "changed", B, Changed("other", 3)), used_contents={hex_of(B)}),
            "it is mounted: unmount what uses it, then repair; or run on with what is there",
        ),
        (
            replace(SOUND, image_faults={IMAGE: "missing"}),
            "the next run with the definition imports it again",
        ),
        (
            replace(layer(UNUSED, APP.layer_id, link=None), used_layers={APP.layer_id}),
            "a mount uses it: unmount that, then repair",
        ),
        (
            replace(put(SOUND, "layers", ONE, BARE._replace(diff="/", written=True)), used_layers={ONE}),
            "a mount uses it: unmount that, then repair",
        ),
        (
            lost_writable(WHOLE),
            "the next run with the definition copies its layers; what was written has to come from a backup",
        ),
        (
            replace(SOUND, work_files={"web": ("overlay2/x/work/a",)}, used_layers={WRITABLE}),
            "the stack is mounted: unmount it, then repair",
        ),
        (
            put(SOUND, "stacks", "other", replace(WEB, name="other")),
            "never mount both; move the record of all but one away, and run with the definition",
        ),
        (
            replace(SOUND, shared_uppers={"overlay2/x/diff": ("0:60", "0:61")}),
            "stop what writes there and unmount all of them but one; findmnt -t overlay shows where they are",
        ),
        (replace(SOUND, untyped="no d_type; format it anew"), "format it anew"),
        (
            put(SOUND, "mounted", "web", MountState(0, "")),
            "the next run with the definition mounts it as the record says",
        ),
        (
            put(SOUND, "mounted", "docs", MountState(1, "")),
            "the next run with the definition unmounts it",
        ),
    ],
)
def test_damage_that_repair_cannot_undo_says_what_to_do(snapshot: StoreSnapshot, advice: str) -> None:
    found = first(snapshot)
    assert (found.repair, found.fix) == (advice, None)
    assert found.result()["repairable"] is False


def test_layer_with_a_copy_of_a_lost_content_waits_for_the_next_run() -> None:
    damaged = drop(layer(TWIN, COPY.layer_id, diff=""), "contents", hex_of(A))
    (found,) = [finding for finding in find(damaged) if finding.kind == "diff_wrong"]
    advice = "the next run with the definition imports its content again and makes the layer anew"
    assert (found.repair, found.fix) == (advice, None)


def test_result_of_a_finding_is_what_the_module_returns() -> None:
    assert first(layer(SOUND, APP.layer_id, work=None)).result() == {
        "kind": "work_missing",
        "severity": "error",
        "object": APP.chain_id,
        "message": "its directory 'work' is missing",
        "repair": "make its files anew from its chain",
        "repairable": True,
    }
