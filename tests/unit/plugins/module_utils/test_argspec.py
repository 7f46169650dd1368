# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every module: whose they are, and which are required."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition import argspec


@pytest.mark.parametrize(
    ("spec", "own", "required"),
    [
        (argspec.store_info_module_spec, {"size"}, set()),
        (argspec.store_check_module_spec, {"repair", "deep"}, set()),
        (argspec.prune_module_spec, {"unused_for", "labels", "keep", "max_bytes"}, set()),
        (argspec.prune_program_module_spec, {"unused_for", "labels", "keep", "max_bytes", "state"}, set()),
        (argspec.stack_info_module_spec, {"name", "changes"}, {"name"}),
        (argspec.commit_module_spec, {"stack", "name", "labels", "services", "restack"}, {"stack", "name"}),
    ],
)
def test_module_of_a_store_takes_its_place_and_its_own_options(
    spec: Callable[[], argspec.Spec], own: set[str], required: set[str]
) -> None:
    options = spec()
    assert set(options) == {"root", "lock_timeout"} | own
    assert {name for name, option in options.items() if option.get("required")} == required


def test_mount_helper_takes_no_store() -> None:
    assert set(argspec.mount_helper_module_spec()) == {"state"}


@pytest.mark.parametrize("module", ["apply", "plan", "layer", "image", "stack"])
def test_module_that_changes_a_store_hides_what_the_controller_sends(module: str) -> None:
    options = argspec.module_spec(module)
    assert options["_controller"] == {"type": "str", "no_log": True}
    assert {"root", "lock_timeout"} < set(options)


def test_image_that_is_exported_takes_options_of_its_own() -> None:
    alone = set(argspec.module_spec("image")) - set(argspec.image_spec())
    assert alone == {"root", "lock_timeout", "_controller", "stack", "changes", "dest", "format", "config"}
    assert "exported" in argspec.module_spec("image")["state"]["choices"]
