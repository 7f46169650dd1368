# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits of an archive: each at its last allowed value and one beyond."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import (
    UNLESS_SET,
    Limits,
    least_reserve,
    read_limits,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.meter import Meter
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, Entry
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import normalise
from ansible_collections.strata.overlay.plugins.module_utils._layer.deferred_links import LateLinks
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import ChunkReader
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest, unpack, writer_apart
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import (
    directory,
    hardlink,
    member,
    pax,
    sparse,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can unpack")

TWO = member(b"a", b"x" * 600) + member(b"b", b"y") + END
"""Two entries, 512 + 1024 + 512 + 512 + 1024 bytes."""


@pytest.mark.parametrize(
    ("archive", "enough", "refused"),
    [
        (TWO, Limits(entries=2), (Limits(entries=1), "entry 'b': .*limit of 1; .*'limits.entries'")),
        (TWO, Limits(bytes=3584), (Limits(bytes=3583), "entry 'b': the archive goes on .*'limits.bytes'")),
        (TWO, Limits(bytes=3584), (Limits(bytes=1111), "entry 'a': with its 600 bytes .* limit of 1111")),
        (TWO, Limits(bytes=3584), (Limits(bytes=2048), "entry 'b': with its 1 bytes .* limit of 2048")),
        (TWO, Limits(bytes=3584), (Limits(bytes=511), "before the first entry: .* limit of 511")),
        (TWO + bytes(1 << 21), Limits(bytes=3584 + (1 << 21)), (Limits(bytes=1 << 21), "entry 'b': the archive goes")),
        (sparse(b"s", 10**9) + END, Limits(bytes=10**9 + 3584), (Limits(bytes=10**9 - 1), "its 1000000000 bytes")),
        (pax((b"comment", b"x" * 5000), flag=b"g") * 9 + TWO, UNLESS_SET, (Limits(bytes=9000), "before the first")),
        (member(b"a/b/c", b"x") + END, Limits(depth=3), (Limits(depth=2), "entry 'a/b/c': it lies 3 .*'limits.depth'")),
        (member(b"a/b/.wh.c") + END, Limits(depth=3), (Limits(depth=2), "'limits.depth'")),
        (member(b"././/a", b"x") + directory(b"./") + END, Limits(depth=1), (Limits(depth=0), "'limits.depth'")),
    ],
)
def test_archive_is_refused_only_beyond_a_limit(archive: bytes, enough: Limits, refused: tuple[Limits, str]) -> None:
    digest(io.BytesIO(archive).read, enough)
    with pytest.raises(StrataError, match=refused[1]):
        digest(io.BytesIO(archive).read, refused[0])


@needs_root
def test_implied_directories_count_as_entries(tmp_path: Path) -> None:
    """A name of 201 bytes makes a hundred directories, which cost the file system as much as any other."""
    bomb = b"".join(member(b"%d/" % number * 100 + b"f") for number in range(10)) + END
    with pytest.raises(StrataError, match=r"entry '3/3/.* more entries than the limit of 403; .*'limits.entries'"):
        unpack(io.BytesIO(bomb).read, str(tmp_path), False, Limits(entries=403))
    assert len(list(tmp_path.rglob("*"))) == 402  # neither the last directory nor its file
    (tmp_path / "whole").mkdir()
    unpack(io.BytesIO(bomb).read, str(tmp_path / "whole"), False, Limits(entries=1010))


def test_limits_option_is_read_and_its_errors_reported() -> None:
    def read(**limits: object) -> tuple[Limits, list[str]]:
        definition, errors = normalise("layer", {"name": "x", "src": "x.tar", "limits": limits})
        return definition.layers[0].source.limits, errors

    assert read() == (UNLESS_SET, [])
    assert read(entries="7", bytes="2k", depth=3) == (Limits(7, 2048, 3), [])
    assert read(bytes=4096) == (Limits(bytes=4096), [])
    assert read(entries=0, bytes="much", deep=1) == (
        UNLESS_SET,
        [
            "layer x: limits: unknown option 'deep'; did you mean 'depth'?",
            "layer x: option 'limits.entries': 0 must be at least 1",
            "layer x: option 'limits.bytes': 'much' must be a number of bytes such as 512m or 2g",
        ],
    )
    assert normalise("layer", {"name": "x", "src": "x.tar", "limits": 5})[1] == [
        "layer x: option 'limits' must be a dictionary, not 5"
    ]


# Memory.

LONG = b"/".join([b"n" * 240] * 15) + b"/"
"""3,615 bytes; with a number behind it a name of its own."""


def whiteouts() -> Iterator[bytes]:
    for number in range(60_000):
        yield member(LONG + b".wh.%d" % number)


def late_links() -> Iterator[bytes]:
    for number in range(20_000):
        yield hardlink(LONG + b"%d" % number, LONG + b"to%d" % number)


def directories() -> Iterator[bytes]:
    for number in range(60_000):
        yield directory(LONG + b"%d" % number)


@pytest.fixture
def memory_directory() -> Iterator[str]:
    """A directory on a file system in memory, on which tens of thousands of directories take no time."""
    if not os.path.isdir("/dev/shm"):
        pytest.skip("needs /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield path
        remove_tree(path)
        os.mkdir(path)


@needs_root
@pytest.mark.parametrize(
    ("names", "apart"), [(whiteouts, False), (whiteouts, True), (late_links, False), (directories, False)]
)
def test_kept_names_are_refused_before_they_fill_the_memory(
    memory_directory: str, names: Callable[[], Iterator[bytes]], apart: bool
) -> None:
    """At the default limits."""
    top = f"{memory_directory}/top"
    os.mkdir(top)
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        # Of this process at its birth; what pytest has taken by now is no business of the test.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with writer_apart(top, False) if apart else contextlib.nullcontext() as relay:
                unpack(ChunkReader(names()).read, top, False, relay=relay)
        except StrataError as error:
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            theirs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before
            os.write(writer, f"{max(own, theirs if apart else 0) >> 10} {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        grown, _space, words = stream.read().partition(" ")
    os.waitpid(process, 0)
    assert re.search(r"take more than the limit of 134217728; .*'limits.memory'", words)
    assert int(grown) < 220, "MiB"


def test_replaced_link_is_counted_once() -> None:
    meter = Meter(Limits(memory=2_000))
    waiting = LateLinks(meter.keep)
    for _time in range(100):
        waiting.add(b"a", Entry(b"a", "hardlink", target=b"b"))
        waiting.replaced(b"a")
    for number in range(4):
        waiting.add(b"%d" % number, Entry(b"a", "hardlink", target=b"b"))
    with pytest.raises(StrataError, match=r"limits\.memory"):
        waiting.add(b"more", Entry(b"a", "hardlink", target=b"b"))


@pytest.mark.parametrize(("given", "found"), [("0", 0), ("10g", 10 << 30), (None, -1)])
def test_reserve_may_be_zero_and_is_unset_by_default(given: str | None, found: int) -> None:
    errors: list[str] = []
    assert read_limits({"reserve": given}, "layer a", errors).reserve == found
    assert errors == []


def test_smallest_reserve_of_several_layers_holds() -> None:
    layers = [Limits(reserve=5), Limits(), Limits(reserve=3)]
    assert least_reserve(layers).reserve == 3
    assert least_reserve([Limits()]).reserve == -1
