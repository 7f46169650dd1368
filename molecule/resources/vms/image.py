# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disk images of Debian with a store's file system beside them, built once and kept outside the checkout.

An image is a directory: ``root.qcow2``, ``store.qcow2``, ``vmlinuz``, ``initrd.img``, ``key`` (the SSH key that logs in
as root) and, once a machine has booted from it, ``snapshot-*``: both disks and the memory with which others resume.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class UnavailableError(Exception):
    """Virtual machines cannot run here; says what to install or who has to run it."""


@dataclass(frozen=True)
class Platform:
    """A release of Debian and the file system below the store.

    :ivar make_store: makes that file system on the file whose name is added; it carries the label ``store``.
    :ivar mount_options: with which the store is mounted.
    """

    release: str
    file_system: str
    make_store: tuple[str, ...]
    mount_options: str


PLATFORMS = {
    "debian12": Platform(
        "bookworm",
        "ext4",
        ("mkfs.ext4", "-q", "-L", "store", "-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"),
        "prjquota",
    ),
    "debian13": Platform("trixie", "xfs", ("mkfs.xfs", "-q", "-L", "store"), "pquota"),
}
"""What tests may name: kernel 6.1 and util-linux 2.38; kernel 6.12 and util-linux 2.41."""

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "ssh": "openssh-client",
}
"""What has to be on this machine, and the Debian packages that bring it."""

PACKAGES = (
    "dbus",
    "e2fsprogs",
    "fuse-overlayfs",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "openssh-server",
    "procps",
    "python3",
    "systemd-sysv",
    "udev",
    "xfsprogs",
)
ROOT_SIZE = "4G"
STORE_SIZE = "2G"

NETWORK = """[Match]
Type=ether

[Network]
Address=10.0.2.15/24
"""
# A processor that is emulated takes ten times as long for everything.
PATIENCE = """[Manager]
DefaultTimeoutStartSec=600s
DefaultTimeoutStopSec=300s
DefaultDeviceTimeoutSec=600s
"""
SSHD = "PermitRootLogin prohibit-password\nUseDNS no\nUsePAM no\nMaxSessions 100\n"
# An image that knows its disk needs few modules at the start, and boots sooner for it.
INITRD_HOOK = """#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk ext4
"""
NOT_NEEDED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@loop.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-network-generator.service",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
    "systemd-pstore.service",
    "xfs_scrub_all.timer",
)
NEEDED_GENERATORS = ("systemd-fstab-generator",)
"""systemd starts all generators at each boot and each reload, which takes an emulated processor a second."""


def files(platform: Platform) -> dict[str, tuple[int, str]]:
    """What is written into a new root, by path: mode and text."""
    store = f"LABEL=store /var/lib/strata {platform.file_system} {platform.mount_options} 0 0\n"
    return {
        "etc/fstab": (0o644, f"/dev/vda / ext4 defaults 0 0\n{store}"),
        "etc/systemd/network/20-wired.network": (0o644, NETWORK),
        "etc/systemd/system.conf.d/patience.conf": (0o644, PATIENCE),
        "etc/ssh/sshd_config.d/tests.conf": (0o644, SSHD),
        "etc/modules-load.d/overlay.conf": (0o644, "overlay\n"),
    }


def missing() -> str:
    """Why machines cannot run here, in one line that says what to do; "" where they can."""
    packages = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=_path()) is None})
    if os.uname().machine != "x86_64":
        return f"the images are for x86_64, and this machine is {os.uname().machine}"
    if packages:
        return f"install the Debian packages {' '.join(packages)}"
    if os.geteuid() != 0:
        return "building an image needs root: run it as root"
    return ""


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def cache() -> Path:
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strata.overlay"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One process at a time builds in a directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def image_directory(name: str) -> Path:
    """Where the image of a platform lies: another recipe is another image."""
    platform = PLATFORMS[name]
    recipe = [PACKAGES, NOT_NEEDED, NEEDED_GENERATORS, files(platform), INITRD_HOOK]
    recipe += [ROOT_SIZE, STORE_SIZE, platform.make_store]
    digest = hashlib.sha256(json.dumps([name, platform.release, recipe]).encode()).hexdigest()
    return cache() / f"vm-{name}-{digest[:16]}"


def build(name: str, image: Path) -> None:
    """Build an image where there is none yet; the machine that first boots from it makes the snapshot.

    :raises UnavailableError: it cannot be built here.
    """
    if fault := missing():
        raise UnavailableError(fault)
    platform = PLATFORMS[name]
    unfinished = image.with_name(f"{image.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "strata.overlay tests", "-f", str(unfinished / "key"))
        root = unfinished / "root"
        _debootstrap(platform, root)
        _furnish(platform, root, (unfinished / "key.pub").read_text())
        (kernel,) = root.glob("boot/vmlinuz-*")
        (initrd,) = root.glob("boot/initrd.img-*")
        shutil.copy(kernel, unfinished / "vmlinuz")
        shutil.copy(initrd, unfinished / "initrd.img")
        _disk(unfinished / "root", ROOT_SIZE, "mkfs.ext4", "-q", "-L", "root", "-d", str(root))
        shutil.rmtree(root)
        _disk(unfinished / "store", STORE_SIZE, *platform.make_store)
        unfinished.rename(image)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _debootstrap(platform: Platform, root: Path) -> None:
    hook = "$1/etc/initramfs-tools"
    before = (
        f'mkdir -p "{hook}/hooks" "{hook}/conf.d" && echo MODULES=list > "{hook}/conf.d/tests" && '
        f'printf %s "$STRATA_HOOK" > "{hook}/hooks/tests" && chmod 755 "{hook}/hooks/tests"'
    )
    call(
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        f"--essential-hook={before}",
        "--format=directory",
        platform.release,
        str(root),
        environment={**os.environ, "PATH": _path(), "STRATA_HOOK": INITRD_HOOK},
    )


def _furnish(platform: Platform, root: Path, key: str) -> None:
    for path, (mode, text) in {**files(platform), "root/.ssh/authorized_keys": (0o600, key)}.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
    (root / "root/.ssh").chmod(0o700)
    (root / "etc/hostname").write_text("machine\n")
    (root / "etc/machine-id").write_text(hashlib.md5(str(root).encode()).hexdigest() + "\n")
    (root / "var/lib/strata").mkdir(mode=0o711)
    call("chroot", str(root), "systemctl", "--quiet", "enable", "systemd-networkd.service", "ssh.service")
    call("chroot", str(root), "systemctl", "--quiet", "mask", *NOT_NEEDED)
    masked = root / "etc/systemd/system-generators"
    masked.mkdir()
    for generator in (root / "usr/lib/systemd/system-generators").iterdir():
        if generator.name not in NEEDED_GENERATORS:
            (masked / generator.name).symlink_to("/dev/null")
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)


def _disk(stem: Path, size: str, *make: str) -> None:
    """``stem.qcow2``: a file system without a partition table."""
    raw = stem.with_suffix(".raw")
    with raw.open("wb"):
        pass
    call("qemu-img", "resize", "-q", "-f", "raw", str(raw), size)
    call(*make, str(raw))
    call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(stem.with_suffix(".qcow2")))
    raw.unlink()


def call(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a program that must not fail, and what it printed.

    :raises UnavailableError: it failed; with its last words.
    """
    environment = environment or {**os.environ, "PATH": _path()}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise UnavailableError(f"{command[0]} failed: {(done.stderr + done.stdout).strip()[-600:]}")
    return done.stdout
