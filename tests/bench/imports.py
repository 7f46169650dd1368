# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import of a Debian root in several layers, against tar, the decompressors alone, docker load and podman load."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ansible_collections.strata.overlay.tests.bench.filesystems import in_memory, on_disk
from ansible_collections.strata.overlay.tests.bench.measure import (
    FailedError,
    call,
    clock,
    heading,
    minimums,
    ratio,
    row,
    seconds,
)
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError, debian_root
from ansible_collections.strata.overlay.tests.integration.host import free_port
from ansible_collections.strata.overlay.tests.integration.isolation import covered

CHECKOUT = Path(__file__).resolve().parents[2]
SHARES = (0.45, 0.25, 0.2, 0.1)
"""How the root's bytes are spread over the layers, bottom first: a base, and ever smaller ones above it."""

ROUNDS = 5
PROGRAM = """
import gc
import sys
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
sources = [{"url": where} if "://" in where else {"src": where, "remote_src": True} for where in sys.argv[2:]]
layers = [{"name": f"l{n}", **source} for n, source in enumerate(sources)]
Run("apply", {"root": sys.argv[1], "layers": layers, "stacks": []}, check_mode=False).execute()
gc.freeze()
"""
"""As a module does it, and as a module ends: `_module.exit_module`."""

IMAGE_PROGRAM = """
import gc
import sys
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
images = [{"name": "bench:1", "src": sys.argv[2], "remote_src": True}]
Run("apply", {"root": sys.argv[1], "images": images, "stacks": []}, check_mode=False).execute()
gc.freeze()
"""


def measure_imports(work: Path) -> None:
    """Everything about importing layers."""
    try:
        root = debian_root()
    except UnavailableError as error:
        heading("Import of a Debian root")
        row("skipped", "-", str(error))
        return
    layers = split(root, work)
    image = docker_archive(layers, work)
    size, count = sum(path.stat().st_size for path in layers), sum(map(entries, layers))
    heading(
        f"Import of a Debian root, {count} entries and {size / 1e6:.0f} MB in {len(layers)} layers, "
        f"into an empty store, shortest of {ROUNDS} each"
    )
    with in_memory(work) as memory, on_disk(work) as disk:
        compare_with_tar(memory, layers, "ext4 in memory")
        compare_with_tar(memory, [root], "as one layer, ext4 in memory")
        compare_with_tar(disk, layers, "on disk")
        compare_with_tar(disk, [root], "as one layer, on disk")
        compare_with_decompressors(memory, layers)
        compare_with_curl(memory, layers)
        compare_with_engines(memory, image, "ext4 in memory")
        compare_with_engines(disk, image, "on disk")
        memory_of_a_large_layer(memory)


# What is imported.


def split(root: Path, work: Path) -> list[Path]:
    """The root's entries over several archives, each with the directories that it needs."""
    paths = [work / f"layer-{number}.tar" for number in range(len(SHARES))]
    home: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(tarfile.open(root))
        tars = [stack.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT)) for path in paths]
        members = list(source)
        directories = {member.name.rstrip("/"): member for member in members if member.isdir()}
        written: list[set[str]] = [set() for _path in paths]
        total, done = sum(member.size for member in members), 0
        for member in members:
            number = next(n for n in range(len(SHARES)) if done <= total * sum(SHARES[: n + 1]) + 1)
            if member.islnk():
                number = home[member.linkname]
            home[member.name] = number
            parts = member.name.rstrip("/").split("/")
            above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + member.isdir())]
            for name in above:
                if name in directories and name not in written[number]:
                    written[number].add(name)
                    tars[number].addfile(directories[name])
            if not member.isdir():
                tars[number].addfile(member, source.extractfile(member) if member.isreg() else None)
            done += member.size
    return paths


def entries(path: Path) -> int:
    with tarfile.open(path) as tar:
        return len(tar.getnames())


def docker_archive(layers: Sequence[Path], work: Path) -> Path:
    """What `docker save` writes of an image of these layers."""
    digests = []
    for path in layers:
        with path.open("rb") as stream:
            digests.append(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
    rootfs = {"type": "layers", "diff_ids": digests}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": name, "RepoTags": ["bench:1"], "Layers": names}]).encode()
    path = work / "image.tar"
    with tarfile.open(path, "w") as tar:
        for member, layer in zip(names, layers, strict=True):
            tar.add(layer, member)
        for member, content in ((name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


# Who imports.


def by_tar(place: Path, layers: Sequence[Path]) -> None:
    for number, layer in enumerate(layers):
        untar(layer, place / "unpacked" / str(number))
    call(["sync", "-f", place])


def untar(archive: Path, top: Path) -> None:
    top.mkdir(parents=True)
    call(["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", archive, "-C", top])


def by_import(place: Path, layers: Sequence[Path | str]) -> None:
    """Of archives, by path or URL."""
    call([sys.executable, "-c", PROGRAM, place / "store", *layers])


def by_curl(place: Path, urls: Sequence[str]) -> None:
    """As playbooks do it: each archive to a file, which is unpacked and removed."""
    archive = place / "archive"
    for number, url in enumerate(urls):
        call(["curl", "-sf", "-o", archive, url])
        untar(archive, place / "unpacked" / str(number))
        archive.unlink()
    call(["sync", "-f", place])


def by_image(place: Path, image: Path) -> None:
    call([sys.executable, "-c", IMAGE_PROGRAM, place / "store", image])


def by_program(command: Sequence[str], layers: Sequence[Path]) -> None:
    for layer in layers:
        with layer.open("rb") as stream:
            subprocess.run(command, stdin=stream, stdout=subprocess.DEVNULL, check=True)


def cleared(place: Path) -> None:
    """As it was before, and nothing left to be written that the next would have to wait for."""
    for name in ("unpacked", "store"):
        shutil.rmtree(place / name, ignore_errors=True)
    call(["sync", "-f", place])


# Comparisons.


def compare_with_tar(place: Path, layers: Sequence[Path], words: str) -> None:
    took = minimums(
        {"tar": partial(by_tar, place, layers), "import": partial(by_import, place, layers)},
        ROUNDS,
        partial(cleared, place),
    )
    seconds(f"tar -x and sync -f, {words}", took["tar"])
    seconds(f"import, verified and durable, {words}", took["import"])
    ratio(f"import / tar, {words}", took["import"] / took["tar"], "at most 1.1, aim: below 1.0")


def compare_with_decompressors(place: Path, layers: Sequence[Path]) -> None:
    for name, command in (("gzip", ["gzip", "-dc"]), ("zstd", ["zstd", "-dcq"])):
        if shutil.which(name) is None:
            row(f"{name}: skipped", "-", f"the program {name} is not installed")
            continue
        compressed = [compress(layer, name) for layer in layers]
        for count, words in ((len(layers), f"{len(layers)} layers"), (1, "the largest layer alone")):
            took = minimums(
                {
                    "decompress": partial(by_program, command, compressed[:count]),
                    "plain": partial(by_import, place, layers[:count]),
                    "import": partial(by_import, place, compressed[:count]),
                },
                ROUNDS,
                partial(cleared, place),
            )
            seconds(f"{' '.join(command)} alone, {words}", took["decompress"])
            seconds(f"import of the plain archives, {words}", took["plain"])
            seconds(f"import of the {name} archives, {words}", took["import"])
            slower = max(took["decompress"], took["plain"])
            ratio(f"import of {name} / the slower of the two, {words}", took["import"] / slower, "at most 1.2")


def compress(layer: Path, program: str) -> Path:
    path = layer.with_suffix(f".tar.{program}")
    with layer.open("rb") as plain, path.open("wb") as stream:
        subprocess.run([program, "-c"], stdin=plain, stdout=stream, stderr=subprocess.DEVNULL, check=True)
    return path


def compare_with_curl(place: Path, layers: Sequence[Path]) -> None:
    if shutil.which("curl") is None:
        row("by URL: skipped", "-", "the program curl is not installed")
        return
    packed = [compress(layer, "gzip") for layer in layers]
    with web_server(layers[0].parent) as address:
        for words, paths in (("plain", layers), ("gzip", packed)):
            urls = [f"{address}/{path.name}" for path in paths]
            took = minimums(
                {"curl": partial(by_curl, place, urls), "import": partial(by_import, place, urls)},
                ROUNDS,
                partial(cleared, place),
            )
            seconds(f"curl, tar -x and sync -f, {words}", took["curl"])
            seconds(f"import by url, {words}", took["import"])
            ratio(f"import by url / curl and tar, {words}", took["import"] / took["curl"])


@contextlib.contextmanager
def web_server(directory: Path) -> Iterator[str]:
    """A server on loopback, in a process of its own; the address of the directory."""
    port = str(free_port())
    command = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_ready(["curl", "-sf", "-o", "/dev/null", address])
            yield address
        finally:
            server.terminate()


def compare_with_engines(place: Path, image: Path, words: str) -> None:
    own = minimums({"import": partial(by_image, place, image)}, ROUNDS, partial(cleared, place))["import"]
    seconds(f"import of the archive of docker save, {words}", own)
    for name, load in (("docker", docker_load), ("podman", podman_load)):
        try:
            with covered():
                took, durable = load(place, image)
        except (FailedError, OSError) as error:
            row(f"{name} load, {words}: skipped", "-", str(error).splitlines()[0])
            continue
        seconds(f"{name} load, {words}", took)
        seconds(f"{name} load and sync -f, {words}", durable)
        ratio(f"{name} load / import, {words}", took / own, "aim: at least 3" if name == "docker" else "")
        ratio(f"{name} load and sync -f / import, {words}", durable / own)


def docker_load(place: Path, image: Path) -> tuple[float, float]:
    """By a daemon of our own, without any network; as ``shortest``."""
    top = place / "docker"
    top.mkdir()
    socket = f"unix://{top}/socket"
    command = ["dockerd", "--data-root", f"{top}/data", "--exec-root", f"{top}/exec", "-H", socket]
    command += ["--pidfile", f"{top}/pid", "--storage-driver", "overlay2", "--bridge=none"]
    command += ["--iptables=false", "--ip6tables=false"]
    with (place.parent / "dockerd.log").open("wb") as log, subprocess.Popen(command, stderr=log) as daemon:
        try:
            client = ["docker", "-H", socket]
            wait_until_ready([*client, "version"])
            return shortest(place, ROUNDS, client, ["load", "--quiet", "--input", image], ["image", "rm", "bench:1"])
        finally:
            daemon.terminate()


def podman_load(place: Path, image: Path) -> tuple[float, float]:
    top = place / "podman"
    command = ["podman", "--root", f"{top}/root", "--runroot", f"{top}/run", "--storage-driver", "overlay"]
    return shortest(place, 2, command, ["load", "--quiet", "--input", image], ["rmi", "--all", "--force"])


def shortest(
    place: Path, rounds: int, engine: Sequence[str | Path], load: Sequence[str | Path], remove: Sequence[str | Path]
) -> tuple[float, float]:
    """Shortest seconds until an engine has loaded, and until that is on disk as well."""
    took = []
    for _round in range(rounds):
        loaded = clock(partial(call, [*engine, *load]))
        took.append((loaded, loaded + clock(partial(call, ["sync", "-f", place]))))
        call([*engine, *remove])
        cleared(place)
    return min(alone for alone, _durable in took), min(durable for _alone, durable in took)


def wait_until_ready(command: Sequence[str]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            call(command)
        except FailedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


# Memory.


MEMORY_PROGRAM = (
    PROGRAM
    + """
import resource
own = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(own + 2 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
)
"""Prints KiB: the most that the first process had, and twice the most that a worker had, as if two shared nothing."""


def memory_of_a_large_layer(place: Path) -> None:
    """Two archives of 1.5 GB each, of holes, which are read as any other bytes."""
    paths = []
    for number in range(2):
        member = tarfile.TarInfo(f"large-{number}")
        member.size = 1_536_000_000
        path = place / f"large-{number}.tar"
        with path.open("wb") as stream:
            stream.write(member.tobuf())
            stream.truncate(tarfile.BLOCKSIZE * 3 + member.size)
        paths.append(path)
    error_text = call([sys.executable, "-c", MEMORY_PROGRAM, place / "store", *paths])
    row(
        "most memory of an import of 3 GB in two layers",
        f"{int(error_text) / 1024:.0f} MiB",
        "at most 150, all processes",
    )
    cleared(place)
