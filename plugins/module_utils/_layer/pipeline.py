# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Passes entries and their data from a process that reads a layer to one that writes it.

The bytes lie in memory that both share, a ring: byte n of the stream is at n modulo its size, for as long as the writer
needs it. Entries, and up to where there are bytes, go through a pipe; up to where they are done with comes back through
another, and at the end what the work has given. The writer dies with the process that forked it.
"""

from __future__ import annotations

import contextlib
import marshal
import mmap
import operator
import os
import signal
import struct
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place
from ansible_collections.strata.overlay.plugins.module_utils._layer.writer import Member
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import write_all
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import how_it_ended

RING = 8 << 20
"""Bytes that the reader may be ahead; more would leave the processors' caches."""

_AT_ONCE = RING // 2
"""Bytes that are read at a time at the most: with what the writer need not have told, they have room in the ring."""

_LEAST_REPORTED = RING // 8
"""Bytes after which the writer says that it is done with them, so that its pipe never fills up."""

_LENGTH = struct.Struct("<Q")
_facts = operator.attrgetter(*(field.name for field in fields(Entry)))
"""What makes an entry; `marshal` takes the values, not the class."""


class _CutError(Exception):
    """The reader ended before its stream did; it reports the reason itself."""


class Relay:
    """The reader's side; a context manager, which ends the writer and waits for it.

    What the writer raises comes before an error of the reader, who was ahead, as it would in one process.

    :param work: done in the other process; what it returns goes through `marshal`.
    :raises OSError: there is no memory, or no process to be had.
    """

    def __init__(self, work: Callable[[Iterator[Member]], Any]) -> None:
        self._ring = mmap.mmap(-1, RING)
        self._read = self._known = self._done = 0
        self._entries: list[tuple[Any, ...]] = []
        self._answer: Optional[tuple[str, Any]] = None
        self._pipes: list[int] = []
        try:
            for _pipe in range(2):
                self._pipes += os.pipe()
            self._process = os.fork()
        except OSError:
            self._close()
            raise
        orders, self._orders, self._answers, answers = self._pipes
        if self._process == 0:
            _serve(work, self._ring, orders, answers, (self._orders, self._answers))
        os.close(orders)
        os.close(answers)
        self._pipes = [self._orders, self._answers]

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], _traceback: object) -> None:
        try:
            if isinstance(error, (StrataError, OSError)) and self._answer is None:
                self._notify(False)
                os.close(self._orders)  # the writer hears that no more comes
                self._pipes = [self._answers]
                self._settle()
        finally:
            self._end()

    def fed(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """``read`` that also puts what it gives where the writer finds it."""

        def read_and_pass_on(size: int) -> bytes:
            self._notify(False)
            chunk = read(min(size, _AT_ONCE))
            self._put(chunk)
            return chunk

        return read_and_pass_on

    def send(self, member: Member) -> None:
        """One more of what was read."""
        entry, place, position, stored, _data = member
        self._entries.append((_facts(entry), tuple(place), position, stored))

    def result(self) -> Any:
        """Nothing more comes: what the work returns, or raises."""
        self._notify(True)
        return self._settle()

    def _put(self, chunk: bytes) -> None:
        end = self._read + len(chunk)
        while end - self._done > RING:
            self._hear()
            if self._answer:
                self._settle()
        at = self._read % RING
        first = min(len(chunk), RING - at)
        self._ring[at : at + first] = chunk[:first]
        if first < len(chunk):
            self._ring[: len(chunk) - first] = chunk[first:]
        self._read = end

    def _notify(self, last: bool) -> None:
        """Everything that the writer does not know yet."""
        if last or self._entries or self._known < self._read:
            message = (self._read, self._entries, last)
            self._entries, self._known = [], self._read
            with contextlib.suppress(BrokenPipeError):  # it has failed, and says so
                _send(self._orders, message)

    def _hear(self) -> None:
        """How far the writer is, or its answer."""
        text = _receive(self._answers)
        if not text:
            how = how_it_ended(os.waitpid(self._process, 0)[1])
            self._process = 0
            self._answer = "refused", f"the process that writes it ended {how}; see whether memory ran out"
            return
        said = marshal.loads(text)
        if isinstance(said, int):
            self._done = said
        else:
            self._answer = said

    def _settle(self) -> Any:
        """Wait for the answer: what the work has returned, or None where the reader has hung up.

        :raises StrataError, OSError: what the work has raised.
        """
        while self._answer is None:
            self._hear()
        kind, what = self._answer
        if kind == "refused":
            raise StrataError(what)
        if kind == "failed":
            raise OSError(*what)
        if kind == "fault":
            raise RuntimeError(what)
        return what

    def _end(self) -> None:
        if self._process:
            if self._answer is None:
                os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        self._close()

    def _close(self) -> None:
        for descriptor in self._pipes:
            os.close(descriptor)
        self._pipes = []
        self._ring.close()


class _Members:
    """The writer's side: the entries, as they come."""

    def __init__(self, ring: mmap.mmap, orders: int, answers: int) -> None:
        self._ring = memoryview(ring)
        self._orders = orders
        self._answers = answers
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._there = self._told = 0
        self._last = False

    def __iter__(self) -> Iterator[Member]:
        while True:
            while self._waiting:
                facts, place, position, stored = self._waiting.popleft()
                yield Member(Entry(*facts), Place(*place), position, stored, self._data(position, stored))
            if self._last:
                return
            self._hear(self._there)

    def _data(self, at: int, left: int) -> Iterator[memoryview]:
        while left:
            while at >= self._there:
                self._hear(at)
            start = at % RING
            piece = self._ring[start : start + min(left, self._there - at, RING - start)]
            yield piece
            at += len(piece)
            left -= len(piece)

    def _hear(self, done: int) -> None:
        """Wait for more, after all bytes before ``done`` were used."""
        if done - self._told >= _LEAST_REPORTED:
            self._told = done
            _send(self._answers, done)
        text = _receive(self._orders)
        if not text:
            raise _CutError
        self._there, entries, self._last = marshal.loads(text)
        self._waiting += entries


def _serve(
    work: Callable[[Iterator[Member]], Any], ring: mmap.mmap, orders: int, answers: int, others: tuple[int, int]
) -> None:
    """The writer's life. Never returns into the fork."""
    try:
        for descriptor in others:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            syscalls.die_with_parent()
        try:
            answer = "done", work(iter(_Members(ring, orders, answers)))
        except StrataError as error:
            answer = "refused", str(error)
        except OSError as error:
            answer = "failed", (error.errno, error.strerror, error.filename)
        except _CutError:
            answer = "cut", None
        except BaseException:  # noqa: BLE001  the other process reports it
            answer = "fault", traceback.format_exc()
        with contextlib.suppress(OSError):
            _send(answers, answer)
    finally:
        os._exit(0)


def _send(descriptor: int, what: Any) -> None:
    text = marshal.dumps(what)
    write_all(descriptor, memoryview(_LENGTH.pack(len(text)) + text))


def _receive(descriptor: int) -> bytes:
    """What was sent, as `marshal` has written it; nothing when the other one has ended."""
    head = _exactly(descriptor, _LENGTH.size)
    return _exactly(descriptor, *_LENGTH.unpack(head)) if head else b""


def _exactly(descriptor: int, length: int) -> bytes:
    pieces = []
    while length:
        piece = os.read(descriptor, length)
        if not piece:
            return b""
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
