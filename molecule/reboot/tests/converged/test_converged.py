# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person would look at before a reboot."""

from __future__ import annotations

import json

from testinfra.host import Host


def test_deepest_stack_has_as_many_layers_as_the_kernel_takes(host: Host) -> None:
    version = tuple(int(part) for part in host.check_output("uname -r").split(".")[:2])
    record = json.loads(host.file("/var/lib/strata/strata/stacks/most.json").content_string)
    assert len(record["history"][-1]["diff_ids"]) == (500 if version >= (6, 8) else 135)
    assert host.file("/srv/most/top").content_string == "b\n"


def test_every_stack_has_its_unit(host: Host) -> None:
    for name in ("one", "five", "most", "kept", "fleeting"):
        assert host.file(f"/etc/systemd/system/srv-{name}.mount").exists
