# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``state: exported`` as written: what it means, and every mistake in it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._definition.export import ExportSpec, read_export


def read(**options: Any) -> ExportSpec:
    return read_export({"name": "app", "state": "exported", "_controller": {"any": "thing"}, **options})


def errors(**options: Any) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        read(**options)
    return [line.strip() for line in str(caught.value).splitlines() if "image app" in line]


def test_archive_has_docker_format_unless_oci_is_given() -> None:
    spec = read(dest="/srv/export//app.tar")
    assert (spec.dest, spec.form, spec.registry, spec.label) == ("/srv/export/app.tar", "docker", "", "image app")
    assert read(dest="/srv/app", format="oci").form == "oci"


@pytest.mark.parametrize(
    ("options", "tag"),
    [({}, "app:latest"), ({"reference": "other:1.4"}, "other:1.4"), ({"name": "app:2"}, "app:2")],
)
def test_tag_is_the_reference_or_else_the_name(options: dict[str, Any], tag: str) -> None:
    assert read(dest="/a.tar", **options).tag.endswith(tag)


def test_export_of_a_stack_with_changes_to_a_registry_is_read() -> None:
    spec = read(registry="r.example:5000/app", stack="web", changes=True, config={"Cmd": ["run"]})
    assert (spec.registry, spec.stack, spec.changes) == ("r.example:5000/app", "web", True)
    assert spec.config == {"Cmd": ["run"]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "exactly one of dest and registry says where the image goes; none is given"),
        ({"dest": "/a", "registry": "r.example/a"}, "where the image goes; both are given"),
        ({"dest": "a.tar"}, "option 'dest': 'a.tar' must be an absolute path on the host"),
        ({"registry": "r.example/a", "format": "oci"}, "option 'format' is of no use with registry"),
        ({"dest": "/a", "changes": True}, "option 'changes' needs 'stack'"),
        ({"dest": "/a", "src": "x.tar"}, "option 'src' is of no use with state: exported"),
        ({"dest": "/a", "reference": "Not A Name"}, "'Not A Name' is no name that an image can have"),
        ({"dest": "/a", "reference": f"app@sha256:{'a' * 64}"}, "is no name that an image can have"),
        ({"registry": "r.example/A"}, "option 'registry'"),
        ({"registry": f"r.example/a@sha256:{'a' * 64}"}, "an image is pushed to a tag and not to a digest"),
    ],
)
def test_error_in_an_export_is_reported(options: dict[str, Any], expected: str) -> None:
    assert [line for line in errors(**options) if expected in line], errors(**options)


def test_all_errors_in_an_export_are_reported_at_once() -> None:
    assert len(errors(dest="relative", registry="r.example/a", changes=True, digest="x")) == 4
