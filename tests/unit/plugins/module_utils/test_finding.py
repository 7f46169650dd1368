# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of findings: in the code and in docs/recovery.md they are the same, and none is made that is no kind."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils import _finding
from ansible_collections.strata.overlay.plugins.module_utils._finding import KINDS

ROOMS = Path(_finding.__file__).parent
TOP = ROOMS.parent.parent


def test_every_kind_is_in_the_document_once() -> None:
    listed = re.findall(r"^\| `([a-z_]+)` \|", (TOP / "docs/recovery.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(KINDS)


def test_every_kind_is_found_somewhere() -> None:
    rooms = [*ROOMS.glob("_check*.py"), ROOMS / "_enginecheck.py"]
    text = "".join(room.read_text() for room in rooms)
    assert {kind for kind in KINDS if f'"{kind}"' not in text} == set()


def test_severities() -> None:
    assert set(KINDS.values()) == {"error", "warning", "notice"}
