# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read in one process and written in another arrives whole, and whoever fails is heard."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.names import Place
from ansible_collections.strata.overlay.plugins.module_utils._layer.pipeline import RING, Relay
from ansible_collections.strata.overlay.plugins.module_utils._layer.writer import Member


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    descriptors = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def member(number: int, position: int = 0, stored: int = 0) -> Member:
    name = b"f%d" % number
    entry = Entry(name, "file", 0o644, 1, 2, 3, -4, b"target", (5, 6), {"user.a": b"\0"}, [(0, 7)])
    return Member(entry, Place(b"", name, "entry"), position, stored, iter(()))


def digests(members: Iterator[Member]) -> list[tuple[Any, ...]]:
    """What the writer is given: each entry with the digest of its bytes."""
    found = []
    for entry, where, position, stored, data in members:
        total = hashlib.sha256()
        for piece in data:
            total.update(piece)
        found.append((entry.name, tuple(where), position, stored, total.hexdigest()))
    return found


def pass_on(sizes: list[int], piece: int, work: Callable[[Iterator[Member]], Any]) -> tuple[Any, Any]:
    """Send one entry for each size, read in pieces; gives what arrived, and what should have."""
    source = random.Random(1)
    expected = []
    with Relay(work) as relay:
        waiting = b""
        read = relay.fed(lambda size: waiting[:size])
        position = 0
        for number, size in enumerate(sizes):
            one = member(number, position, size)
            data = source.randbytes(size)
            relay.send(one)
            expected.append((one.entry.name, tuple(one.place), position, size, hashlib.sha256(data).hexdigest()))
            waiting = data
            while waiting:
                waiting = waiting[len(read(piece)) :]
            position += size
        return relay.result(), expected


@pytest.mark.parametrize(
    ("sizes", "piece"),
    [
        ([], 1),
        ([0, 0, 0], 1),
        ([3 * RING + 17], 1 << 20),
        ([3 * RING + 17, 0, 5], 10 * RING),
        ([1, RING, 1, RING - 1, RING + 1, 0, 7], 777_777),
        ([11] * 30_000, 11),
        ([20_000], 1),
    ],
    ids=["none", "empty", "one large", "read all at once", "around the ring", "many small", "byte by byte"],
)
def test_all_entries_and_bytes_arrive_at_the_writer(sizes: list[int], piece: int) -> None:
    found, expected = pass_on(sizes, piece, digests)
    assert found == expected


def test_entry_arrives_unchanged() -> None:
    sent = member(1)
    with Relay(lambda members: [repr(one[:4]) for one in members]) as relay:
        relay.send(sent)
        assert relay.result() == [repr(sent[:4])]


def raising(error: BaseException) -> Callable[[Iterator[Member]], Any]:
    def work(members: Iterator[Member]) -> None:
        next(members)
        raise error

    return work


def killed(_members: Iterator[Member]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "expected", "words"),
    [
        (raising(StrataError("entry x: refused")), StrataError, "^entry x: refused$"),
        (raising(OSError(errno.ENOSPC, "full", "/place")), OSError, "full: '/place'"),
        (raising(ValueError("a slip")), RuntimeError, "a slip"),
        (killed, StrataError, "ended by signal 9"),
    ],
    ids=["refused", "failed", "fault", "killed"],
)
@pytest.mark.parametrize("size", [1, 4 * RING])
def test_error_of_the_writer_is_raised_in_the_reader(
    work: Callable[[Iterator[Member]], Any], expected: type[Exception], words: str, size: int
) -> None:
    """Also where the reader has far more to give than there is room for."""
    with pytest.raises(expected, match=words):
        pass_on([size], 1 << 20, work)


def reader_fails(work: Callable[[Iterator[Member]], Any], error: BaseException) -> None:
    with Relay(work) as relay:
        relay.send(member(1))
        relay.send(member(2, 0, 1000))
        raise error


@pytest.mark.parametrize("error", [ConnectionResetError(104, "gone"), StrataError("damaged"), KeyboardInterrupt()])
def test_error_of_the_reader_is_raised_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        reader_fails(digests, error)
    assert caught.value is error


def test_earlier_error_of_the_writer_wins_over_that_of_the_reader() -> None:
    """What comes first in the archive is told, as in one process."""
    with pytest.raises(StrataError, match="entry f1"):
        reader_fails(raising(StrataError("entry f1: no")), StrataError("entry f3: damaged"))


def test_fork_refused_for_the_relay_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(OSError, match="no more processes"):
        Relay(digests)
