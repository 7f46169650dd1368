# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes into a store and leaves it, when processes are killed or run at the same time; its lock."""

from __future__ import annotations

import calendar
import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import read_text
from ansible_collections.strata.overlay.plugins.module_utils._store import store as store_module
from ansible_collections.strata.overlay.plugins.module_utils._store.lock import locked
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, NameRecord, dump
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, new_id
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction, write_file

A = "sha256:" + "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "strata"))
    made.prepare()
    return made


def tree(store: Store, *directories: str) -> list[str]:
    return sorted(
        str(path.relative_to(store.root)) for name in directories for path in Path(store.root, name).rglob("*")
    )


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# Directories and names.


def test_store_object_touches_nothing_on_disk(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "strata"))
    assert not store.exists()
    assert (store.names(), store.stacks(), store.name_record("base")) == ([], {}, None)
    with store.reading(0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_repeated_prepare_makes_directories_of_docker_under_any_umask(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "strata"))
    before = os.umask(0o077)
    try:
        store.prepare()
        store.prepare()
    finally:
        os.umask(before)
    assert store.exists()
    assert [mode(f"{store.root}/{name}") for name in ("", "overlay2", "overlay2/l", "staging")] == [
        0o711,
        0o710,
        0o700,
        0o700,
    ]


def test_prepare_keeps_the_modes_of_existing_directories(store: Store) -> None:
    os.chmod(store.root, 0o755)
    os.rmdir(f"{store.root}/trash")
    store.prepare()
    assert mode(store.root) == 0o755
    assert os.path.isdir(f"{store.root}/trash")


@pytest.mark.parametrize(
    "name", ["overlay2", "overlay2/l", "content/sha256", "strata", "strata/stacks", "staging", "trash"]
)
def test_store_directory_that_is_a_link_is_refused_and_never_swept(store: Store, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    (elsewhere / "file").write_text("precious")
    place = Path(store.root) / name
    shutil.rmtree(place)
    place.symlink_to(elsewhere)
    assert str(place) in store.misplaced()

    def change() -> None:
        with store.changing(1):
            store.sweep()
            store.empty_trash()

    def read() -> None:
        with store.reading(1):
            pass

    def work() -> None:
        with store.first_workspace():
            pass

    for attempt in (change, read, work, store.prepare):
        with pytest.raises(StrataError, match=f"{name} is a symbolic link"):
            attempt()
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["file", "precious"]


def test_root_of_a_store_has_its_links_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Store(str(tmp_path / "link" / "s")).root == str(tmp_path.resolve() / "real" / "s")


def test_names_with_any_character_have_one_file_each(store: Store) -> None:
    names = ["base", "app:1.4", "registry.example/team/app@x", "a%2Fb", "A+b"]
    for name in names:
        write_file(store.name_file(name), dump(NameRecord(name, (A,))))
    assert store.names() == sorted(names)
    assert [store.name_record(name) for name in names] == [NameRecord(name, (A,)) for name in names]
    assert len(os.listdir(f"{store.root}/strata/names")) == len(names)


def test_damaged_record_is_reported_with_its_path(store: Store) -> None:
    write_file(store.name_file("base"), "{")
    write_file(store.stack_file("web"), "")
    write_file(store.content_file(A), '{"diff_id": 1}')
    with pytest.raises(StrataError, match=f"The record {store.root}/strata/names/base.json is damaged"):
        store.name_record("base")
    with pytest.raises(StrataError, match=f"The record {store.root}/strata/stacks/web.json is damaged"):
        store.stacks()
    with pytest.raises(StrataError, match=f"The record {store.content_file(A)} is damaged"):
        store.content_record(A)


def test_content_record_is_read_back(store: Store) -> None:
    record = ContentRecord(A, 5, 2, "/a.tar", "2026-01-01T00:00:00Z")
    write_file(store.content_file(A), dump(record))
    assert store.content_record(A) == record
    assert store.content_record("sha256:" + "b" * 64) is None


def test_small_file_is_written_once_and_a_missing_one_reads_as_none(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    write_file(path, "p\u00f6rt", 0o640)
    assert (read_text(path), mode(path)) == ("p\u00f6rt", 0o640)
    assert read_text(str(tmp_path)) is None
    assert read_text(f"{path}/below") is None
    assert read_text(str(tmp_path / "none")) is None
    with pytest.raises(FileExistsError):
        write_file(path, "again")


def test_new_ids_differ_and_look_like_those_of_docker() -> None:
    ids = {new_id() for count in range(10)}
    assert len(ids) == 10
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in ids)


# Transactions.


class Killed(BaseException):
    """Nothing may catch it, as nothing catches SIGKILL."""


def kill_at_rename(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The process ends in place of its rename of that number (from 1)."""
    rename, count = os.rename, iter(range(1, 1000))

    def counted(source: str, target: str) -> None:
        if next(count) >= number:
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "rename", counted)


def fill(store: Store, workspace: str, transaction: Transaction) -> list[str]:
    """Four things of all kinds, in order; their final paths."""
    finals = [f"{store.root}/strata/names/one.json", store.layer("1" * 64), store.link("LINK"), store.content(A)]
    transaction.write(finals[0], "one", 0o600)
    os.mkdir(transaction.stage(finals[1]))
    transaction.symlink("../x/diff", finals[2])
    os.mkdir(f"{workspace}/built")
    transaction.adopt(f"{workspace}/built", finals[3])
    return finals


def test_transaction_shows_nothing_before_and_all_after_its_commit(store: Store) -> None:
    with store.workspace() as workspace:
        transaction = Transaction(store, workspace)
        finals = fill(store, workspace, transaction)
        assert [os.path.lexists(path) for path in finals] == [False] * 4
        transaction.commit()
        assert [os.path.lexists(path) for path in finals] == [True] * 4
        assert os.listdir(workspace) == []
        transaction.commit()  # A second one has nothing left to do.
    assert (read_text(finals[0]), mode(finals[0])) == ("one", 0o600)
    assert os.readlink(finals[2]) == "../x/diff"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_commit_killed_between_renames_leaves_the_first_ones_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    workspace = f"{store.root}/staging/killed"
    os.mkdir(workspace)
    transaction = Transaction(store, workspace)
    finals = fill(store, workspace, transaction)
    with monkeypatch.context() as patched:
        kill_at_rename(patched, number)
        with pytest.raises(Killed):
            transaction.commit()
    assert [os.path.lexists(path) for path in finals] == [index < number - 1 for index in range(4)]
    # The next run throws the rest away and does everything again.
    with store.workspace() as fresh:
        store.sweep()
        again = Transaction(store, fresh)
        fill(store, fresh, again)
        again.commit()
    store.empty_trash()
    assert [os.path.lexists(path) for path in finals] == [True] * 4
    assert tree(store, "staging", "trash") == []


def test_commit_killed_after_discarding_the_old_directory_loses_neither(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = store.layer("1" * 64)
    os.mkdir(final)
    write_file(f"{final}/old", "old")
    workspace = f"{store.root}/staging/killed"
    os.mkdir(workspace)
    transaction = Transaction(store, workspace)
    os.mkdir(transaction.stage(final))
    with monkeypatch.context() as patched:
        patched.setattr(syscalls, "exchange", lambda _one, _other: False)  # as on old file systems
        kill_at_rename(patched, 2)
        with pytest.raises(Killed):
            transaction.commit()
    assert not os.path.lexists(final)
    assert [os.path.basename(path) for path in tree(store, "trash")][-1] == "old"
    assert len(os.listdir(workspace)) == 1


def test_commit_replaces_files_and_links_and_trashes_old_directories(store: Store) -> None:
    name, layer, link = store.name_file("n"), store.layer("1" * 64), store.link("L")
    write_file(name, "old")
    os.mkdir(layer)
    write_file(f"{layer}/old", "old")
    os.symlink(store.root, link)
    with store.workspace() as workspace:
        transaction = Transaction(store, workspace)
        transaction.write(name, "new")
        os.mkdir(transaction.stage(layer))
        transaction.symlink("../new", link)
        transaction.commit()
    assert (read_text(name), os.listdir(layer), os.readlink(link)) == ("new", [], "../new")
    assert os.path.isdir(store.root)


def test_empty_transaction_touches_nothing(store: Store) -> None:
    Transaction(store, "/no/such/workspace").commit()


# Workspaces, sweeping and trash.


def test_first_workspace_without_a_store_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "var/lib/strata"))
    with store.first_workspace() as workspace:
        write_file(f"{workspace}/file", "text")
        assert not store.exists()
        assert [mode(f"{store.root}{name}") for name in ("", "/staging", "/trash")] == [0o711, 0o700, 0o700]
    assert list(tmp_path.iterdir()) == []


def test_first_workspace_of_a_run_that_makes_a_store_is_removed_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "strata"))
    with store.first_workspace() as workspace:
        write_file(f"{workspace}/file", "text")
        store.prepare()
    assert store.exists()
    assert tree(store, "staging", "trash") == []
    with store.first_workspace():
        pass
    assert store.exists()


def test_first_workspace_keeps_the_workspace_of_another_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "strata"))
    with store.first_workspace():
        os.mkdir(f"{store.root}/staging/theirs")
    assert tree(store, "staging") == ["staging/theirs"]


def test_sources_of_contents_are_listed_without_damaged_records(store: Store) -> None:
    assert store.imported_from() == set()
    write_file(store.content_file(A), dump(ContentRecord(A, 1, 1, "/srv/base.tar", "2026-01-01T00:00:00Z")))
    write_file(store.content_file("sha256:" + "b" * 64), "damaged")
    assert store.imported_from() == {"/srv/base.tar"}


def test_workspace_is_removed_after_an_error(store: Store) -> None:
    def work() -> None:
        with store.workspace() as workspace:
            write_file(f"{workspace}/x", "x")
            raise Killed

    with pytest.raises(Killed):
        work()
    assert tree(store, "staging") == []
    store.empty_trash()
    assert tree(store, "trash") == []


def test_sweep_removes_leftovers_of_dead_runs_and_keeps_living_ones(store: Store) -> None:
    dead = f"{store.root}/staging/dead"
    os.mkdir(dead)
    write_file(f"{dead}/half", "half")
    write_file(f"{store.root}/staging/stray", "stray")
    os.symlink("/etc", f"{store.root}/staging/link")
    with store.workspace() as living:
        store.sweep()
        assert os.listdir(f"{store.root}/staging") == [os.path.basename(living)]
    assert len(os.listdir(f"{store.root}/trash")) == 4
    store.empty_trash()
    assert tree(store, "trash") == []
    assert os.path.isdir("/etc")


CHILD = """
import sys, time
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
store = Store(sys.argv[1])
with {context} as held:
    print(held, flush=True)
    time.sleep(60)
"""


class Child:
    """Another process that holds something of the store."""

    def __init__(self, store: Store, context: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(context=context), store.root],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
        )
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline().strip()
        self.pid = self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made: list[Child] = []
    yield made
    for child in made:
        child.kill()


def test_workspace_is_kept_as_long_as_its_process_lives(store: Store, children: list[Child]) -> None:
    child = Child(store, "store.workspace()")
    children.append(child)
    assert os.path.isdir(child.said)
    store.sweep()
    assert os.path.isdir(child.said)
    child.kill()
    store.sweep()
    assert not os.path.exists(child.said)


def test_runs_that_end_during_a_sweep_cause_no_error(store: Store) -> None:
    """Workspaces come and go without the store's lock, so the sweep may see one that is gone a moment later."""
    stop = time.monotonic() + 0.5
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while time.monotonic() < stop:
                with store.workspace() as path:
                    assert os.path.isdir(path)
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    workers = [threading.Thread(target=work) for count in range(3)]
    for worker in workers:
        worker.start()
    while time.monotonic() < stop:
        store.sweep()
        store.empty_trash()
    for worker in workers:
        worker.join()
    assert errors == []


def test_discarded_path_is_gone_and_in_the_trash(store: Store) -> None:
    path = store.layer("1" * 64)
    os.mkdir(path)
    link = store.link("L")
    os.symlink("../x", link)
    for gone in (path, link, "/no/such/path"):
        store.discard(gone)
        assert not os.path.lexists(gone)
    assert len(os.listdir(f"{store.root}/trash")) == 2


# The lock.


def test_readers_share_the_lock_and_a_writer_waits_for_them(store: Store) -> None:
    with store.changing(0):
        pass
    with store.reading(0), store.reading(0), pytest.raises(StrataError) as raised, store.changing(0):
        pytest.fail("a writer came in beside readers")
    said = str(raised.value)
    assert said.startswith(f"Waited 0 s for the store's lock {store.root}/lock; it is held by process {os.getpid()} (")
    assert re.search(r"\), reading it since 20[0-9-]+T[0-9:]+Z\. Wait for it to finish, or raise lock_timeout\.$", said)
    with store.changing(0):
        pass


@pytest.mark.parametrize("kind", ["reading", "changing"])
def test_lock_timeout_names_the_process_that_holds_the_lock(store: Store, children: list[Child], kind: str) -> None:
    child = Child(store, "store.changing(0)")
    children.append(child)
    started = time.monotonic()
    with pytest.raises(StrataError) as raised, getattr(store, kind)(0.2):
        pytest.fail("two processes hold the lock")
    assert time.monotonic() - started >= 0.2
    assert f"Waited 0.2 s for the store's lock {store.root}/lock" in str(raised.value)
    said = str(raised.value)
    assert f"it is held by process {child.pid} ({sys.executable} -c" in said
    since = re.search(r"\), changing the store since (20[0-9-]+T[0-9:]+Z)\.", said)
    assert since, said
    noted = calendar.timegm(time.strptime(since[1], "%Y-%m-%dT%H:%M:%SZ"))
    assert noted == int((read_text(f"{store.root}/lock") or "").split()[1])


def test_lock_note_of_a_killed_writer_is_ignored(store: Store, children: list[Child]) -> None:
    with store.changing(0):
        pass
    Path(f"{store.root}/lock").write_text("1 1\n")
    children.append(Child(store, "store.reading(0)"))
    with pytest.raises(StrataError) as raised, store.changing(0):
        pytest.fail("a writer came in beside a reader")
    assert f"held by process {children[0].pid} (" in str(raised.value)
    assert "1970" not in str(raised.value)


def test_writer_gets_the_lock_among_many_overlapping_readers(store: Store) -> None:
    """Readers that overlap all the time: whoever comes after the writer waits behind it."""
    with store.changing(0):
        pass
    stop = threading.Event()
    turns = []

    def read() -> None:
        while not stop.is_set():
            with store.reading(60):
                time.sleep(0.02)
            turns.append(1)

    readers = [threading.Thread(target=read) for _number in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _turn in range(10):
            with store.changing(60):
                before = len(turns)
                time.sleep(0.05)
                assert len(turns) <= before + len(readers), "those that had the lock already"
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert len(turns) > 0


def test_lock_of_a_killed_process_passes_to_the_next(store: Store, children: list[Child]) -> None:
    child = Child(store, "store.changing(0)")
    children.append(child)
    killer = threading.Timer(0.2, child.kill)
    killer.start()
    with store.changing(20):
        text = read_text(f"{store.root}/lock") or ""
    killer.join()
    assert text.startswith(f"{os.getpid()} ")


def test_lock_is_released_after_an_error(store: Store) -> None:
    with pytest.raises(Killed), store.changing(0):
        raise Killed
    with open(f"{store.root}/lock", "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_reader_makes_no_lock_file(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with pytest.raises(FileNotFoundError), locked(path, exclusive=False, timeout=0):
        pytest.fail("there is nothing to lock")
    assert not os.path.exists(path)
    with locked(path, exclusive=True, timeout=0):
        assert mode(path) == 0o600


def test_directory_is_replaced_by_another_in_one_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory over a directory: the path leads to one or the other at any moment."""
    final = f"{store.root}/image/overlay2/layerdb/mounts/x"
    for text in ("old", "new"):
        seen: list[str] = []

        def looking(one: str, other: str, exchange: Callable[[str, str], bool] = syscalls.exchange) -> bool:
            seen.append(read_text(f"{other}/text") or "")  # noqa: B023
            return exchange(one, other)

        monkeypatch.setattr(syscalls, "exchange", looking)
        with store.workspace() as workspace:
            transaction = Transaction(store, workspace)
            staged = transaction.stage(final)
            os.mkdir(staged)
            write_file(f"{staged}/text", text)
            monkeypatch.setattr(store, "discard", seen.append)
            transaction.commit()
            monkeypatch.undo()
        assert read_text(f"{final}/text") == text
        assert final not in seen, "it was never away"
    assert seen[0] == "old"


def test_directory_is_replaced_where_the_file_system_cannot_exchange(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "exchange", lambda _one, _other: False)
    final = f"{store.root}/image/overlay2/layerdb/mounts/x"
    for text in ("old", "new"):
        with store.workspace() as workspace:
            transaction = Transaction(store, workspace)
            staged = transaction.stage(final)
            os.mkdir(staged)
            write_file(f"{staged}/text", text)
            transaction.commit()
        assert read_text(f"{final}/text") == text


def test_discarded_file_is_synced_at_the_end_of_the_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(store_module, "sync_directory", synced.append)
    with store.changing(0):
        write_file(store.name_file("x"), "{}")
        store.discard(store.name_file("x"))
        assert synced == []
    assert synced == [f"{store.root}/strata/names"]
