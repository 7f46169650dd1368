# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Remembers a source's DiffID for as long as the source is unchanged. Reads no archive."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import LISTED_BY_LINK
from ansible_collections.strata.overlay.plugins.module_utils._linux.walk import walk

_FRESH_NS = 2 * 10**9
"""A file changed less than this before it was read may change again within one tick of its clock: not remembered."""

_DIFF_IDS = re.compile(r"sha256:[0-9a-f]{64}")

_RECORD = ".json"

PACKING = 2
"""Part of every key; one more whenever `_layer/pack`, `_layer/select` or `_archive/zip_archive` makes other bytes of
the same input."""


@dataclass(frozen=True)
class Digested:
    """A source that has been read to its end.

    :ivar size: bytes of the regular files in it.
    :ivar blob: digest of the archive as it lies where it comes from; "" where that is not known.
    :ivar source_digest: of what was packed with its times, DiffID of the same with fixed ones; else "".
    :ivar left_out: what is no part of the layer though it is in the source, as sentences.
    """

    diff_id: str
    size: int
    blob: str = ""
    source_digest: str = ""
    left_out: tuple[str, ...] = ()

    def facts(self) -> dict[str, str]:
        """What the cache remembers of it, without ``blob``."""
        more = {"source_digest": self.source_digest, "left_out": "\n".join(self.left_out)}
        return {"diff_id": self.diff_id, "size": str(self.size), **{key: text for key, text in more.items() if text}}


def remembered(source: Source, cache: DigestCache) -> Optional[Digested]:
    """What the cache knows of a source as it is now, without reading it; None where it knows nothing."""
    return recall(source_key(source), cache)


def recall(key: str, cache: DigestCache) -> Optional[Digested]:
    """The same by the source's key."""
    known = cache.get(key) if key else None
    try:
        return digested(known) if known else None
    except (KeyError, TypeError, ValueError):
        return None


def digested(facts: Mapping[str, str]) -> Digested:
    """What a cache remembers of a source that was read.

    :raises KeyError, TypeError, ValueError: it keeps something else.
    """
    left_out = tuple(facts.get("left_out", "").splitlines())
    return Digested(
        facts["diff_id"], int(facts["size"]), facts.get("blob", ""), facts.get("source_digest", ""), left_out
    )


def source_key(source: Source) -> str:
    """A key that changes when the source does: names, sizes, times and inodes; "" where it may not be relied on."""
    if source.kind == "files":
        text = f"files\0{PACKING}\0{source.times}\0{source.files!r}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    text = f"{source.kind}\0{PACKING}\0{source.times}\0{os.path.abspath(source.location)}"
    text += "\0pinned" if source.pinned else ""  # read with less strictness than without a digest
    text += f"\0{source.selection!r}" if source.selection else ""
    state = hashlib.sha256(text.encode("utf-8", "surrogateescape"))
    newest = 0
    for path, facts in _facts(source.location):
        newest = max(newest, facts.st_mtime_ns, facts.st_ctime_ns)
        line = (facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev)
        state.update(os.fsencode(path) + f"\0{line}\0".encode())
    return "" if time.time_ns() - newest < _FRESH_NS else state.hexdigest()


def _facts(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Of a source and all that is in it: how deep it lies with its name, and what stat(2) says."""
    yield top, os.stat(top)
    if os.path.isdir(top):
        descriptor = os.open(top, LISTED_BY_LINK)
        try:
            for item in walk(descriptor, partial(_fail, top), mounts=True):
                yield f"{item.depth}/{item.name}", item.facts
        finally:
            os.close(descriptor)


def _fail(top: str, path: str, why: str) -> None:
    raise StrataError(f"{top}/{path} cannot be read: {why}")


class DigestCache:
    """Facts by key, one small JSON file each. ``keep=False`` never writes, as in check mode."""

    def __init__(self, directory: str, keep: bool) -> None:
        self._directory = directory
        self._keep = keep
        self._new: dict[str, Mapping[str, str]] = {}

    def get(self, key: str) -> Optional[Mapping[str, str]]:
        """What was put under the key, None where nothing is or where the file can't be read."""
        if key in self._new:
            return self._new[key]
        try:
            with open(self._path(key), "rb", buffering=0) as stream:
                found = json.loads(stream.read())
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
            staged = f"{self._path(key)}.{os.urandom(4).hex()}"
            try:
                with open(staged, "x", encoding="utf-8") as stream:
                    json.dump(facts, stream)
                os.replace(staged, self._path(key))
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(staged)
        self._new = {}

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, key + _RECORD)


def is_record(name: str) -> bool:
    """Whether a file of a cache's directory is a record; a file left half-written by a killed run is not."""
    return name.endswith(_RECORD)


def told_of(text: str) -> tuple[str, ...]:
    """Every DiffID in a record of a cache: that of a layer's archive has one, that of an image's as many as layers."""
    return tuple(sorted(set(_DIFF_IDS.findall(text))))
