# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole Debian root as a tar archive, built once by mmdebstrap and kept outside the checkout."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.strata.overlay.tests.integration.privileges import is_full_root

PACKAGES = ("git", "iputils-ping", "perl", "python3")
"""What minbase lacks of a real system: hard links (perl), a file with a capability (ping), many small files."""

RECIPE = ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", "--format=tar", "bookworm")
"""The command; it takes the mirror that mmdebstrap knows, and writes the archive to its standard output."""

CONTROLLER = (
    *("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"),
    "--include=git,python3,python3-pip",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")),
    "trixie",
)
"""The same for an image from which Ansible is run: the slim one, and what would be downloaded for each test of it."""


class UnavailableError(Exception):
    """There is no Debian root here; says why."""


def cache_directory() -> Path:
    """Where what takes long to make is kept, outside the checkout. It may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strata.overlay"


def debian_root(recipe: Sequence[str] = RECIPE) -> Path:
    """The archive, built if it is not there yet.

    :raises UnavailableError: it cannot be built here, or be unpacked.
    """
    cache = cache_directory()
    archive = cache / f"debian-{hashlib.sha256(' '.join(recipe).encode()).hexdigest()[:16]}.tar"
    if not is_full_root():
        raise UnavailableError("building or unpacking a Debian root needs root, with all user ids")
    if archive.exists():
        return archive
    if shutil.which(recipe[0]) is None:
        raise UnavailableError("building a Debian root needs the program mmdebstrap")
    cache.mkdir(parents=True, exist_ok=True)
    with locked_cache(cache):
        if not archive.exists():
            _build(recipe, archive)
    return archive


@contextlib.contextmanager
def locked_cache(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(recipe: Sequence[str], archive: Path) -> None:
    unfinished = archive.with_suffix(".unfinished")
    try:
        with unfinished.open("wb") as stream:
            done = subprocess.run(recipe, stdout=stream, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
            raise UnavailableError(f"mmdebstrap could not build a Debian root: {' / '.join(said)}")
        unfinished.rename(archive)
    finally:
        unfinished.unlink(missing_ok=True)
