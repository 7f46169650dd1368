# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""References as Docker writes them, and what repositories.json has to say."""

from __future__ import annotations

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.image_name import familiar, is_same
from ansible_collections.strata.overlay.plugins.module_utils._image.db import repositories_of
from ansible_collections.strata.overlay.plugins.module_utils._store.records import NameRecord

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("name", "repository", "full"),
    [
        ("debian", "debian", "debian:latest"),
        ("debian:12", "debian", "debian:12"),
        ("docker.io/library/debian:12", "debian", "debian:12"),
        ("index.docker.io/library/debian", "debian", "debian:latest"),
        ("library/debian", "debian", "debian:latest"),
        ("docker.io/team/app:1.4", "team/app", "team/app:1.4"),
        ("team/app", "team/app", "team/app:latest"),
        ("docker.io/library/team/app", "library/team/app", "library/team/app:latest"),
        ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app:latest"),
        ("r.example.com/team/app:1.4", "r.example.com/team/app", "r.example.com/team/app:1.4"),
        (f"app@{A}", "app", f"app@{A}"),
        (f"app:1.4@{A}", "app", f"app@{A}"),
        ("a__b-c.d:_1", "a__b-c.d", "a__b-c.d:_1"),
    ],
)
def test_reference_gets_its_familiar_name_as_in_docker(name: str, repository: str, full: str) -> None:
    assert familiar(name) == (repository, full)


@pytest.mark.parametrize(
    "name", ["App", "app+x", "app:", "app:-x", "app@sha256:1", "a//b", "/a", "a" * 64, "app\n", "a@b"]
)
def test_invalid_reference_has_no_familiar_name(name: str) -> None:
    assert familiar(name) is None


def test_short_and_full_form_of_one_name_are_the_same() -> None:
    assert is_same("app", "docker.io/library/app:latest")
    assert is_same("Stable Release", "Stable Release")
    assert not is_same("app:1", "app:2")
    assert not is_same("App", "app")


def image(name: str, image_id: str) -> NameRecord:
    return NameRecord(name, (A,), image_id=image_id)


def test_repositories_hold_tags_of_images_and_no_layers() -> None:
    names = [image("app:1", A), image("app:2", B), image("docker.io/library/app", A), NameRecord("layer", (A,))]
    assert repositories_of(names) == {"app": {"app:1": A, "app:2": B, "app:latest": A}}


def test_names_that_are_no_references_have_no_tag() -> None:
    assert repositories_of([image("App", A), image("a+b", A)]) == {}


def test_name_with_an_explicit_latest_tag_wins_over_the_bare_name() -> None:
    names = [image("app", A), image("app:latest", B)]
    assert repositories_of(names) == repositories_of(names[::-1]) == {"app": {"app:latest": B}}
