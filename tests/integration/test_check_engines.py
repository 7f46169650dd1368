# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""store_check of roots that real engines made, whole and damaged as users tell of it: found, and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._check.run import check
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.tests.integration.docker import StoppedDocker
from ansible_collections.strata.overlay.tests.integration.host import snapshot
from ansible_collections.strata.overlay.tests.integration.podman import Podman


def kinds_of(root: Path) -> set[str]:
    before = snapshot(root)
    result: dict[str, Any] = check({"root": str(root)}, False)
    assert snapshot(root) == before
    assert result["changed"] is False
    assert not any(finding["repairable"] for finding in result["findings"])
    return {finding["kind"] for finding in result["findings"]}


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a root, and the driver's directory in it."""
    stopped: StoppedDocker | Podman = request.getfixturevalue(f"stopped_{request.param}")
    root = stopped.copy(tmp_path / request.param)
    return root, root / ("overlay2" if request.param == "docker" else "overlay")


def test_whole_root_has_no_findings(engine: tuple[Path, Path]) -> None:
    assert kinds_of(engine[0]) == set()


def test_repair_of_engine_root_is_refused(engine: tuple[Path, Path]) -> None:
    before = snapshot(engine[0])
    with pytest.raises(DefinitionError, match="which is never changed"):
        check({"root": str(engine[0]), "repair": True}, False)
    assert snapshot(engine[0]) == before


def test_damage_reported_by_users_is_found(engine: tuple[Path, Path]) -> None:
    root, home = engine
    with_parent = next(path.parent for path in sorted(home.glob("*/lower")))
    (with_parent / "link").write_text("")  # moby #42964, #36158
    (home / ("0" * 64) / "diff").mkdir(parents=True)  # moby #45939
    (home / "l" / ("A" * 26)).symlink_to("../gone/diff")  # moby #23535
    assert {"link_wrong", "layer_orphaned", "short_link_dangling"} <= kinds_of(root)
    (with_parent / "lower").unlink()
    for link in (home / "l").iterdir():
        link.unlink()
    assert {"lower_wrong", "short_link_missing"} <= kinds_of(root)
