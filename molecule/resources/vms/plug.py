# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk with a write cache that a power cut empties, in a machine whose plug is pulled over and over.

QEMU writes a new cluster of a qcow2 image at once, and the table that leads to it only when the guest flushes its disk.
Each life of the machine has a layer of its own on top of the disk, in which every cluster is new: so all that was not
flushed before the plug is pulled is not on the disk of the next life.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vms import image
from vms.machine import Machine

DEVICE = "/dev/vdc"
TABLES = 64 << 20
"""Bytes of tables that QEMU keeps in memory: those of all of the disk, so that none is written before a flush."""


@dataclass
class FragileDisk:
    """A disk that has many lives.

    :ivar layers: the images of its lives, the first one at the bottom.
    """

    directory: Path
    layers: list[Path] = field(default_factory=list)

    def begin(self, base: Path | None = None) -> Path:
        """The image for the next life."""
        self.directory.mkdir(parents=True, exist_ok=True)
        below = self.layers[-1] if self.layers else base
        layer = self.directory / f"life{len(self.layers)}.qcow2"
        backing = ["-b", str(below.resolve()), "-F", "qcow2"] if below else []
        image.call("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(layer), *([] if below else ["64M"]))
        self.layers.append(layer)
        return layer


def plug_in(machine: Machine, disk: FragileDisk) -> None:
    """Give a running machine the disk; it finds it within a moment."""
    file = {"driver": "file", "filename": str(disk.layers[-1].resolve())}
    tables = {"l2-cache-size": TABLES, "cache-clean-interval": 0}
    machine.control("blockdev-add", {"driver": "qcow2", "node-name": "fragile", "file": file, **tables})
    machine.control("device_add", {"driver": "virtio-blk-pci", "drive": "fragile", "id": "fragile"})


@dataclass
class Life:
    """A program that works in a machine until the plug is pulled.

    :ivar lines: what it has printed.
    """

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def wait_for(self, word: str, seconds: float) -> bool:
        """Whether a line with this word has come, and the program is not at its end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if any(word in line for line in self.lines):
                return True
            time.sleep(0.05)
        return any(word in line for line in self.lines)


@contextlib.contextmanager
def living(machine: Machine, script: str) -> Iterator[Life]:
    """A shell script at work in the machine; the plug is pulled at the end of the block."""
    command = ["ssh", *machine.ssh_options(), "127.0.0.1", script]
    process = subprocess.Popen(
        command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    life = Life(process)
    reader = threading.Thread(target=life.follow, daemon=True)
    reader.start()
    try:
        yield life
    finally:
        machine.kill()
        process.kill()
        process.wait()
        reader.join(10)
