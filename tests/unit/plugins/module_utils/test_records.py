# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records survive being written and read, and a damaged one is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._store.records import (
    ContentRecord,
    Generation,
    NameRecord,
    StackRecord,
    dump,
    load,
)
from hypothesis import given
from hypothesis import strategies as st

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
STACK = StackRecord(
    name="web",
    path="/srv/web",
    writable="persistent",
    size=0,
    stack_id="5" * 64,
    mounted=True,
    made_path=False,
    history=(Generation(2, (A, B), ("base", "app"), "2026-01-02T00:00:00Z"), Generation(1, (A,), ("base",), "2026")),
)


def test_stack_record_takes_its_chain_from_the_newest_generation() -> None:
    assert (STACK.generation, STACK.diff_ids, STACK.layers) == (2, (A, B), ("base", "app"))


def test_text_of_a_record_is_pinned() -> None:
    """Hosts hold these files: what is written today is read by every later version."""
    assert json.loads(dump(STACK)) == {
        "name": "web",
        "path": "/srv/web",
        "writable": "persistent",
        "size": 0,
        "stack_id": "5" * 64,
        "mounted": True,
        "made_path": False,
        "history": [
            {"number": 2, "diff_ids": [A, B], "layers": ["base", "app"], "time": "2026-01-02T00:00:00Z", "back_to": 0},
            {"number": 1, "diff_ids": [A], "layers": ["base"], "time": "2026", "back_to": 0},
        ],
        "keep": 3,
        "project": 0,
        "services": [],
        "boot": True,
        "left": [],
        "driver": "overlay",
        "version": 1,
        "style": {
            "options": [],
            "propagation": "",
            "context": "",
            "idmap_uid": "",
            "idmap_gid": "",
            "owner": None,
            "group": None,
            "mode": None,
        },
    }
    assert load(StackRecord, dump(STACK), "x") == STACK


def test_record_of_the_first_version_is_read() -> None:
    old = json.loads(dump(STACK))
    for later in ("keep", "style", "project", "left"):
        del old[later]
    for generation in old["history"]:
        del generation["back_to"]
    assert load(StackRecord, json.dumps(old), "x") == STACK


TEXT = st.text(max_size=8)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
DIFF_IDS = st.lists(DIGESTS, min_size=1, max_size=3).map(tuple)
LAYERS = st.lists(TEXT, max_size=3).map(tuple)
GENERATIONS = st.builds(Generation, st.integers(), DIFF_IDS, LAYERS, TEXT)
RECORDS = st.one_of(
    st.builds(NameRecord, TEXT, DIFF_IDS, st.dictionaries(TEXT, TEXT, max_size=3), TEXT),
    st.builds(ContentRecord, TEXT, st.integers(), st.integers(), TEXT, TEXT),
    st.builds(
        StackRecord,
        TEXT,
        TEXT,
        TEXT,
        st.integers(),
        TEXT,
        st.booleans(),
        st.booleans(),
        st.lists(GENERATIONS, min_size=1, max_size=3).map(tuple),
    ),
)


@given(record=RECORDS)
def test_any_written_record_is_read_back_the_same(record: Any) -> None:
    text = dump(record)
    assert load(type(record), text, "x") == record
    assert text.isascii()
    assert text.endswith("}\n")


def damaged(**changes: Any) -> str:
    return json.dumps({**json.loads(dump(STACK)), **changes})


@pytest.mark.parametrize("diff_ids", [[], "sha256:" + "0" * 64, ["nothing"], [1]])
def test_record_with_a_malformed_chain_is_refused(diff_ids: object) -> None:
    text = json.dumps({"name": "base", "diff_ids": diff_ids})
    with pytest.raises(StrataError, match="its DiffIDs are no list of digests"):
        load(NameRecord, text, "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\0\0",
        dump(STACK)[:-20],
        "[]",
        "null",
        "5",
        "{}",
        damaged(history=[]),
        damaged(history=None),
        damaged(history=[1]),
        damaged(history=[{"number": 1}]),
        "[" * 100,
    ],
)
def test_damaged_record_is_refused_with_its_path_and_remedy(text: str) -> None:
    with pytest.raises(StrataError, match=r"^The record /s/web.json is damaged \(.+\). Move it away and run again"):
        load(StackRecord, text, "/s/web.json")


def test_record_of_another_kind_is_refused_as_damaged() -> None:
    with pytest.raises(StrataError, match="is damaged"):
        load(NameRecord, dump(STACK), "x")
    with pytest.raises(StrataError, match="is damaged"):
        load(ContentRecord, dump(STACK), "x")
