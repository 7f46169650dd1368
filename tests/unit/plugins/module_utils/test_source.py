# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources are digested once, and again when anything about them changes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.files import InlineFile
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._source import digest_cache
from ansible_collections.strata.overlay.plugins.module_utils._source import source as source_module
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import (
    DigestCache,
    Digested,
    remembered,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.source import (
    blob_digest,
    check_digest,
    open_tar,
    read_source,
)


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    (tmp_path / "cache").mkdir()
    return DigestCache(str(tmp_path / "cache"), keep=True)


@pytest.fixture
def soon_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled after 50 ms, so that tests need not wait for seconds."""
    monkeypatch.setattr(digest_cache, "_FRESH_NS", 50 * 10**6)


def settle() -> None:
    time.sleep(0.06)


def tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def diff_id(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def archive(path: Path, content: bytes = b"12345") -> Source:
    path.write_bytes(tar(content))
    return Source("src", str(path))


def is_remembered(source: Source, cache: DigestCache) -> bool:
    return remembered(source, cache) is not None


# The cache.


@pytest.mark.usefixtures("soon_settled")
def test_settled_file_is_read_once(tmp_path: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    source = archive(tmp_path / "a.tar")
    settle()
    expected = Digested(diff_id(tar(b"12345")), 5)
    assert remembered(source, cache) is None
    assert read_source(source, cache) == expected
    assert remembered(source, cache) == expected
    # The proof that a hit opens nothing: there is nothing to open it with.
    monkeypatch.setattr(source_module, "open_tar", None)
    assert read_source(source, cache) == expected


@pytest.mark.usefixtures("soon_settled")
def test_cache_outlives_the_process_only_after_a_flush(tmp_path: Path, cache: DigestCache) -> None:
    source = archive(tmp_path / "a.tar")
    settle()
    found = read_source(source, cache)
    later = DigestCache(str(tmp_path / "cache"), keep=True)
    assert remembered(source, later) is None
    cache.flush()
    assert remembered(source, later) == found
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]


@pytest.mark.usefixtures("soon_settled")
def test_changed_byte_with_the_same_size_and_time_is_seen(tmp_path: Path, cache: DigestCache) -> None:
    path = tmp_path / "a.tar"
    source = archive(path, b"12345")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    settle()
    first = read_source(source, cache)
    archive(path, b"12346")
    os.utime(path, ns=times)
    settle()
    assert not is_remembered(source, cache)
    second = read_source(source, cache)
    assert (second.diff_id, second.size) == (diff_id(tar(b"12346")), first.size)


def test_file_that_has_just_changed_is_not_remembered(tmp_path: Path, cache: DigestCache) -> None:
    source = archive(tmp_path / "a.tar")
    assert read_source(source, cache).size == 5
    assert not is_remembered(source, cache)
    cache.flush()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("soon_settled")
def test_file_that_changes_while_read_is_not_remembered(
    tmp_path: Path, cache: DigestCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archive(tmp_path / "a.tar")
    settle()
    real = source_module.digest_tar

    def digest_and_touch(read: source_module.Read, limits: Limits) -> Digested:
        found = real(read, limits)
        os.utime(source.location, (1, 1))
        settle()
        return found

    monkeypatch.setattr(source_module, "digest_tar", digest_and_touch)
    read_source(source, cache)
    cache.flush()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("soon_settled")
def test_link_to_another_file_is_another_source(tmp_path: Path, cache: DigestCache) -> None:
    archive(tmp_path / "1.tar", b"1")
    archive(tmp_path / "2.tar", b"2")
    (tmp_path / "now").symlink_to("1.tar")
    source = Source("src", str(tmp_path / "now"))
    settle()
    read_source(source, cache)
    assert is_remembered(source, cache)
    (tmp_path / "now").unlink()
    (tmp_path / "now").symlink_to("2.tar")
    assert not is_remembered(source, cache)


def make_directory(top: Path) -> Source:
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "file").write_text("one")
    (top / "sub" / "deep" / "file").write_text("two")
    (top / "link").symlink_to("file")
    return Source("dir", str(top))


def change_content(top: Path) -> None:
    (top / "sub" / "deep" / "file").write_text("owt")


def add(top: Path) -> None:
    (top / "sub" / "deep" / "new").touch()


def remove(top: Path) -> None:
    (top / "file").unlink()


def rename(top: Path) -> None:
    (top / "file").rename(top / "elif")


def set_mode(top: Path) -> None:
    (top / "sub").chmod(0o700)


def set_target(top: Path) -> None:
    (top / "link").unlink()
    (top / "link").symlink_to("elif")


def set_mode_of_the_top(top: Path) -> None:
    top.chmod(0o700)


@pytest.mark.usefixtures("soon_settled")
@pytest.mark.parametrize("change", [change_content, add, remove, rename, set_mode, set_target, set_mode_of_the_top])
def test_directory_is_remembered_until_anything_in_it_changes(
    tmp_path: Path, cache: DigestCache, change: object
) -> None:
    source = make_directory(tmp_path / "top")
    settle()
    found = read_source(source, cache)
    assert remembered(source, cache) == found
    assert found.size == 6
    assert callable(change)
    change(tmp_path / "top")
    settle()
    assert not is_remembered(source, cache)


@pytest.mark.usefixtures("soon_settled")
def test_directory_is_not_changed_by_the_targets_of_its_links(tmp_path: Path, cache: DigestCache) -> None:
    source = make_directory(tmp_path / "top")
    (tmp_path / "outside").mkdir()
    (tmp_path / "top" / "out").symlink_to("../outside")
    settle()
    read_source(source, cache)
    (tmp_path / "outside" / "new").touch()
    settle()
    assert is_remembered(source, cache)


def inline(content: bytes, mode: int | None = None) -> Source:
    return Source("files", files=(InlineFile("a", "file", content, mode, 0, 0, "", False),))


def test_inline_files_are_remembered_by_content_and_mode(cache: DigestCache) -> None:
    found = read_source(inline(b"abc"), cache)
    assert found.size == 3
    assert remembered(inline(b"abc"), cache) == found
    assert not is_remembered(inline(b"abd"), cache)
    assert not is_remembered(inline(b"abc", 0o644), cache)


def test_cache_in_check_mode_writes_nothing(tmp_path: Path) -> None:
    cache = DigestCache(str(tmp_path), keep=False)
    cache.put("key", {"a": "b"})
    cache.flush()
    assert list(tmp_path.iterdir()) == []
    assert cache.get("key") == {"a": "b"}


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "\udcff"])
def test_damaged_cache_file_is_ignored_and_replaced(tmp_path: Path, cache: DigestCache, text: str) -> None:
    (tmp_path / "cache" / "key.json").write_bytes(os.fsencode(text))
    assert cache.get("key") is None
    cache.put("key", {"a": "b"})
    cache.flush()
    assert json.loads((tmp_path / "cache" / "key.json").read_text()) == {"a": "b"}


@pytest.mark.usefixtures("soon_settled")
@pytest.mark.parametrize("facts", [{"diff_id": "x"}, {"diff_id": "x", "size": "many"}, {"diff_id": "x", "size": None}])
def test_cache_file_with_malformed_facts_is_ignored(tmp_path: Path, cache: DigestCache, facts: dict[str, str]) -> None:
    source = archive(tmp_path / "a.tar")
    settle()
    found = read_source(source, cache)
    cache.flush()
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text(json.dumps(facts))
    assert not is_remembered(source, cache)
    assert read_source(source, cache) == found


def test_unwritable_cache_is_not_an_error(tmp_path: Path) -> None:
    cache = DigestCache(str(tmp_path / "none"), keep=True)
    cache.put("key", {"a": "b"})
    cache.flush()
    assert cache.get("key") is None


# Reading and checking.


def test_missing_source_is_an_error(tmp_path: Path, cache: DigestCache) -> None:
    with pytest.raises(FileNotFoundError):
        read_source(Source("src", str(tmp_path / "none")), cache)


@pytest.mark.parametrize("content", [b"", b"no archive at all", tar(b"x" * 2000)[:900]])
def test_source_that_is_not_a_whole_archive_is_refused(tmp_path: Path, cache: DigestCache, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(StrataError):
        read_source(Source("src", str(tmp_path / "a.tar")), cache)


def test_diff_id_of_a_compressed_source_is_that_of_its_tar(tmp_path: Path, cache: DigestCache) -> None:
    data = tar(b"12345")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data))
    source = Source("src", str(tmp_path / "a.tar.gz"))
    assert read_source(source, cache) == Digested(diff_id(data), 5)
    with open_tar(source) as read:
        assert b"".join(iter(lambda: read(100), b"")) == data


def test_opener_replaces_the_location_of_a_source() -> None:
    with open_tar(Source("url", "https://nowhere.invalid/a.tar"), lambda: io.BytesIO(tar(b"1"))) as read:
        assert read(4) == b"file"


def layer(source: Source, digest: str) -> LayerSpec:
    return LayerSpec("layer base", "base", source, digest)


def test_digest_may_be_that_of_the_tar_or_of_the_file(tmp_path: Path, cache: DigestCache) -> None:
    packed = gzip.compress(tar(b"12345"))
    (tmp_path / "a.tar.gz").write_bytes(packed)
    source = Source("src", str(tmp_path / "a.tar.gz"))
    found = read_source(source, cache)
    check_digest(layer(source, ""), found)
    check_digest(layer(source, found.diff_id), found)
    check_digest(layer(source, diff_id(packed)), found)
    wrong = diff_id(b"other")
    with pytest.raises(StrataError) as raised:
        check_digest(layer(source, wrong), found)
    assert str(raised.value) == (
        f"layer base: option 'digest': expected {wrong}, but {source.location} has DiffID {found.diff_id} and the file "
        f"itself {diff_id(packed)}; correct the digest if the source is the one you mean"
    )


def test_digest_is_checked_against_the_downloaded_file() -> None:
    packed = gzip.compress(tar(b"1"))
    source = Source("url", "https://nowhere.invalid/a.tar.gz")
    check_digest(layer(source, diff_id(packed)), Digested("sha256:other", 1, blob_digest(io.BytesIO(packed))))
    with pytest.raises(StrataError, match="has DiffID sha256:other and the file itself sha256:blob; correct"):
        check_digest(layer(source, diff_id(packed)), Digested("sha256:other", 1, "sha256:blob"))


def test_wrong_digest_of_a_directory_or_inline_files_is_refused(tmp_path: Path) -> None:
    for source, words in ((Source("dir", str(tmp_path)), f"directory {tmp_path}"), (Source("files"), "inline files")):
        with pytest.raises(StrataError, match=f"but {words} has DiffID sha256:found; correct the digest"):
            check_digest(layer(source, diff_id(b"x")), Digested("sha256:found", 1))
