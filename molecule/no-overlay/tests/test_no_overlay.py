# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On a kernel without overlay: the tree is right, read-only, and no overlay. What is refused, converge.yml sees."""

from __future__ import annotations

from testinfra.host import Host


def test_the_kernel_has_none(host: Host) -> None:
    assert "overlay" not in host.file("/proc/filesystems").content_string
    assert host.run("mount -t overlay overlay -o lowerdir=/etc:/usr /mnt").rc != 0


def test_the_tree_is_that_of_all_layers(host: Host) -> None:
    found = host.check_output("cd /srv/web && find . -type f | sort").split()
    assert found == ["./bin/app", "./etc/os", "./whole/app"]
    assert host.mount_point("/srv/web").exists
    assert host.mount_point("/srv/web").filesystem != "overlay"
    assert host.run("touch /srv/web/new").rc != 0
    assert host.file("/srv/one/whole/base").content_string == "base"


def test_what_was_refused_has_left_nothing(host: Host) -> None:
    assert not host.file("/srv/more").exists
    assert host.file("/var/lib/strata/strata/stacks/web.json").exists
    assert not host.file("/var/lib/strata/strata/stacks/more.json").exists
