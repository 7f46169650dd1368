# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports of several large archives: read once, side by side, within their memory, and killed in the middle."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._layer.pipeline import Relay
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import Unpacked, digest, writer_apart
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux import workers as workers_module
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Progress
from ansible_collections.strata.overlay.plugins.module_utils._run import stage
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._source import source
from ansible_collections.strata.overlay.tests.integration.host import Host

MEGABYTE = 1 << 20
MOST_MEMORY = 150 * MEGABYTE


def archive(path: Path, megabytes: int, files: int = 1) -> Path:
    """A layer of files with changing content, gzip'd where the name says so."""
    with (
        gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        for number in range(files):
            member = tarfile.TarInfo(f"{path.name}-{number}")
            member.size = megabytes * MEGABYTE // files
            tar.addfile(member, io.BufferedReader(Pattern(member.size), MEGABYTE))
    os.utime(path, (1, 1))
    return path


class Pattern(io.RawIOBase):
    """So many bytes that gzip makes little of, without holding them."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._block = bytes(range(256)) * 256

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._left, len(self._block))
        buffer[:count] = self._block[:count]
        self._left -= count
        return count


def definition(*archives: Path) -> dict[str, Any]:
    return {"layers": [{"name": path.name, "src": str(path), "remote_src": True} for path in archives]}


def contents(host: Host) -> list[str]:
    directory = host.root / "content/sha256"
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_import_of_several_archives_converges_and_leaves_staging_empty(host: Host, tmp_path: Path) -> None:
    archives = [archive(tmp_path / f"{number}.tar", 12 + number) for number in range(3)]
    done = host.four_steps(**definition(*archives))
    assert len(contents(host)) == 3
    assert done["bytes"] == (12 + 13 + 14) * MEGABYTE
    assert not list((host.root / "staging").iterdir())
    assert not list((host.root / "trash").iterdir())


@pytest.mark.parametrize(
    ("program", "suffix"), [("", ""), ("gzip", ".gz"), ("bzip2", ".bz2"), ("xz", ".xz"), ("zstd", ".zst")]
)
def test_layer_read_and_written_by_separate_processes_is_intact(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, suffix: str
) -> None:
    """As each large one is where a core has nothing to do. The writer must not hold what a program is fed by."""
    if program and shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    started: list[object] = []

    def start(*arguments: Any) -> AbstractContextManager[Relay | None]:
        started.append(arguments)
        return writer_apart(*arguments)

    monkeypatch.setattr(stage, "leave_cores", lambda _jobs: True)
    monkeypatch.setattr(stage, "is_worth_forking", lambda _size, _download: True)
    monkeypatch.setattr(stage, "writer_apart", start)
    monkeypatch.setattr(workers_module, "_are_worth_forking", lambda _jobs: False)  # in this process, to see it
    plain = archive(tmp_path / "base.tar", 20, files=3)
    if program:
        subprocess.run([program, "-k", plain], check=True)
    packed = Path(f"{plain}{suffix}")
    done = host.run(**definition(packed), stacks=[{"name": "web", "path": host.path("web"), "layers": [packed.name]}])
    assert len(started) == 1
    assert done["diff_ids"] == [f"sha256:{hashlib.sha256(plain.read_bytes()).hexdigest()}"]
    with tarfile.open(plain) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            assert Path(host.path("web"), member.name).read_bytes() == stream.read()
    assert host.check(deep=True)["findings"] == []


def test_new_archive_is_read_once(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[object] = []

    def digest_and_note(read: source.Read, limits: Limits, pinned: bool = False) -> Unpacked:
        digested.append(read)
        return digest(read, limits, pinned)

    monkeypatch.setattr(source, "digest", digest_and_note)
    first, second = archive(tmp_path / "1.tar", 1), archive(tmp_path / "2.tar", 2)
    host.run(**definition(first, second))
    assert digested == []
    # Where something was imported from before, it is looked first whether it is still the same.
    archive(first, 3)
    assert host.run(**definition(first))["changed"]
    assert len(digested) == 1


def test_two_archives_of_the_same_content_are_stored_once(host: Host, tmp_path: Path) -> None:
    first = archive(tmp_path / "1.tar", 1)
    second = tmp_path / "2.tar"
    second.write_bytes(first.read_bytes())
    host.four_steps(**definition(first, second))
    assert len(contents(host)) == 1


def test_damage_in_two_layers_is_reported_for_both_and_nothing_is_kept(host: Host, tmp_path: Path) -> None:
    archives = [archive(tmp_path / f"{number}.tar", 10) for number in range(4)]
    for path in archives[1:3]:
        os.truncate(path, 9 * MEGABYTE)
    with pytest.raises(Exception, match=r"(?s)2 mistakes.*layer 1\.tar: .*cut short.*layer 2\.tar: .*cut short"):
        host.run(**definition(*archives))
    assert not host.root.exists()


def test_progress_of_every_layer_is_reported(host: Host, tmp_path: Path) -> None:
    archives = [archive(tmp_path / "a.tar", 20), archive(tmp_path / "b.tar.gz", 20)]
    told: list[list[Progress]] = []
    parameters = {"root": str(host.root), **definition(*archives)}
    Run("apply", parameters, False, report=lambda news: told.append(list(news))).execute()
    last = told[-1]
    assert [item.description for item in last] == [f"layer {path.name} ({path})" for path in archives]
    assert [(item.total, item.state) for item in last] == [(path.stat().st_size, "finished") for path in archives]
    assert [item.done for item in last] == [item.total for item in last]


# Processes of their own.


PROGRAM = """
import json, os, sys
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
Run("apply", json.loads(sys.argv[1]), check_mode=False).execute()
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""
"""Prints the most memory that it had, in KiB: getrusage(2) would count that of the process it was forked from."""


def started(host: Host, *archives: Path) -> subprocess.Popen[str]:
    parameters = {"root": str(host.root), "stacks": [], **definition(*archives)}
    collections = Path(syscalls.__file__ or "").parents[6]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(parameters)],
        env={**os.environ, "PYTHONPATH": str(collections)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", ["large.tar", "large.tar.gz"])
def test_memory_does_not_grow_with_the_layer(host: Host, tmp_path: Path, name: str) -> None:
    large = archive(tmp_path / name, 300)
    with started(host, large) as process:
        said = process.communicate()[0]
    assert process.returncode == 0
    assert 5 * MEGABYTE < int(said) * 1024 < MOST_MEMORY
    assert len(contents(host)) == 1


def test_leftovers_of_a_killed_import_are_cleaned_up_by_the_next_run(host: Host, tmp_path: Path) -> None:
    archives = [archive(tmp_path / f"{number}.tar", 150, files=1500) for number in range(3)]
    other = archive(tmp_path / "other.tar", 1)
    with started(host, *archives) as process:
        try:
            assert wait_for(lambda: bool(list(host.root.glob("staging/*/unread-*/*"))))
            workers = children(process.pid)
        finally:
            process.kill()
    assert contents(host) == []
    assert wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    host.four_steps(**definition(other))
    assert len(contents(host)) == 1
    assert not list((host.root / "staging").iterdir())
    host.four_steps(**definition(*archives, other))
    assert len(contents(host)) == 4


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
