# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One item of ``images``: what it means, and every mistake in it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import normalise
from ansible_collections.strata.overlay.plugins.module_utils._definition.image import ImageSpec, RegistryAccess
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform

A = "sha256:" + "a" * 64
WRITTEN = "must be written os/architecture or os/architecture/variant, such as linux/arm64/v8"


def read(**item: Any) -> tuple[ImageSpec, list[str]]:
    definition, errors = normalise("image", {"name": "app", **item})
    return definition.images[0], errors


def test_image_from_an_archive_is_read_with_its_options() -> None:
    spec, errors = read(src="app.tar", reference="1.0", platform="linux/arm/v7", digest=A, labels={"a": 1})
    assert errors == []
    assert spec == ImageSpec(
        "image app", "app", "src", "app.tar", False, "1.0", Platform("linux", "arm", "v7"), A, {"a": "1"}
    )


def test_image_from_a_registry_is_read_with_its_access_options() -> None:
    spec, errors = read(registry="r.example/app", username="me", password="x", mirrors=["m"], validate_certs=False)
    assert errors == []
    assert (spec.kind, spec.location, spec.on_host) == ("registry", "r.example/app", True)
    assert spec.access == RegistryAccess("me", "x", validate_certs=False, mirrors=("m",))


def test_password_is_not_in_the_text_of_an_image_spec() -> None:
    spec, _problems = read(registry="r.example/app", username="me", password="correct-horse")
    assert "correct-horse" not in repr(spec) + str(spec)


def test_absent_image_needs_no_source() -> None:
    spec, errors = read(state="absent")
    assert (spec.absent, errors) == (True, [])


def test_image_read_by_the_controller_needs_no_source() -> None:
    definition, errors = normalise("apply", {"images": [{"name": "app"}]}, ("image app",))
    assert (definition.images[0].kind, errors) == ("", [])


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, "exactly one of src and registry says where the image comes from; none is given"),
        (
            {"src": "x", "registry": "y"},
            "exactly one of src and registry says where the image comes from; both are given",
        ),
        ({"src": "x", "digest": "1"}, "option 'digest': '1' must be 'sha256:' and 64 lower-case hexadecimal digits"),
        ({"src": "x", "remote_src": True}, "option 'src': 'x' must be absolute, since remote_src is true"),
        ({"src": "x", "ca_path": "y"}, "option 'ca_path' is of no use with src; leave it out"),
        ({"registry": "r.example/x", "reference": "y"}, "option 'reference' is of no use with registry; leave it out"),
        (
            {"registry": "r.example/x", "password": "y"},
            "option 'password' is given without 'username'; a registry needs both",
        ),
        (
            {"registry": "r.example/x", "mirrors": [1]},
            "option 'mirrors' must be a list of hosts, such as mirror.example.com:5000",
        ),
        (
            {"src": "x", "platform": "arm64"},
            f"option 'platform': 'arm64' {WRITTEN}",
        ),
    ],
)
def test_error_in_an_image_is_reported(item: dict[str, Any], expected: str) -> None:
    assert read(**item)[1] == [f"image app: {expected}"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"registry": "nginx:1.25"},
            "option 'registry': registry 'nginx:1.25': 'nginx' names no registry; write docker",
        ),
        (
            {"registry": "r.example:99999/x"},
            "option 'registry': registry 'r.example:99999/x': 'r.example:99999' is not",
        ),
        ({"registry": "r.example/X"}, "option 'registry': registry 'r.example/X': the repository 'X' is not one"),
        (
            {"mirrors": ["http://m..example"]},
            "option 'mirrors': mirror 'http://m..example': 'm..example' is not a host",
        ),
        ({"mirrors": ["u:p@m.example"]}, "option 'mirrors': no user and password can stand before the host"),
        ({"username": "a:b", "password": "c"}, "option 'username' is empty, or has a colon or control characters"),
        ({"ca": "/etc/ca.pem"}, "option 'ca' has no certificate in PEM form; a file of the host is given as 'ca_path'"),
        (
            {"ca": "-----BEGIN CERTIFICATE-----", "ca_path": "/x"},
            "options 'ca' and 'ca_path' are both given; give one of them",
        ),
        ({"username": "", "password": "c"}, "option 'username' is empty, or has a colon or control characters"),
    ],
)
def test_error_in_registry_options_is_reported_without_a_request(options: dict[str, Any], expected: str) -> None:
    (problem,) = read(**{"registry": "r.example/app", **options})[1]
    assert problem.startswith(f"image app: {expected}")


def test_name_shared_by_layers_or_images_is_refused() -> None:
    layer = {"name": "app", "files": [{"path": "x", "content": "x"}]}
    _definition, errors = normalise(
        "apply", {"layers": [layer], "images": [{"name": "app", "src": "x"}, {"name": "twin", "src": "x"}] * 2}
    )
    assert errors == [
        "image app: option 'name' is the name of a layer too; each needs its own",
        "image app: option 'name' is used 2 times; each image needs its own",
        "image twin: option 'name' is used 2 times; each image needs its own",
    ]
