# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of findings: in the code and in docs/recovery.md they are the same, and none is made that is no kind."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._check import model
from ansible_collections.strata.overlay.plugins.module_utils._check.model import KINDS

FILES = Path(model.__file__).parent
TOP = FILES.parents[2]


def test_every_kind_of_finding_is_documented_once() -> None:
    listed = re.findall(r"^\| `([a-z_]+)` \|", (TOP / "docs/recovery.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(KINDS)


def test_every_kind_of_finding_is_used_by_a_check() -> None:
    judges = [path for path in FILES.glob("*.py") if path.stem != "model"]
    text = "".join(path.read_text() for path in judges)
    assert {kind for kind in KINDS if f'"{kind}"' not in text} == set()


def test_severities_of_findings_are_error_warning_and_notice() -> None:
    assert set(KINDS.values()) == {"error", "warning", "notice"}
