# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection chroot: what runs in a tree reaches neither the kernel settings nor the devices of its host."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.connection.chroot import entering
from ansible_collections.strata.overlay.tests.integration.busybox_root import busybox_root


@dataclass
class Inside:
    """A tree as tasks of a build see it, without Ansible around it."""

    tree: Path
    run_directory: Path

    def call(self, command: str, *around: str) -> subprocess.CompletedProcess[str]:
        """
        :param around: a program that starts it, with its arguments.
        """
        line = entering(str(self.tree), str(self.run_directory), command, sudo=False)
        return subprocess.run([*around, "sh", "-c", line], check=False, capture_output=True, text=True)

    def output(self, command: str, *around: str) -> str:
        done = self.call(command, *around)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    tree = busybox_root(tmp_path / "tree")
    for name in ("proc", "dev", "sys", "run"):
        (tree / name).mkdir()
    (tmp_path / "run").mkdir()
    return Inside(tree, tmp_path / "run")


def setting(name: str) -> str:
    return Path("/proc/sys", name).read_text()


def test_kernel_settings_of_the_build_host_are_read_only_in_a_build(inside: Inside) -> None:
    before = setting("vm/swappiness")
    other = (int(before) + 1) % 100
    try:
        for command in (
            f"sysctl -w vm.swappiness={other}",
            f"echo {other} > /proc/sys/vm/swappiness",
            "echo x > /proc/sys/kernel/hostname",
            "echo h > /proc/sysrq-trigger",
            "touch /sys/x",
        ):
            done = inside.call(command)
            assert done.returncode != 0, command
            assert re.search("Read-only|nonexistent", done.stderr), command + done.stderr
        assert setting("vm/swappiness") == before
    finally:
        Path("/proc/sys/vm/swappiness").write_text(before)


def test_capabilities_that_reach_the_whole_host_are_dropped_in_a_build(inside: Inside) -> None:
    kept = int(inside.output("cat /proc/self/status").split("CapBnd:")[1].split()[0], 16)
    for name, number in {"net_admin": 12, "sys_module": 16, "sys_boot": 22, "sys_time": 25, "syslog": 34}.items():
        assert not kept & 1 << number, name


def test_hostname_and_ipc_of_the_build_host_are_isolated_from_a_build(inside: Inside) -> None:
    before = os.uname().nodename
    spaces = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("uts", "ipc", "mnt", "pid")}
    mark = Path(f"/dev/shm/strata-{os.getpid()}")
    mark.touch()
    try:
        said = inside.output(
            f"hostname of-a-build; hostname; ls /dev/shm; touch {mark}-inside; ls /dev/mqueue; "
            "for name in uts ipc mnt pid; do readlink /proc/self/ns/$name; done"
        ).splitlines()
        assert said[0] == "of-a-build"
        assert len(said) == 1 + len(spaces), "the host's shared memory is seen"
        assert not set(said) & set(spaces.values())
        assert os.uname().nodename == before
        assert not Path(f"{mark}-inside").exists()
    finally:
        subprocess.run(["hostname", before], check=True)
        for path in mark.parent.glob(f"{mark.name}*"):
            path.unlink()


USES = "echo x > /dev/null; head -c 8 /dev/urandom | wc -c; echo out > /dev/stdout; ls /dev /dev/pts; "
MASKED = "cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l"
DEVICES = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]


def test_build_has_only_needed_devices_and_they_are_its_own(inside: Inside) -> None:
    before = os.stat("/dev/null").st_mode
    try:
        said = inside.output(USES + MASKED + "; chmod 600 /dev/null; mount -t tmpfs mine /tmp").split()
        assert said[:2] == ["8", "out"]
        assert sorted(set(said[3:-2]) - {"mqueue", "/dev/pts:"}) == DEVICES
        assert said[-2:] == ["0", "0"]
        assert os.stat("/dev/null").st_mode == before
    finally:
        os.chmod("/dev/null", stat.S_IMODE(before))


def test_build_in_a_user_namespace_is_isolated_from_the_host_too(inside: Inside) -> None:
    """As in a container without privileges: no devices are made, and no sysfs is mounted anew."""
    around = ("unshare", "--user", "--map-root-user", "--mount")
    if subprocess.run([*around, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel gives nobody a user namespace")
    said = inside.output(USES + MASKED, *around).split()
    assert said[:2] == ["8", "out"]
    assert said[-2:] == ["0", "0"]
    for command in ("chmod 600 /dev/null", "touch /sys/fs/cgroup/x", "sysctl -w vm.swappiness=1"):
        done = inside.call(command, *around)
        assert done.returncode != 0, command
        assert "Read-only" in done.stderr
