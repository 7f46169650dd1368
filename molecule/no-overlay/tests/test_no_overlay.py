# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On a kernel without overlay, after a reboot: the trees are right, and none is an overlay. What is refused,
converge.yml sees.
"""

from __future__ import annotations

import pytest
from testinfra.host import Host

FUSE = "fuse.fuse-overlayfs"


def test_kernel_has_no_overlay(host: Host) -> None:
    assert "overlay" not in host.file("/proc/filesystems").content_string
    assert host.run("mount -t overlay overlay -o lowerdir=/etc:/usr /mnt").rc != 0


@pytest.mark.parametrize(("path", "filesystem"), [("/srv/web", FUSE), ("/srv/data", FUSE), ("/srv/copied", "")])
def test_stack_without_overlay_shows_the_files_of_all_layers(host: Host, path: str, filesystem: str) -> None:
    found = host.check_output(f"cd {path} && find . -type f | sort").split()
    assert [name for name in found if name != "./new"] == ["./bin/app", "./etc/os", "./whole/app"]
    assert host.mount_point(path).exists
    assert host.mount_point(path).filesystem == filesystem or not filesystem
    assert (host.run(f"touch {path}/try && rm {path}/try").rc == 0) == (path == "/srv/data")


def test_stack_of_one_layer_is_mounted_without_fuse(host: Host) -> None:
    assert host.file("/srv/one/whole/base").content_string == "base"
    assert "fuse" not in host.mount_point("/srv/one").filesystem


def test_file_written_before_the_reboot_is_kept(host: Host) -> None:
    assert host.file("/srv/data/new").content_string == "written"


def test_fuse_servers_run_and_no_other_unit_has_failed(host: Host) -> None:
    assert len(host.process.filter(comm="fuse-overlayfs")) == 2
    failed = host.check_output("systemctl list-units --failed --no-legend --plain | cut -d' ' -f1").split()
    assert set(failed) <= {"systemd-modules-load.service"}, "which may not load overlay, as converge.yml has it"


def test_refused_stack_has_left_nothing(host: Host) -> None:
    assert not host.file("/srv/more").exists
    assert host.file("/var/lib/strata/strata/stacks/web.json").exists
    assert not host.file("/var/lib/strata/strata/stacks/more.json").exists
