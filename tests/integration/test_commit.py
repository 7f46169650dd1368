# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack's changes made a layer: the tree that it makes, what is refused, and what is left when it is killed."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import BusyError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._export.export import export
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_info
from ansible_collections.strata.overlay.plugins.module_utils._run import commit as commit_module
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.plugins.module_utils._run.stage import stage_contents
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host, snapshot
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.module_process import call_module
from ansible_collections.strata.overlay.tests.integration.test_changes import changes_of, three_layers
from ansible_collections.strata.overlay.tests.integration.trees import assert_same, tree_of
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_packcontent import chattr


def commit_of(host: Host, check: bool = False, **options: Any) -> dict[str, Any]:
    """The work of the module ``commit`` in this process."""
    return commit({"root": str(host.root), "stack": "web", "name": "kept", **options}, check)


def four_steps(host: Host, **options: Any) -> dict[str, Any]:
    announced = commit_of(host, check=True, **options)
    before = host.store.names()
    assert "kept" not in before
    done = commit_of(host, **options)
    assert announced["changed"]
    assert done["changed"]
    assert done["diff"]["after"]["layers"]["kept"]["diff_ids"] == [done["diff_id"]]
    assert {**announced, "stacks": []} == {**done, "stacks": []}
    for check in (False, True):
        again = commit_of(host, check=check, **options)
        assert (again["changed"], again["plan"]) == (False, [])
        assert [again[key] for key in ("diff_id", "diff_ids", "chain_id")] == [
            done[key] for key in ("diff_id", "diff_ids", "chain_id")
        ]
    return done


def change_much(top: Path) -> None:
    (top / "new").mkdir()
    (top / "new/file").write_text("new")
    os.chown(top / "new/file", 12, 34)
    os.link(top / "new/file", top / "new/hard")
    (top / "a/deep/sub/fresh").unlink()
    (top / "over/sub/file").chmod(0o4711)
    os.setxattr(top / "c/file", "user.note", b"kept")
    (top / "only/gone").unlink()
    (top / "only/gone").mkdir()


def test_committed_layer_shows_the_same_tree(host: Host) -> None:
    three_layers(host)
    top = Path(host.path("web"))
    change_much(top)
    live = tree_of(top)
    done = four_steps(host, labels={"by": "test"})
    assert [step["action"] for step in done["plan"]] == ["import_content", "set_name"]
    name = host.store.name_record("kept")
    assert name is not None
    assert name.labels == {"by": "test"}
    assert tree_of(top) == live, "the stack goes on"
    layers = ["layer0", "layer1", "layer2", "kept"]
    host.run(stacks=[{"name": "copy", "path": host.path("copy"), "layers": layers}])
    assert_same(tree_of(Path(host.path("copy"))), live)
    assert stack_info(host.store, "copy")["chain_id"] == done["chain_id"]
    assert host.check()["findings"] == []


def test_restacked_stack_goes_on_above_the_committed_layer(host: Host) -> None:
    three_layers(host)
    top = Path(host.path("web"))
    change_much(top)
    live = tree_of(top)
    upper = upper_tree(host.store, host.store.stacks()["web"])
    done = four_steps(host, restack=True)
    assert [step["action"] for step in done["plan"]] == [
        *("import_content", "link_layer", "set_name", "unmount"),
        *("compare_upper", "set_aside", "write_stack", "mount"),
    ]
    assert_same(tree_of(top), live)
    assert changes_of(host) == []
    record = host.store.stacks()["web"]
    assert record.layers == ("layer0", "layer1", "layer2", "kept")
    assert (record.generation, record.diff_ids) == (2, tuple(done["diff_ids"]))
    assert os.listdir(upper_tree(host.store, record)) == []
    assert os.listdir(upper), "the old writable layer is there until it is pruned"
    (top / "again").write_text("more")
    assert changes_of(host) == [("A", "/again")]
    with pytest.raises(StrataError, match="layer kept is among the layers of the stack already"):
        commit_of(host, restack=True)
    assert commit_of(host, name="more", restack=True)["changed"]
    assert host.check()["findings"] == []
    host.prune()
    assert not os.path.exists(upper)
    assert (top / "again").read_text() == "more"
    assert (top / "new/file").read_text() == "new"


def test_unmounted_stack_stays_unmounted_after_commit(host: Host) -> None:
    three_layers(host)
    change_much(Path(host.path("web")))
    live = tree_of(Path(host.path("web")))
    host.run(stacks=[{"name": "web", "state": "unmounted"}])
    four_steps(host, restack=True)
    assert host.mounts("web") == []
    host.run(stacks=[{"name": "web"}])
    assert_same(tree_of(Path(host.path("web"))), live)


def test_volatile_stack_commits_while_mounted_and_is_not_restacked(host: Host) -> None:
    stack = {"name": "web", "path": host.path("web"), "layers": ["base"], "writable": "volatile"}
    host.run(layers=[inline("base", etc__name="base")], stacks=[stack])
    Path(host.path("web"), "etc/name").write_text("new")
    four_steps(host)
    with pytest.raises(StrataError, match="option 'restack' needs a stack with writable: persistent"):
        commit_of(host, restack=True)
    host.run(stacks=[{"name": "web", "state": "unmounted"}])
    with pytest.raises(StrataError, match="its writable layer is not there: it is volatile and not mounted"):
        commit_of(host)


def test_impossible_commit_is_refused_before_anything_changes(host: Host) -> None:
    host.run(
        layers=[inline("base", etc__name="base")],
        stacks=[{"name": "web", "path": host.path("web"), "layers": ["base"]}],
    )
    before = snapshot(host.root)
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "commit of stack web: the stack is read-only"),
        ({"stack": "wep"}, "stack wep: the store .* knows no stack of this name; did you mean 'web'"),
        ({"name": "-"}, "option 'name': '-' must begin with"),
    ]
    for options, words in cases:
        with pytest.raises(StrataError, match=words):
            commit_of(host, **options)
    assert snapshot(host.root) == before


def test_changes_with_mapped_owners_are_neither_committed_nor_exported(host: Host) -> None:
    host.needs_idmap()
    stack = {"name": "web", "path": host.path("web"), "layers": ["base"], "writable": "persistent"}
    idmap = {"uid": "0:1000:9", "gid": "0:1000:9"}
    host.run(layers=[inline("base", etc__name="base")], stacks=[{**stack, "idmap": idmap}])
    with pytest.raises(StrataError, match="mapped owners"):
        commit_of(host)
    options = {"name": "web:1", "stack": "web", "changes": True, "dest": str(host.top / "web.tar"), "state": "exported"}
    with pytest.raises(StrataError, match="option 'changes': stack web shows its layers with mapped owners"):
        export({"root": str(host.root), **options}, False)


def test_freeze_without_services_on_record_warns(host: Host) -> None:
    three_layers(host)
    assert commit_of(host, services="freeze")["warnings"] == [
        "stack web has no services on record, so none was kept still"
    ]


def test_sockets_are_left_out_of_a_layer_and_fifos_are_kept(host: Host) -> None:
    three_layers(host)
    top = Path(host.path("web"))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(top / "only/door"))
        os.mkfifo(top / "only/pipe")
        done = four_steps(host)
        exported = export(
            {"root": str(host.root), "name": "x:1", "stack": "web", "changes": True, "state": "exported"}
            | {"dest": str(host.top / "x.tar")},
            False,
        )
    content = Path(host.store.content(done["diff_id"]))
    assert sorted(os.listdir(content / "only")) == ["pipe"]
    assert done["warnings"] == [
        "commit of stack web: 1 socket was left out, which no layer can hold: 'only/door'",
    ]
    assert [words.partition(": ")[2] for words in exported["warnings"]] == [
        "1 socket was left out, which no layer can hold: 'only/door'",
    ]


def test_chattr_flags_that_a_layer_cannot_hold_are_reported(host: Host) -> None:
    """As the kernel keeps it for what is protected in the stack: in an attribute of the writable layer, since 5.14."""
    three_layers(host)
    top = Path(host.path("web"))
    (top / "new").write_text("x")
    with chattr("i", top / "new", top / "c/file"), chattr("a", top / "only"):
        done = four_steps(host)
    (words,) = done["warnings"]
    assert words == (
        "commit of stack web: 3 paths are immutable or append-only (chattr +i, +a), and no layer can hold that: "
        "'c/file', 'new', 'only'"
    )


def test_commit_of_a_tree_that_keeps_changing_is_refused(host: Host) -> None:
    """A writer that never rests."""
    three_layers(host)
    top = Path(host.path("web"))
    (top / "big").write_bytes(os.urandom(20_000_000))
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.001):
            (top / "log").write_text("more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(StrataError, match=r"commit of stack web: .*changed while it was read"):
            commit_of(host)
    finally:
        ended.set()
        writer.join()
    assert "kept" not in host.store.names()
    assert os.listdir(host.root / "staging") == []
    assert commit_of(host)["changed"]


def test_restack_is_refused_when_stack_changes_after_reading(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack stays mounted with all that was written."""
    three_layers(host)
    top = Path(host.path("web"))
    (top / "first").write_text("first")

    def stage_and_write(*arguments: Any, **options: Any) -> Any:
        staged = stage_contents(*arguments, **options)
        (top / "late").write_text("late")
        return staged

    with monkeypatch.context() as patch:
        patch.setattr(f"{commit_module.__package__}.reconcile.stage_contents", stage_and_write)
        with pytest.raises(StrataError, match=r"its writable layer has changed since it was read.*mounted again"):
            commit_of(host, restack=True)
    assert len(host.mounts("web")) == 1
    assert changes_of(host) == [("A", "/first"), ("A", "/late")]
    assert host.store.stacks()["web"].layers == ("layer0", "layer1", "layer2")
    assert host.check()["findings"] == []
    assert commit_of(host, restack=True)["changed"]
    assert (top / "late").read_text() == "late"
    assert changes_of(host) == []


def test_busy_stack_is_committed_but_not_restacked(host: Host) -> None:
    three_layers(host)
    top = Path(host.path("web"))
    (top / "log").write_text("log")
    with subprocess.Popen(["sleep", "60"], cwd=top) as holder:
        try:
            with pytest.raises(BusyError, match=f"process {holder.pid}"):
                commit_of(host, restack=True)
            assert "kept" not in host.store.names()
            assert commit_of(host)["changed"], "reading it is no trouble"
        finally:
            holder.kill()
    assert host.store.stacks()["web"].generation == 1


def test_commit_through_ansible_changes_once_as_announced(host: Host, ansible: Ansible) -> None:
    three_layers(host)
    (Path(host.path("web")) / "new").write_text("new")
    options = {"root": str(host.root), "stack": "web", "name": "kept"}
    announced = call_module("commit", options, check=True)
    assert announced["changed"]
    done = ansible.module("commit", options)
    assert done["changed"]
    assert done["diff_id"] == announced["diff_id"]
    assert not call_module("commit", options)["changed"]
