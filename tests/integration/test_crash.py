# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs killed at each of their system calls that change something, or refused them: nothing is lost, what is said is
so, and the next run finishes.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of, link_id
from ansible_collections.strata.overlay.tests.integration.crash_cases import (
    Played,
    Point,
    Scenario,
    Seen,
    Stage,
    again,
    found,
    mount_all,
    seen,
)
from ansible_collections.strata.overlay.tests.integration.host import Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.host_state import State
from ansible_collections.strata.overlay.tests.integration.images import simple_layout
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.privileges import need_private_namespace
from ansible_collections.strata.overlay.tests.integration.syscall_faults import KILL, works_here


def archive(host: Host, name: str) -> str:
    """A small archive with one of everything; it lies beside the host, so that it is the same file each time."""
    path = host.top.parent / name
    if not path.exists():
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as stream:
            for number, kind in enumerate((tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE)):
                member = tarfile.TarInfo(f"archive/{number}" if number else "archive")
                member.type, member.mode, member.uid = kind, 0o755, number
                member.linkname = "archive/1" if kind == tarfile.LNKTYPE else "1"
                member.pax_headers = {"SCHILY.xattr.user.key": "value"} if kind == tarfile.REGTYPE else {}
                member.size = 5 if kind == tarfile.REGTYPE else 0
                stream.addfile(member, io.BytesIO(b"text\n") if member.size else None)
            stream.addfile(tarfile.TarInfo("etc/.wh.gone"))
        os.utime(path, (1, 1))
    return str(path)


def layers(version: str) -> list[dict[str, Any]]:
    return [
        inline("base", etc__os="base\n", etc__gone="gone\n"),
        inline("app", bin__app=f"app {version}\n"),
        inline("site", etc__site=f"site {version}\n"),
    ]


def stacks(host: Host, *chain: str, **options: Any) -> list[dict[str, Any]]:
    chain = chain or ("base", "app", "site")
    made = {"none": "web", "persistent": "data", "volatile": "scratch"}
    return [
        {"name": name, "path": host.path(name), "layers": list(chain), "writable": writable, **options}
        for writable, name in made.items()
    ]


def a_store(host: Host) -> None:
    """Three stacks of each kind, a user's file in one."""
    host.run(layers=layers("1"), stacks=stacks(host))
    Path(host.path("data"), "written").write_text("by a user\n")


def copied(host: Host) -> None:
    """A stack whose layers are one copied tree."""
    host.run(layers=layers("1"), stacks=stacks(host, driver="copy")[:1])


def written_copy(host: Host) -> None:
    host.run(layers=layers("1"), stacks=stacks(host, driver="copy")[1:2])
    Path(host.path("data"), "written").write_text("by a user\n")


def two_generations(host: Host) -> None:
    a_store(host)
    host.run(layers=layers("2"), stacks=stacks(host))


def unmounted(host: Host) -> None:
    a_store(host)
    host.run(stacks=stacks(host, state="unmounted"))


def garbage(host: Host) -> None:
    """A store where much is in use, and much is not."""
    two_generations(host)
    image(host)
    host.run(images=[{"name": "img", "src": image(host), "remote_src": True}])
    host.run(stacks=[{**stack, "generations": 1} for stack in stacks(host)])
    host.run(images=[{"name": "img", "state": "absent"}], stacks=[{"name": "scratch", "state": "absent"}])
    host.run(stacks=[{"name": "data", "state": "absent"}])
    (host.root / "staging" / "left").mkdir()
    (host.root / "trash" / "left").write_text("x")


def image(host: Host) -> str:
    path = host.top.parent / "layout"
    if not path.exists():
        simple_layout(path, {"etc/os": "image\n"}, {"etc/os": "image 2\n", "gone": None})
    return str(path)


def damage(host: Host) -> None:
    """Much of what can be mended, at once."""
    two_generations(host)
    host.run(stacks=stacks(host, state="unmounted"))
    record = host.store.stacks()["data"]
    root, chain = host.root, [path.name for path in sorted((host.root / "image/overlay2/layerdb/sha256").iterdir())]
    (root / "overlay2" / chain[0] / "link").unlink()
    (root / "overlay2/l" / link_id(chain[1])).unlink()
    (root / "overlay2/l" / ("A" * 26)).symlink_to("../nothing/diff")
    (root / "image/overlay2/layerdb/sha256" / chain[2] / "diff").write_text("")
    (root / "overlay2" / record.stack_id / "lower").write_text("")
    (root / "strata/contents" / f"{hex_of(record.diff_ids[0])}.json").unlink()
    (root / "strata/names/broken.json").write_text("{")
    (root / "overlay2" / ("1" * 64)).mkdir()
    (root / "content/sha256/foreign").write_text("what is this")
    (root / "staging/left").mkdir()


SCENARIOS = [
    Scenario(
        "import",
        lambda host: None,
        lambda host: (
            "apply",
            {
                "layers": [*layers("1"), {"name": "archive", "src": archive(host, "a.tar"), "remote_src": True}],
                "stacks": stacks(host, "base", "app", "archive", "site"),
            },
        ),
    ),
    Scenario(
        "image",
        a_store,
        lambda host: ("image", {"name": "img", "src": image(host), "remote_src": True}),
    ),
    Scenario(
        "upgrade and switch",
        a_store,
        lambda host: ("apply", {"layers": layers("2"), "stacks": stacks(host)}),
        gaps=("data",),
    ),
    Scenario(
        "upgrade with health, prune and one generation",
        a_store,
        lambda host: (
            "apply",
            {
                "layers": layers("2"),
                "stacks": stacks(host, generations=1, health={"command": ["true"], "timeout": 1}),
                "prune": {},
            },
        ),
        gaps=("data",),
    ),
    Scenario(
        "rollback",
        two_generations,
        lambda host: ("apply", {"stacks": [{"name": name, "generation": "1"} for name in ("web", "data", "scratch")]}),
        gaps=("data",),
    ),
    Scenario(
        "commit of generations",
        unmounted,
        lambda host: ("apply", {"layers": layers("2"), "stacks": stacks(host, "base", "site", state="unmounted")}),
    ),
    Scenario(
        "reset, removal and a new path",
        a_store,
        lambda host: (
            "apply",
            {
                "stacks": [
                    {"name": "web", "path": host.path("moved"), "layers": ["base", "app"]},
                    {"name": "data", "path": host.path("data"), "layers": ["app"], "on_change": "reset"},
                    {"name": "scratch", "state": "absent"},
                ],
                "exclusive": False,
            },
        ),
        gaps=("data", "web", "moved"),
    ),
    Scenario(
        "commit of changes",
        a_store,
        lambda host: ("commit", {"stack": "data", "name": "kept", "restack": True}),
        gaps=("data",),
    ),
    Scenario(
        "upgrade of a copy, with prune",
        copied,
        lambda host: (
            "apply",
            {"layers": layers("2"), "stacks": stacks(host, driver="copy", generations=1)[:1], "prune": {}},
        ),
    ),
    Scenario(
        "a written copy begins anew",
        written_copy,
        lambda host: (
            "apply",
            {"layers": layers("2"), "stacks": stacks(host, driver="copy", on_change="reset")[1:2]},
        ),
        gaps=("data",),
    ),
    Scenario("prune", garbage, lambda host: ("prune", {})),
    Scenario("repair", damage, lambda host: ("store_check", {"repair": True, "deep": True}), damaged=True),
]


MAY_BE_FOUND = {
    "leftover",
    "directory_wrong",
    "content_record_orphaned",
    "layer_orphaned",
    "layer_record_missing",
    "short_link_missing",
    "writable_orphaned",
    "writable_missing",
    "writable_wrong",
    "writable_record_orphaned",
    "tags_wrong",
    "mount_missing",
    "mount_wrong",
}
"""What a run that was cut short may leave. All of it the next one finishes or sweeps; nothing else is to be found."""


def after_kill(stage: Stage, host: Host, _played: Played, number: int) -> Iterator[str]:
    """What has to be true after a kill: see DESIGN section 3. The next thing on the host is another one each time."""
    yield from torn(stage, seen(host))
    yield from new_findings(stage, host)
    way, pruned = number % 4, False
    if way == 1 and not stage.scenario.damaged:
        host.prune()
        pruned = True
    elif way == 2:
        host.check(repair=True)
    elif way == 3:
        unmount_all(host.top / "store")
        unmount_all(host.top / "srv")
        if number % 8 == 3 and not stage.scenario.damaged:
            host.prune()
            pruned = True
        mount_all(host)
        yield from (f"after a reboot: {words}" for words in torn_trees(stage, seen(host)))
    yield from converges(stage, host, pruned)


def new_findings(stage: Stage, host: Host) -> Iterator[str]:
    for item in found(host):
        if item not in stage.findings and item[0] not in MAY_BE_FOUND:
            yield f"there is {item}"


def torn(stage: Stage, now: Seen) -> Iterator[str]:
    """Everything is as it was, or as it is to be: each thing for itself."""
    old, new = stage.old, stage.new
    for key in old.objects.keys() | new.objects.keys():
        have, before, after = (objects.get(key, "nothing") for objects in (now.objects, old.objects, new.objects))
        if have not in (before, after):
            yield f"{key} is {have}, neither {before} nor {after}"
    yield from torn_trees(stage, now)


def torn_trees(stage: Stage, now: Seen) -> Iterator[str]:
    for name in stage.old.trees.keys() | stage.new.trees.keys():
        shown, before, after = (one.trees.get(name, "") for one in (now, stage.old, stage.new))
        if shown not in (before, after) and not (name in stage.scenario.gaps and not shown):
            yield f"stack {name} shows {shown!r}, neither {before!r} nor {after!r}"


def converges(stage: Stage, host: Host, pruned: bool = False) -> Iterator[str]:
    """The next run finishes, the one after it has nothing to do, and all is as after a run that nobody interrupted.

    :param pruned: what only a definition needs that has not been carried out yet may be gone.
    """
    again(host, stage.scenario)
    last = again(host, stage.scenario)
    if last["changed"]:
        yield f"the run after the next one changes something again: {last}"
    now = seen(host)
    for key, wanted in stage.new.objects.items():
        if now.objects.get(key) != wanted and not (pruned and key.startswith(("content ", "what a user"))):
            yield f"in the end {key} is {now.objects.get(key, 'nothing')}, not {wanted}"
    for key in now.objects.keys() - stage.new.objects.keys():
        yield f"in the end there is {key}: {now.objects[key]}"
    for name in stage.new.trees.keys() | now.trees.keys():
        if now.trees.get(name, "") != stage.new.trees.get(name, ""):
            yield f"in the end {name} shows {now.trees.get(name)}, not {stage.new.trees.get(name)}"
    host.prune()  # what runs have left that had nothing to change goes with the next change, or with a prune
    left = found(host)
    if left:
        yield f"the next runs leave {left}"
    yield from (f"the next runs leave {name} in staging" for name in os.listdir(host.root / "staging"))


def killed_at(wanted: int, number: int, _name: str) -> int:
    return KILL if number == wanted else 0


def report(points: Iterable[tuple[str, Point]]) -> None:
    wrong = [f"{words}: {point.at}: {problem}" for words, point in points for problem in point.problems]
    assert not wrong, f"{len(wrong)} problems:\n" + "\n".join(text[:3000] for text in wrong[:20])


def kill_points(states: Sequence[State]) -> list[int]:
    """The numbers of the calls to kill at.

    A kill that finds the very host which a kill one call earlier found shows nothing new. Of those that find it changed
    only in what the next run deletes unread, every third is tried; with CRASH=full, all.
    """
    points, unread = [1], 0
    for number, (before, now) in enumerate(pairwise(states), 2):
        if now.visible != before.visible:
            points.append(number)
        elif now != before:
            unread += 1
            if unread % 3 == 0 or os.environ.get("CRASH") == "full":
                points.append(number)
    return points


needs_numbers = pytest.mark.skipif(not works_here(), reason="the numbers of system calls are those of x86_64")
each_scenario = pytest.mark.parametrize("stage", SCENARIOS, ids=lambda scenario: scenario.name, indirect=True)


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A scenario, prepared once for all tests."""
    need_private_namespace()
    return Stage(tmp_path_factory.mktemp("stage"), request.param)


@needs_numbers
@each_scenario
def test_run_killed_at_any_call_loses_nothing(stage: Stage) -> None:
    calls = kill_points(stage.states)
    points = stage.play([partial(killed_at, number) for number in calls], after_kill)
    report((f"killed at call {number}", point) for number, point in zip(calls, points, strict=True))
    assert len(points) > 30
    assert sum(bool(point.at) for point in points) > 0.9 * len(points), "runs made fewer calls than the one watched"


ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES, errno.EROFS)
TAKE_ROOM = {
    "write",
    "pwrite64",
    "mkdir",
    "mkdirat",
    "open",
    "openat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "mknod",
}
TAKE_ROOM |= {"mknodat", "setxattr", "lsetxattr", "fsetxattr", "fsync", "syncfs", "rename", "renameat2"}
"""What a full disk refuses."""


def refused_at(wanted: int, error: int, lasting: bool, number: int, name: str) -> int:
    """One call, or from then on everything that this error can come from."""
    if number == wanted:
        return error
    full = error in (errno.ENOSPC, errno.EDQUOT)
    return error if lasting and number > wanted and (name in TAKE_ROOM or not full) else 0


ADVICE = (
    "make room",
    "make that file system writable",
    "look into the kernel's log",
    "run it as root",
    "put the store on",
)
"""In small letters."""


def after_error(
    tried: list[tuple[int, int, bool]], stage: Stage, host: Host, played: Played, number: int
) -> Iterator[str]:
    """What has to be true after a run that the host refused something."""
    _call, error, lasting = tried[number - 1]
    result = played.result()
    said = result.get("msg", "")
    if played.errors or "Traceback" in played.output:
        yield f"it says {played.errors} {said}"
    if result.get("failed"):
        yield from unclear(said, error, host)
    elif not result["changed"]:
        yield f"it says that nothing was changed: {result}"
    now = seen(host)
    yield from torn(stage, now)
    if not lasting:
        yield from (f"it leaves {path}" for path in host.root.glob("staging/*") if path.name != "left")
        # What was unmounted is mounted again, unless that is what the host refused.
        for name in stage.scenario.gaps if "umount" not in played.how.at else ():
            if name in stage.old.trees and name in stage.new.trees and not now.trees.get(name):
                yield f"stack {name} stays unmounted: {said}"
    yield from new_findings(stage, host)
    yield from converges(stage, host)


def unclear(said: str, error: int, host: Host) -> Iterator[str]:
    """What a message lacks."""
    if str(host.root) not in said and "stack " not in said and "content " not in said:
        yield f"the message names neither store nor stack: {said}"
    if os.strerror(error) not in said and "is full" not in said and "quota" not in said:
        yield f"the message does not say what the host answered: {said}"
    if not any(words in said.lower() for words in ADVICE):
        yield f"the message does not say what to do: {said}"


def errors_to_try(calls: int) -> list[tuple[int, int, bool]]:
    """Every third call with one error, or each call with each of them; once, or lasting."""
    if os.environ.get("CRASH") == "full":
        return [(n, error, lasting) for n in range(1, calls + 1) for error in ERRORS for lasting in (False, True)]
    return [(n, ERRORS[n // 3 % len(ERRORS)], n % 2 == 0) for n in range(1, calls + 1, 3)]


# CRASH=full tries each error at each call, once and lasting: thirty times what the suite has time for.
@needs_numbers
@each_scenario
def test_run_refused_a_system_call_loses_nothing(stage: Stage) -> None:
    tried = errors_to_try(len(stage.calls))
    points = stage.play([partial(refused_at, *one) for one in tried], partial(after_error, tried))
    words = [f"call {n} refused by {errno.errorcode[e]}{', as all after it' * lasting}" for n, e, lasting in tried]
    report(zip(words, points, strict=True))
