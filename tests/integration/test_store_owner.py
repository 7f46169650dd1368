# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root works in no store that somebody else owns or may write to; and makes none of that kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot import mount_strata
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._export.export import export
from ansible_collections.strata.overlay.plugins.module_utils._prune import program
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.plugins.module_utils._store.store import DIRECTORIES, open_store
from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root

OTHER = 54_321


def definition(host: Host) -> dict[str, Any]:
    stack = {"name": "web", "path": host.path("web"), "layers": ["base"], "boot": False}
    return {"layers": [inline("base", etc__os="base")], "stacks": [stack]}


@pytest.fixture
def made(host: Host) -> Host:
    """A host with a store that is as it should be, and nothing mounted."""
    need_full_root("cannot give files to anybody")
    host.run(**definition(host))
    host.run(stacks=[{"name": "web", "path": host.path("web"), "layers": ["base"], "state": "unmounted"}])
    return host


WAYS: dict[str, Callable[[Host], object]] = {
    "apply": lambda host: host.run(**definition(host)),
    "plan": lambda host: host.run(check=True, **definition(host)),
    "layer": lambda host: host.run("layer", name="other", files=[]),
    "prune": lambda host: host.prune(),
    "store_check": lambda host: host.check(deep=True),
    "repair": lambda host: host.check(repair=True),
    "commit": lambda host: commit({"root": str(host.root), "stack": "web", "name": "x"}, True),
    "export": lambda host: export({"root": str(host.root), "name": "base", "dest": "/nowhere/x.tar"}, True),
    "info": lambda host: open_store(str(host.root)),
}


@pytest.mark.parametrize("way", WAYS)
def test_store_that_others_can_change_is_refused(made: Host, way: str) -> None:
    made.root.chmod(0o733)
    before = snapshot(made.root)
    with pytest.raises(StrataError, match=f"the store {made.root}: everybody may write to {made.root}, and"):
        WAYS[way](made)
    assert snapshot(made.root) == before
    assert made.mounts("web") == []
    made.root.chmod(0o711)
    assert not made.run(check=True, stacks=[], layers=definition(made)["layers"])["changed"]


def test_programs_refuse_a_store_that_others_can_change(made: Host, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(made.root / "strata/stacks", OTHER, 0)
    assert mount_strata.main(["web", made.path("web"), "-o", f"root={made.root}"]) == 32
    assert program.main(json.dumps({"root": str(made.root)})) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(f"{made.root}/strata/stacks belongs to user {OTHER}, and could change" in line for line in said)
    assert made.mounts("web") == []


@pytest.mark.parametrize("exists", [True, False])
def test_store_that_others_can_replace_is_refused(made: Host, exists: bool) -> None:
    place = made.top / "theirs"
    place.mkdir()
    if exists:
        os.rename(made.root, place / "store")
    os.chown(place, OTHER, OTHER)
    (made.top / "link").symlink_to(place)
    with pytest.raises(StrataError, match=f"the store {made.top}/link/store: {place} belongs to user {OTHER}"):
        made.run(root=f"{made.top}/link/store", **definition(made))
    assert sorted(path.name for path in place.iterdir()) == (["store"] if exists else [])


def test_store_in_a_shared_directory_is_accepted_only_if_owned_by_root(made: Host) -> None:
    shared = made.top / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    root = str(shared / "store")
    assert made.run(root=root, layers=definition(made)["layers"])["changed"]
    assert not made.run(root=root, layers=definition(made)["layers"])["changed"]
    os.chown(root, OTHER, 0)
    with pytest.raises(StrataError, match=f"{root} belongs to user {OTHER}"):
        made.run(root=root, layers=definition(made)["layers"])


def test_new_store_is_writable_by_root_only_whatever_umask_and_acls_say(host: Host) -> None:
    need_full_root("cannot give rights to anybody")
    top = host.top / "lists"
    top.mkdir()
    subprocess.run(["setfacl", "-d", "-m", f"u:{OTHER}:rwx,g:{OTHER}:rwx", top], check=True)
    root = top / "deep/store"
    mask = os.umask(0)
    try:
        host.run(root=str(root), layers=definition(host)["layers"])
    finally:
        os.umask(mask)
    assert open_store(str(root)).exists()
    for name, mode in (("..", 0o755), *DIRECTORIES):
        facts = (root / name).stat()
        assert (facts.st_uid, facts.st_mode & 0o7777) == (0, mode), name


def test_every_store_is_opened_through_the_owner_check() -> None:
    """Modules and programs; only the store's own file makes one without."""
    plugins = Path(__file__).resolve().parents[2] / "plugins"
    found = {path.name for path in plugins.rglob("*.py") if re.search(r"(?<!\w)Store\(", path.read_text())}
    assert found == {"store.py"}
