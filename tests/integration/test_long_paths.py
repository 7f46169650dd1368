# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths longer than the kernel takes and files that cannot be deleted stop nothing else in the store."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_info
from ansible_collections.strata.overlay.plugins.module_utils._info.store import store_info
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.trees import make_deep

LONG = "n" * 250


def stack(host: Host, name: str) -> dict[str, Any]:
    return {"name": name, "path": host.path(name), "layers": ["a"], "writable": "persistent"}


@pytest.mark.drivers("overlay")
def test_path_longer_than_the_kernel_takes_stops_only_its_own_commit(host: Host) -> None:
    definition: dict[str, Any] = {"layers": [inline("a", a="a")], "stacks": [stack(host, "long"), stack(host, "other")]}
    host.run(**definition)
    make_deep(Path(host.path("long")), LONG, 20, beside=True)
    (Path(host.path("other")) / "file").write_text("x")

    info = store_info(host.store)
    assert info["unmeasured"] == info["warnings"] == []
    assert next(item for item in info["stacks"] if item["name"] == "long")["writable_bytes"] >= 20 * 4096
    assert len(stack_info(host.store, "long", changes=True)["changes"]) == 40
    assert host.check()["findings"] == []
    assert host.run(**definition, prune={"max_bytes": "1g"})["changed"] is False
    done = commit({"root": str(host.root), "stack": "other", "name": "made"}, False)
    assert done["changed"]
    with pytest.raises(StrataError, match=r"stack long.*its name is too long"):
        commit({"root": str(host.root), "stack": "long", "name": "never"}, False)

    gone = {**stack(host, "long"), "state": "absent"}
    host.run(stacks=[gone], prune={"unused_for": "0s"})
    assert not host.prune()["changed"]
    assert len(list((host.root / "image/overlay2/layerdb/mounts").iterdir())) == 1
    assert not list((host.root / "trash").iterdir())


@pytest.mark.drivers("overlay")
def test_file_that_cannot_be_deleted_is_named_and_all_others_are_deleted(host: Host) -> None:
    host.run(layers=[inline("a", a="a")])
    for name in ("bad", "good"):
        (host.root / "trash" / name).mkdir()
        for number in range(3):
            (host.root / "trash" / name / f"{number}").write_text("x")
    kept = host.root / "trash/bad/1"
    subprocess.run(["chattr", "+i", str(kept)], check=True)
    try:
        done = host.prune()
        again = host.prune()
    finally:
        subprocess.run(["chattr", "-i", str(kept)], check=True)
    assert [item["id"] for item in done["removed"]] == ["trash/good"]
    assert [path.name for path in kept.parent.iterdir()] == ["1"]
    assert f"{host.root}/trash/bad is not deleted: Operation not permitted" in done["notes"][0]
    assert len(done["warnings"]) == 1
    assert again["changed"] is False
    assert again["notes"] == done["notes"]
    assert host.prune()["changed"]
    assert not list((host.root / "trash").iterdir())


@pytest.mark.drivers("overlay")
def test_content_that_cannot_be_moved_is_named_and_blocks_nothing_else(host: Host) -> None:
    host.run(layers=[inline("a", a="a"), inline("b", b="b")])
    kept, gone = (Path(host.store.content(host.store.name_record(name).diff_ids[0])) for name in ("a", "b"))  # type: ignore[union-attr]
    host.run(layers=[{"name": "a", "state": "absent"}, {"name": "b", "state": "absent"}])
    subprocess.run(["chattr", "+i", str(kept)], check=True)
    try:
        done = host.prune()
        assert host.run(layers=[inline("c", c="c")])["changed"]
    finally:
        subprocess.run(["chattr", "-i", str(kept)], check=True)
    assert kept.exists()
    assert not gone.exists()
    assert [item["id"] for item in done["removed"] if item["kind"] == "content"] == [f"sha256:{gone.name}"]
    assert done["warnings"] == [
        f"{kept} is not removed: Operation not permitted; see whether chattr +i or a mount keeps it"
    ]
    assert host.store.removal_journals() == []
    assert [item["id"] for item in host.prune()["removed"] if item["kind"] == "content"] == [f"sha256:{kept.name}"]
    assert host.check()["findings"] == []
