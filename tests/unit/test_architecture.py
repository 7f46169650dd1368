# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/architecture.md lists every room once, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_every_room_is_on_the_map_once() -> None:
    listed = re.findall(r"^\| `(_[a-z]+)` \|", (CHECKOUT / "docs/architecture.md").read_text(), re.MULTILINE)
    rooms = [path.stem for path in (CHECKOUT / "plugins/module_utils").glob("_*.py")]
    assert sorted(listed) == sorted(rooms)
