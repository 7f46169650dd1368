# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Version 2 is there, what it removes has gone, and what was written stays where it belongs."""

from __future__ import annotations

from testinfra.host import Host


def test_service_serves_version_2(host: Host) -> None:
    answer = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/version').read().decode().strip())"
    assert host.check_output("python3 -c %s", answer) == "2"
    assert host.check_output("/srv/web/bin/greet") == "greetings from version 2"
    assert not host.file("/srv/web/lib/removed-by-2").exists


def test_changes_of_a_persistent_stack_are_kept(host: Host) -> None:
    assert host.file("/srv/data/mine").content_string == "mine\n"
    assert host.file("/srv/data/version").content_string == "2\n"
    assert not host.file("/srv/data/lib/removed-by-2").exists


def test_stack_without_a_change_keeps_its_files(host: Host) -> None:
    assert host.file("/srv/scratch/mine").content_string == "mine\n"


def test_version_1_is_still_stored(host: Host) -> None:
    assert len(host.file("/var/lib/strata/content/sha256").listdir()) == 4
