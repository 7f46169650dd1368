# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Runs jobs in parallel in forked processes, one per core, and collects their results.

Threads would not do: most of what unpacking takes is small system calls, between which one interpreter runs one thread.
A worker that ends, however it ends, is reported in words with its job; the others are stopped then. Workers die with
the process that forked them, so nothing goes on after it was killed.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import selectors
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NoReturn, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls

Count = Callable[[int], None]
"""Called by a job with the bytes that it has done so far."""

MOST_PROCESSES = 8
"""However many cores: each takes up to 40 MB, and one file system does not get faster with more."""

MOST_DOWNLOADS = 3
"""Jobs that load from elsewhere at a time, as Docker does: more would only be rude to the server."""

_WORTH_FORKING = 1 << 24
"""Bytes in all below which starting processes takes longer than they save; downloads of unknown size wait anyway."""

_PAUSE = 0.5
"""Seconds between two reports of progress."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    :ivar description: what is worked at, as "layer base (base.tar)".
    :ivar work: does it, in another process than this one or in this; what it returns goes through JSON.
        A StrataError that it raises has to name the job itself.
    :ivar size: bytes to be done, in the units of ``Count``; 0 where nobody knows.
    :ivar download: whether it reads from the network.
    :ivar effort: how long it takes beside the others, in whatever unit; its size where it is not given.
    """

    description: str
    work: Callable[[Count], Any]
    size: int = 0
    download: bool = False
    effort: int = 0


@dataclass(frozen=True)
class Progress:
    """How far one job is; jobs are reported in the order in which they were given, all of them each time.

    :ivar done: bytes done so far; below ``total`` also at the end, if a source had more bytes than were needed.
    :ivar total: bytes in all, 0 where nobody knows.
    :ivar state: "waiting", "running" or "finished".
    """

    description: str
    done: int
    total: int
    state: str


Report = Callable[[Sequence[Progress]], None]
"""Told how far all jobs are: twice a second at the most, and at the end. It must not raise."""


def run_jobs(
    jobs: Sequence[Job],
    report: Optional[Report] = None,
    processes: Optional[int] = None,
    meanwhile: Optional[Callable[[], object]] = None,
) -> list[Any]:
    """Do all jobs and give their results in the order of the jobs. The longest begin first.

    Where the kernel or a policy refuses processes, the jobs are done in this one, in the order given.

    :param report: called with the progress of all jobs.
    :param processes: how many workers at the most, one for each core when it is not given.
    :param meanwhile: called once when the workers are at work, if there are any: something short that this process has
        to do anyway. With it, one large job has a worker as well.
    :raises StrataError: the first job that failed; the others have been stopped by then, and no worker is left.
    """
    if not jobs:
        return []
    board = _Board(jobs, report)
    try:
        count = min(processes or _cores(), len(jobs), MOST_PROCESSES)
        if (count > 1 or meanwhile) and (processes or _are_worth_forking(jobs)):
            pool = _Pool(jobs, board)
            try:
                if pool.start(count):
                    return pool.run(meanwhile)
            finally:
                pool.stop()
        return [_do_here(index, job, board) for index, job in enumerate(jobs)]
    finally:
        board.close()


def leave_cores(jobs: int) -> bool:
    """Whether so many jobs leave a second core for each, and memory for what runs there."""
    return 2 * jobs <= min(_cores(), MOST_PROCESSES)


def is_worth_forking(size: int, download: bool) -> bool:
    """Whether work is worth a process.

    :param size, download: as of a job.
    """
    return size >= _WORTH_FORKING or (download and not size)


def how_it_ended(status: int) -> str:
    """Describe a status of ``os.waitpid``, to follow the word "ended"."""
    if os.WIFSIGNALED(status):
        return f"by signal {os.WTERMSIG(status)} ({signal.strsignal(os.WTERMSIG(status))})"
    return f"with exit status {os.WEXITSTATUS(status)}"


def _are_worth_forking(jobs: Sequence[Job]) -> bool:
    return sum(job.size for job in jobs) >= _WORTH_FORKING or any(
        is_worth_forking(job.size, job.download) for job in jobs
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _do_here(index: int, job: Job, board: _Board) -> Any:
    def count(done: int) -> None:
        board.set(index, done)
        board.show()

    board.state[index] = "running"
    result = job.work(count)
    board.state[index] = "finished"
    board.show(last=index == len(board.state) - 1)
    return result


class _Board:
    """Bytes done of each job, in memory that workers share with this process, and the one who wants to know."""

    def __init__(self, jobs: Sequence[Job], report: Optional[Report]) -> None:
        self.state = ["waiting"] * len(jobs)
        self._jobs = jobs
        self._report = report
        self._next = time.monotonic() + _PAUSE
        self._memory = mmap.mmap(-1, 8 * len(jobs))
        self._done = memoryview(self._memory).cast("Q")

    @property
    def pause(self) -> Optional[float]:
        """Seconds until the next progress report; None if nobody wants one."""
        return None if self._report is None else max(0.0, self._next - time.monotonic())

    def set(self, index: int, done: int) -> None:
        self._done[index] = done

    def show(self, last: bool = False) -> None:
        """Report, unless that was done a moment ago."""
        if self._report is None or (time.monotonic() < self._next and not last):
            return
        self._next = time.monotonic() + _PAUSE
        together = zip(self._jobs, self._done, self.state)
        self._report([Progress(job.description, done, job.size, state) for job, done, state in together])

    def close(self) -> None:
        self._done.release()
        self._memory.close()


@dataclass
class _Worker:
    """A forked process: it reads the number of a job from one pipe and writes a line of JSON to the other."""

    process: int
    orders: int
    results: int
    job: int = -1
    output: bytes = b""


class _Pool:
    """The workers, seen from the process that forked them."""

    def __init__(self, jobs: Sequence[Job], board: _Board) -> None:
        self._jobs = jobs
        self._board = board
        self._workers: list[_Worker] = []
        self._waiting = sorted(range(len(jobs)), key=lambda index: -(jobs[index].effort or jobs[index].size))
        self._results: dict[int, Any] = {}

    def start(self, count: int) -> bool:
        """Fork so many workers, or as many as possible; False if that is none."""
        for _number in range(count):
            try:
                self._fork()
            except OSError:
                break
        return bool(self._workers)

    def run(self, meanwhile: Optional[Callable[[], object]]) -> list[Any]:
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.results, selectors.EVENT_READ, worker)
                self._give(worker)
            if meanwhile:
                meanwhile()
            while len(self._results) < len(self._jobs):
                for key, _events in selector.select(self._board.pause):
                    worker = key.data
                    if self._hear(worker):
                        for idle in [worker, *(other for other in self._workers if other.job < 0)]:
                            self._give(idle)
                self._board.show()
        self._board.show(last=True)
        return [self._results[index] for index in range(len(self._jobs))]

    def stop(self) -> None:
        """End all workers, at once where they are at work, with the programs that they have started."""
        for worker in self._workers:
            os.close(worker.orders)
            if worker.job >= 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.process, signal.SIGKILL)
        for worker in self._workers:
            while os.read(worker.results, 1 << 16):
                pass  # until the last process that could still write is gone: a worker's own as well
            os.close(worker.results)
            if worker.process:
                os.waitpid(worker.process, 0)
        self._workers = []

    def _fork(self) -> None:
        take_orders, orders = os.pipe()
        results, give_results = os.pipe()
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError:
            for descriptor in (take_orders, orders, results, give_results):
                os.close(descriptor)
            raise
        if process == 0:
            # The parent's ends, also those towards earlier workers: who holds them keeps the others from ending.
            for descriptor in (orders, results, *_ends(self._workers)):
                os.close(descriptor)
            _serve(self._jobs, self._board, take_orders, give_results, parent)
        os.close(take_orders)
        os.close(give_results)
        with contextlib.suppress(OSError):
            os.setpgid(process, process)  # set by both processes, whichever comes first
        self._workers.append(_Worker(process, orders, results))

    def _give(self, worker: _Worker) -> None:
        """The next job for a worker that has none."""
        if worker.job >= 0:
            return
        loading = sum(other.job >= 0 and self._jobs[other.job].download for other in self._workers)
        for index in self._waiting:
            if self._jobs[index].download and loading >= MOST_DOWNLOADS:
                continue
            self._waiting.remove(index)
            worker.job = index
            self._board.state[index] = "running"
            with contextlib.suppress(BrokenPipeError):  # it has died: its results say so
                os.write(worker.orders, b"%d\n" % index)
            return

    def _hear(self, worker: _Worker) -> bool:
        """Read what a worker has to say; whether its job is done."""
        piece = os.read(worker.results, 1 << 16)
        worker.output += piece
        if not piece:
            self._died(worker)
        if not worker.output.endswith(b"\n"):
            return False
        answer = json.loads(worker.output)
        if "error" in answer:
            raise StrataError(answer["error"])
        self._results[worker.job] = answer["result"]
        self._board.state[worker.job] = "finished"
        worker.job, worker.output = -1, b""
        return True

    def _died(self, worker: _Worker) -> NoReturn:
        status = os.waitpid(worker.process, 0)[1]
        worker.process = 0
        index, worker.job = worker.job, -1
        what = f"while unpacking {self._jobs[index].description}" if index >= 0 else "before it had anything to do"
        raise StrataError(
            f"A worker process ended {how_it_ended(status)} {what}. Nothing of it was kept. Look into the kernel's log "
            "whether memory ran out, and run again."
        )


def _ends(workers: Sequence[_Worker]) -> Iterator[int]:
    for worker in workers:
        yield from (worker.orders, worker.results)


def _serve(jobs: Sequence[Job], board: _Board, orders: int, results: int, parent: int) -> NoReturn:
    """A worker's life: do the jobs that are asked for until there are no more. Never returns into the fork."""
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        with contextlib.suppress(OSError):  # refused by a policy: then it ends with its present job
            syscalls.die_with_parent()
        with open(orders, encoding="ascii") as numbers, open(results, "wb", buffering=0) as answers:
            # A parent that was gone before it could be asked for is seen by its number.
            for number in iter(numbers.readline if os.getppid() == parent else str, ""):
                line = json.dumps(_answer(jobs[int(number)], int(number), board)).encode() + b"\n"
                view = memoryview(line)
                while view:
                    view = view[answers.write(view) or 0 :]
    finally:
        os._exit(0)


def _answer(job: Job, index: int, board: _Board) -> dict[str, Any]:
    try:
        return {"result": job.work(lambda done: board.set(index, done))}
    except StrataError as error:
        return {"error": str(error)}
    except BaseException:  # noqa: BLE001  the other process reports it
        return {"error": f"A fault of strata.overlay while unpacking {job.description}:\n{traceback.format_exc()}"}
