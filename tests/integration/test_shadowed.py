# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An upgrade below a persistent layer: what was written above hides it, and that is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_info
from ansible_collections.strata.overlay.plugins.module_utils._observe import hidden_paths
from ansible_collections.strata.overlay.tests.integration.host import Host

pytestmark = pytest.mark.drivers("overlay", "fuse-overlayfs")

OLD = {"etc/app.conf": "port = 1\n", "etc/other.conf": "1", "lib/a": "1", "lib/b": "1", "srv/page": "1"}
NEW = {**OLD, "etc/app.conf": "port = 2\n", "lib/a": "2", "lib/c": "1", "new": "1"}


def definition(host: Host, files: dict[str, str], **options: Any) -> dict[str, Any]:
    """One persistent stack over a base that stays and a release."""
    base = {"name": "base", "files": [{"path": "usr/base", "content": "base"}]}
    items = [{"path": path, "content": text} for path, text in files.items()]
    stack = {"name": "web", "path": host.path("web"), "layers": ["base", "app"], "writable": "persistent"}
    return {"layers": [base, {"name": "app", "files": items}], "stacks": [{**stack, **options}]}


def change_file(top: Path) -> None:
    (top / "etc/app.conf").write_text("port = 9\n")


def delete_file(top: Path) -> None:
    (top / "etc/app.conf").unlink()


def empty_directory(top: Path) -> None:
    shutil.rmtree(top / "lib")
    (top / "lib").mkdir()


def delete_directory(top: Path) -> None:
    shutil.rmtree(top / "lib")


def replace_directory(top: Path) -> None:
    shutil.rmtree(top / "lib")
    (top / "lib").write_text("a file")


def change_others(top: Path) -> None:
    (top / "etc/other.conf").write_text("2")
    (top / "srv/page").unlink()
    (top / "own").write_text("1")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (change_file, ["/etc/app.conf"]),
        (delete_file, ["/etc/app.conf"]),
        (empty_directory, ["/lib/a", "/lib/c"]),
        (delete_directory, ["/lib/a", "/lib/c"]),
        (replace_directory, ["/lib/a", "/lib/c"]),
        (change_others, []),
    ],
)
def test_paths_that_the_writable_layer_hides_from_an_upgrade_are_reported(
    host: Host, write: Callable[[Path], None], expected: list[str]
) -> None:
    host.run(**definition(host, OLD))
    write(Path(host.path("web")))
    done = host.run(**definition(host, NEW))
    assert done["stacks"][0]["hidden"] == expected
    assert [Path(host.path("web"), "new").exists(), bool(done.get("warnings"))] == [True, bool(expected)]
    assert stack_info(host.store, "web")["hidden"] == expected


def test_plan_diff_and_warning_name_the_hidden_paths(host: Host) -> None:
    host.run(**definition(host, OLD))
    change_file(Path(host.path("web")))
    done = host.run(**definition(host, NEW))
    words = "the writable layer of web hides 1 path that the new layers change: /etc/app.conf"
    assert [words in step["text"] for step in done["plan"]].count(True) == 1
    assert words in done["diff"]["prepared"]
    assert words in done["warnings"][0]


def test_check_mode_knows_hidden_paths_only_of_layers_in_the_store(host: Host) -> None:
    host.run(**definition(host, OLD))
    change_file(Path(host.path("web")))
    (warning,) = host.run(check=True, **definition(host, NEW))["warnings"]
    assert "is not known" in warning
    host.run(**definition(host, NEW), stage=True)
    done = host.four_steps(**definition(host, NEW))
    assert done["stacks"][0]["hidden"] == ["/etc/app.conf"]


def test_rollback_reports_the_hidden_paths(host: Host) -> None:
    host.run(**definition(host, OLD))
    host.run(**definition(host, NEW))
    change_file(Path(host.path("web")))
    done = host.four_steps("stack", name="web", generation="previous")
    assert done["stacks"][0]["hidden"] == ["/etc/app.conf"]


def test_file_with_only_another_time_is_not_reported_as_hidden(host: Host, tmp_path: Path) -> None:
    for name, text, mode in (("one", "same", 0o644), ("two", "same", 0o644), ("three", "same", 0o600)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
        (tmp_path / name / "file").chmod(mode)
        (tmp_path / name / "only").write_text(name)
        os.utime(tmp_path / name / "file", (len(name), len(name)))

    def run(name: str) -> list[str]:
        layers = [{"name": "app", "dir": str(tmp_path / name), "remote_src": True}]
        stack = {"name": "web", "path": host.path("web"), "layers": ["app"], "writable": "persistent"}
        hidden: list[str] = host.run(layers=layers, stacks=[stack])["stacks"][0]["hidden"]
        return hidden

    run("one")
    Path(host.path("web"), "file").write_text("mine")
    assert (run("two"), run("three")) == ([], ["/file"])


def test_change_below_an_unchanged_top_layer_is_not_reported_as_hidden(host: Host) -> None:
    top = {"name": "top", "files": [{"path": "etc/app.conf", "content": "top"}]}

    def run(files: dict[str, str]) -> list[str]:
        given = definition(host, files, layers=["base", "app", "top"])
        hidden: list[str] = host.run(**{**given, "layers": [*given["layers"], top]})["stacks"][0]["hidden"]
        return hidden

    run(OLD)
    change_file(Path(host.path("web")))
    assert run(NEW) == []


def test_new_writable_layer_hides_nothing(host: Host) -> None:
    host.run(**definition(host, OLD))
    change_file(Path(host.path("web")))
    done = host.run(**definition(host, NEW, on_change="reset"))
    assert (done["stacks"][0]["hidden"], done.get("warnings")) == ([], None)


def test_run_that_changes_nothing_does_not_look_for_hidden_paths(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(**definition(host, OLD))
    change_file(Path(host.path("web")))
    monkeypatch.delattr(hidden_paths, "look_for_shadowed")
    again = host.run(**definition(host, OLD))
    assert (again["changed"], again["stacks"][0]["hidden"], again.get("warnings")) == (False, [], None)


def test_hidden_paths_beyond_the_limit_are_reported_as_more(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden_paths, "MOST_PATHS", 1)
    host.run(**definition(host, OLD))
    delete_directory(Path(host.path("web")))
    done = host.run(**definition(host, NEW))
    assert len(done["stacks"][0]["hidden"]) == 1
    assert "hides more than 1 path that" in done["warnings"][0]
