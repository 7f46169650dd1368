# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python3 -m vms``: machines for a scenario, by name and platform. Molecule's create and destroy playbooks call it.

up DIRECTORY NAME=PLATFORM...   fresh machines, with DIRECTORY/inventory.yml and DIRECTORY/ssh_config to reach them
down DIRECTORY                  every machine there is gone; their serial logs stay
check                           ends with 1 and says in a line what is missing where machines cannot run
"""

from __future__ import annotations

import sys
from pathlib import Path

from vms.fleet import down, up
from vms.image import UnavailableError, missing


def main(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["check"]:
            fault = missing()
            print(fault or "machines can run here")
            return 1 if fault else 0
        if arguments[:1] == ["up"] and len(arguments) > 2:
            up(Path(arguments[1]), dict(word.split("=", 1) for word in arguments[2:]))
            return 0
        if arguments[:1] == ["down"] and len(arguments) == 2:
            down(Path(arguments[1]))
            return 0
    except UnavailableError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
