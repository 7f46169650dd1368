# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A layer's source -> its tar stream and digests. The same code runs on the controller and on the host."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass
from typing import IO, Callable, ContextManager, Dict, Iterator, List, Mapping, Optional

from ansible_collections.strata.overlay.plugins.module_utils._chain import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._compress import open_stream
from ansible_collections.strata.overlay.plugins.module_utils._definition import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._origin import Origin, describe
from ansible_collections.strata.overlay.plugins.module_utils._pack import ChunkReader, pack_directory, pack_files
from ansible_collections.strata.overlay.plugins.module_utils._unpack import digest

Read = Callable[[int], bytes]

_FRESH_NS = 2 * 10**9
"""A file changed less than this before it was read may change again within one tick of its clock: not remembered."""


@dataclass(frozen=True)
class Digested:
    """A source that has been read to its end.

    :ivar size: bytes of the regular files in it.
    """

    diff_id: str
    size: int


@contextlib.contextmanager
def open_tar(source: Source, stream: Optional[IO[bytes]] = None) -> Iterator[Read]:
    """The read function of a source's uncompressed tar.

    :param stream: an archive that is open already, in place of the one at the source's location.
    """
    if source.kind == "files":
        yield ChunkReader(pack_files(source.files)).read
    elif source.kind == "dir":
        yield ChunkReader(pack_directory(source.location)).read
    else:
        with contextlib.ExitStack() as stack:
            raw = stream or stack.enter_context(open(source.location, "rb"))
            yield stack.enter_context(open_stream(raw)).read


def open_origin(origin: Origin) -> ContextManager[Read]:
    """The read function of the uncompressed tar that a content is unpacked from."""
    if origin.stream is not None:
        origin.stream.seek(0)
    return open_tar(origin.source, origin.stream)


def read_source(source: Source, cache: DigestCache) -> Digested:
    """Digest a path or inline files, reading only what has changed since the cache saw it.

    StrataError says what is wrong with the archive or directory.
    """
    if source.kind == "files":
        with open_tar(source) as read:
            return digest_tar(read)
    key = _identity(source)
    known = _recall(key, cache)
    if known is not None:
        return known
    with open_tar(source) as read:
        found = digest_tar(read)
    if key and key == _identity(source):
        cache.put(key, {"diff_id": found.diff_id, "size": str(found.size)})
    return found


def remembered(source: Source, cache: DigestCache) -> Optional[Digested]:
    """What the cache knows of a path as it is now, without reading it; None where it knows nothing."""
    return None if source.kind == "files" else _recall(_identity(source), cache)


def _recall(key: str, cache: DigestCache) -> Optional[Digested]:
    known = cache.get(key) if key else None
    try:
        return Digested(known["diff_id"], int(known["size"])) if known else None
    except (KeyError, TypeError, ValueError):
        return None


def digest_tar(read: Read) -> Digested:
    """Walk a tar to its end without unpacking it."""
    unpacked = digest(read)
    return Digested(unpacked.diff_id, unpacked.size)


def blob_digest(stream: IO[bytes]) -> str:
    """The digest of an archive as it lies there, compressed or not."""
    state = hashlib.sha256()
    for chunk in iter(lambda: stream.read(1 << 20), b""):
        state.update(chunk)
    return SHA256 + state.hexdigest()


def check_digest(layer: LayerSpec, found: Digested, stream: Optional[IO[bytes]] = None) -> None:
    """Hold a layer's ``digest`` against its DiffID and, for an archive, against the file as it lies there."""
    if not layer.digest or layer.digest == found.diff_id:
        return
    blob = ""
    if layer.source.kind in ("src", "url"):
        with contextlib.ExitStack() as stack:
            raw = stream or stack.enter_context(open(layer.source.location, "rb"))
            raw.seek(0)
            blob = blob_digest(raw)
    if layer.digest != blob:
        file_part = f" and the file itself {blob}" if blob else ""
        raise StrataError(
            f"{layer.where}: option 'digest': expected {layer.digest}, but {describe(layer.source)} has DiffID "
            f"{found.diff_id}{file_part}; correct the digest if the source is the one you mean"
        )


def _identity(source: Source) -> str:
    """A key that changes when the source does: names, sizes, times and inodes; "" where it may not be relied on."""
    state = hashlib.sha256(f"{source.kind}\0{os.path.abspath(source.location)}".encode("utf-8", "surrogateescape"))
    newest = 0
    for path in _walk(source.location):
        facts = os.lstat(path)
        newest = max(newest, facts.st_mtime_ns, facts.st_ctime_ns)
        line = (facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev)
        state.update(os.fsencode(path) + f"\0{line}\0".encode())
    return "" if time.time_ns() - newest < _FRESH_NS else state.hexdigest()


def _walk(top: str) -> Iterator[str]:
    yield os.path.realpath(top)
    pending: List[str] = [top] if os.path.isdir(top) else []
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                yield entry.path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


class DigestCache:
    """Facts by key, one small JSON file each. ``keep=False`` never writes, as in check mode."""

    def __init__(self, directory: str, keep: bool) -> None:
        self._directory = directory
        self._keep = keep
        self._new: Dict[str, Mapping[str, str]] = {}

    def get(self, key: str) -> Optional[Mapping[str, str]]:
        """What was put under the key, None where nothing is or where the file can't be read."""
        if key in self._new:
            return self._new[key]
        try:
            with open(self._path(key), encoding="utf-8") as stream:
                found = json.load(stream)
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, key: str, facts: Mapping[str, str]) -> None:
        """Remember; on disk after ``flush``."""
        self._new[key] = facts

    def flush(self) -> None:
        """Write what is new. A cache that cannot be written costs time and nothing else, so that is no error."""
        if not self._keep:
            return
        for key, facts in self._new.items():
            staged = f"{self._path(key)}.{secrets.token_hex(4)}"
            with contextlib.suppress(OSError):
                with open(staged, "x", encoding="utf-8") as stream:
                    json.dump(facts, stream)
                os.replace(staged, self._path(key))
        self._new = {}

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, f"{key}.json")
