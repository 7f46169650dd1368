# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Thirty power cuts: after each the store is sound, nothing that was done is lost, and the next run converges."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from vms.fleet import machines
from vms.image import PLATFORMS
from vms.machine import Machine
from vms.plug import DEVICE, FragileDisk, Life, living, plug_in

PROJECT = Path(os.environ.get("MOLECULE_PROJECT_DIRECTORY", "."))
SCENARIO = PROJECT / ".cache/vm/power"
CUTS = int(os.environ.get("POWER_CUTS", "30"))
SEED = int(os.environ.get("POWER_SEED", str(time.time_ns() % 1000000)))
PLACE = "/opt/power"
"""Of the worker, in a machine."""

THERE = f"for try in $(seq 200); do ! test -b {DEVICE} || break; sleep 0.1; done; test -b {DEVICE}"
"""Waits for the disk that has just been plugged in."""

PATIENCE = 900
"""Seconds within which a machine has looked at what the life before has left."""


@pytest.fixture(scope="module")
def found() -> dict[str, Machine]:
    for compiled in SCENARIO.glob("worker-*.tar"):  # of an earlier run, and so perhaps of other code
        compiled.unlink()
    return machines(SCENARIO)


def on_all(found: dict[str, Machine], work: Callable[[Machine], None]) -> None:
    """The same with all machines at once; what goes wrong on one does not stop the others."""
    with ThreadPoolExecutor(len(found)) as pool:
        done = {name: pool.submit(work, machine) for name, machine in found.items()}
    wrong = {name: str(one.exception()) for name, one in done.items() if one.exception()}
    assert not wrong, "\n".join(f"{name}: {text}" for name, text in wrong.items())


def install(machine: Machine) -> None:
    """The worker and the code that modules are made of, in a place of the machine's own disk.

    A machine compiles the code in its first life; later lives get it compiled, which takes seconds off each.
    """
    compiled = SCENARIO / f"worker-{machine.platform}.tar"
    if compiled.exists():
        _extract(machine, compiled.read_bytes())
        return
    pack = ["tar", "--create", "--directory", PROJECT, "--exclude=__pycache__", "plugins/module_utils"]
    pack += ["--directory", PROJECT / "molecule/power", "worker.py"]
    packed = subprocess.run(pack, capture_output=True, check=True).stdout
    top = f"{PLACE}/ansible_collections/strata/overlay"
    _extract(machine, packed, top)
    machine.ssh(f"mv {top}/worker.py {PLACE}; python3 -m compileall -q --invalidation-mode unchecked-hash {PLACE}")
    command = ["ssh", *machine.ssh_options(), "127.0.0.1", f"tar --create --directory {PLACE} ."]
    compiled.write_bytes(subprocess.run(command, capture_output=True, check=True, timeout=300).stdout)


def _extract(machine: Machine, packed: bytes, place: str = PLACE) -> None:
    command = ["ssh", *machine.ssh_options(), "127.0.0.1", f"mkdir -p {place} && tar --extract --directory {place}"]
    subprocess.run(command, input=packed, check=True, timeout=300)


def snapshot_that_waits(machine: Machine) -> Path:
    """A snapshot of a fresh machine without its store, in which the worker waits for its first words."""
    machine.create()
    install(machine)
    machine.ssh(
        f"set -e; umount /var/lib/strata; cd {PLACE}; mkfifo asked answered;"
        "setsid python3 -B worker.py wait < /dev/null > worker.log 2>&1 &"
        "for try in $(seq 1200); do test -e waits && exit; sleep 0.1; done; cat worker.log; exit 1"
    )
    snapshot = SCENARIO / f"waiting-{machine.platform}"
    shutil.rmtree(snapshot, ignore_errors=True)
    machine.save(snapshot)
    return snapshot


def begin(machine: Machine, last: int) -> str:
    """What starts a life in such a snapshot: the fragile disk in the place of the store, then the worker.

    Mounting the disk repairs what the cut has left open.
    """
    options = PLATFORMS[machine.platform].mount_options
    return (
        f"set -e; {THERE}; mount -o {options} {DEVICE} /var/lib/strata;"
        f"cd {PLACE}; echo {last} mount > asked; exec cat answered"
    )


def released(life: Life, last: int) -> int:
    """The last release that was announced."""
    found = [json.loads(line).get("release", 0) for line in life.lines if line.startswith("{")]
    return max([last, *found])


def faults(life: Life) -> list[str]:
    return [line for line in life.lines if "fault" in line or not line.startswith("{")]


def work_until_cut(machine: Machine, last: int, seconds: float, script: str = "") -> tuple[int, list[str]]:
    """One life: look, then work for some seconds; the last release that it has announced, and what it has printed."""
    with living(machine, script or f"exec python3 -B {PLACE}/worker.py {last} 2>&1") as life:
        sound = life.wait_for('"release"', PATIENCE)
        assert sound, f"release {last}, seed {SEED}: {faults(life) or life.lines}"
        time.sleep(seconds)
    assert not faults(life), f"release {last}, seed {SEED}: {faults(life)}"
    return released(life, last), life.lines


def test_store_is_sound_after_a_power_cut_and_a_real_boot(found: dict[str, Machine]) -> None:
    """The machine as the role has prepared it: its units mount what the cut has left, before anybody looks."""

    def cut_and_boot(machine: Machine) -> None:
        install(machine)
        machine.ssh("sync")
        last, _lines = work_until_cut(machine, 0, random.Random(SEED).uniform(2, 10))
        machine.start()
        assert machine.ssh("findmnt --noheadings --output TARGET /var/lib/strata") == "/var/lib/strata"
        work_until_cut(machine, last, 0)

    on_all(found, cut_and_boot)


def test_power_cut_of_the_test_disk_loses_only_unflushed_blocks(found: dict[str, Machine]) -> None:
    """Of two blocks on the disk, the one that was flushed is there later and the other is not."""

    def cut(machine: Machine) -> None:
        machine.create()
        disk = FragileDisk(machine.directory / "scratch")
        disk.begin()
        plug_in(machine, disk)
        machine.ssh(THERE)
        block = f"dd if=/root/block of={DEVICE} bs=1M count=1 oflag=direct"
        machine.ssh(f"head -c 1M /dev/urandom > /root/block; {block}; sync {DEVICE}; {block} seek=8")
        there = f"cmp /root/block {DEVICE} -n 1M && cmp /root/block {DEVICE} -n 1M -i 0:8M"
        before = machine.ssh(f"{there} && md5sum /root/block")
        machine.kill()
        machine.create()
        disk.begin()
        plug_in(machine, disk)
        machine.ssh(THERE)
        read = f"dd if={DEVICE} bs=1M count=1 status=none"
        assert machine.ssh(f"{read} | md5sum").split()[0] == before.split()[0]
        assert machine.ssh(f"{read} skip=8 | tr -d '\\0' | wc -c") == "0"

    on_all(found, cut)


def test_store_is_sound_after_every_power_cut(found: dict[str, Machine], capsys: pytest.CaptureFixture[str]) -> None:
    """The disk goes from machine to machine: one resumes in seconds, with the worker in its memory.

    That a machine which has booted finds its store sound, the first test shows.
    """
    each = -(-CUTS // len(found))
    cuts: list[str] = []

    def cut_all(machine: Machine) -> None:
        chance = random.Random(f"{SEED} {machine.platform}")
        disk = FragileDisk(machine.directory / "fragile")
        disk.begin(machine.image / "store.qcow2")
        last = 0
        snapshot = snapshot_that_waits(machine)
        for number in range(each):
            machine.create(snapshot)
            plug_in(machine, disk)
            last, lines = work_until_cut(machine, last, chance.uniform(0, 8), begin(machine, last))
            cuts.append(f"{machine.platform}, cut {number + 1}, release {last}: {lines[0]}")
            disk.begin()

    on_all(found, cut_all)
    with capsys.disabled():
        print(f"\nfigure: {len(cuts)} power cuts, seed {SEED}", *cuts, sep="\n")
