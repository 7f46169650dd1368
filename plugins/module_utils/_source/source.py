# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Turns a layer's source into a tar stream and its digests, on the controller and on the host."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Callable, Optional, cast

from ansible_collections.strata.overlay.plugins.module_utils._archive.compression import open_stream
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest
from ansible_collections.strata.overlay.plugins.module_utils._linux.syscalls import in_user_namespace
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import (
    DigestCache,
    Digested,
    recall,
    source_key,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Opener, describe

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import Selection

Read = Callable[[int], bytes]


@dataclass(frozen=True)
class Unread:
    """A source of which nobody knows yet what is in it.

    :ivar opener: as in ``open_tar``.
    :ivar facts: called in the process that has read it to its end: what else is to be known of it.
    :ivar description: what it is, in a few words.
    :ivar label: the first layer that asks for it, as errors and progress lines name it; "" if unknown.
    :ivar diff_id: that it has to have before times are settled; "" for any. ``source_digest``: what is known of that.
    :ivar before: trees that it replaces, against which its times are settled; ``inline``: and keep those they had.
    """

    source: Source
    opener: Optional[Opener] = None
    facts: Callable[[], Mapping[str, str]] = dict
    description: str = ""
    diff_id: str = ""
    source_digest: str = ""
    before: tuple[str, ...] = ()
    inline: bool = False
    label: str = ""


class SourceDigest:
    """The digest of what is packed here, without the times of files: the DiffID that it has with fixed ones.

    Whether a layer has changed goes by it. Made while the archive is packed, by the process that does it.
    """

    def __init__(self, source: Source) -> None:
        self._hash = hashlib.sha256() if source.keeps_times else None

    def update(self, piece: bytes) -> None:
        """The next piece of the archive as it would be with fixed times."""
        if self._hash is not None:
            self._hash.update(piece)

    def __str__(self) -> str:
        """ "" for what is no such source."""
        return SHA256 + self._hash.hexdigest() if self._hash is not None else ""


@contextlib.contextmanager
def open_tar(
    source: Source,
    opener: Optional[Opener] = None,
    count: Optional[Callable[[int], None]] = None,
    source_digest: Optional[SourceDigest] = None,
    left_out: Optional[LeftOut] = None,
) -> Iterator[Read]:
    """The read function of a source's uncompressed tar.

    :param opener: opens the archive in place of the one at the source's location.
    :param source_digest: of the source; complete when the tar has been read to its end.
    :param count: called with each read, by the reading thread, with the bytes used so far: of an archive as
        it lies there, compressed or not; else of the tar.
    :param left_out: where it is noted what is packed and cannot be held by a layer.
    """
    packed = _packed(source, source_digest, left_out)
    if packed is not None:
        tar = _Counted(packed)
        yield tar.reporting(tar.read, count)
    else:
        with opener() if opener else _opened(source.location) as raw:
            archive = _Counted(raw.read)
            with open_stream(cast("IO[bytes]", archive)) as plain:
                # A layer of an image is a tar, whatever it looks like.
                if plain.is_zip and (opener is None or source.kind == "url"):
                    with _from_zip(source, raw, archive.read, plain.read) as read:
                        yield archive.reporting(read, count)
                    return
                taken = _rewritten(source, source.selection, plain.read) if source.selection else plain.read
                yield archive.reporting(taken, count)


def _opened(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except IsADirectoryError as error:
        raise StrataError(
            f"option 'src': {path} is a directory; give it as 'dir', or in 'images' if it is an OCI layout"
        ) from error


@contextlib.contextmanager
def _from_zip(source: Source, raw: IO[bytes], read: Read, rest: Read) -> Iterator[Read]:
    """The read function of the tar that a zip archive becomes."""
    # Imported only when needed: most archives are tars.
    from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import ChunkReader
    from ansible_collections.strata.overlay.plugins.module_utils._layer.select import Choice, chosen, written
    from ansible_collections.strata.overlay.plugins.module_utils._source.zipped import open_zip

    seekable = source.kind != "url" and raw.seekable()
    with open_zip(raw if seekable else None, read, rest, source.limits) as members:
        taken = chosen(members, Choice(source.selection)) if source.selection else members
        yield ChunkReader(written(taken)).read


def _rewritten(
    source: Source, selection: Selection, read: Read, update: Optional[Callable[[bytes], object]] = None
) -> Read:
    """The read function of what is taken of a tar."""
    # Imported only when needed: most layers are all of their source.
    from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import ChunkReader
    from ansible_collections.strata.overlay.plugins.module_utils._layer.select import (
        Choice,
        chosen,
        tar_members,
        written,
    )

    members = tar_members(read, source.limits, source.pinned)
    return ChunkReader(written(chosen(members, Choice(selection)), update)).read


def _packed(source: Source, source_digest: Optional[SourceDigest], left_out: Optional[LeftOut]) -> Optional[Read]:
    """The read function of the tar of what is no archive; None for an archive."""
    if source.kind not in ("files", "dir", "upper"):
        return None
    # Imported only when needed: a host mostly gets archives.
    from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import (
        ChunkReader,
        pack_directory,
        pack_files,
    )

    digested = {"digest": source_digest.update} if source_digest and source.keeps_times else {}
    if source.kind == "files":
        return ChunkReader(pack_files(source.files, **digested)).read
    if source.kind == "dir":
        if source.selection:
            from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_selected import pack_selected

            chunks = pack_selected(source.location, source.selection, source.keeps_times, left_out)
            return _rewritten(source, source.selection, ChunkReader(chunks).read, digested.get("digest"))
        return ChunkReader(pack_directory(source.location, source.keeps_times, left_out=left_out, **digested)).read
    # Never on a controller.
    from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import pack_content

    packed = pack_content(source.location, in_user_namespace(), live=True, fuse=source.fuse, left_out=left_out)
    return ChunkReader(packed).read


class _Counted:
    """Count what ``read`` gives, in whatever thread it is called."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._total = 0

    def read(self, size: int) -> bytes:
        piece = self._read(size)
        self._total += len(piece)
        return piece

    def reporting(self, read: Read, count: Optional[Callable[[int], None]]) -> Read:
        """``read``, which also reports the bytes counted here."""
        if count is None:
            return read
        show = count

        def read_and_show(size: int) -> bytes:
            piece = read(size)
            show(self._total)
            return piece

        return read_and_show


def read_source(source: Source, cache: DigestCache, stored: Callable[[str], str] = lambda _digest: "") -> Digested:
    """Digest a path or inline files, reading only what has changed since the cache saw it.

    :param stored: source digest -> DiffID of the content that the store has of it, "" for none: the source is that one.
    StrataError says what is wrong with the archive or directory.
    """
    key = source_key(source)
    known = recall(key, cache)
    if known is not None:
        return replace(known, diff_id=(known.source_digest and stored(known.source_digest)) or known.diff_id)
    state, left_out = SourceDigest(source), LeftOut()
    with open_tar(source, source_digest=state, left_out=left_out) as read:
        found = digest_tar(read, source.limits, **({"pinned": True} if source.pinned else {}))
    found = replace(found, source_digest=str(state), left_out=(*left_out.warnings(), *found.left_out))
    if found.source_digest:
        found = replace(found, diff_id=stored(found.source_digest) or found.diff_id)
    if key and key == source_key(source):
        cache.put(key, found.facts())
    return found


def digest_tar(read: Read, limits: Limits = UNLESS_SET, pinned: bool = False) -> Digested:
    """Walk a tar to its end without unpacking it.

    :param pinned: as for ``TarReader``.
    """
    unpacked = digest(read, limits, pinned)
    return Digested(unpacked.diff_id, unpacked.size, left_out=unpacked.left_out)


def blob_digest(stream: IO[bytes]) -> str:
    """The digest of an archive as it lies there, compressed or not."""
    state = hashlib.sha256()
    for chunk in iter(lambda: stream.read(1 << 20), b""):
        state.update(chunk)
    return SHA256 + state.hexdigest()


def check_digest(layer: LayerSpec, found: Digested) -> None:
    """Hold a layer's ``digest`` against its DiffID and source digest and, for an archive, the file as it lies there."""
    if not layer.digest or layer.digest in (found.diff_id, found.source_digest):
        return
    blob = found.blob
    if layer.source.kind == "src":
        with open(layer.source.location, "rb") as raw:
            blob = blob_digest(raw)
    if layer.digest != blob:
        file_part = f" and the file itself {blob}" if blob else ""
        file_part = f" and source digest {found.source_digest}" if found.source_digest else file_part
        raise StrataError(
            f"{layer.label}: option 'digest': expected {layer.digest}, but {describe(layer.source)} has DiffID "
            f"{found.diff_id}{file_part}; correct the digest if the source is the one you mean"
        )
