# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prune on the real kernel: what goes, what stays, and that every byte is accounted for."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import BusyError, DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._definition.prune import PruneSpec
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._prune.run import Pruning
from ansible_collections.strata.overlay.tests.integration.disk import mounted_ext4
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host, snapshot
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered
from ansible_collections.strata.overlay.tests.integration.module_process import call_module

DAY = 86400


def kinds(result: dict[str, Any]) -> dict[str, int]:
    """How many of each kind were removed, but for what is known of sources: that goes with contents."""
    found: dict[str, int] = {}
    for removal in result["removed"]:
        if removal["kind"] == "source":
            continue
        found[removal["kind"]] = found.get(removal["kind"], 0) + 1
    return found


def ids(result: dict[str, Any], kind: str) -> set[str]:
    return {removal["id"] for removal in result["removed"] if removal["kind"] == kind}


def prune_in_four_steps(host: Host, **options: Any) -> dict[str, Any]:
    """Check, do, again, check again; what was announced is what went."""
    before = snapshot(host.root)
    announced = host.prune(check=True, **options)
    assert snapshot(host.root) == before, "check mode changes nothing"
    done = host.prune(**options)
    again = host.prune(**options)
    checked = host.prune(check=True, **options)
    assert announced["removed"] == done["removed"]
    assert announced["reclaimed_bytes"] == done["reclaimed_bytes"] == sum(item["bytes"] for item in done["removed"])
    assert announced["changed"] == done["changed"] == bool(done["removed"])
    assert (again["changed"], again["removed"], again["reclaimed_bytes"]) == (False, [], 0)
    assert (checked["changed"], checked["removed"]) == (False, [])
    assert list((host.root / "trash").iterdir()) == []
    assert list((host.root / "staging").iterdir()) == []
    return done


def stack(host: Host, *layers: str, name: str = "web", **options: Any) -> dict[str, Any]:
    return {"name": name, "path": host.path(name), "layers": list(layers), **options}


def age(host: Host, days: float) -> None:
    """Everything in the store was last used that long ago."""
    then = time.time() - days * DAY
    for directory in ("strata/names", "strata/contents", "strata/aside", "image/overlay2/layerdb/sha256"):
        for path in (host.root / directory).iterdir():
            os.utime(path, (then, then))


def test_prune_of_a_host_without_a_store_changes_nothing(host: Host) -> None:
    for check in (True, False):
        assert host.prune(check=check)["changed"] is False
    assert not host.root.exists()


@pytest.mark.drivers("overlay", "fuse-overlayfs")
def test_prune_deletes_only_what_nothing_refers_to(host: Host) -> None:
    host.run(layers=numbered(4), stacks=[stack(host, "n0", "n1"), stack(host, "n0", "n2", name="other")])
    assert prune_in_four_steps(host)["removed"] == []
    diff_ids = {name: record[0] for name, record in host.run(check=True, layers=numbered(4))["layers"].items()}
    host.run(layers=[{"name": "n1", "state": "absent"}, {"name": "n3", "state": "absent"}])
    done = prune_in_four_steps(host)
    assert kinds(done) == {"content": 1}, "n1 is part of a stack still"
    assert ids(done, "content") == {diff_ids["n3"]}
    host.run(stacks=[{"name": "web", "state": "absent"}])
    done = prune_in_four_steps(host)
    assert kinds(done) == {"content": 1, "layer": 1}, "the base layer is the other stack's too"
    assert ids(done, "content") == {diff_ids["n1"]}
    assert host.tree("other")["file2"] == "2"
    host.run(stacks=[{"name": "other", "state": "absent"}])
    assert kinds(prune_in_four_steps(host)) == {"layer": 1}, "names keep contents; the other layer is a name's too"


@pytest.mark.drivers("overlay", "fuse-overlayfs")
def test_apply_prunes_in_the_same_plan(host: Host) -> None:
    options: dict[str, Any] = {"stacks": [stack(host, "base", "app", generations=1)], "prune": {}}
    host.run(layers=[inline("base", os="base"), inline("app", run="old")], **options)
    old = host.run(check=True, layers=[inline("app", run="old")])["layers"]["app"][0]
    new = {"layers": [inline("base", os="base"), inline("app", run="new")], **options}
    done = host.four_steps(**new)
    assert kinds(done) == {"content": 1, "layer": 1}
    assert ids(done, "content") == {old}
    assert [step["action"] for step in done["plan"]][-2:] == ["prune", "prune"]
    assert host.tree("web") == {"os": "base", "run": "new"}
    assert not Path(host.store.content(old)).exists()


def test_names_of_the_definition_are_kept_however_old(host: Host) -> None:
    definition: dict[str, Any] = {"layers": numbered(2), "stacks": []}
    host.run(**definition)
    age(host, 30)
    assert host.run(check=True, **definition, prune={"unused_for": "7d"})["changed"] is False
    assert ids(host.run(check=True, layers=numbered(1), prune={"unused_for": "7d"}), "name") == {"n1"}
    host.run(**definition)
    assert host.prune(check=True, unused_for="7d")["changed"] is False, "the run has needed them"


@pytest.mark.parametrize("check", [True, False])
def test_all_errors_in_the_options_are_reported_at_once(host: Host, check: bool) -> None:
    with pytest.raises(DefinitionError) as caught:
        host.prune(check=check, unused_for="a week", max_bytes="-1", labels="x")
    assert len(caught.value.errors) == 3
    with pytest.raises(DefinitionError, match="prune: option 'unused_for': 'soon'"):
        host.run(check=check, prune={"unused_for": "soon"})


@pytest.mark.drivers("overlay", "fuse-overlayfs")
def test_unused_for_counts_from_the_last_use(host: Host) -> None:
    host.run(layers=numbered(3), stacks=[stack(host, "n0", "n1")])
    age(host, 8)
    assert ids(host.prune(check=True, unused_for="9d"), "name") == set()
    assert ids(host.prune(check=True, unused_for="7d"), "name") == {"n2"}, "a stack uses the others"
    host.run(stacks=[{"name": "web", "state": "absent"}])
    assert ids(host.prune(check=True, unused_for="7d"), "name") == {"n2"}, "the others were in use until now"
    assert kinds(prune_in_four_steps(host, unused_for="7d")) == {"name": 1, "content": 1}
    age(host, 8)
    assert kinds(prune_in_four_steps(host, unused_for="7d", keep=["*1"])) == {"name": 1, "content": 1, "layer": 2}
    assert host.store.names() == ["n1"]


def test_labels_select_names_and_the_contents_that_only_these_use(host: Host) -> None:
    nightly = {"labels": {"pipeline": "nightly", "arch": "amd64"}}
    shared = inline("shared", a="1")
    host.run(layers=[{**shared, **nightly}, {**shared, "name": "same"}, {**inline("own", b="2"), **nightly}])
    host.run(layers=[inline("gone", c="3"), {**inline("weekly", d="4"), "labels": {"pipeline": "weekly"}}])
    host.run(layers=[{"name": "gone", "state": "absent"}])
    done = prune_in_four_steps(host, labels={"pipeline": "nightly"})
    assert ids(done, "name") == {"own", "shared"}
    assert kinds(done) == {"name": 2, "content": 1}, (
        "one content has another name still, and what is not labelled stays"
    )
    assert kinds(prune_in_four_steps(host)) == {"content": 1}


def test_max_bytes_removes_the_longest_unused_first(host: Host) -> None:
    big = "x" * 100_000
    host.run(layers=[inline(f"b{number}", file=f"{number}{big}") for number in range(4)], stacks=[stack(host, "b0")])
    now = time.time()
    for number, days in enumerate((9, 1, 5, 3)):
        path = host.store.name_file(f"b{number}")
        os.utime(path, (now - days * DAY, now - days * DAY))
    total = host.prune(check=True, max_bytes="100t")
    assert total["removed"] == []
    needed = int(host.prune(check=True, max_bytes="1")["notes"][0].split()[1])
    assert kinds(host.prune(check=True, max_bytes="1")) == {"name": 3, "content": 3}, "all but the stack's"
    done = prune_in_four_steps(host, max_bytes=str(needed + 150_000))
    assert ids(done, "name") == {"b2", "b3"}
    done = prune_in_four_steps(host, max_bytes="1k")
    assert ids(done, "name") == {"b1"}
    assert "cannot shrink" in done["notes"][0]


def test_prune_deletes_a_detached_upper_and_every_trace_of_it(host: Host) -> None:
    host.run(layers=numbered(2), stacks=[stack(host, "n0", "n1", writable="persistent")])
    Path(host.path("web"), "note").write_text("mine")
    stack_id = host.store.stacks()["web"].stack_id
    host.run(stacks=[{"name": "web", "state": "absent"}])
    assert ids(host.prune(check=True, keep=["web"]), "upper") == set()
    assert ids(host.prune(check=True, unused_for="1h"), "upper") == set()
    done = prune_in_four_steps(host)
    assert ids(done, "upper") == {stack_id}
    left = subprocess.run(["grep", "-rl", stack_id, host.root], capture_output=True, text=True, check=False).stdout
    assert left == ""
    assert not [path for path in host.root.rglob("*") if stack_id in path.name]


# In use is what mounts use, wherever they are.

WITHOUT_NAMES: dict[str, Any] = {"layers": [{"name": f"n{number}", "state": "absent"} for number in range(3)]}


@contextmanager
def foreign_namespace() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a mount namespace that is a copy of this one and does what it is told on its standard input."""
    command = ["unshare", "--mount", "--propagation", "private", "sh"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        try:
            tell(shell, "true")
            yield shell
        finally:
            shell.kill()


def tell(shell: subprocess.Popen[bytes], command: str) -> None:
    assert shell.stdin
    assert shell.stdout
    shell.stdin.write(f"{command} && echo done || echo failed\n".encode())
    shell.stdin.flush()
    assert shell.stdout.readline() == b"done\n"


@pytest.mark.drivers("overlay", "fuse-overlayfs")
@pytest.mark.parametrize("writable", ["none", "volatile"])
@pytest.mark.parametrize("layers", [1, 3])
def test_prune_keeps_layers_of_a_mount_in_another_namespace(host: Host, layers: int, writable: str) -> None:
    names = [f"n{number}" for number in range(layers)]
    host.run(layers=numbered(3), stacks=[stack(host, *names, writable=writable)])
    with foreign_namespace() as shell:
        # The mount point itself goes with the stack, and the kernel takes away what lies on it in any namespace.
        tell(shell, f"mkdir {host.top}/elsewhere && mount --bind {host.path('web')} {host.top}/elsewhere")
        host.run(stacks=[{"name": "web", "state": "absent"}], **WITHOUT_NAMES)
        kept = prune_in_four_steps(host)
        assert len(ids(kept, "content")) == 3 - layers
        bound = (layers, writable) == (1, "none")
        assert len(ids(kept, "layer")) == bound, "what is mounted then is the content alone"
        tell(shell, f"test -e {host.top}/elsewhere/file0")
    done = prune_in_four_steps(host)
    assert (len(ids(done, "content")), len(ids(done, "layer"))) == (layers, 0 if bound else layers)


@pytest.mark.drivers("overlay", "fuse-overlayfs")
def test_persistent_stack_mounted_in_other_namespace_keeps_layers_and_record(host: Host) -> None:
    host.run(layers=numbered(3), stacks=[stack(host, "n0", "n1", writable="persistent")])
    with foreign_namespace() as shell:
        tell(shell, f"mkdir {host.top}/elsewhere && mount --bind {host.path('web')} {host.top}/elsewhere")
        with pytest.raises(BusyError, match="in use by another mount"):
            host.run(stacks=[{"name": "web", "state": "absent"}], **WITHOUT_NAMES)
        assert host.run("layer", name="n2", state="absent")["changed"]
        assert kinds(prune_in_four_steps(host)) == {"content": 1}, "what nothing uses"
        tell(shell, f"test -e {host.top}/elsewhere/file0")
    host.run(stacks=[{"name": "web", "state": "absent"}], **WITHOUT_NAMES)
    assert kinds(prune_in_four_steps(host))["content"] == 2


@pytest.mark.drivers("overlay", "fuse-overlayfs")
def test_prune_keeps_layers_of_a_mount_in_a_namespace_without_processes(host: Host) -> None:
    os.makedirs(host.path("web"))  # so that it stays
    host.run(layers=numbered(2), stacks=[stack(host, "n0", "n1")])
    pin = host.top / "pin"
    pin.touch()
    # A kernel that numbers namespaces for each processor takes some of them for older than this one, and says EINVAL:
    # each attempt takes a number of its processor.
    command = ["unshare", f"--mount={pin}", "--propagation", "unchanged", "true"]
    attempts = ((cpu, attempt) for attempt in range(500) for cpu in sorted(os.sched_getaffinity(0)))
    assert any(
        subprocess.run(["taskset", "--cpu-list", str(cpu), *command], stderr=subprocess.DEVNULL, check=False).returncode
        == 0
        for cpu, _attempt in attempts
    )
    try:
        host.run(stacks=[{"name": "web", "state": "absent"}], layers=WITHOUT_NAMES["layers"][:2])
        assert prune_in_four_steps(host)["removed"] == []
    finally:
        syscalls.umount(str(pin), syscalls.MNT_DETACH)
    assert kinds(prune_in_four_steps(host)) == {"content": 2, "layer": 2}


def test_same_layers_mounted_from_another_store_do_not_stop_prune(host: Host, tmp_path: Path) -> None:
    other = Host(tmp_path / "other")
    host.run(layers=numbered(2))
    other.run(layers=numbered(2), stacks=[stack(other, "n0", "n1")])
    host.run(layers=[{"name": f"n{n}", "state": "absent"} for n in range(2)])
    assert kinds(prune_in_four_steps(host)) == {"content": 2}
    assert other.tree("web")["file1"] == "1"


def test_source_records_of_archives_are_pruned_with_their_contents(host: Host, tmp_path: Path) -> None:
    """Else each archive that a store has ever met would leave a record behind."""
    places = host.root / "strata/sources"
    layers = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.tar"
        own = ["--owner=0", "--group=0", "--transform", f"s|^|{name}|"]
        subprocess.run(["tar", "-cf", path, "-C", "/", *own, "etc/hostname"], check=True)
        os.utime(path, (1, 1))
        layers.append({"name": name, "src": str(path), "remote_src": True})
    host.run(layers=layers)
    time.sleep(2.1)  # what has just been written is not remembered
    host.run(layers=layers)
    known = {path.name for path in places.iterdir()}
    assert len(known) == 2
    assert prune_in_four_steps(host)["removed"] == []
    host.run(layers=[{"name": "two", "state": "absent"}])
    (places / f"{'0' * 64}.json.1234abcd").write_text("{")
    assert [item["kind"] for item in host.check()["findings"]] == ["leftover"]
    done = prune_in_four_steps(host)
    assert (kinds(done), len(ids(done, "source"))) == ({"content": 1, "leftover": 1}, 1)
    assert all(item["bytes"] > 0 for item in done["removed"])
    (left,) = places.iterdir()
    assert {f"{key}.json" for key in ids(done, "source")} == known - {left.name}
    assert host.run(layers=layers[:1])["changed"] is False
    done = host.four_steps(layers=[{"name": "one", "state": "absent"}], prune={})
    assert (kinds(done), len(ids(done, "source"))) == ({"content": 1}, 1)
    assert list(places.iterdir()) == []


# What changes meanwhile, and what was cut short.


def test_prune_keeps_upper_of_a_stack_whose_detaching_was_interrupted(host: Host) -> None:
    """The record of it is written before the stack has another layer: until then it is the stack's."""
    definition = stack(host, "n0", "n1", writable="persistent")
    host.run(layers=numbered(2), stacks=[definition])
    Path(host.path("web"), "written").write_text("by a user")
    host.run(stacks=[{**definition, "state": "unmounted"}])
    record = host.store.stacks()["web"]
    shutil.copy(host.store.stack_file("web"), host.store.detached_file(record.stack_id))
    assert prune_in_four_steps(host)["removed"] == []
    host.run(stacks=[definition])
    assert host.tree("web")["written"] == "by a user"
    assert not os.path.exists(host.store.detached_file(record.stack_id)), "the next change sweeps it"


def test_prune_keeps_contents_that_came_into_use_after_the_scan(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(layers=numbered(3))
    host.run(layers=[{"name": f"n{n}", "state": "absent"} for n in range(3)])
    look = Pruning._look
    looks = []

    def look_and_be_late(self: Pruning) -> Any:
        seen = look(self)
        looks.append(seen)
        if len(looks) == 1:
            host.run(layers=numbered(1))
        return seen

    monkeypatch.setattr(Pruning, "_look", look_and_be_late)
    done = Pruning(host.store, PruneSpec(), 10).run()
    assert len(looks) == 2
    assert [removal.kind for removal in done.plan.removals] == ["content"] * 2 + ["source"] * 2
    assert host.run(check=True, layers=numbered(1))["changed"] is False


def test_prune_keeps_content_of_a_mount_made_after_the_scan(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (diff_id,) = host.run(layers=numbered(1))["diff_ids"]
    host.run(layers=[{"name": "n0", "state": "absent"}])
    target = host.top / "bound"
    target.mkdir()
    look = Pruning._look
    looks = []

    def look_and_be_late(self: Pruning) -> Any:
        seen = look(self)
        looks.append(seen)
        if len(looks) == 1:
            syscalls.mount(host.store.content(diff_id), str(target), None, mount_flags.MS_BIND)
        return seen

    monkeypatch.setattr(Pruning, "_look", look_and_be_late)
    assert Pruning(host.store, PruneSpec(), 10).run().plan.removals == ()
    assert (target / "file0").read_text() == "0"


def test_store_that_keeps_changing_is_pruned_under_its_lock(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run(layers=[inline("a", a="a"), inline("b", b="b")])
    host.run(layers=[{"name": "a", "state": "absent"}])
    look = Pruning._look
    count = iter(range(100))

    def look_and_be_late(self: Pruning) -> Any:
        seen = look(self)
        host.run(layers=[inline(f"n{next(count)}", a="x")])
        return seen

    monkeypatch.setattr(Pruning, "_look", look_and_be_late)
    done = Pruning(host.store, PruneSpec(), 10).run()
    assert [removal.kind for removal in done.plan.removals] == ["content", "source"]
    assert host.prune(check=True)["changed"] is False


def test_prune_deletes_leftovers_of_ended_runs_but_not_of_live_ones(host: Host) -> None:
    host.run(layers=numbered(1))
    for name in ("staging/dead/tree", "trash/dead/tree"):
        (host.root / name).mkdir(parents=True)
        (host.root / name / "file").write_text("x" * 10_000)
    with host.store.workspace() as alive:
        done = prune_in_four_steps_beside(host, alive)
    assert ids(done, "leftover") == {"staging/dead", "trash/dead"}
    assert done["reclaimed_bytes"] == 2 * (4096 + 4096 + 12288)


def prune_in_four_steps_beside(host: Host, alive: str) -> dict[str, Any]:
    announced = host.prune(check=True)
    done = host.prune()
    assert announced["removed"] == done["removed"]
    assert os.path.isdir(alive), "its owner lives"
    assert host.prune()["changed"] is False
    return done


# Bytes.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of the test's own, so that nothing else changes what statvfs says."""
    with mounted_ext4(tmp_path, "-O", "^has_journal") as place:
        yield place


def free_bytes(place: Path) -> int:
    os.sync()
    facts = os.statvfs(place)
    return facts.f_bfree * facts.f_frsize


def test_reclaimed_bytes_equal_the_space_freed_on_disk(host: Host, small_disk: Path) -> None:
    here = Host(small_disk)
    tree = small_disk / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "large").write_bytes(os.urandom(3_000_000))
    os.link(tree / "large", tree / "deep/er/linked")
    with (tree / "sparse").open("wb") as stream:
        stream.truncate(8 << 20)
        stream.seek(4 << 20)
        stream.write(b"x")
    (tree / "link").symlink_to("y" * 200)
    here.run(layers=[{"name": "tree", "dir": str(tree), "remote_src": True}, *numbered(5)])
    layers = ["tree", "n0", "tree", "n1"]
    here.run(stacks=[stack(here, *layers, writable="persistent"), stack(here, "n0", "n2", name="other")])
    Path(here.path("web"), "written").write_bytes(os.urandom(500_000))
    here.run(layers=[{"name": "tree", "state": "absent"}], stacks=[{"name": "web", "state": "absent"}])
    # Room for the names of what a prune moves, and its list, is made once and stays.
    here.run(layers=[{"name": "n4", "state": "absent"}])
    here.prune(labels={"none": "such"})
    announced = here.prune(check=True)
    before = free_bytes(small_disk)
    done = here.prune()
    assert free_bytes(small_disk) - before == done["reclaimed_bytes"] == announced["reclaimed_bytes"]
    assert kinds(done) == {"content": 2, "layer": 4, "upper": 1}
    assert done["reclaimed_bytes"] > 2 * 3_000_000 + 500_000, "the same layer twice in a stack lies there twice"


def test_prune_module_removes_what_check_mode_announces(host: Host, ansible: Ansible) -> None:
    root = str(host.root)
    layers = numbered(2)
    call_module("apply", {"root": root, "layers": layers, "stacks": []})
    call_module("layer", {"root": root, "name": "n1", "state": "absent"})
    announced = call_module("prune", {"root": root}, check=True)
    assert announced["changed"]
    shown = ansible.call(
        "ansible", "localhost", "-m", "strata.overlay.prune", "-a", f"root={root}", "--check", "--diff"
    )
    assert "-content sha256:" in shown.stdout
    done = ansible.module("prune", {"root": root})
    assert done["removed"] == announced["removed"]
    assert call_module("prune", {"root": root})["changed"] is False
    options = {"root": root, "layers": layers[:1], "stacks": [], "prune": {"unused_for": "1d"}}
    age(host, 3)
    assert call_module("apply", options)["changed"] is False
    assert time.time() - os.stat(host.store.name_file("n0")).st_mtime < DAY, "a run that changes nothing is a use too"
    failed = call_module("prune", {"root": root, "unused_for": "x"})
    assert "option 'unused_for'" in failed["msg"]
