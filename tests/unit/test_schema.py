# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of definitions that ships with the role says what the modules say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "roles/stacks/files/overlay.schema.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))


def test_published_schema_is_generated_from_the_argument_specs(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/schema", tmp_path / "schema.json"], check=True)
    assert (tmp_path / "schema.json").read_text() == PUBLISHED.read_text(), "run scripts/schema"


def test_published_schema_is_a_valid_json_schema(validator: Any) -> None:
    validator.check_schema(validator.schema)


def test_quick_start_definition_is_valid(validator: Any) -> None:
    validator.validate(yaml.safe_load((ROOT / "examples/quickstart/group_vars/all.yml").read_text()))


STACK = {"name": "web", "path": "/srv/web", "layers": ["base", {"src": "a.tar"}], "writable": "persistent"}


@pytest.mark.parametrize(
    "variables",
    [
        {"overlay_stacks": [STACK], "anything": {"else": 1}},
        {"overlay_stacks": "{{ web_stacks }}"},
        {"overlay_stacks__web": [{**STACK, "size": "10g", "services": ["nginx"], "health": {"url": "http://x/"}}]},
        {"overlay_stacks": [{**STACK, "cover": "{{ covers }}", "boot": True}], "overlay_exclusive": True},
        {"overlay_layers": [{"name": "a", "files": [{"path": "x", "content": "y", "mode": "0644", "owner": 5}]}]},
        {"overlay_images__more": [{"name": "app", "registry": "reg/app:1", "mirrors": ["m:5000"]}]},
        {"overlay_prune": {"unused_for": "7d", "keep": ["base"]}},
    ],
)
def test_valid_definition_is_accepted(validator: Any, variables: dict[str, Any]) -> None:
    validator.validate(variables)


@pytest.mark.parametrize(
    "variables",
    [
        {"overlay_stacks": {}},
        {"overlay_stacks": "web"},
        {"overlay_stacks": [{**STACK, "wriitable": "none"}]},
        {"overlay_stacks": [{**STACK, "writable": "yes"}]},
        {"overlay_stacks": [{"path": "/srv/web"}]},
        {"overlay_stacks__web": [{**STACK, "layers": [{"source": "a.tar"}]}]},
        {"overlay_layers": [{"name": "a", "files": [{"content": "y"}]}]},
        {"overlay_images": [{"name": "app", "validate_certs": 3}]},
        {"overlay_prune": {"unused": "7d"}},
        {"overlay_exclusive": "perhaps"},
    ],
)
def test_wrong_definition_is_refused(validator: Any, variables: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(variables)
