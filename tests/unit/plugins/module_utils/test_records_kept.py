# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records outlive the code that wrote them: those of 0.1.0, kept as files, and those of releases to come.

``records-0.1.0/`` is a store without contents and writable layers, as code before ``version`` was in records left it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._check.scan import look
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache, recall
from ansible_collections.strata.overlay.plugins.module_utils._store.last_use import names_are_used
from ansible_collections.strata.overlay.plugins.module_utils._store.records import (
    KEYS,
    VERSION,
    ChangeRecord,
    ContentRecord,
    LaterRecordError,
    NameRecord,
    StackRecord,
    dump,
    load,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.removals import journaled_paths
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

KEPT = Path(__file__).parent / "records-0.1.0"
KINDS: dict[str, Any] = {
    "names": NameRecord,
    "stacks": StackRecord,
    "aside": StackRecord,
    "changes": ChangeRecord,
    "contents": ContentRecord,
}
FILES = sorted(path for kind in KINDS for path in (KEPT / "strata" / kind).iterdir())
LATER = {"version": VERSION + 1, "seal": {"by": ["a", "b"]}, "since": None}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(KEPT, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def kind_of(path: Path) -> Any:
    return KINDS[path.parent.name]


def later(path: Path, **more: Any) -> dict[str, Any]:
    """A record as a later release has written it: with more at every depth."""
    data = {**json.loads(path.read_text()), **LATER, **more}
    if "history" in data:
        data["style"]["seal"] = "strict"
        data["history"] = [{**generation, "seal": number} for number, generation in enumerate(data["history"])]
    return data


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {unquote(path.stem)[:12]}")
def test_record_of_0_1_0_is_written_back_with_every_key_it_had(path: Path) -> None:
    before = json.loads(path.read_text())
    after = json.loads(dump(load(kind_of(path), path.read_text(), str(path))))
    assert {key: after[key] for key in before} == before
    assert set(after) - set(before) <= {"version", *KEYS[kind_of(path)].values()}
    assert after["version"] == VERSION


def test_store_of_0_1_0_is_read_whole(store: Store) -> None:
    web = store.stacks()["web"]
    assert [(one.number, one.back_to, one.layers) for one in web.history] == [
        (3, 1, ("base", "app")),
        (2, 0, ("base", "app")),
    ]
    assert (web.path, web.writable, web.keep, web.boot, web.driver) == ("/srv/web", "persistent", 2, False, "overlay")
    assert (web.style.options, web.style.propagation, web.style.mode) == (("noatime", "nosuid"), "private", 0o750)
    assert set(store.stacks()) == {"docs", "tmp/1", "web"}
    assert set(store.names()) == {"app", "app:1", "base", "dir"}
    image = store.name_record("app:1")
    assert image is not None
    assert (image.kind, dict(image.labels)) == ("image", {"tier": "front"})
    assert [record.history[0].number for record in store.detached_uppers()] == [1]
    change = store.change_record("web")
    assert change is not None
    assert (change.running, change.was_mounted, change.back) == (("app.service",), True, web.history[1].diff_ids)
    contents = [store.content_record(diff_id) for diff_id in store.recorded_contents()]
    assert [record.has_digest for record in contents if record] == [True] * 4
    assert store.imported_from() == {"inline files", "directory /tree"}


def test_removals_of_0_1_0_are_known(store: Store) -> None:
    zeros = "sha256:" + "0" * 64
    assert journaled_paths(store) == [store.content(zeros), store.content_file(zeros)]


def test_digests_of_sources_of_0_1_0_are_recalled(store: Store) -> None:
    keys = [name[: -len(".json")] for name in os.listdir(store.sources)]
    found = [recall(key, DigestCache(store.sources, keep=False)) for key in keys]
    assert {each.diff_id for each in found if each} <= set(store.recorded_contents())
    assert len(found) == 3


def test_last_use_of_0_1_0_is_the_time_of_the_record(store: Store) -> None:
    os.utime(store.name_file("base"), (1, 1))
    names_are_used(store, ["base", "gone"])
    assert os.stat(store.name_file("base")).st_mtime > 1


def test_check_finds_no_record_of_0_1_0_damaged(store: Store) -> None:
    assert look(store).damaged == ()


@pytest.mark.parametrize("kind", KEYS, ids=lambda kind: kind.__name__)
def test_every_attribute_has_its_key(kind: Any) -> None:
    """A renamed or a new attribute fails here: the key of a renamed one stays, a new one gets a key of its own."""
    assert set(KEYS[kind]) == {part.name for part in fields(kind)} - {"unknown"}
    assert len(set(KEYS[kind].values())) == len(KEYS[kind])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {unquote(path.stem)[:12]}")
def test_record_of_a_later_version_is_written_back_unharmed(path: Path) -> None:
    data = later(path)
    record = load(kind_of(path), json.dumps(data), str(path))
    assert record == load(kind_of(path), path.read_text(), str(path))
    written = json.loads(dump(replace(record)))
    assert {key: written[key] for key in data} == data


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {unquote(path.stem)[:12]}")
def test_record_that_this_release_would_get_wrong_is_refused_and_not_called_damaged(path: Path) -> None:
    with pytest.raises(LaterRecordError, match=r"was written by a later release .+ in version 2 .+ reads version 1"):
        load(kind_of(path), json.dumps(later(path, min_reader=VERSION + 1)), str(path))


@pytest.mark.parametrize("version", ["1", None, [1], 1.5])
def test_record_with_a_malformed_version_is_damaged(version: object) -> None:
    path = FILES[0]
    with pytest.raises(StrataError, match="is damaged"):
        load(kind_of(path), json.dumps({**json.loads(path.read_text()), "version": version}), str(path))


@pytest.mark.parametrize("kind", ["stacks/web", "names/base"])
def test_check_does_not_judge_a_store_that_it_cannot_read(store: Store, kind: str) -> None:
    path = Path(store.root, "strata", f"{kind}.json")
    path.write_text(json.dumps(later(path, min_reader=VERSION + 1)))
    with pytest.raises(LaterRecordError):
        look(store)


def test_writable_layers_set_aside_by_a_later_release_are_not_overlooked(store: Store) -> None:
    path = next(Path(store.root, "strata/aside").iterdir())
    path.write_text(json.dumps(later(path, min_reader=VERSION + 1)))
    with pytest.raises(LaterRecordError):
        store.detached_uppers()
