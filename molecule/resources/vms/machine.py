# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One virtual machine: a QEMU process, its disks, its serial log, and the way into it by SSH.

All that a machine is lies in one directory: ``root.qcow2``, ``store.qcow2``, ``serial.log`` (all its lives),
``pid``, ``port`` and ``qmp``, QEMU's control socket.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vms import image
from vms.image import UnavailableError

DISKS = ("root.qcow2", "store.qcow2")
MEMORY_FILE = "memory"
"""Of a snapshot: what QEMU migrates to a machine that resumes; its disks are the bottom of that machine's own."""
KERNEL_OPTIONS = "console=ttyS0 panic=-1 net.ifnames=0 sysrq_always_enabled mitigations=off"
WARM = "import ctypes, json, subprocess, tarfile, urllib.request, zipfile"
"""What every module run imports: a snapshot that has read it once has it in memory."""
MEMORY = "768"
BOOT_SECONDS = 420
PROBE_SECONDS = 15

_TERMINAL = re.compile(r"\x1b(?:\[[0-9;?]*)?[A-Za-z]")
_JOB = re.compile(r"\[[ *]{6}\] (?:\([0-9 of]*\) )?(?:Job (\S+))?")
_STORE_JOB = "var-lib-strata.mount/start"
"""The mount of the file system below the store, at boot, from fstab: no code of the collection runs in it."""

_LIFE = "vm: the machine is started"
"""The line of the serial log with which each life begins."""

SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=60",
    "ControlMaster=auto",
    "ControlPersist=600",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
    "ServerAliveCountMax=20",
    "ServerAliveInterval=15",
    "StrictHostKeyChecking=no",
    "User=root",
    "UserKnownHostsFile=/dev/null",
)


@dataclass(frozen=True)
class Machine:
    """A machine by its name, which is also the name of its directory."""

    directory: Path
    platform: str

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def image(self) -> Path:
        return image.image_directory(self.platform)

    @property
    def port(self) -> int:
        return int((self.directory / "port").read_text())

    def create(self, snapshot: Path | None = None) -> float:
        """A fresh machine, resumed from a snapshot, its platform's unless another is given; how many seconds until SSH
        answered.
        """
        self.destroy()
        snapshot = snapshot or self._platform_snapshot()
        self._put_disks_on(snapshot)
        began = time.monotonic()
        with (snapshot / MEMORY_FILE).open("rb") as memory:
            self.start("-incoming", f"fd:{memory.fileno()}", pass_fds=(memory.fileno(),))
        return time.monotonic() - began

    def _platform_snapshot(self) -> Path:
        """Its platform's snapshot, made where there is none; it belongs to one version of QEMU and one processor."""
        with image.locked(image.cache()):
            if not self.image.exists():
                image.build(self.platform, self.image)
            version = image.call("qemu-system-x86_64", "--version").splitlines()[0]
            variant = " ".join([version, *self._processor(), MEMORY, KERNEL_OPTIONS, WARM])
            snapshot = self.image / f"snapshot-{hashlib.sha256(variant.encode()).hexdigest()[:16]}"
            if not snapshot.exists():
                self._boot_first(snapshot)
        return snapshot

    def _put_disks_on(self, source: Path) -> None:
        """Disks of its own that show those of an image or a snapshot until something is written to them."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for disk in DISKS:
            below = str((source / disk).resolve())
            image.call(
                "qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", str(self.directory / disk)
            )

    def _boot_first(self, snapshot: Path) -> None:
        """The first boot of an image, measured."""
        self._put_disks_on(self.image)
        began = time.monotonic()
        self.start()
        seconds = time.monotonic() - began
        print(f"vm: {self.platform}, {accelerator()}: SSH answers {seconds:.0f} s after a cold start", flush=True)
        self.ssh(f"systemctl is-system-running --wait; python3 -c '{WARM}'")
        self.save(snapshot)

    def save(self, snapshot: Path) -> None:
        """Turn the machine into a snapshot, from which any number of machines can resume."""
        self.ssh("sync")
        self.leave()
        unfinished = snapshot.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        with (unfinished / MEMORY_FILE).open("wb") as memory:
            self._write_memory(memory.fileno())
        self.kill()
        for disk in DISKS:
            image.call("mv", str(self.directory / disk), str(unfinished / disk))
        unfinished.rename(snapshot)

    def _write_memory(self, file: int) -> None:
        self.control("migrate-set-parameters", {"max-bandwidth": 1 << 40})
        with self._qmp() as (connection, stream):
            request = {"execute": "getfd", "arguments": {"fdname": MEMORY_FILE}}
            socket.send_fds(connection, [json.dumps(request).encode()], [file])
            _qmp_answer(stream, "getfd")
            _qmp_call(stream, "migrate", {"uri": f"fd:{MEMORY_FILE}"})
            while (state := _qmp_call(stream, "query-migrate", {})["status"]) != "completed":
                if state in ("failed", "cancelled"):
                    raise UnavailableError(f"QEMU could not write out the memory of {self.name}")
                time.sleep(0.1)

    def start(self, *more: str, pass_fds: tuple[int, ...] = ()) -> None:
        """Start QEMU on the disks as they are, and wait until SSH answers."""
        with (self.directory / "serial.log").open("a") as log:
            log.write(f"\n{_LIFE}\n")
        for _attempt in range(5):
            port = _free_port()
            done = subprocess.run(
                self._command(port, more),
                cwd=self.directory,
                capture_output=True,
                text=True,
                check=False,
                pass_fds=pass_fds,
            )
            if done.returncode == 0:
                break
            if "host forwarding" not in done.stderr:
                raise UnavailableError(f"QEMU did not start {self.name}: {done.stderr.strip()}")
        (self.directory / "port").write_text(f"{port}\n")
        try:
            self.wait()
        except UnavailableError as fault:
            if not self._waits_for_its_store():
                raise
            # Seen once, on one of many machines, with ext4 after a power cut; what the kernel waited for is not known.
            warnings.warn(
                f"vm: {fault}\nvm: {self.name} hung in the mount of its disk, and was reset to start", stacklevel=2
            )
            self.control("system_reset", {})
            self.wait()

    def _command(self, port: int, more: tuple[str, ...]) -> list[str]:
        source = self.image
        command = ["qemu-system-x86_64", "-name", self._title, "-nodefaults", "-no-user-config", "-display", "none"]
        command += ["-machine", "pc", *self._processor(), "-m", MEMORY, "-rtc", "base=utc,clock=host"]
        command += ["-kernel", str(source / "vmlinuz"), "-initrd", str(source / "initrd.img")]
        command += ["-append", f"root=/dev/vda rw {KERNEL_OPTIONS}"]
        # A daemon of QEMU is in another directory when it opens a disk anew, to let go of it.
        place = str(self.directory.resolve()).replace(",", ",,")
        for disk in ("root", "store"):
            command += ["-drive", f"file={place}/{disk}.qcow2,if=none,id={disk},format=qcow2,cache=writeback"]
            command += ["-device", f"virtio-blk-pci,drive={disk}"]
        command += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"]
        command += ["-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"]
        command += ["-chardev", "file,id=serial,path=serial.log,append=on", "-serial", "chardev:serial"]
        command += ["-qmp", "unix:qmp,server=on,wait=off", "-pidfile", "pid", "-daemonize", *more]
        return command

    @staticmethod
    def _processor() -> list[str]:
        if accelerator() == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        # QEMU 7.2 emulates cmpxchg16b wrongly, and kernel 6.12 trips over it; with erms, memory is copied byte by byte.
        return ["-accel", "tcg,thread=single", "-cpu", "max,-cx16,-erms"]

    @property
    def _title(self) -> str:
        return f"strata-vm:{self.directory.resolve()}"

    def wait(self) -> None:
        """Until SSH answers. The clock of a machine that slept is put right.

        :raises UnavailableError: it did not within seven minutes, or QEMU ended.
        """
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self.pid() == 0:
                raise UnavailableError(f"{self.name} has ended: {self.last_words()}")
            # What forwards the port accepts before anyone listens: only the banner tells.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.settimeout(5)
                if connection.recv(4) == b"SSH-" and self._login().returncode == 0:
                    return
            time.sleep(0.2)
        raise UnavailableError(f"{self.name} did not answer within {BOOT_SECONDS} s: {self._what_it_waits_for()}")

    def _login(self) -> subprocess.CompletedProcess[str]:
        self.leave()
        return self.run(f"date --set=@{time.time():.3f}", 120)

    def _what_it_waits_for(self) -> str:
        """The last words of a machine that hangs; the kernel tells which of its tasks are blocked, and where."""
        with contextlib.suppress(OSError, ValueError, UnavailableError):
            self.monitor("sendkey alt-sysrq-w")
            time.sleep(5)
        return self.last_words()

    def last_words(self) -> str:
        """The end of its serial log, without what systemd says twice a second while it waits for a job."""
        return "\n".join(line for line in self._serial_lines() if not _JOB.match(line))[-4000:] or "no serial log"

    def _serial_lines(self) -> list[str]:
        """What it has said in this life."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.directory / "serial.log").read_text(errors="replace").rpartition(_LIFE)[2]
            return [line for line in re.split(r"[\r\n]+", _TERMINAL.sub("", text)) if line]
        return []

    def _waits_for_its_store(self) -> bool:
        """Whether it runs, and the job of which systemd has told last is the mount of the disk below the store."""
        told = [found for found in map(_JOB.match, self._serial_lines()) if found]
        return self.pid() != 0 and bool(told) and told[-1][1] == _STORE_JOB

    def ssh_options(self) -> list[str]:
        """What ssh needs to know to get in, without the host's name."""
        options = [f"IdentityFile={self.image / 'key'}", f"ControlPath={_control_directory()}/%C", *SSH_OPTIONS]
        return [word for option in [*options, f"Port={self.port}"] for word in ("-o", option)]

    def run(self, script: str, seconds: float = 1200) -> subprocess.CompletedProcess[str]:
        """A shell script run in it as root, with what it printed."""
        command = ["ssh", *self.ssh_options(), "127.0.0.1", script]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, stdin=subprocess.DEVNULL
        )

    def ssh(self, script: str) -> str:
        """A shell script that must not fail, and what it printed."""
        done = self.run(script)
        if done.returncode != 0:
            raise AssertionError(f"{self.name}: {script}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def leave(self) -> None:
        """End the SSH connection that is kept open: it belongs to one life of the machine."""
        if not (self.directory / "port").exists():
            return
        command = ["ssh", "-o", f"ControlPath={_control_directory()}/%C", "-p", str(self.port)]
        command += ["-O", "exit", "root@127.0.0.1"]
        subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)

    def monitor(self, command: str) -> str:
        """A command of QEMU's monitor, and what it answered."""
        answer = self.control("human-monitor-command", {"command-line": command})
        if str(answer).strip():
            raise UnavailableError(f"QEMU refused {command!r}: {answer}")
        return str(answer)

    def control(self, name: str, arguments: dict[str, Any]) -> Any:
        """A command of QEMU's control protocol (QMP), and what it answered."""
        with self._qmp() as (_connection, stream):
            return _qmp_call(stream, name, arguments)

    @contextlib.contextmanager
    def _qmp(self) -> Any:
        # A socket's path may have 107 characters, and a checkout's path can be longer.
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"/proc/self/fd/{directory}/qmp")
                with connection.makefile("rw") as stream:
                    stream.readline()
                    _qmp_call(stream, "qmp_capabilities", {})
                    yield connection, stream
        finally:
            os.close(directory)

    def pid(self) -> int:
        """The QEMU process, 0 where there is none; a number that another program has by now does not count."""
        with contextlib.suppress(OSError, ValueError):
            number = int((self.directory / "pid").read_text())
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(self._title) in words:
                return number
        return 0

    def kill(self) -> None:
        """Pull the plug: what the machine has not written out is lost."""
        number = self.pid()
        if number:
            with contextlib.suppress(ProcessLookupError):
                _kill(number)
        self.leave()

    def destroy(self) -> None:
        """Nothing stays but the serial log."""
        self.kill()
        for name in (*DISKS, "pid", "qmp", "port"):
            (self.directory / name).unlink(missing_ok=True)


def _kill(number: int) -> None:
    """Kill a process, and wait until it has let go of its files: its memory, and with it its command line, goes first.

    :raises ProcessLookupError: it has ended.
    """
    process = os.pidfd_open(number)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])
    finally:
        os.close(process)


def _qmp_call(stream: Any, name: str, arguments: dict[str, Any]) -> Any:
    stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    stream.flush()
    return _qmp_answer(stream, name)


def _qmp_answer(stream: Any, name: str) -> Any:
    while True:
        answer = json.loads(stream.readline())
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            raise UnavailableError(f"QEMU refused {name}: {answer['error']}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _control_directory() -> Path:
    """Where the sockets of shared SSH connections lie: their paths have to be short."""
    directory = Path(f"/tmp/strata-vm-{os.geteuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
        raise UnavailableError(f"{directory} belongs to somebody else: remove it")
    return directory


def accelerator() -> str:
    """``kvm`` where a stock kernel boots with it, else ``tcg``; found by booting, once per boot of this machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = image.cache() / "accelerator.json"
    with contextlib.suppress(OSError, ValueError):
        remembered = json.loads(known.read_text())
        if remembered["boot"] == boot:
            return str(remembered["kind"])
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    kernels = sorted(image.cache().glob("vm-*/vmlinuz"))
    if not kernels:
        return "tcg"
    kind = "kvm" if _boots_with_kvm(kernels[0]) else "tcg"
    unfinished = known.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps({"boot": boot, "kind": kind}))
    unfinished.rename(known)
    return kind


def _boots_with_kvm(kernel: Path) -> bool:
    """Whether a kernel says its first words: on a virtual machine ``/dev/kvm`` may open and do nothing."""
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=kvm"]
    command += ["-cpu", "host", "-m", "256", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1", "-no-reboot"]
    with subprocess.Popen([*command, "-serial", "stdio"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as qemu:
        assert qemu.stdout is not None
        os.set_blocking(qemu.stdout.fileno(), False)
        said = b""
        deadline = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < deadline and qemu.poll() is None and b"Linux version" not in said:
            said += qemu.stdout.read() or b""
            time.sleep(0.1)
        qemu.kill()
    return b"Linux version" in said
