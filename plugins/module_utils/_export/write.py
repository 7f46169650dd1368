# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Writes an image as an archive for `docker load`, or into an OCI layout, adding only what is missing.

Sources: moby image/tarexport/load.go (manifest.json); OCI image-spec image-layout.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Optional, Protocol

from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, Entry, header, padding
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of, short
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._export.image import ExportImage, to_json
from ansible_collections.strata.overlay.plugins.module_utils._image.archive import read_archive
from ansible_collections.strata.overlay.plugins.module_utils._image.image_list import Wanted
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import OCI_MANIFEST, sha256
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import CREATE, sync_directory
from ansible_collections.strata.overlay.plugins.module_utils._linux.holes import write_stream

_REF = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True)
class ExportStep:
    """One thing that is written, and its bytes."""

    action: str
    object: str
    text: str
    bytes: int

    def result(self) -> dict[str, Any]:
        """As modules return steps."""
        return {"action": self.action, "object": self.object, "text": self.text, "bytes": self.bytes}


def blob_steps(image: ExportImage, verb: str) -> dict[str, ExportStep]:
    """The layers and the config of an image, each once, as steps by their digests.

    :param verb: what is done to them, "write" or "push".
    """
    action = f"{verb}_blob"
    steps: dict[str, ExportStep] = {}
    for number, layer in enumerate(image.layers, 1):
        message = f"{verb} layer {number} of {len(image.layers)}, {short(layer.diff_id)}"
        steps[layer.diff_id] = ExportStep(action, layer.diff_id, message, layer.size)
    config = image.image_id
    steps[config] = ExportStep(action, config, f"{verb} config {short(config)}", len(image.config))
    return steps


class Destination(Protocol):
    """Where an image goes."""

    def before(self) -> str:
        """The id or manifest digest of what is there under this name, "" for nothing."""

    def plan(self) -> list[ExportStep]:
        """What is to be written; nothing where all of it is there."""

    def write(self) -> None:
        """Write it; a run that is killed leaves what was there."""


class DockerArchive:
    """One tar for `docker load`."""

    def __init__(self, image: ExportImage, path: str, tag: str, scratch: str) -> None:
        """
        :param scratch: a directory, for reading an archive there that is compressed.
        """
        self._image = image
        self._path = path
        self._tag = tag
        self._scratch = scratch

    def before(self) -> str:
        if not os.path.isfile(self._path):
            return ""
        try:
            images = read_archive(self._path, Wanted(self._tag), self._scratch).images
        except (StrataError, OSError):
            return "something else"
        return images[0].image_id

    def plan(self) -> list[ExportStep]:
        if self.before() == self._image.image_id:
            return []
        size = sum(layer.size for layer in self._image.layers)
        message = f"write image {short(self._image.image_id)} of {len(self._image.layers)} layers to {self._path}"
        return [ExportStep("write_archive", self._path, message, size)]

    def write(self) -> None:
        with _replaced(self._path) as stream:
            write_stream(stream, self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        image = self._image
        config = f"{hex_of(image.image_id)}.json"
        names = [f"{hex_of(layer.diff_id)}.tar" for layer in image.layers]
        listed = [{"Config": config, "RepoTags": [self._tag], "Layers": names}]
        written = set()
        for name, layer in zip(names, image.layers):
            if name not in written:  # the same layer twice in one chain is one file
                written.add(name)
                yield from _file(name, layer.read(), layer.size)
        yield from _file(config, [image.config], len(image.config))
        body = to_json(listed)
        yield from _file("manifest.json", [body], len(body))
        yield END


def _file(name: str, chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    yield header(Entry(name.encode(), "file", mode=0o644, size=size))
    yield from chunks
    yield padding(size)


class OciLayout:
    """A directory with an image in it, and with others that are left alone."""

    def __init__(self, image: ExportImage, path: str, tag: str) -> None:
        self._image = image
        self._path = path
        # In a layout an image is mostly known by its tag alone; the repository is the directory.
        self._tag = tag.rpartition(":")[2]

    def before(self) -> str:
        return next((str(entry.get("digest")) for entry in self._entries() if _name(entry) == self._tag), "")

    def plan(self) -> list[ExportStep]:
        if os.path.lexists(self._path) and not os.path.isdir(self._path):
            raise StrataError(f"{self._path} is no directory; an OCI layout is one")
        manifest = self._image.manifest()
        found = blob_steps(self._image, "write")
        digest = sha256(manifest)
        found[digest] = ExportStep("write_blob", digest, f"write manifest {short(digest)}", len(manifest))
        steps = [step for blob, step in found.items() if not self._has(blob, step.bytes)]
        if self.before() != digest:
            message = f"list {short(digest)} as '{self._tag}' in {self._path}"
            steps.append(ExportStep("write_index", self._path, message, 0))
        return steps

    def write(self) -> None:
        os.makedirs(f"{self._path}/blobs/sha256", 0o755, exist_ok=True)
        manifest = self._image.manifest()
        if not os.path.exists(f"{self._path}/oci-layout"):
            self._put("oci-layout", [_LAYOUT])
        for layer in self._image.layers:
            if not self._has(layer.diff_id, layer.size):
                self._put(_blob(layer.diff_id), layer.read())
        for body in (self._image.config, manifest):
            if not self._has(sha256(body), len(body)):
                self._put(_blob(sha256(body)), [body])
        entry = {"mediaType": OCI_MANIFEST, "digest": sha256(manifest), "size": len(manifest)}
        entries = [entry for entry in self._entries() if _name(entry) != self._tag]
        entries.append({**entry, "annotations": {_REF: self._tag}})
        index = self._index()
        self._put("index.json", [to_json({**index, "schemaVersion": 2, "manifests": entries})])

    def _put(self, name: str, chunks: Iterable[bytes]) -> None:
        with _replaced(f"{self._path}/{name}") as stream:
            write_stream(stream, chunks)

    def _has(self, digest: str, size: int) -> bool:
        """Checks the size too, since a file may have been cut short."""
        try:
            return os.stat(f"{self._path}/{_blob(digest)}").st_size == size
        except OSError:
            return False

    def _index(self) -> dict[str, Any]:
        try:
            with open(f"{self._path}/index.json", "rb") as stream:
                data = json.loads(stream.read())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StrataError(f"{self._path}/index.json is no JSON ({error}); move the layout away") from error
        if not isinstance(data, dict) or not isinstance(data.get("manifests") or [], list):
            raise StrataError(f"{self._path}/index.json is no index; move the layout away")
        return data

    def _entries(self) -> list[dict[str, Any]]:
        return [entry for entry in self._index().get("manifests") or [] if isinstance(entry, dict)]


def _name(entry: dict[str, Any]) -> Optional[str]:
    annotations = entry.get("annotations")
    return annotations.get(_REF) if isinstance(annotations, dict) else None


def _blob(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


@contextlib.contextmanager
def _replaced(path: str) -> Iterator[IO[bytes]]:
    """A file that is seen only when it is whole and on disk. Only its owner may read it: it has what a tree keeps from
    others.
    """
    directory, name = os.path.split(path)
    os.makedirs(directory, 0o755, exist_ok=True)
    begun = f".{name[:200]}.export-"
    _sweep(directory, begun)
    staged = f"{directory}/{begun}{os.urandom(4).hex()}"
    descriptor = os.open(staged, CREATE, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as stream:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(staged, path)
        sync_directory(directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
        raise


def _sweep(directory: str, begun: str) -> None:
    """Delete what killed exports of the same file have left; one that is still being written is locked."""
    for name in os.listdir(directory):
        if name.startswith(begun):
            with contextlib.suppress(OSError), open(f"{directory}/{name}", "rb") as stream:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(f"{directory}/{name}")
