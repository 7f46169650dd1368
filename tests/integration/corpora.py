# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives that others test their readers with, from Debian's sources, fetched once and kept outside the checkout."""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ansible_collections.strata.overlay.tests.integration.debian_root import (
    UnavailableError,
    cache_directory,
    locked_cache,
)

MIRRORS = ("http://deb.debian.org/debian", "https://snapshot.debian.org/archive/debian/20250520T000000Z")
"""Where sources are asked for: the mirror of a Debian 12, then an archive that keeps them for good."""

_PATIENCE = 30


@dataclass(frozen=True)
class Corpus:
    """Files of a source package.

    :ivar source: its original archive, below a mirror.
    :ivar sha256: of the chosen files, as ``_digest`` makes it; made from an archive whose digest is the one in the
        package's .dsc.
    :ivar members: what is chosen, by its name in the source.
    :ivar after: once this is seen, no more is read: it comes behind all that is chosen.
    """

    name: str
    source: str
    sha256: str
    members: str
    after: str


GO = Corpus(
    "go",
    "pool/main/g/golang-1.19/golang-1.19_1.19.8.orig.tar.gz",
    "30146da8c20041a4fb5d78332962c317bf36e7b348f6e02c4af55a374bdae2ba",
    r"/src/archive/tar/testdata/[^/]+\.tar(?:\.bz2)?$",
    r"/src/archive/zip/",
)
LIBARCHIVE = Corpus(
    "libarchive",
    "pool/main/liba/libarchive/libarchive_3.6.2.orig.tar.xz",
    "9d7925fe8a03595b5a77f068e30675c608bec839378b1a7bbf5903153cb3ba9f",
    r"/libarchive/test/test_[^/]+\.(?:tar|tgz|tbz|txz|tlz|pax)(?:\.[A-Za-z0-9]+)*\.uu$",
    r"/tar/",
)


def corpus(wanted: Corpus) -> dict[str, Path]:
    """The archives by name, fetched if they are not there yet.

    :raises UnavailableError: no mirror has them.
    """
    cache = cache_directory()
    recipe = hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
    kept = cache / f"corpus-{wanted.name}-{recipe}"
    cache.mkdir(parents=True, exist_ok=True)
    with locked_cache(cache):
        if not kept.exists():
            _keep(_fetch(wanted), kept)
    return {path.name: path for path in sorted(kept.iterdir())}


def _fetch(wanted: Corpus) -> dict[str, bytes]:
    said = []
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(f"{mirror}/{wanted.source}", timeout=_PATIENCE) as answer:
                files = _chosen(answer, wanted)
        except (OSError, urllib.error.URLError, tarfile.TarError) as error:
            said.append(f"{mirror}: {error}")
            continue
        found = _digest(files)
        if found == wanted.sha256:
            return files
        said.append(f"{mirror}: its files have the digest {found}, not {wanted.sha256}")
    raise UnavailableError(f"no mirror has the archives of {wanted.name}: {'; '.join(said)}")


def _chosen(stream: object, wanted: Corpus) -> dict[str, bytes]:
    """Read as far as is needed: of Go's sources a twentieth."""
    files = {}
    with tarfile.open(fileobj=stream, mode="r|*") as archive:  # type: ignore[call-overload]
        for member in archive:
            if re.search(wanted.after, f"/{member.name}"):
                break
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and re.search(wanted.members, member.name):
                name = PurePosixPath(member.name).name
                data = content.read()
                data, name = (_uudecoded(data), name.removesuffix(".uu")) if name.endswith(".uu") else (data, name)
                if name.endswith(".Z"):  # layers are not compressed so; what is in it counts
                    data, name = _uncompressed(data), name.removesuffix(".Z")
                files[name] = data
    return files


def _uudecoded(text: bytes) -> bytes:
    made = io.BytesIO()
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(b"begin "):
            break
    for line in lines:
        if line == b"end":
            break
        try:
            made.write(binascii.a2b_uu(line))
        except binascii.Error:  # some writers pad the last line with more than there is
            made.write(binascii.a2b_uu(line[: 1 + ((line[0] - 32 & 63) * 4 + 2) // 3]))
    return made.getvalue()


def _uncompressed(data: bytes) -> bytes:
    return subprocess.run(["gzip", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def _digest(files: dict[str, bytes]) -> str:
    lines = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _keep(files: dict[str, bytes], kept: Path) -> None:
    unfinished = kept.with_suffix(".unfinished")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(unfinished)
    unfinished.mkdir()
    for name, data in files.items():
        (unfinished / name).write_bytes(data)
    unfinished.rename(kept)
