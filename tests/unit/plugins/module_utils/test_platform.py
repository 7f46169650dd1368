# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Platforms: as written, as this host has them, and which of several is taken."""

from __future__ import annotations

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import (
    Platform,
    parse_platform,
    platform_of,
)
from ansible_collections.strata.overlay.plugins.module_utils._image import host_platform as host_platform_module
from ansible_collections.strata.overlay.plugins.module_utils._image.host_platform import choose, host_platform


def on_host(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(host_platform_module, "host_platform", lambda: parse_platform(text))


def platforms(*texts: str) -> list[Platform]:
    return [parse_platform(text) for text in texts]


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64", "linux/386"])
def test_platform_is_shown_as_written(text: str) -> None:
    assert str(parse_platform(text)) == text


@pytest.mark.parametrize(
    "text", ["", "amd64", "linux/", "/amd64", "linux/arm/v7/x", "Linux/AMD64", "linux/amd64\n", "a b/c"]
)
def test_malformed_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be written os/architecture"):
        parse_platform(text)


def test_this_host_has_a_known_linux_platform() -> None:
    assert host_platform().os == "linux"
    assert host_platform().is_known


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64/v8"),
        ("linux/armv6l", "linux/arm/v6"),
    ],
)
def test_two_spellings_of_a_platform_are_normalised_to_one(one: str, other: str) -> None:
    assert parse_platform(one).normal() == parse_platform(other).normal()


@pytest.mark.parametrize(
    ("wanted", "available", "taken"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], 1),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm64/v9", ["linux/arm64/v8"], 0),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/riscv64", ["linux/riscv64"], 0),
    ],
)
def test_best_fitting_platform_is_chosen(wanted: str, available: list[str], taken: int) -> None:
    assert choose(platforms(*available), parse_platform(wanted), "app") == taken


@pytest.mark.parametrize(
    ("wanted", "available"),
    [
        ("linux/amd64", ["linux/amd64/v2"]),
        ("linux/arm/v6", ["linux/arm/v7"]),
        ("linux/arm64", ["linux/arm/v7"]),
        ("windows/amd64", ["linux/amd64"]),
        ("linux/amd64", []),
    ],
)
def test_image_without_a_runnable_platform_is_refused(wanted: str, available: list[str]) -> None:
    with pytest.raises(StrataError, match=f"app has nothing for platform {wanted}; it has: "):
        choose(platforms(*available), parse_platform(wanted), "app")


def test_platform_defaults_to_that_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    on_host(monkeypatch, "linux/arm/v7")
    assert choose(platforms("linux/amd64", "linux/arm/v6"), None, "app") == 1
    with pytest.raises(StrataError) as failure:
        choose(platforms("linux/s390x", "linux/amd64", "linux/s390x"), None, "app")
    assert str(failure.value) == (
        "app has nothing for platform linux/arm/v7, which is this host's; it has: linux/amd64, linux/s390x. "
        "Name one of these in the option 'platform'"
    )


def test_only_available_platform_is_chosen_on_any_host(monkeypatch: pytest.MonkeyPatch) -> None:
    on_host(monkeypatch, "linux/arm/v7")
    assert choose(platforms("linux/s390x"), None, "app") == 0


def test_platform_with_missing_or_wrong_values_is_unknown() -> None:
    assert platform_of({"os": "linux", "architecture": "arm", "variant": "v7"}) == Platform("linux", "arm", "v7")
    assert not platform_of({"os": 1, "architecture": None}).is_known
    assert not Platform("unknown", "unknown").is_known
    assert str(Platform("", "")) == "unknown"
