# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers as images: the writer against tar, the tree writer and docker load; its memory, and removing."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tarfile
from functools import partial
from pathlib import Path

from ansible_collections.strata.overlay.tests.bench.filesystems import in_memory, on_disk
from ansible_collections.strata.overlay.tests.bench.imports import docker_archive, docker_load
from ansible_collections.strata.overlay.tests.bench.measure import (
    FailedError,
    call,
    clock,
    heading,
    medians,
    ratio,
    row,
    seconds,
)
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError, debian_root
from ansible_collections.strata.overlay.tests.integration.isolation import covered
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import directory, member

ROUNDS = 3
PROGRAM = """
import sys
from ansible_collections.strata.overlay.plugins.module_utils._layer.image import make_image
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import unpack
with open(sys.argv[1], "rb", buffering=0) as stream:
    if sys.argv[3] == "image":
        make_image(stream.read, sys.argv[2])
    else:
        unpack(stream.read, sys.argv[2], False)
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""
"""Prints the most memory that it had, in KiB."""


def measure_layer_images(work: Path) -> None:
    """Everything about writing images."""
    archives = {
        "310 MB, 10,500 entries": written(work / "big.tar", 10_500, 29_500),
        "100,000 small files": written(work / "small.tar", 100_000, 700),
    }
    try:
        archives["Debian root"] = debian_root()
    except UnavailableError as error:
        row("Debian root: skipped", "-", str(error))
    heading(f"A layer as an image, against tar -x and sync -f, median of {ROUNDS} each")
    with in_memory(work) as memory, on_disk(work) as disk:
        for words, archive in archives.items():
            compare(memory, archive, f"{words}, in memory")
        compare(disk, archives["310 MB, 10,500 entries"], "310 MB, 10,500 entries, on disk")
        compare_with_docker(memory, archives["310 MB, 10,500 entries"])
        million = written(work / "million.tar", 1_000_000, 0)
        emptied(memory)
        kib = int(by_program(memory, million, "image"))
        row("memory for 1,010,000 entries", f"{kib / 1024:.0f} MiB", "at most 400 MB")


def written(path: Path, count: int, size: int) -> Path:
    """So many files of so many random bytes, a hundred to a directory."""
    source = random.Random(1)
    with path.open("wb") as stream:
        for number in range(count):
            top = b"usr/share/directory-%d" % (number // 100)
            if number % 100 == 0:
                stream.write(directory(top, mtime_ns=1_700_000_000_123_456_789))
            stream.write(member(b"%s/file-of-some-name-%d" % (top, number), source.randbytes(size)))
        stream.write(bytes(tarfile.RECORDSIZE))
    return path


def compare(place: Path, archive: Path, words: str) -> None:
    emptied(place)
    took = medians(
        {
            "tar": partial(by_tar, place, archive),
            "tree": partial(by_program, place, archive, "tree"),
            "image": partial(by_program, place, archive, "image"),
        },
        ROUNDS,
        partial(emptied, place),
    )
    kib = int(by_program(place, archive, "image"))
    image, tree = place / "made/image", place / "made/tree"
    by_program(place, archive, "tree")
    removed = {name: clock(partial(call, ["rm", "-rf", path])) for name, path in (("tree", tree), ("image", image))}
    emptied(place)
    seconds(f"tar -x and sync -f, {words}", took["tar"])
    ratio(f"tree / tar, {words}", took["tree"] / took["tar"])
    ratio(f"image / tar, {words}", took["image"] / took["tar"])
    ratio(f"removing the image / rm -rf of the tree, {words}", removed["image"] / removed["tree"], "at most 0.1")
    row(f"memory, {words}", f"{kib / 1024:.0f} MiB")


def emptied(place: Path) -> None:
    """As it was before, and nothing left to be written that the next would have to wait for."""
    shutil.rmtree(place / "made", ignore_errors=True)
    (place / "made").mkdir()
    call(["sync", "-f", place])


def by_tar(place: Path, archive: Path) -> None:
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner"]
    call(["tar", *options, "-xpf", archive, "-C", place / "made"])
    call(["sync", "-f", place])


def by_program(place: Path, archive: Path, form: str) -> str:
    path = place / "made" / form
    if form == "tree":
        path.mkdir()
    said = call([sys.executable, "-c", PROGRAM, archive, path, form])
    call(["sync", "-f", place])
    return said


def compare_with_docker(place: Path, archive: Path) -> None:
    image = docker_archive([archive], place)
    own = medians({"": partial(by_program, place, archive, "image")}, ROUNDS, partial(emptied, place))[""]
    try:
        with covered():
            took, durable = docker_load(place, image)
    except (FailedError, OSError) as error:
        row("docker load: skipped", "-", str(error).splitlines()[0])
        return
    finally:
        os.unlink(image)
    seconds("docker load", took)
    ratio("docker load / image", took / own, "aim: at least 6, by the whole module")
    ratio("docker load and sync -f / image", durable / own)
