# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a commit is asked to do, and how services are kept still."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import read_commit
from ansible_collections.strata.overlay.plugins.module_utils._services.freeze import (
    ServiceFreeze,
    plan_freeze,
    services_frozen,
)
from ansible_collections.strata.overlay.plugins.module_utils._services.units import UnitState

UNITS = ("db.service", "app.service")
STOPPED = plan_freeze("stop", UNITS)


def test_all_errors_of_a_commit_are_reported_at_once() -> None:
    with pytest.raises(DefinitionError) as told:
        read_commit({"root": "relative", "stack": "..", "name": "a b", "services": "halt"})
    assert [text.partition(": ")[0].partition(" must")[0] for text in told.value.errors] == [
        "option 'services'",
        "option 'root'",
        "commit of stack ..",
        "commit of stack ..",
    ]
    assert read_commit({"stack": "web", "name": "kept", "labels": {"build": 7}}).labels == {"build": "7"}


def test_units_stop_in_reverse_order_and_start_in_order() -> None:
    assert plan_freeze("run", UNITS) == ServiceFreeze()
    assert STOPPED.jobs == (("stop", "app.service"), ("stop", "db.service"))
    assert STOPPED.back == (("start", "db.service"), ("start", "app.service"))
    assert plan_freeze("freeze", ["app.service"]) == ServiceFreeze(
        (("freeze", "app.service"),), (("thaw", "app.service"),)
    )


class Manager:
    """Writes into a file, since what brings units back is another process."""

    def __init__(self, path: str, refuses: str = "") -> None:
        self._path = path
        self._refuses = refuses

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        return {unit: UnitState("loaded", "active") for unit in units}

    def act(self, verb: str, unit: str) -> None:
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(f"{verb} {unit}\n")
        if self._refuses == f"{verb} {unit}":
            raise StrataError(f"'systemctl {verb} {unit}' failed")

    def reread(self) -> None:
        raise AssertionError


@pytest.fixture
def log(tmp_path: pytest.TempPathFactory) -> str:
    return f"{tmp_path}/log"


def lines(log: str) -> list[str]:
    with open(log, encoding="utf-8") as stream:
        return stream.read().splitlines()


ALL = ["stop app.service", "stop db.service", "start db.service", "start app.service"]


def test_stopped_units_start_again_after_success_and_failure(log: str) -> None:
    with services_frozen("web", STOPPED, Manager(log)):
        assert lines(log) == ALL[:2]
    assert lines(log) == ALL
    with pytest.raises(ZeroDivisionError), services_frozen("web", STOPPED, Manager(log)):
        raise ZeroDivisionError
    assert lines(log) == [*ALL, *ALL]


def test_failed_stop_or_start_is_reported_and_other_units_start(log: str) -> None:
    with (
        pytest.raises(StrataError, match=r"'systemctl stop db\.service' failed"),
        services_frozen("web", STOPPED, Manager(log, "stop db.service")),
    ):
        pytest.fail("it did not stop")
    assert lines(log) == ALL, "the one that has stopped runs again"
    with (
        pytest.raises(StrataError, match=r"stack web: 'systemctl start db\.service' failed"),
        services_frozen("web", STOPPED, Manager(log, "start db.service")),
    ):
        pass
    assert lines(log) == [*ALL, *ALL], "the other one is started all the same"
