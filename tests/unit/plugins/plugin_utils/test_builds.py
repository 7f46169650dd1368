# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds: what makes a key another one, what does not, and every mistake told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.plugin_utils._builds import LABEL, Build, Place, names_of, plan_builds
from ansible_collections.strata.overlay.plugins.plugin_utils._roledigest import RoleFinder

DEBIAN = {"name": "debian", "diff_ids": ["sha256:aa"], "labels": {}}
BUILD = {"name": "nginx", "layers": ["debian"], "roles": ["nginx"]}


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    """The roles nginx, which depends on common, and common."""
    for name, text in (("nginx", "- debug: {}\n"), ("common", "- ping: {}\n")):
        (tmp_path / name / "tasks").mkdir(parents=True)
        (tmp_path / name / "tasks/main.yml").write_text(text)
    (tmp_path / "nginx/meta").mkdir()
    (tmp_path / "nginx/meta/main.yml").write_text("dependencies: [{role: common}]\n")
    (tmp_path / "nginx/files").mkdir()
    (tmp_path / "nginx/files/script").write_text("#!/bin/sh\n")
    return tmp_path


def finder(roles: Path) -> RoleFinder:
    return RoleFinder([roles.parent], [roles], lambda _name: "", lambda path: yaml.safe_load(Path(path).read_text()))


def planned(
    roles: Path, build: Mapping[str, Any] | None = None, names: Mapping[str, Mapping[str, Any]] | None = None
) -> Build:
    return plan_builds([build or BUILD], names or {"debian": DEBIAN}, finder(roles))[0]


def change_of_a_task(roles: Path) -> None:
    (roles / "nginx/tasks/main.yml").write_text("- debug: {msg: other}\n")


def change_of_a_role_that_it_depends_on(roles: Path) -> None:
    (roles / "common/tasks/main.yml").write_text("- debug: {}\n")


def new_file(roles: Path) -> None:
    (roles / "nginx/files/more").write_text("")


def change_of_a_bit(roles: Path) -> None:
    (roles / "nginx/files/script").chmod(0o755)


def link_in_place_of_a_file(roles: Path) -> None:
    (roles / "nginx/files/script").unlink()
    (roles / "nginx/files/script").symlink_to("#!/bin/sh\n")


@pytest.mark.parametrize(
    "change",
    [
        change_of_a_task,
        change_of_a_role_that_it_depends_on,
        new_file,
        change_of_a_bit,
        link_in_place_of_a_file,
    ],
)
def test_changed_role_changes_the_key(roles: Path, change: Callable[[Path], None]) -> None:
    before = planned(roles).key
    assert planned(roles).key == before
    change(roles)
    assert planned(roles).key != before


@pytest.mark.parametrize(
    "other",
    [
        {**BUILD, "vars": {"port": 80}},
        {**BUILD, "roles": ["nginx", "common"]},
        {**BUILD, "clean": ["/tmp/*"]},
    ],
)
def test_changed_definition_changes_the_key(roles: Path, other: dict[str, Any]) -> None:
    assert planned(roles, other).key != planned(roles).key


def test_changed_layer_below_changes_the_key(roles: Path) -> None:
    newer = {"debian": {**DEBIAN, "diff_ids": ["sha256:bb"]}}
    assert planned(roles, names=newer).key != planned(roles).key


def test_changes_without_effect_on_the_layer_keep_the_key(roles: Path) -> None:
    before = planned(roles).key
    (roles / "nginx/.git").mkdir()
    (roles / "nginx/.git/HEAD").write_text("x")
    (roles / "nginx/tests").mkdir()
    assert planned(roles).key == before
    assert planned(roles, {**BUILD, "writable": "volatile"}).key == before
    assert planned(roles, {**BUILD, "name": "other"}).key == before


def test_layer_with_the_key_of_its_build_is_current(roles: Path) -> None:
    built = planned(roles)
    assert not built.current
    names = {"debian": DEBIAN, "nginx": {"name": "nginx", "diff_ids": ["sha256:cc"], "labels": {LABEL: built.key}}}
    assert planned(roles, names=names).current
    assert not planned(roles, {**BUILD, "vars": {"a": 1}}, names).current
    assert not planned(roles, {**BUILD, "name": "other"}, names).current


def test_facts_of_a_build_have_stack_host_roles_and_scaffold(roles: Path) -> None:
    own = {"path": "/etc/resolv.conf", "content": "x"}
    facts = planned(roles, {**BUILD, "name": "team/nginx:1"}).facts(Place("/run/b", (own, {"path": "/dev"})))
    assert facts["stack"]["path"] == f"{facts['directory']}/tree"
    assert facts["stack"]["name"] == facts["gone"]["name"] == "build-team/nginx:1"
    assert facts["host"].startswith("build-team-nginx-1-")
    assert facts["roles"] == [str(roles / "nginx")]
    *named, scaffold = facts["stack"]["layers"]
    assert named == ["debian"]
    paths = [item["path"] for item in scaffold["files"]]
    assert paths == ["proc", "run", "sys", "usr/sbin/policy-rc.d", "/etc/resolv.conf", "/dev"], "given ones win"


def test_defined_layers_and_images_override_those_of_the_store() -> None:
    below = {"layers": {"debian": ["sha256:new"], "app": ["sha256:dd"]}, "images": {"img": {"diff_ids": ["sha256:ee"]}}}
    built = {"name": "nginx", "diff_ids": ["sha256:cc"], "labels": {LABEL: "sha256:key"}}
    found = names_of([{**DEBIAN, "labels": {"a": "b"}}, built], below)
    assert {name: each["diff_ids"] for name, each in found.items()} == {
        "debian": ["sha256:new"],
        "nginx": ["sha256:cc"],
        "app": ["sha256:dd"],
        "img": ["sha256:ee"],
    }
    assert found["debian"]["labels"] == {"a": "b"}
    assert found["nginx"]["labels"] == {LABEL: "sha256:key"}


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            {**BUILD, "layers": ["debain"]},
            "build nginx: option 'layers': the build host has no layer or image 'debain'",
        ),
        ({**BUILD, "layers": ["nginx"]}, "build nginx: option 'layers': 'nginx' is built by the same run"),
        ({**BUILD, "layers": []}, "build nginx: option 'layers' must be a list of names"),
        ({**BUILD, "roles": "nginx"}, "build nginx: option 'roles' must be a list of names"),
        (
            {**BUILD, "roles": ["ngnix"]},
            "build nginx: option 'roles': role 'ngnix' is not on the controller; looked for:",
        ),
        ({**BUILD, "roles": ["./absent"]}, "role './absent' is not on the controller"),
        (
            {**BUILD, "roles": ["a.b.c"]},
            "role 'a.b.c' is not on the controller; looked for: no collection of that name",
        ),
        ({**BUILD, "vars": ["a"]}, "build nginx: option 'vars' must be a dictionary"),
        (
            {**BUILD, "writable": "none"},
            "build nginx: option 'writable' must be one of persistent, volatile, not 'none'",
        ),
        ({**BUILD, "layer": ["debian"]}, "build nginx: option 'layer' is not known; there are name, layers"),
        ({**BUILD, "name": "-x"}, "build -x: option 'name': '-x' must begin with a letter or digit"),
        ("nginx", "build 1: it must be a dictionary with name, layers and roles, not 'nginx'"),
    ],
)
def test_wrong_build_is_refused_with_its_reason(roles: Path, build: Any, said: str) -> None:
    with pytest.raises(StrataError) as failure:
        plan_builds([build], {"debian": DEBIAN}, finder(roles))
    assert said in str(failure.value)


def test_all_errors_of_builds_are_reported_together(roles: Path) -> None:
    with pytest.raises(StrataError) as failure:
        plan_builds([{**BUILD, "layers": ["x"]}, {**BUILD, "vars": 1}], {"debian": DEBIAN}, finder(roles))
    assert len(str(failure.value).splitlines()) == 3
    assert "build nginx: it is defined more than once" in str(failure.value)


def test_missing_role_dependency_names_the_role_that_needs_it(roles: Path) -> None:
    (roles / "common/meta").mkdir()
    (roles / "common/meta/main.yml").write_text("dependencies: [absent]\n")
    with pytest.raises(StrataError, match="role 'absent', on which role 'common' depends, is not on the controller"):
        planned(roles)
