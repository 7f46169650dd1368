# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of a module on a store that is the same each time, interrupted at one of its calls; and what is then."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import hashlib
import json
import os
import shutil
import stat
import subprocess
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, mountinfo, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.host_state import State, state_of
from ansible_collections.strata.overlay.tests.integration.module_process import (
    Parameters,
    load_all,
    run_module,
    text_of,
)
from ansible_collections.strata.overlay.tests.integration.syscall_faults import Interrupted, Verdict, interrupt
from ansible_collections.strata.overlay.tests.integration.trees import tree_of

Objects = dict[str, str]
"""What a store holds and a user could miss: what each thing is, in words or as a digest, by kind and name."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWPID = 0x20000000
_MS_REC = 0x4000


@dataclass(frozen=True)
class Scenario:
    """A store, and a run of a module on it.

    :ivar prepare: makes the store that the run begins with.
    :ivar run: the run, as a module and its options.
    :ivar gaps: stacks with a persistent layer, which show nothing for a moment while they change.
    :ivar damaged: the run begins with a store that has findings.
    """

    name: str
    prepare: Callable[[Host], None]
    run: Callable[[Host], tuple[str, Parameters]]
    gaps: tuple[str, ...] = ()
    damaged: bool = False


@dataclass
class Seen:
    """A host: what its store holds, and what its stacks show ("" where nothing is mounted)."""

    objects: Objects = field(default_factory=dict)
    trees: Objects = field(default_factory=dict)


@dataclass
class Point:
    """One interrupted run.

    :ivar problems: in words; none where all is as it has to be.
    """

    calls: list[str]
    at: str
    problems: list[str]


class Stage:
    """Where a scenario is played over and over: each time in a mount namespace of its own, on a file system in memory.

    :param top: a directory of the test's own.
    :ivar calls: the calls of the whole run. :ivar states: the host before each of them.
    """

    def __init__(self, top: Path, scenario: Scenario) -> None:
        load_all()
        self.scenario = scenario
        self._pristine = top / "pristine"
        self._top = top / "case"
        self._top.mkdir()
        self._pristine.mkdir()
        self.old, self.new = Seen(), Seen()
        self.findings: list[Any] = []
        played = fork(self._prepare).result()
        self.old, self.new = Seen(*played[0]), Seen(*played[1])
        self.findings, self.calls = played[2], played[3]
        self.states = [State(*one) for one in played[4]]

    def _prepare(self) -> Any:
        """Make the store, keep it, and see what the whole run makes of it, which is to be found again at each point."""
        host = self._enter(fresh=True)
        self.scenario.prepare(host)
        findings = found(host)
        subprocess.run(["cp", "--archive", "--one-file-system", f"{self._top}/.", self._pristine], check=True)
        for mount in [mount for mount in mountinfo.read() if mount.path.startswith(f"{self._top}/")]:
            # A directory that is shown as it is lies on the same file system.
            bare = self._pristine / os.path.relpath(mount.path, self._top)
            shutil.rmtree(bare)
            bare.mkdir()
        old = seen(host)
        states: list[State] = []

        def watch(_number: int, _name: str) -> int:
            states.append(state_of(str(self._top)))
            return 0

        ended = self._play(watch)
        result = ended.result()
        if not result.get("changed"):
            raise AssertionError(f"the run is to change something: {result}")
        new = seen(host)
        again(host, self.scenario)
        left = found(host)
        if left:
            raise AssertionError(f"the run without interruption leaves {left}")
        return [[old.objects, old.trees], [new.objects, new.trees], findings, ended.how.calls, states]

    def _enter(self, fresh: bool = False) -> Host:
        """A host of this process's own, as the scenario begins."""
        apart()
        syscalls.mount("run", "/run", "tmpfs", 0, "mode=0755")  # where runs in another lane probe too
        syscalls.mount("crash", str(self._top), "tmpfs", 0, "mode=0755")
        host = Host(self._top)
        if not fresh:
            subprocess.run(["cp", "--archive", f"{self._pristine}/.", self._top], check=True)
            mount_all(host)
        return host

    def _play(self, verdict: Verdict) -> Played:
        module, parameters = self.scenario.run(Host(self._top))
        parameters = {"root": f"{self._top}/store", "lock_timeout": 30, **parameters}
        output, errors = (os.memfd_create(name) for name in ("output", "errors"))
        how = interrupt(partial(run_module, module, parameters, output, errors), str(self._top), verdict)
        return Played(how, text_of(output), text_of(errors))

    def play(self, verdicts: Sequence[Verdict], judge: Judge) -> list[Point]:
        """Interrupt one run by each verdict and look what became of it; as many at a time as there are cores."""
        points: list[Point] = []
        under_way: deque[Forked] = deque()
        gc.collect()
        gc.freeze()  # what all of them share is copied for none of them
        try:
            for number, verdict in enumerate(verdicts, 1):
                if len(under_way) == len(os.sched_getaffinity(0)):
                    points.append(Point(*under_way.popleft().result()))
                under_way.append(fork(partial(self._point, verdict, judge, number)))
        finally:
            points += [Point(*one.result()) for one in under_way]
            gc.unfreeze()
        return points

    def _point(self, verdict: Verdict, judge: Judge, number: int) -> Any:
        host = self._enter()
        played = self._play(verdict)
        try:
            problems = list(judge(self, host, played, number))
        except BaseException:  # noqa: BLE001  it is told in the other process
            problems = [traceback.format_exc()]
        return [played.how.calls, played.how.at, problems]


@dataclass
class Played:
    """A run of a module: how it was interrupted, and what it printed."""

    how: Interrupted
    output: str
    errors: str

    def result(self) -> dict[str, Any]:
        """What the module returned; AssertionError where it ended without."""
        try:
            found: dict[str, Any] = json.loads(self.output)
        except ValueError:
            raise AssertionError(f"no result: {self.output[-300:]!r} {self.errors[-3000:]}") from None
        if "deprecations" in found:
            raise AssertionError(f"it uses what ansible-core gives up: {found['deprecations']}")
        return found


class Judge(Protocol):
    """Looks at a host after an interrupted run and tells what is wrong."""

    def __call__(self, stage: Stage, host: Host, played: Played, number: int, /) -> Iterable[str]: ...


def apart() -> None:
    """Give this process, the first one of its namespace, mounts of its own, and a view of no process but its own."""
    syscalls.libc("unshare", ctypes.c_int(_CLONE_NEWNS))
    syscalls.mount("none", "/", None, _MS_REC | mount_flags.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", 0)


@dataclass(frozen=True)
class Forked:
    """Some work under way in a process of its own, whose mounts end with it."""

    process: int
    reader: int

    def result(self) -> Any:
        """Wait for what the work returns; AssertionError with what it raised."""
        with open(self.reader, encoding="utf-8") as stream:
            text = stream.read()
        os.waitpid(self.process, 0)
        answer = json.loads(text or '{"fault": "it ended without a word"}')
        if "fault" in answer:
            raise AssertionError(answer["fault"])
        return answer["result"]


def fork(work: Callable[[], Any]) -> Forked:
    """Begin some work in a process of its own, the first one of its namespace: whatever it starts ends with it."""
    reader, writer = os.pipe()
    process = _fork_apart()
    if process == 0:
        try:
            os.close(reader)
            gc.disable()  # it is short, and would have to copy all that it looks through
            try:
                said = {"result": work()}
            except BaseException:  # noqa: BLE001  it is told in the other process
                said = {"fault": traceback.format_exc()}
            with open(writer, "w", encoding="utf-8") as stream:
                json.dump(said, stream)
        finally:
            os._exit(0)
    os.close(writer)
    return Forked(process, reader)


def _fork_apart() -> int:
    """Fork a child that is the first process of a namespace; this process's other children stay in its own."""
    with open("/proc/self/ns/pid", "rb") as own:
        syscalls.libc("unshare", ctypes.c_int(_CLONE_NEWPID))
        process = -1
        try:
            process = os.fork()
        finally:
            if process:
                syscalls.libc("setns", ctypes.c_int(own.fileno()), ctypes.c_int(_CLONE_NEWPID))
    return process


def mount_all(host: Host) -> None:
    """Every stack that is meant to be mounted, as after a reboot."""
    if not host.store.exists():
        return
    scratch = host.top / "scratch"
    scratch.mkdir()
    mounter = Mounter(host.store, str(scratch), find_abilities())
    for record in host.store.stacks().values():
        if record.mounted:
            Path(record.path).mkdir(parents=True, exist_ok=True)  # as systemd does
            with suppress(StrataError, OSError):
                mounter.mount(record)
    scratch.rmdir()


def again(host: Host, scenario: Scenario) -> dict[str, Any]:
    """The same run once more, in this process."""
    module, parameters = scenario.run(host)
    return carry_out(host, module, parameters)


def carry_out(host: Host, module: str, parameters: Parameters, check: bool = False) -> dict[str, Any]:
    """A module's work in this process."""
    if module == "prune":
        return host.prune(check, **parameters)
    if module == "commit":
        return commit({"root": str(host.root), **parameters}, check)
    if module == "store_check":
        return host.check(check, **parameters)
    return host.run(module, check, **parameters)


def found(host: Host) -> list[Any]:
    """What a deep check finds."""
    return [[item["kind"], item["severity"], item["object"]] for item in host.check(True, deep=True)["findings"]]


def seen(host: Host) -> Seen:
    """All that a user could miss, and what the stacks show."""
    return Seen(dict(objects(host)), trees(host))


def objects(host: Host) -> Iterator[tuple[str, str]]:
    store = host.store
    for name in store.names():
        with suppress(StrataError):
            record = store.name_record(name)
            if record is not None:
                yield f"name {name}", f"{record.diff_ids} {record.image_id} {dict(record.labels)}"
    for name in store._recorded("stacks"):
        with suppress(StrataError):
            stack = store.stack_record(name)
            if stack is not None:
                history = [(generation.number, generation.diff_ids) for generation in stack.history]
                yield f"stack {name}", f"{stack.path} {stack.writable} {stack.mounted} {history}"
    contents = host.root / "content/sha256"
    for path in sorted(contents.iterdir()) if contents.is_dir() else ():
        yield f"content {path.name}", digest(path)
    for path in sorted(host.root.rglob("written")):
        if path.is_file():
            yield f"what a user wrote: {path.read_text()}", "there"


def digest(top: Path) -> str:
    """Of all that a user can tell of a tree; whiteouts have the time at which they were made."""
    facts = {
        name: dataclasses.replace(one, mtime_ns=0) if stat.S_ISCHR(one.kind) else one
        for name, one in tree_of(top).items()
    }
    return hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()


def trees(host: Host) -> Objects:
    """What each path below the host's place for stacks shows."""
    places = host.top / "srv"
    names = sorted(os.listdir(places)) if places.is_dir() else []
    return {name: json.dumps(host.tree(name)) if host.mounts(name) else "" for name in names}
