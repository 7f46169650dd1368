# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times of files in layers from ``dir`` and ``files``: kept, and of no account for whether a layer has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.files import InlineFile
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._info.store import store_info
from ansible_collections.strata.overlay.plugins.module_utils._run import engine, prefetch
from ansible_collections.strata.overlay.plugins.module_utils._run.prefetch import ReadAhead
from ansible_collections.strata.overlay.plugins.module_utils._source import digest_cache
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._source.source import Unread, open_tar, read_source
from ansible_collections.strata.overlay.plugins.plugin_utils._inlinetimes import with_times
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.test_ansible import executions

LONG_AGO = 1_500_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a file of a known time."""
    top = tmp_path / "tree"
    top.mkdir()
    write(top / "index.html", "one", LONG_AGO)
    return top


def write(path: Path, text: str, time: int) -> None:
    """A file with a time of its own, as rsync or a reproducible build leaves it."""
    path.write_text(text)
    os.utime(path, (time, time))


def definition(host: Host, layer: dict[str, Any], **options: Any) -> dict[str, Any]:
    """One stack of one layer."""
    stack = {"name": "web", "path": host.path("web"), "layers": ["app"], **options}
    return {"layers": [{"name": "app", **layer}], "stacks": [stack]}


def remote(host: Host, tree: Path, **options: Any) -> dict[str, Any]:
    """A stack of one directory that the host reads itself."""
    return definition(host, {"dir": str(tree), "remote_src": True, **options})


def mtime(host: Host, name: str = "index.html") -> int:
    """A file's time of modification, as the stack shows it."""
    return int(os.stat(Path(host.path("web")) / name).st_mtime)


@dataclass
class Controller:
    """What the action plugin does with a layer, in this process; with a memory that can be lost."""

    host: Host
    directory: Path

    def apply(self, source: Source, now: int | None = None, **run: Any) -> dict[str, Any]:
        """Ask the host, and send it what it lacks."""
        self.directory.mkdir(exist_ok=True)
        cache = DigestCache(str(self.directory), keep=True)
        if source.kind == "files":
            source = with_times(source, cache, str(self.directory), 10)
            if now is not None:
                source = source._replace(files=tuple(file._replace(time=now) for file in source.files))
        facts = {**read_source(source, cache).facts(), "words": "a layer"}
        facts["inline"] = "yes" if source.kind == "files" else ""
        archive = self.directory / "sent.tar"
        with open_tar(source) as read, archive.open("wb") as stream:
            while piece := read(1 << 20):
                stream.write(piece)
        cache.flush()
        asked = self._run({**facts, "path": ""}, **run)
        return self._run({**facts, "path": str(archive)}, **run) if asked.get("missing") else asked

    def _run(self, facts: dict[str, Any], **run: Any) -> dict[str, Any]:
        told = {"layers": {"layer app": facts}}
        return self.host.run(**definition(self.host, {}), _controller=json.dumps(told), **run)


@pytest.fixture
def controller(host: Host, tmp_path: Path) -> Controller:
    return Controller(host, tmp_path / "cache")


def inline(**files: str) -> Source:
    """A source of files written in a definition."""
    return Source(
        "files",
        files=tuple(InlineFile(name, "file", text.encode(), None, 0, 0, "", False) for name, text in files.items()),
    )


def test_files_of_a_directory_keep_their_times(host: Host, tree: Path) -> None:
    os.utime(tree / "index.html", ns=(1, LONG_AGO * 10**9 + 123456789))
    host.four_steps(**remote(host, tree))
    assert os.stat(Path(host.path("web")) / "index.html").st_mtime_ns == LONG_AGO * 10**9 + 123456789


def test_touched_directory_changes_nothing(host: Host, tree: Path) -> None:
    first = host.run(**remote(host, tree))
    os.utime(tree / "index.html")
    checked, again = host.run(check=True, **remote(host, tree)), host.run(**remote(host, tree))
    assert (checked["changed"], again["changed"]) == (False, False)
    assert again["diff_ids"] == first["diff_ids"]


def test_touched_directory_with_prune_changes_nothing(host: Host, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_cache, "_FRESH_NS", 0)  # else the cache does not remember what was just touched
    host.run(**remote(host, tree))
    os.utime(tree / "index.html", (LONG_AGO + 5, LONG_AGO + 5))
    assert [host.run(**remote(host, tree), prune={"unused_for": "0s"})["changed"] for _run in range(2)] == [False] * 2


def test_file_replaced_with_same_size_and_time_gets_a_later_time(host: Host, tree: Path) -> None:
    host.run(**remote(host, tree))
    write(tree / "index.html", "two", LONG_AGO)
    done = host.run(**remote(host, tree))
    again = host.run(**remote(host, tree))
    assert host.tree("web") == {"index.html": "two"}
    assert (done["changed"], again["changed"], mtime(host)) == (True, False, LONG_AGO + 1)
    assert host.check(deep=True)["findings"] == []


def test_third_version_of_a_file_has_neither_earlier_time(host: Host, tree: Path) -> None:
    for text in ("one", "two", "six"):
        write(tree / "index.html", text, LONG_AGO)
        host.run(**remote(host, tree))
    assert mtime(host) == LONG_AGO + 2


def test_return_to_the_first_version_gives_the_first_content_again(host: Host, tree: Path) -> None:
    first = host.run(**remote(host, tree))
    write(tree / "index.html", "two", LONG_AGO)
    host.run(**remote(host, tree))
    write(tree / "index.html", "one", LONG_AGO + 7)
    assert host.run(**remote(host, tree))["diff_ids"] == first["diff_ids"]
    assert mtime(host) == LONG_AGO


def test_file_beside_a_changed_one_keeps_its_time(host: Host, tree: Path) -> None:
    write(tree / "same", "same", LONG_AGO)
    host.run(**remote(host, tree))
    write(tree / "index.html", "two", LONG_AGO)
    host.run(**remote(host, tree))
    assert (mtime(host, "same"), mtime(host)) == (LONG_AGO, LONG_AGO + 1)


def test_replaced_file_in_a_layer_of_another_name_gets_a_later_time(host: Host, tree: Path) -> None:
    for release, text in (("app-1", "one"), ("app-2", "two")):
        write(tree / "index.html", text, LONG_AGO)
        stack = {"name": "web", "path": host.path("web"), "layers": [release]}
        host.run(layers=[{"name": release, "dir": str(tree), "remote_src": True}], stacks=[stack])
    assert (host.tree("web"), mtime(host)) == ({"index.html": "two"}, LONG_AGO + 1)


def test_file_that_differs_in_another_layer_keeps_its_time(host: Host, tree: Path) -> None:
    other = tree.parent / "other"
    other.mkdir()
    write(other / "index.html", "two", LONG_AGO)
    stack = {"name": "web", "path": host.path("web"), "layers": ["other", "app"]}
    layers = [{"name": name, "dir": str(top), "remote_src": True} for name, top in (("app", tree), ("other", other))]
    host.run(layers=layers, stacks=[stack])
    write(tree / "new", "new", LONG_AGO)
    host.run(layers=layers, stacks=[stack])
    assert (host.tree("web"), mtime(host)) == ({"index.html": "one", "new": "new"}, LONG_AGO)


def test_replaced_file_in_a_layer_defined_in_a_stack_gets_a_later_time(host: Host, tree: Path) -> None:
    stack = {"name": "web", "path": host.path("web"), "layers": [{"dir": str(tree), "remote_src": True}]}
    host.run(stacks=[stack])
    os.utime(tree / "index.html")
    assert host.run(stacks=[stack])["changed"] is False
    write(tree / "index.html", "two", LONG_AGO)
    host.run(stacks=[stack])
    assert (host.tree("web"), mtime(host)) == ({"index.html": "two"}, LONG_AGO + 1)


def test_times_are_settled_although_reading_ahead_fails(
    host: Host, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_ahead(workspace: str, sources: Sequence[Unread], *rest: Any) -> ReadAhead:
        if len(sources) > 1:
            raise OSError("for now")
        return real(workspace, sources, *rest)

    real = prefetch.read_ahead
    other = tree.parent / "other"
    shutil.copytree(tree, other)
    host.run(**remote(host, tree))
    write(tree / "index.html", "two", LONG_AGO)
    monkeypatch.setattr(engine, "read_ahead", read_ahead)
    given = remote(host, tree)
    more = {"name": "other", "dir": str(other), "remote_src": True, "times": "fixed"}
    host.run(**{**given, "layers": [*given["layers"], more]})
    assert (host.tree("web"), mtime(host)) == ({"index.html": "two"}, LONG_AGO + 1)
    assert os.listdir(host.root / "staging") == []


def test_compiled_python_files_stay_valid(host: Host, tree: Path) -> None:
    (tree / "app.py").write_text("print('compiled')\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree)], check=True, env={})
    host.run(**remote(host, tree))
    top = Path(host.path("web"))
    pyc = next((top / "__pycache__").glob("app.*.pyc")).read_bytes()
    facts = (top / "app.py").stat()
    assert pyc[8:16] == int(facts.st_mtime).to_bytes(4, "little") + facts.st_size.to_bytes(4, "little")


def test_fixed_times_give_one_diff_id_everywhere(host: Host, tree: Path) -> None:
    first = host.run(**remote(host, tree, times="fixed"))
    os.utime(tree / "index.html")
    again = host.run(**remote(host, tree, times="fixed"))
    kept = host.run(**remote(host, tree))
    assert (again["changed"], kept["changed"]) == (False, False)
    assert first["diff_ids"] == again["diff_ids"] == kept["diff_ids"]
    assert mtime(host) == 315532800


def test_change_to_fixed_times_replaces_kept_times(host: Host, tree: Path) -> None:
    host.run(**remote(host, tree))
    assert host.run(**remote(host, tree, times="fixed"))["changed"] is True
    assert mtime(host) == 315532800


def test_directory_pinned_by_its_source_digest_is_accepted(host: Host, tree: Path) -> None:
    pinned = read_source(Source("dir", str(tree), times="fixed"), DigestCache("/nonexistent", keep=False)).diff_id
    host.four_steps(**remote(host, tree, digest=pinned))
    assert mtime(host) == LONG_AGO


def test_store_info_shows_digests_that_do_not_depend_on_times(host: Host, tree: Path) -> None:
    fixed = read_source(Source("dir", str(tree), times="fixed"), DigestCache("/nonexistent", keep=False)).diff_id
    host.run(**remote(host, tree))
    found = store_info(host.store)
    assert [layer["source_digest"] for layer in found["layers"]] == [fixed]
    assert found["layers"][0]["diff_id"] != fixed == found["stacks"][0]["source_chain_id"]


def test_inline_files_have_the_time_at_which_the_controller_saw_them(host: Host, controller: Controller) -> None:
    controller.apply(inline(a="1", b="1"), now=LONG_AGO)
    assert (mtime(host, "a"), mtime(host, "b")) == (LONG_AGO, LONG_AGO)


def test_controller_without_remembered_times_changes_nothing(host: Host, controller: Controller, tree: Path) -> None:
    first = controller.apply(inline(a="1"), now=LONG_AGO)
    again = controller.apply(inline(a="1"), now=LONG_AGO + 100)
    assert (first["changed"], again["changed"], again["plan"]) == (True, False, [])
    assert again["diff_ids"] == first["diff_ids"]


def test_inline_file_with_the_same_bytes_keeps_its_time_on_the_host(host: Host, controller: Controller) -> None:
    controller.apply(inline(a="1", b="1"), now=LONG_AGO)
    done = controller.apply(inline(a="1", b="2"), now=LONG_AGO + 100)
    again = controller.apply(inline(a="1", b="2"), now=LONG_AGO + 200)
    assert (done["changed"], again["changed"]) == (True, False)
    assert (mtime(host, "a"), mtime(host, "b")) == (LONG_AGO, LONG_AGO + 100)
    assert host.check(deep=True)["findings"] == []


def test_controller_remembers_when_it_saw_a_file(host: Host, controller: Controller) -> None:
    controller.apply(inline(a="1"))
    remembered = with_times(inline(a="1"), DigestCache(str(controller.directory), keep=True), "/nonexistent", 0)
    assert remembered.files[0].time == mtime(host, "a")


def test_another_checkout_changes_nothing_with_one_module_execution(ansible: Ansible, host: Host, tree: Path) -> None:
    def run(source: Path) -> tuple[bool, int]:
        files = [{"path": "etc/app.conf", "content": "port = 1\n"}]
        layers = [{"name": "app", "dir": str(source)}, {"name": "config", "files": files}]
        stacks = [{"name": "web", "path": host.path("web"), "layers": ["app", "config"]}]
        arguments = json.dumps({"root": str(host.root), "layers": layers, "stacks": stacks})
        done = ansible.call("ansible", "localhost", "-vvv", "-m", "strata.overlay.apply", "-a", arguments)
        assert done.returncode == 0, done.stdout
        return "CHANGED" in done.stdout, executions(done.stdout)

    other = tree.parent / "other"
    shutil.copytree(tree, other, copy_function=shutil.copyfile)
    assert run(tree) == (True, 2)
    assert mtime(host) == LONG_AGO
    shutil.rmtree(Path(ansible.environment["XDG_CACHE_HOME"]) / "strata.overlay")
    assert run(other) == (False, 1)
    assert mtime(host) == LONG_AGO
