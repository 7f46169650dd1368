# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers as images, without a mount: what is on the disk, that it depends on the archive alone, and what is refused."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer import erofs, image_sparse
from ansible_collections.strata.overlay.plugins.module_utils._layer.image import make_image
from ansible_collections.strata.overlay.plugins.module_utils._layer.image_check import archive_of, image_state
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest, unpack
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import directory, member, symlink
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.hostile import CONFINED, REFUSED
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack_fuzz import rich_archive
from hypothesis import given, settings
from hypothesis import strategies as st

SUPERBLOCK = 1024


# On the disk


def test_checksum_is_the_crc_32c_of_rfc_3720() -> None:
    # Its test pattern of 32 zero bytes; the kernel does not invert the end.
    assert erofs._crc32c(bytes(32)) ^ 0xFFFFFFFF == 0x8A9136AA


def test_superblock_has_the_checksum_of_itself_without_it() -> None:
    head = erofs.superblock(0, 7, 99, 42, erofs.CHUNKED_FILE)
    assert len(head) == erofs.HEAD
    block = head[SUPERBLOCK : SUPERBLOCK + erofs.BLOCK]
    assert struct.unpack_from("<I", block, 4)[0] == erofs._crc32c(block[:4] + bytes(4) + block[8:])
    assert struct.unpack_from("<I", block) == (0xE0F5E1E2,)
    assert (block[12], struct.unpack_from("<I", block, 40)[0]) == (9, 42)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {b"user.a": b""},
        {b"user.a": b"123", b"trusted.overlay.opaque": b"y", b"security.capability": bytes(20)},
        {b"system.posix_acl_access": b"1", b"system.posix_acl_default": b"22"},
        {b"user." + b"n" * 250: b"v" * 65535},
    ],
)
def test_attributes_packed_and_unpacked_are_the_same(attributes: dict) -> None:  # type: ignore[type-arg]
    body = erofs.pack_xattrs(attributes)
    assert erofs.unpack_xattrs(body) == attributes
    assert len(body) == (12 + 4 * (erofs.xattr_count(body) - 1) if attributes else 0)


@pytest.mark.parametrize(
    "attributes", [{b"user.a": b"x" * 65536}, {b"system.other": b""}, {b"user.%d" % n: b"x" * 60000 for n in range(5)}]
)
def test_attributes_beyond_an_image_are_refused(attributes: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="attribute"):
        erofs.pack_xattrs(attributes)


def test_names_of_a_directory_are_packed_into_whole_blocks_in_order() -> None:
    names = [b"%03d" % number + b"n" * (number % 253) for number in range(300)]
    blocks = list(erofs.directory_blocks([(name, number, 1) for number, name in enumerate(names)]))
    found = []
    for block, used in blocks:
        count = struct.unpack_from("<H", block, 8)[0] // 12
        heads = [struct.unpack_from("<QHB", block, 12 * at) for at in range(count)]
        ends = [head[1] for head in heads[1:]] + [used]
        found += [block[head[1] : end] for head, end in zip(heads, ends, strict=True)]
    assert {len(block) for block, _used in blocks} == {erofs.BLOCK}
    assert found == names


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 5000), max_size=16, unique=True).map(sorted),
    st.sampled_from([1, 100, 512, 4096]),
    st.integers(0, 20000),
    st.integers(0, 8),
)
def test_chunks_of_a_sparse_file_hold_its_bytes(bounds: list[int], unit: int, more: int, bits: int) -> None:
    extents = [(start * unit, (stop - start) * unit) for start, stop in zip(bounds[::2], bounds[1::2], strict=False)]
    size = (sum(extents[-1]) if extents else 0) + more
    stored = sum(length for _offset, length in extents)
    runs = list(image_sparse.runs(size, extents, bits))
    assert sum(run.chunks for run in runs) == image_sparse.chunk_count(size, bits)
    assert covered(runs, size, extents, bits) == extents_of(extents)
    assert image_sparse.chunk_bits(size, extents) <= 31
    assert all(piece.stored >= 0 and piece.stored + piece.length <= stored for piece in pieces_of(size, extents, bits))


def pieces_of(size: int, extents: list[tuple[int, int]], bits: int) -> list[image_sparse.Piece]:
    return list(image_sparse.pieces(size, extents, bits))


def extents_of(extents: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Offset, stored offset and length of each run of data, with those that touch joined."""
    found: list[tuple[int, int, int]] = []
    stored = 0
    for offset, length in extents:
        found.append((offset, stored, length))
        stored += length
    return joined(found)


def joined(parts: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for offset, stored, length in sorted(parts):
        if found and sum(found[-1][::2]) == offset and found[-1][1] + found[-1][2] == stored:
            found[-1] = (found[-1][0], found[-1][1], found[-1][2] + length)
        elif length:
            found.append((offset, stored, length))
    return found


def covered(
    runs: list[image_sparse.Run], size: int, extents: list[tuple[int, int]], bits: int
) -> list[tuple[int, int, int]]:
    """The same of what chunks show: those left in place, and the pieces of copies put back where they belong."""
    chunk, at, copies = erofs.BLOCK << bits, 0, 0
    found: list[tuple[int, int, int]] = []
    places: list[int] = []
    for run in runs:
        if run.stored >= 0:
            assert run.stored % erofs.BLOCK == 0
            found.append((at, run.stored, min(run.chunks * chunk, size - at)))
        elif run.stored == image_sparse.COPIES:
            places += [at + number * chunk for number in range(run.chunks)]
            copies += run.chunks
        at += run.chunks * chunk
    end = 0
    for piece in pieces_of(size, extents, bits):
        assert piece.at >= end, "they are written one after the other"
        end = piece.at + piece.length
        while piece.length:
            number, inside = divmod(piece.at, chunk)
            length = min(piece.length, chunk - inside)
            found.append((places[number] + inside, piece.stored, length))
            piece = image_sparse.Piece(piece.at + length, piece.stored + length, piece.length - length)  # noqa: PLW2901
    return joined(found)


# The whole file


def image(data: bytes, path: Path, limits: Limits = Limits()) -> bytes:  # noqa: B008 a value
    make_image(io.BytesIO(data).read, str(path), limits)
    return path.read_bytes()


def test_image_holds_its_archive_unchanged_and_is_known_by_two_digests(tmp_path: Path) -> None:
    data = rich_archive() + bytes(777)
    found = make_image(io.BytesIO(data).read, str(tmp_path / "layer.erofs"))
    written = (tmp_path / "layer.erofs").read_bytes()
    end = erofs.HEAD + len(data)
    assert written[erofs.HEAD : end] == data
    assert (found.archive, found.diff_id) == (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")
    assert found == digest(io.BytesIO(data).read)
    rest = written[end:] + written[: erofs.HEAD]
    assert found.digest == hashlib.sha256(rest).hexdigest()
    assert len(written) % erofs.BLOCK == 0


def test_image_depends_on_nothing_but_the_archive(tmp_path: Path) -> None:
    data = rich_archive()
    first = image(data, tmp_path / "first.erofs")
    before = os.umask(0o077)
    try:
        (tmp_path / "deep/er").mkdir(parents=True)
        pieces = io.BytesIO(data)
        make_image(lambda size: pieces.read(min(size, 511)), str(tmp_path / "deep/er/second.erofs"))
    finally:
        os.umask(before)
    assert (tmp_path / "deep/er/second.erofs").read_bytes() == first


def test_image_of_a_known_archive_is_the_one_that_it_always_was(tmp_path: Path) -> None:
    """Images of earlier releases are checked against what this one would write: a new layout needs a new form."""
    found = make_image(io.BytesIO(KNOWN).read, str(tmp_path / "layer.erofs"))
    assert found.digest == KNOWN_DIGEST


KNOWN = (
    directory(b"a", mtime_ns=5)
    + member(b"a/f", b"1" * 600, xattrs={"user.a": b"1"})
    + symlink(b"a/l", b"t" * 500)
    + symlink(b"l", b"a/l")
    + member(b"b/.wh.gone")
    + END
)
KNOWN_DIGEST = "7fb52ec1ceee59ae104f136ff1b4859b5cd3d1863f0cc22bc5aef60655e94f3b"


def test_image_is_made_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (tmp_path / "layer.erofs").symlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError):
        image(END, tmp_path / "layer.erofs")
    assert (tmp_path / "other").read_text() == "kept"


def test_image_is_for_its_owner_alone(tmp_path: Path) -> None:
    image(END, tmp_path / "layer.erofs")
    assert oct((tmp_path / "layer.erofs").stat().st_mode) == "0o100600"


# Whether it is still the same


def test_image_as_it_was_written_is_sound(tmp_path: Path) -> None:
    data = rich_archive() + bytes(777)
    found = make_image(io.BytesIO(data).read, str(tmp_path / "layer.erofs"))
    state = image_state(str(tmp_path / "layer.erofs"), found.archive, str(tmp_path))
    assert state == (found.diff_id, "", found.digest)
    with archive_of(str(tmp_path / "layer.erofs"), found.archive).open() as stream:
        assert stream.read() == data


def test_damage_of_any_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "layer.erofs"
    found = make_image(io.BytesIO(KNOWN).read, str(path))
    written = path.read_bytes()
    places = {*range(0, len(written), 97), *range(SUPERBLOCK, SUPERBLOCK + 128, 5), len(written) - 1}
    for place in sorted(places):
        path.write_bytes(written[:place] + bytes([written[place] ^ 0x40]) + written[place + 1 :])
        state = image_state(str(path), found.archive, str(tmp_path))
        assert (state.diff_id, state.fault) != (found.diff_id, ""), place


@pytest.mark.parametrize("change", [-1, -512, 1, 4096])
def test_image_cut_short_or_grown_is_found(tmp_path: Path, change: int) -> None:
    path = tmp_path / "layer.erofs"
    found = make_image(io.BytesIO(KNOWN).read, str(path))
    os.truncate(path, path.stat().st_size + change)
    state = image_state(str(path), found.archive, str(tmp_path))
    assert state.diff_id == found.diff_id
    assert state.fault


def test_image_cut_short_in_its_archive_is_found(tmp_path: Path) -> None:
    path = tmp_path / "layer.erofs"
    found = make_image(io.BytesIO(KNOWN).read, str(path))
    os.truncate(path, erofs.HEAD + 1024)
    assert "cut short" in image_state(str(path), found.archive, str(tmp_path)).fault


# Refusals


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_archives_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StrataError, match=REFUSED[name].reason):
        image(REFUSED[name].archive, tmp_path / "layer.erofs")
    assert [path.name for path in tmp_path.iterdir()] == ["layer.erofs"]


@pytest.mark.parametrize("name", CONFINED)
def test_archives_that_point_outside_leave_nothing_there(tmp_path: Path, name: str) -> None:
    image(CONFINED[name].archive, tmp_path / "layer.erofs")
    assert [path.name for path in tmp_path.iterdir()] == ["layer.erofs"]


BEYOND = {
    "entries": (member(b"a/b/c/d"), Limits(entries=3)),
    "bytes": (member(b"a", b"1" * 600), Limits(bytes=1000)),
    "depth": (member(b"a/b/c/d"), Limits(depth=3)),
    "memory": (b"".join(directory(b"d%d" % number) for number in range(50)), Limits(memory=2000)),
    "late links": (b"".join(member(b"%d" % n, kind="hardlink", target=b"f") for n in range(50)), Limits(memory=2000)),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can unpack")
@pytest.mark.parametrize("name", BEYOND)
def test_limits_are_those_of_a_tree_in_the_same_words(tmp_path: Path, name: str) -> None:
    data, limits = BEYOND[name]
    (tmp_path / "tree").mkdir()
    with pytest.raises(StrataError) as tree:
        unpack(io.BytesIO(data + END).read, str(tmp_path / "tree"), False, limits)
    with pytest.raises(StrataError) as found:
        image(data + END, tmp_path / "layer.erofs", limits)
    assert str(found.value) == str(tree.value)


def test_reserve_of_the_file_system_is_kept(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    limits = Limits(reserve=free.f_bavail * free.f_frsize + (1 << 30))
    with pytest.raises(StrataError, match=r"nearly full.*limits\.reserve"):
        image(rich_archive(), tmp_path / "layer.erofs", limits)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = rich_archive()
    data = data[: data.rindex(b"fifo") + 512]
    for length in range(0, len(data), 256):
        with pytest.raises(StrataError, match="cut short|no tar archive"):
            image(data[:length], tmp_path / "layer.erofs")
        (tmp_path / "layer.erofs").unlink()


def test_errors_of_the_source_pass_through(tmp_path: Path) -> None:
    stream = io.BytesIO(rich_archive())

    def read(size: int) -> bytes:
        if stream.tell() > 1024:
            raise ConnectionResetError("gone")
        return stream.read(min(size, 512))

    with pytest.raises(ConnectionResetError, match="gone"):
        make_image(read, str(tmp_path / "layer.erofs"))
