# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every file, link and directory of a store damaged one by one: found and healed, or told; never a wrong mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline

TREE = {"bin/app": "app\n", "etc/os": "base\n", "etc/site": "site\n"}
WRITTEN = {"written": "by a user\n"}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _empty(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
        path.symlink_to(".")
    elif path.is_dir():
        _remove(path)
        path.mkdir()
    else:
        os.truncate(path, 0)


def _truncate(path: Path) -> None:
    if path.is_symlink():
        target = os.readlink(path)
        path.unlink()
        path.symlink_to(target[: len(target) // 2] or "x")
    elif path.is_dir():
        inside = sorted(path.iterdir())
        for item in inside[len(inside) // 2 :]:
            _remove(item)
    else:
        os.truncate(path, path.stat().st_size // 2)


def _garbage(path: Path) -> None:
    """Something of the same size, or another kind of thing."""
    if path.is_file() and not path.is_symlink():
        path.write_bytes(b"?" * max(path.stat().st_size, 1))
    else:
        _remove(path)
        path.write_text("?")


def _another_kind(path: Path, outside: Path) -> None:
    """A link out of the store in the place of a directory: whoever follows it changes what is not the store's."""
    was_directory = path.is_dir() and not path.is_symlink()
    _remove(path)
    if was_directory:
        path.symlink_to(outside)
    else:
        path.mkdir()
        (path / "inside").write_text("?")


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "removed": lambda path, _outside: _remove(path),
    "emptied": lambda path, _outside: _empty(path),
    "truncated": lambda path, _outside: _truncate(path),
    "garbage": lambda path, _outside: _garbage(path),
    "another kind": _another_kind,
}


class Store:
    """A small store with one of everything, copied afresh for each damage."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.pristine = host.top / "pristine"
        self.outside = host.top / "outside"
        for name in ("file", "directory/inside", "sha256/file", "diff/file", "l/file", f"{'a' * 64}/file"):
            path = self.outside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("not the store's\n")
        layers = [
            inline("base", etc__os="base\n", etc__site="old\n"),
            inline("app", bin__app="app\n"),
            inline("site", etc__site="site\n"),
        ]
        web = {"name": "web", "path": host.path("web"), "layers": ["base", "app", "site"]}
        data = {"name": "data", "path": host.path("data"), "layers": ["base", "app", "site"], "writable": "persistent"}
        self.definition: dict[str, Any] = {"layers": layers, "stacks": [web, data]}
        host.run(**self.definition)
        Path(host.path("data"), "written").write_text("by a user\n")
        down = [{**stack, "state": "unmounted"} for stack in self.definition["stacks"]]
        host.run(layers=layers, stacks=down)
        assert host.check(deep=True)["findings"] == []
        subprocess.run(["cp", "--archive", host.root, self.pristine], check=True)
        # A copy has other times of change throughout; that alone is no damage.
        self.reset()
        assert host.check(deep=True)["findings"] == []

    def paths(self) -> list[Path]:
        return [path.relative_to(self.pristine) for path in sorted(self.pristine.rglob("*"))]

    def reset(self) -> None:
        unmount_all(self.host.top)
        shutil.rmtree(self.host.root)
        subprocess.run(["cp", "--archive", self.pristine, self.host.root], check=True)


def _written_is_kept(host: Host) -> bool:
    """Whether what the user wrote is still somewhere in the store."""
    return any(path.is_file() and path.read_text() == "by a user\n" for path in host.root.rglob("written"))


def _outcome(store: Store, damage: Callable[[Path, Path], None], path: Path) -> str:
    """What became of one damage; "" where all is as it ought to be, else what is wrong."""
    host = store.host
    damage(host.root / path, store.outside)
    kept = _written_is_kept(host)
    try:
        found = host.check(deep=True)["findings"]
        host.check(repair=True, deep=True)
        after = host.check(deep=True)["findings"]
    except (StrataError, OSError) as error:
        return "" if path == Path("lock") else f"the check ended: {error}"
    if any(finding["repairable"] for finding in after):
        return f"repair leaves {after}"
    if kept and not _written_is_kept(host):
        return "repair lost what the user wrote"
    try:
        host.run(**store.definition)
    except (StrataError, OSError) as error:
        # Nothing is changed without the lock, not even to mend it.
        told = path == Path("lock") and found
        return "" if told else f"the next run failed: {error}"
    if host.tree("web") != TREE:
        return f"web shows {host.tree('web')}; found before: {found}"
    shown = host.tree("data")
    if {key: shown.get(key) for key in TREE} != TREE and not _is_of_upper(path):
        return f"data shows {shown}; found before: {found}"
    left = host.check(deep=True)["findings"]
    return f"the next run leaves {left}" if left else ""


def _is_of_upper(path: Path) -> bool:
    """What a user wrote may hide what lies below: damage to it is the user's."""
    return "written" in path.parts


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_to_any_file_of_a_store_is_healed_or_reported(host: Host, name: str) -> None:
    store = Store(host)
    wrong = {}
    for path in store.paths():
        before = snapshot(store.outside)
        outcome = _outcome(store, DAMAGES[name], path)
        if snapshot(store.outside) != before:
            pytest.fail(f"{path}: something outside of the store was changed")
        if outcome:
            wrong[str(path)] = outcome
        store.reset()
    assert wrong == {}
    assert len(store.paths()) > 90
