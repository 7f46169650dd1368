# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing is left of the stacks, their units, their layers and the helper."""

from __future__ import annotations

from testinfra.host import Host


def test_no_overlay_is_mounted(host: Host) -> None:
    assert " overlay " not in host.file("/proc/self/mountinfo").content_string


def test_no_unit_helper_or_fstab_entry_is_left(host: Host) -> None:
    assert host.check_output("find /etc/systemd/system /etc/fstab -name 'srv-*' -o -name '*.requires'") == ""
    assert not host.file("/usr/sbin/mount.strata").exists
    assert "strata /srv" not in host.file("/etc/fstab").content_string


def test_no_layer_is_left_in_the_store(host: Host) -> None:
    assert host.file("/var/lib/strata/content/sha256").listdir() == []
    left = host.check_output("find /var/lib/strata/overlay2 -mindepth 1 -maxdepth 1 ! -name l")
    assert left == ""
