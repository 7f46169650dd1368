# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Workers that succeed, fail, die and are not allowed: results in order, words for every end, no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import (
    MOST_DOWNLOADS,
    Count,
    Job,
    Progress,
    leave_cores,
    run_jobs,
)

LARGE = 1 << 24


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    descriptors = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(descriptors), "a descriptor was left open"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def giving(value: Any, pause: float = 0) -> Callable[[Count], Any]:
    def work(count: Count) -> Any:
        time.sleep(pause)
        count(7)
        return [value, os.getpid()]

    return work


def jobs(count: int, **values: Any) -> list[Job]:
    return [Job(f"content {number}", giving(number), **values) for number in range(count)]


def test_results_come_in_the_order_of_the_jobs() -> None:
    work = [Job(str(number), giving(number, 0.02 * (number % 3)), number) for number in range(9)]
    results = run_jobs(work, processes=3)
    assert [value for value, _process in results] == list(range(9))
    assert os.getpid() not in {process for _value, process in results}


def test_many_jobs_are_shared_by_few_workers() -> None:
    results = run_jobs(jobs(300), processes=2)
    assert [value for value, _process in results] == list(range(300))
    assert len({process for _value, process in results}) == 2


def test_largest_job_starts_first() -> None:
    def now(_count: Count) -> int:
        began = time.monotonic_ns()
        time.sleep(0.1)
        return began

    started = run_jobs([Job(str(size), now, size) for size in (1, 3, 2)], processes=2)
    assert started[0] == max(started)


def test_large_results_are_returned_whole() -> None:
    assert run_jobs([Job("x", lambda _count: "x" * 1_000_000)] * 2, processes=2) == ["x" * 1_000_000] * 2


@pytest.mark.parametrize("size", [0, 1000])
def test_small_jobs_run_in_the_calling_process(size: int) -> None:
    assert {process for _value, process in run_jobs(jobs(5, size=size))} == {os.getpid()}


def test_single_job_runs_in_the_calling_process() -> None:
    assert run_jobs(jobs(1, size=LARGE), processes=4) == [[0, os.getpid()]]
    assert run_jobs([]) == []


@pytest.mark.parametrize("count", [1, 3])
def test_meanwhile_runs_once_in_the_caller_before_large_jobs_end(count: int) -> None:
    """Also while one job is done, if it is large; once, and not instead of waiting for the results."""
    times: list[int] = []
    here: list[int] = []

    def now(_count: Count) -> int:
        time.sleep(0.2)
        return time.monotonic_ns()

    def meanwhile() -> None:
        here.append(os.getpid())
        times.append(time.monotonic_ns())

    done = run_jobs([Job(str(number), now, LARGE) for number in range(count)], processes=2, meanwhile=meanwhile)
    assert here == [os.getpid()]
    assert times[0] < min(done)


def test_meanwhile_is_not_run_for_small_jobs() -> None:
    def never() -> None:
        raise AssertionError("there is no worker to wait for")

    assert run_jobs(jobs(1), meanwhile=never) == [[0, os.getpid()]]
    assert run_jobs([], meanwhile=never) == []


def test_workers_end_when_meanwhile_fails(tmp_path: Path) -> None:
    def slow(_count: Count) -> None:
        time.sleep(60)
        (tmp_path / "went on").touch()

    def failing() -> None:
        raise ImportError("a room is missing")

    began = time.monotonic()
    with pytest.raises(ImportError, match="a room is missing"):
        run_jobs([Job("0", slow, LARGE)], meanwhile=failing)
    assert time.monotonic() - began < 30
    assert not list(tmp_path.iterdir())


def test_error_of_one_job_stops_the_others(tmp_path: Path) -> None:
    def failing(_count: Count) -> None:
        time.sleep(0.1)
        raise StrataError("content 1 from base.tar is damaged")

    def slow(_count: Count) -> None:
        time.sleep(60)
        (tmp_path / "went on").touch()

    began = time.monotonic()
    with pytest.raises(StrataError, match=r"^content 1 from base\.tar is damaged$"):
        run_jobs([Job("0", slow), Job("1", failing), Job("2", slow)], processes=2)
    assert time.monotonic() - began < 30
    assert not list(tmp_path.iterdir())


def test_programs_of_a_stopped_worker_end_too() -> None:
    def starting(_count: Count) -> None:
        subprocess.run(["sleep", "4242"], check=True)

    def failing(_count: Count) -> None:
        time.sleep(0.3)
        raise StrataError("enough")

    with pytest.raises(StrataError, match="enough"):
        run_jobs([Job("0", starting), Job("1", failing)], processes=2)
    assert wait_for(lambda: not running("sleep\x004242\0"))


def test_processes_of_a_stopped_worker_end_before_the_error_is_raised(tmp_path: Path) -> None:
    """What one of them writes late would be in the way of whoever clears up."""

    def forking(_count: Count) -> None:
        if os.fork():
            time.sleep(60)
        with (tmp_path / "file").open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x")

    def failing(_count: Count) -> None:
        assert wait_for((tmp_path / "file").exists)
        raise StrataError("enough")

    with pytest.raises(StrataError, match="enough"):
        run_jobs([Job("0", forking), Job("1", failing)], processes=2)
    size = (tmp_path / "file").stat().st_size
    time.sleep(0.1)
    assert (tmp_path / "file").stat().st_size == size


def test_jobs_with_the_most_effort_start_first(tmp_path: Path) -> None:
    def noting(number: int) -> Callable[[Count], None]:
        def work(_count: Count) -> None:
            with (tmp_path / "order").open("a") as stream:
                stream.write(f"{number}\n")

        return work

    facts = [(LARGE, 0), (9, 3 * LARGE), (2 * LARGE, 0), (5, 5 * LARGE)]
    work = [Job(str(number), noting(number), size, effort=effort) for number, (size, effort) in enumerate(facts)]
    run_jobs(work, processes=1, meanwhile=int)
    assert (tmp_path / "order").read_text().split() == ["3", "1", "2", "0"]


@pytest.mark.parametrize(
    ("cores", "jobs", "leave"), [(1, 1, False), (2, 1, True), (2, 2, False), (64, 4, True), (64, 5, False)]
)
def test_cores_are_left_when_each_of_few_jobs_has_a_second_one(
    monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int, leave: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)))
    assert leave_cores(jobs) is leave


def running(command: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_text(errors="replace") == command:
                return True
        except OSError:
            continue
    return False


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_killed_worker_is_reported_with_its_job() -> None:
    def killed(_count: Count) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(StrataError, match=r"ended by signal 9 \(Killed\) while unpacking content 5 from x\.tar"):
        run_jobs([Job("content 5 from x.tar", killed), *jobs(3)], processes=2)


def test_worker_that_exits_is_reported_with_its_job() -> None:
    with pytest.raises(StrataError, match="ended with exit status 3 while unpacking content 5"):
        run_jobs([Job("content 5", lambda _count: os._exit(3)), *jobs(3)], processes=2)


def test_programming_error_is_reported_with_its_place() -> None:
    def faulty(_count: Count) -> None:
        raise ZeroDivisionError("of our own")

    with pytest.raises(StrataError, match=r"(?s)content 5:\n.*in faulty.*ZeroDivisionError: of our own"):
        run_jobs([Job("content 5", faulty), *jobs(3)], processes=2)


@pytest.mark.parametrize("allowed", [0, 1])
def test_jobs_are_done_with_fewer_or_no_workers_when_fork_is_refused(
    monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    fork, calls = os.fork, []

    def refuse() -> int:
        calls.append(1)
        if len(calls) > allowed:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refuse)
    results = run_jobs(jobs(4), processes=3)
    assert [value for value, _process in results] == [0, 1, 2, 3]
    assert {process == os.getpid() for _value, process in results} == {allowed == 0}


def test_jobs_are_done_when_the_kernel_refuses_die_with_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(syscalls, "die_with_parent", refuse)
    assert len(run_jobs(jobs(3), processes=2)) == 3


def test_at_most_three_downloads_run_at_a_time(tmp_path: Path) -> None:
    def loading(count: Count) -> int:
        mine = tmp_path / str(os.getpid())
        mine.touch()
        time.sleep(0.05)
        together = len(list(tmp_path.iterdir()))
        mine.unlink()
        count(0)
        return together

    together = run_jobs([Job(str(number), loading, download=True) for number in range(12)], processes=6)
    assert max(together) <= MOST_DOWNLOADS
    (tmp_path / "x").mkdir()
    assert len(run_jobs([Job("0", loading, download=True), *jobs(9)], processes=6)) == 10


def test_downloads_of_unknown_size_run_in_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    done = run_jobs([Job(str(number), giving(number, 0.05), download=True) for number in range(2)])
    assert len({process for _value, process in done} - {os.getpid()}) == 2
    done = run_jobs([Job(str(number), giving(number), 10, download=True) for number in range(2)])
    assert {process for _value, process in done} == {os.getpid()}


@pytest.mark.parametrize("processes", [None, 2])
def test_progress_of_all_jobs_is_reported(processes: int | None) -> None:
    def work(count: Count) -> None:
        for done in range(100, 800, 100):
            count(done)
            time.sleep(0.1)

    told: list[list[Progress]] = []
    began = time.monotonic()
    run_jobs([Job("a", work, 700), Job("b", work)], lambda news: told.append(list(news)), processes)
    took = time.monotonic() - began
    assert told[-1] == [Progress("a", 700, 700, "finished"), Progress("b", 700, 0, "finished")]
    assert any(0 < news[0].done < 700 and news[0].state == "running" for news in told)
    assert len(told) <= took / 0.5 + 1, "more than twice a second"


def test_workers_die_with_the_process_that_forked_them(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        "from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Job, run_jobs\n"
        "def work(count):\n"
        "    open(os.path.join(sys.argv[1], str(os.getpid())), 'w').close()\n"
        "    time.sleep(600)\n"
        "run_jobs([Job('a', work), Job('b', work)], processes=2)\n"
    )
    collections = Path(syscalls.__file__ or "").parents[6]
    environment = {**os.environ, "PYTHONPATH": str(collections)}
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment) as process:
        try:
            assert wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        finally:
            process.kill()
    workers = [Path("/proc") / path.name for path in tmp_path.iterdir()]
    assert wait_for(lambda: not any(alive(path) for path in workers))


def alive(path: Path) -> bool:
    try:
        return "\nState:\tZ" not in (path / "status").read_text()
    except OSError:
        return False
