# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives that nobody would think of: nothing outside the layer is touched, errors are in words."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import Unpacked, digest, unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux.rmtree import remove_tree
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack import facts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set owners, devices and trusted attributes")

# FUZZ=100 looks a hundred times longer than the suite has time for.
TIMES = int(os.environ.get("FUZZ", "1"))
LIMITS = Limits(entries=2000, bytes=10 << 20, depth=64)
LINKS = ["canary", "../canary", "../../canary", "/canary", ".", "..", "a", "a/b", "/", "b"]
PARTS = ["a", "b", "c", "canary", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..", ".wh.", "\udcff"]
PLAIN = ["a", "b", "c"]


@dataclass(frozen=True)
class Part:
    """One entry of an archive: a type as tar has it, a name, where it points, what is in it.

    :ivar claimed: the size that it is said to have where it is no file, in the header or, below zero, in a record.
    """

    kind: bytes
    name: str
    target: str = ""
    content: bytes = b""
    claimed: int = 0


OLD_DIRECTORY = tarfile.AREGTYPE
"""As tar wrote directories before there was a type for them: by a slash at the end of the name."""

kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, OLD_DIRECTORY, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)
claims = st.sampled_from([0, 3, 512, 4096, 1 << 40, -512, -4096])
names = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join)
parts = st.builds(Part, kinds, names, st.one_of(st.sampled_from(LINKS), names), st.binary(max_size=40), claims)
plain_names = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=3).map("/".join)
plain_kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, OLD_DIRECTORY])
plain_parts = st.builds(Part, plain_kinds, plain_names, st.just(""), st.binary(max_size=40), claims)


def archive(entries: list[Part]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as writer:
        for entry in entries:
            member = tarfile.TarInfo(entry.name + "/" * (entry.kind == OLD_DIRECTORY))
            member.type, member.linkname, member.mode = entry.kind, entry.target, 0o755
            if entry.kind == tarfile.REGTYPE:
                member.size = len(entry.content)
                writer.addfile(member, io.BytesIO(entry.content))
            else:
                member.size = max(entry.claimed, 0)
                member.pax_headers = {"size": str(-entry.claimed)} if entry.claimed < 0 else {}
                writer.addfile(member)
    return stream.getvalue()


def rich_archive() -> bytes:
    """A sound archive with something of everything that the reader knows."""
    long = "long/" + "n" * 120
    entries = [
        Part(tarfile.DIRTYPE, "a"),
        Part(tarfile.REGTYPE, "a/b", content=b"content" * 100),
        Part(tarfile.LNKTYPE, "a/c", "a/b"),
        Part(tarfile.SYMTYPE, "b", "../../canary"),
        Part(tarfile.REGTYPE, long, content=b"x"),
        Part(tarfile.REGTYPE, "\u00e4/\udcff", content=b"y"),
        Part(tarfile.REGTYPE, "c/.wh.gone"),
        Part(tarfile.REGTYPE, "d/.wh..wh..opq"),
        Part(tarfile.FIFOTYPE, "fifo"),
    ]
    return archive(entries)


@contextmanager
def beside_a_canary() -> Iterator[Path]:
    """A directory to unpack into, beside one that must not change."""
    with tempfile.TemporaryDirectory() as directory:
        top, canary = Path(directory, "top"), Path(directory, "canary")
        top.mkdir()
        canary.mkdir()
        (canary / "file").write_text("untouched")
        os.utime(canary, ns=(1, 1))
        before = facts(canary)
        try:
            yield top
        finally:
            assert facts(canary) == before
            assert sorted(path.name for path in Path(directory).iterdir()) == ["canary", "top"]
            remove_tree(str(top))


def timeless(top: Path) -> dict[bytes, tuple[object, ...]]:
    """Facts without times: directories that no entry stands for have that of their making."""
    return {path: (*known[:2], *known[3:]) for path, known in facts(top).items()}


def unpacked(data: bytes, top: Path) -> Unpacked | None:
    """None where it is refused; any error but one in words is a mistake of ours."""
    try:
        found = unpack(io.BytesIO(data).read, str(top), False, LIMITS)
    except StrataError:
        return None
    assert not [path for path in top.rglob("*") if path.name.startswith(".wh.")]
    return found


@settings(max_examples=300 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(parts, max_size=12))
def test_any_archive_unpacks_the_same_and_stays_inside_the_top(entries: list[Part]) -> None:
    data = archive(entries)
    with beside_a_canary() as first, beside_a_canary() as second:
        found = unpacked(data, first)
        again = unpacked(data, second)
        assert found == again, "the same archive gives the same"
        if found is not None:
            assert timeless(first) == timeless(second)
            assert found.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
            assert digest(io.BytesIO(data).read, LIMITS) == found, "what can be unpacked can be digested"


@settings(max_examples=200 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(plain_parts, max_size=15))
def test_unpacked_files_and_directories_match_a_simple_model(entries: list[Part]) -> None:
    model: dict[str, bytes | None] | None = {}
    for entry in entries:
        model = modelled(model, entry)
    with beside_a_canary() as top:
        assert (unpacked(archive(entries), top) is None) == (model is None)
        shown = {
            str(path.relative_to(top)): None if path.is_dir() else path.read_bytes() for path in sorted(top.rglob("*"))
        }
        assert model is None or shown == model


def modelled(model: dict[str, bytes | None] | None, entry: Part) -> dict[str, bytes | None] | None:
    """Files by content, directories as None; None for a tree with an entry below what is no directory."""
    if model is None:
        return None
    above = entry.name.split("/")[:-1]
    found = dict(model)
    for depth in range(1, len(above) + 1):
        if found.setdefault("/".join(above[:depth]), None) is not None:
            return None
    is_file = entry.kind == tarfile.REGTYPE
    if is_file or found.get(entry.name, b"") is not None:
        found = {path: content for path, content in found.items() if not path.startswith(f"{entry.name}/")}
        found[entry.name] = entry.content if is_file else None
    return found


RICH = rich_archive()
damages = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "cut", "swap"]), st.integers(0, len(RICH)), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(damages, st.booleans())
def test_archive_damaged_anywhere_raises_only_a_strata_error(changes: list[tuple[str, int, bytes]], fix: bool) -> None:
    data = bytearray(RICH)
    for how, at, piece in changes:
        if how == "set":
            data[at : at + len(piece)] = piece
        elif how == "insert":
            data[at:at] = piece
        elif how == "cut":
            del data[at : at + 512]
        else:
            block = at // 512 * 512
            data[block : block + 1024] = data[block + 512 : block + 1024] + data[block : block + 512]
    if fix:
        # With right checksums the damage gets further than the first test of a header.
        for start in range(0, len(data) - 511, 512):
            header = data[start : start + 512]
            if header[257:262] == b"ustar":
                header[148:156] = b" " * 8
                data[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    with beside_a_canary() as top:
        unpacked(bytes(data), top)


def test_archive_cut_before_the_end_of_its_last_entry_is_refused() -> None:
    """At each 512 bytes and around them: only what ends behind the last entry is whole."""
    with tarfile.open(fileobj=io.BytesIO(RICH)) as reader:
        last = reader.getmembers()[-1]
        end = last.offset_data + 512
    for length in sorted({at + step for at in range(0, len(RICH), 512) for step in (-1, 0, 1) if at + step >= 0}):
        with beside_a_canary() as top:
            assert (unpacked(RICH[:length], top) is not None) == (length >= end), length
