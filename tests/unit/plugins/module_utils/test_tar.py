# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tar reader against GNU tar's and Python's archives, against damage, and the writer against both."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.header import (
    parse_records,
    read_number,
    read_time,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import (
    END,
    Entry,
    TarReader,
    header,
    padding,
)
from ansible_collections.strata.overlay.plugins.module_utils._archive.writer import sparse_map
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import patched, pax
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.hostile import DAMAGED, small

needs_gnu_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="GNU tar is not installed here")


def read(archive: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(archive).read)
    return [(entry, b"".join(reader.data())) for entry in reader]


def expand(entry: Entry, stored: bytes) -> bytes:
    if entry.sparse is None:
        return stored
    whole = bytearray(entry.size)
    for offset, length in entry.sparse:
        whole[offset : offset + length], stored = stored[:length], stored[length:]
    return bytes(whole)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "dir" / ("d" * 90) / ("e" * 90)).mkdir(parents=True)
    (top / "dir" / ("d" * 90) / ("e" * 90) / ("f" * 120)).write_bytes(b"deep")
    (top / "plain").write_bytes(b"content" * 1000)
    os.link(top / "plain", top / "second")
    os.symlink("t" * 150, top / "symlink")
    os.mkfifo(top / "fifo")
    os.utime(top / "plain", ns=(0, 1_234_567_890_123_456_789))
    (top / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"x")
    with open(top / "sparse", "wb") as sparse:
        for offset in (0, 200_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000):
            sparse.seek(offset)
            sparse.write(b"data at %d" % offset)
        sparse.truncate(9_000_000)
    return top


FORMATS = ["v7", "ustar", "oldgnu", "gnu", "posix"]
SPARSE = [
    ["--format=gnu", "--sparse"],
    *[[f"--sparse-version={v}", "--sparse", "--format=posix"] for v in ("0.0", "0.1", "1.0")],
]


@needs_gnu_tar
@pytest.mark.parametrize("options", [*[[f"--format={name}"] for name in FORMATS[3:]], *SPARSE], ids=" ".join)
def test_gnu_tar_archive_is_read_completely(tree: Path, options: list[str]) -> None:
    archive = subprocess.run(
        ["tar", "-C", str(tree), *options, "--sort=name", "-cf", "-", "."], stdout=subprocess.PIPE, check=True
    ).stdout
    found = {os.fsdecode(entry.name).strip("./"): (entry, stored) for entry, stored in read(archive)}
    deep = f"dir/{'d' * 90}/{'e' * 90}/{'f' * 120}"
    assert set(found) == {
        "", "dir", os.path.dirname(os.path.dirname(deep)), os.path.dirname(deep), deep,
        "plain", "second", "symlink", "fifo", "sparse", os.fsdecode(b"not-\xff-utf8"),
    }  # fmt: skip
    assert found[deep][1] == b"deep"
    assert found["symlink"][0].target == b"t" * 150
    assert found["fifo"][0].kind == "fifo"
    assert (found["second"][0].kind, found["second"][0].target) == ("hardlink", b"./plain")
    assert found["dir"][0].kind == "directory"
    entry, stored = found["sparse"]
    assert entry.size == 9_000_000
    assert (entry.sparse is not None) == ("--sparse" in options)
    assert expand(entry, stored) == (tree / "sparse").read_bytes()
    if "--format=posix" in options:
        assert found["plain"][0].mtime_ns == 1_234_567_890_123_456_789


@needs_gnu_tar
@pytest.mark.parametrize("name", FORMATS)
def test_short_names_are_read_in_every_tar_format(tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"abc")
    archive = subprocess.run(
        ["tar", "-C", str(tmp_path), f"--format={name}", "-cf", "-", "d"], stdout=subprocess.PIPE, check=True
    ).stdout
    assert [(entry.name, entry.kind, data) for entry, data in read(archive)] == [
        (b"d/", "directory", b""),
        (b"d/file", "file", b"abc"),
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_python_archive_is_read_in_every_format(form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        member = tarfile.TarInfo("dir/" + "n" * 90 + "/file")
        member.size, member.mtime, member.uid, member.mode = 3, 1234, 1000, 0o4755
        archive.addfile(member, io.BytesIO(b"abc"))
        device = tarfile.TarInfo("tty")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 4, 64
        archive.addfile(device)
    (file, data), (tty, _nothing) = read(buffer.getvalue())
    assert (file.name, file.mode, file.uid, file.mtime_ns, data) == (
        b"dir/" + b"n" * 90 + b"/file", 0o4755, 1000, 1234 * 10**9, b"abc",
    )  # fmt: skip
    assert (tty.kind, tty.device) == ("char", (4, 64))


def test_large_and_negative_numbers_are_read() -> None:
    assert read_number(b"\x80" + bytes(6) + b"\x07") == 7
    assert read_number(b"\xff" * 8) == -1
    assert read_number(b"  755 \0") == 0o755
    assert read_number(bytes(8)) == 0
    assert read_time(b"1.5") == 1_500_000_000
    assert read_time(b"-1.25") == -1_250_000_000
    assert read_time(b"0.1234567899") == 123_456_789
    block = patched(header(Entry(b"old", "file")), 136, b"\xff" * 11 + b"\xfe")
    assert read(block + END)[0][0].mtime_ns == -2 * 10**9


def test_pax_records_override_headers_and_global_ones_stay() -> None:
    archive = (
        pax((b"uid", b"4000000000"), (b"mtime", b"7"), flag=b"g")
        + small(b"first")
        + pax((b"path", b"long"), (b"mtime", b"-3.000000001"), (b"uid", b""), (b"SCHILY.xattr.user.a%3Db", b"\0\n="))
        + small(b"short")
        + small(b"third")
        + END
    )
    first, second, third = (entry for entry, _data in read(archive))
    assert (first.name, first.uid, first.mtime_ns) == (b"first", 4_000_000_000, 7 * 10**9)
    assert (second.name, second.uid, second.mtime_ns) == (b"long", 0, -3_000_000_001)
    assert second.xattrs == {"user.a=b": b"\0\n="}
    assert (third.uid, third.xattrs) == (4_000_000_000, {})


def test_only_records_that_matter_are_kept_of_global_headers() -> None:
    """Each record that is kept costs time with every entry that follows."""
    archive = b"".join(pax((b"comment.%d" % n, b"x" * 1000), (b"uid", b"%d" % n), flag=b"g") for n in range(50))
    reader = TarReader(io.BytesIO(archive + small() + END).read)
    assert [entry.uid for entry in reader] == [49]
    assert reader._globals == {b"uid": b"49"}


def test_libarchive_attributes_are_read() -> None:
    archive = pax((b"LIBARCHIVE.xattr.user.x%20y", b"aGk")) + small() + END
    assert read(archive)[0][0].xattrs == {"user.x y": b"hi"}


def test_entry_type_without_data_has_none_whatever_its_size() -> None:
    link = patched(header(Entry(b"link", "hardlink", target=b"name")), 124, b"00000000777\0")
    assert [entry.kind for entry, _data in read(small(b"name", b"abc") + link + END)] == ["file", "hardlink"]


SIZED = {
    "directory": patched(header(Entry(b"app/", "directory", 0o755)), 124, b"00000010000\0"),
    "directory without slash": patched(small(b"app"), 124, b"00000010000\0" + b"1700000000\0\0" + b" " * 8 + b"5"),
    "old directory": patched(small(b"app/"), 124, b"00000010000\0" + b"1700000000\0\0" + b" " * 8 + b"\0"),
    "file with a slash": patched(small(b"app/"), 124, b"00000010000\0"),
    "contiguous file with a slash": patched(
        small(b"app/"), 124, b"00000010000\0" + b"1700000000\0\0" + b" " * 8 + b"7"
    ),
    "hard link": patched(header(Entry(b"app", "hardlink", 0o644, target=b"f0")), 124, b"00000010000\0"),
    "link": patched(header(Entry(b"app", "symlink", 0o777, target=b"f0")), 124, b"00000010000\0"),
    "device": patched(header(Entry(b"app", "char", 0o644, device=(1, 3))), 124, b"00000010000\0"),
    "fifo": patched(header(Entry(b"app", "fifo", 0o644)), 124, b"00000010000\0"),
}
"""Entries without data of which the header says that they have 4096 bytes."""


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("where", ["header", "record", "record for all"])
def test_entry_without_data_with_a_size_swallows_nothing(name: str, where: str, tmp_path: Path) -> None:
    """As GNU tar unpacks it, and, of the header's own size, bsdtar."""
    files = [small(b"f%d" % number, b"abc") for number in range(4)]
    entry = SIZED[name]
    if where == "record":
        entry = pax((b"size", b"4096")) + patched(entry, 124, b"00000000000\0")
    elif where == "record for all":
        files = [pax((b"size", b"3")) + file for file in files]
        entry = pax((b"size", b"4096"), flag=b"g") + entry
    archive = files[0] + entry + b"".join(files[1:]) + END
    found = read(archive)
    assert [entry.name.rstrip(b"/") for entry, _data in found] == [b"f0", b"app", b"f1", b"f2", b"f3"]
    assert [data for _entry, data in found] == [b"abc", b"", b"abc", b"abc", b"abc"]
    assert found[1][0].size == 0
    for program in ("tar", "bsdtar"):
        # bsdtar takes a record's word for it, which neither GNU tar nor Go does.
        if shutil.which(program) and (program == "tar" or where == "header"):
            top = tmp_path / program
            top.mkdir()
            subprocess.run([program, "-C", top, "-xf", "-"], input=archive, check=True)
            assert sorted(path.name for path in top.iterdir()) == ["app", "f0", "f1", "f2", "f3"]
            assert (top / "app").is_dir() == (found[1][0].kind == "directory")


def test_incremental_directory_has_data() -> None:
    archive = patched(small(b"d/", b"Yf0\0\0")[:512], 156, b"D") + b"Yf0\0\0".ljust(512, b"\0") + small(b"d/f0") + END
    assert [(entry.kind, entry.size, data) for entry, data in read(archive)] == [
        ("directory", 0, b"Yf0\0\0"),
        ("file", 0, b""),
    ]


def test_contiguous_files_and_old_directories_are_recognised() -> None:
    archive = patched(small(b"seven", b"7")[:512], 156, b"7") + b"7" + bytes(511)
    archive += patched(small(b"old/"), 156, b"\0") + END
    assert [(entry.kind, data) for entry, data in read(archive)] == [("file", b"7"), ("directory", b"")]


def test_entry_of_an_unknown_type_is_read_as_a_file() -> None:
    archive = patched(small(b"odd", b"data")[:512], 156, b"Q") + b"data" + bytes(508) + small(b"next") + END
    (odd, data), (following, _data) = read(archive)
    assert (odd.kind, odd.unknown_type, data) == ("file", "Q", b"data")
    assert (following.name, following.unknown_type) == (b"next", "")


@pytest.mark.parametrize(("flag", "reason"), [(b"A", "access list in the form of Solaris"), (b"M", "another volume")])
def test_entry_that_says_something_of_another_is_refused(flag: bytes, reason: str) -> None:
    with pytest.raises(StrataError, match=reason):
        read(patched(small(b"odd", b""), 156, flag) + END)


def test_second_pax_header_replaces_the_first() -> None:
    archive = pax((b"path", b"a"), (b"uid", b"7")) + pax((b"mtime", b"9")) + small(b"name") + END
    ((entry, _data),) = read(archive)
    assert (entry.name, entry.uid, entry.mtime_ns) == (b"name", 0, 9 * 10**9)


def test_pax_numbers_may_have_leading_zeros() -> None:
    archive = pax((b"size", b"0" * 30 + b"4"), (b"uid", b"00"), (b"mtime", b"-0001.5")) + small(b"x", b"data") + END
    ((entry, data),) = read(archive)
    assert (data, entry.uid, entry.mtime_ns) == (b"data", 0, -1_500_000_000)


def test_length_of_a_pax_record_may_have_leading_zeros() -> None:
    record = b" path=zeros\n"
    length = b"%030d" % (30 + len(record))
    assert parse_records(length + record) == [(b"path", b"zeros")]


def test_unread_data_is_skipped() -> None:
    reader = TarReader(io.BytesIO(small(b"a", b"x" * 5000) + small(b"b") + END).read)
    assert [entry.name for entry in reader] == [b"a", b"b"]


def test_seeking_over_data_finds_the_same_entries() -> None:
    sizes = (0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 5_000_000, 3)
    archive = b"".join(small(b"%d" % size, b"x" * size) for size in sizes) + small_archive()

    def walk(data: bytes, leaping: bool) -> list[tuple[Entry, int]]:
        stream = io.BytesIO(data)
        reader = TarReader(stream.read, (lambda length: stream.seek(length, 1)) if leaping else None)
        return [(entry, reader.position) for entry in reader]

    assert walk(archive, leaping=True) == walk(archive, leaping=False)
    for cut in (100, 3_000_000, len(archive) - 5000, len(archive) - len(END)):
        for leaping in (True, False):
            with pytest.raises(StrataError, match="cut short"):
                walk(archive[:cut], leaping)


@pytest.mark.parametrize("ending", [END, END[:512], END + bytes(9216), END[:512] + bytes(100)])
def test_archive_with_any_valid_ending_is_read_to_its_end(ending: bytes) -> None:
    stream = io.BytesIO(small() + ending)
    assert [entry.name for entry in TarReader(stream.read)] == [b"name"]
    assert not stream.read(), "a digest made while reading has to cover all"


@pytest.mark.parametrize(
    "ending", [b"", END[:512], END, END + b"more", END + small(b"never"), END[:512] + bytes(100)], ids=str
)
def test_archive_with_a_known_digest_may_have_any_ending(ending: bytes) -> None:
    stream = io.BytesIO(small(b"name", b"x") + ending)
    assert [entry.name for entry in TarReader(stream.read, pinned=True)] == [b"name"]
    assert not stream.read(), "a digest made while reading has to cover all"


def test_empty_file_with_a_known_digest_is_an_archive() -> None:
    assert list(TarReader(io.BytesIO(b"").read, pinned=True)) == []


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (small(b"a", b"x" * 1000)[:1000], "cut short"),
        (small(b"a", b"x")[:700], "cut short"),
        (small(b"a")[:300], "cut short"),
        (pax((b"path", b"p")), "cut short"),
        (small(b"a") + END[:512] + small(b"b") + END, "more than zeros"),
        (small(b"a") + b"noise" * 200, "no valid header"),
    ],
)
def test_damaged_archive_with_a_known_digest_is_refused(archive: bytes, reason: str) -> None:
    with pytest.raises(StrataError, match=reason):
        for _entry in TarReader(io.BytesIO(archive).read, pinned=True):
            pass


def small_archive() -> bytes:
    return (
        pax((b"path", b"p" * 300))
        + small(b"x", b"content" * 100)
        + patched(header(Entry(b"././@LongLink", "file", size=120)), 156, b"L") + b"l" * 119 + bytes(393)
        + small(b"y")
        + header(Entry(b"link", "symlink", target=b"y"))
        + END
    )  # fmt: skip


def cuts() -> Iterator[int]:
    length = len(small_archive()) - len(END)
    yield from range(0, length + 1, 512)
    yield from (1, 100, 511, 513, 700, 1025, 1600, length - 1, length + 1, length + 511)


@pytest.mark.parametrize("cut", list(cuts()))
def test_every_truncation_is_noticed(cut: int) -> None:
    with pytest.raises(StrataError, match="cut short|no tar archive"):
        read(small_archive()[:cut])


def test_each_damaged_header_byte_is_noticed() -> None:
    whole = small_archive()
    last = len(whole) - 1536
    for at in (*range(0, 148, 37), *range(156, 512, 37), *range(last, last + 148, 41), last + 157):
        damaged = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        with pytest.raises(StrataError):
            read(damaged)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archive_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(StrataError, match=DAMAGED[name].reason):
        read(DAMAGED[name].archive)


ENTRIES = [
    Entry(b"file", "file", 0o4755, 1, 2, size=5, mtime_ns=10**18),
    Entry(b"d/" * 60, "directory", 0o700),
    Entry(b"n" * 150, "file", 0o644),
    Entry(b"\xff" * 150, "file", 0o644),
    Entry(b"p/" * 50 + b"n" * 100, "file", 0o644),
    Entry(b"big ids", "file", 0o644, uid=3_000_000_000, gid=2_097_152),
    Entry(b"odd time", "file", 0o644, mtime_ns=-1_500_000_000),
    Entry(b"fine time", "file", 0o644, mtime_ns=1_000_000_001),
    Entry(b"link", "symlink", 0o777, target=b"t" * 400),
    Entry(b"other", "hardlink", 0o644, target=b"file"),
    Entry(b"tty", "char", 0o620, device=(4, 64)),
    Entry(b"disk", "block", 0o660, device=(259, 1)),
    Entry(b"pipe", "fifo", 0o600),
    Entry(b"caps", "file", 0o755, xattrs={"security.capability": bytes(range(20)), "user.%=": b""}),
]


def test_written_entries_are_read_back_the_same() -> None:
    archive = b"".join(header(entry) + b"x" * entry.size + padding(entry.size) for entry in ENTRIES) + END
    assert [entry for entry, _data in read(archive)] == ENTRIES


def test_python_reads_written_entries() -> None:
    archive = b"".join(header(entry) + b"x" * entry.size + padding(entry.size) for entry in ENTRIES) + END
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        members = opened.getmembers()
    assert [os.fsencode(member.name) for member in members] == [entry.name.rstrip(b"/") for entry in ENTRIES]
    assert [(member.uid, member.gid, member.mode) for member in members] == [(e.uid, e.gid, e.mode) for e in ENTRIES]
    assert [os.fsencode(member.linkname) for member in members] == [entry.target for entry in ENTRIES]


@needs_gnu_tar
def test_gnu_tar_reads_written_entries() -> None:
    archive = b"".join(header(entry) + b"x" * entry.size + padding(entry.size) for entry in ENTRIES) + END
    listing = subprocess.run(
        ["tar", "--quoting-style=literal", "-tf", "-"], input=archive, stdout=subprocess.PIPE, check=True
    ).stdout
    assert listing.split(b"\n")[:-1] == [entry.name for entry in ENTRIES]


def test_written_sparse_entry_is_read_as_it_was() -> None:
    entry = Entry(b"s", "file", size=9000, sparse=[(0, 3), (8000, 2)])
    stream = io.BytesIO(header(entry) + sparse_map(entry) + b"abcde" + padding(5) + END)
    reader = TarReader(stream.read)
    (found,) = [(each, b"".join(reader.data())) for each in reader]
    assert found == (entry, b"abcde")
