# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A full stack says so to whoever writes there, and to nobody else."""

from __future__ import annotations

import pytest
from testinfra.host import Host

FILL = """
import errno, os
written = 0
with open('%s/filled', 'wb', 0) as stream:
    try:
        while written < 200 << 20:
            written += stream.write(bytes(65536))
            os.fsync(stream.fileno())
        print(written, 'no end')
    except OSError as error:
        print(written, errno.errorcode[error.errno])
"""


@pytest.mark.parametrize(("path", "size"), [("/srv/small", 8 << 20), ("/srv/odd", 5000001), ("/srv/fleeting", 4 << 20)])
def test_stack_is_full_at_its_size(host: Host, path: str, size: int) -> None:
    written, error = host.check_output("python3 -c %s", FILL % path).split()
    assert error in ("ENOSPC", "EDQUOT")
    assert size / 2 < int(written) <= size + 65536
    assert host.file(f"{path}/below").content_string == "from the layer\n"


def test_host_and_other_stacks_have_free_space_beside_full_stacks(host: Host) -> None:
    for path in ("/srv/small", "/srv/odd", "/srv/fleeting"):
        assert host.run("dd if=/dev/zero of=%s/more bs=1M count=20", path).rc != 0
    host.check_output("dd if=/dev/zero of=/srv/free/data bs=1M count=40 conv=fsync")
    free = int(host.check_output("df --block-size=1M --output=avail /var/lib/strata").split()[-1])
    assert free > 1000


def test_removed_files_free_space_in_a_full_stack(host: Host) -> None:
    host.run("dd if=/dev/zero of=/srv/small/more bs=1M count=20")
    host.check_output("rm -f /srv/small/more /srv/small/filled && dd if=/dev/zero of=/srv/small/again bs=1M count=6")
    host.check_output("rm /srv/small/again")
