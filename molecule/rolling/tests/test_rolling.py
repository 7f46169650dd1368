# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release that fails on one host is there on no host but those where it works."""

from __future__ import annotations

import json

from testinfra.host import Host


def test_failed_host_is_rolled_back_and_the_other_keeps_the_release(host: Host) -> None:
    version = "1" if host.file("/etc/app-refuses-2").exists else "2"
    assert host.file("/srv/web/version").content_string == f"{version}\n"
    served = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/').read().decode())"
    assert host.check_output("python3 -c %s", served) == version
    assert host.service("app.service").is_running


def test_failed_release_and_its_rollback_are_in_the_history(host: Host) -> None:
    record = json.loads(host.file("/var/lib/strata/strata/stacks/web.json").content_string)
    assert len(record["history"]) == (3 if host.file("/etc/app-refuses-2").exists else 2)
