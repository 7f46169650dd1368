# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses and compares platforms of images. Pure.

Sources: OCI image-spec image-index.md, "platform"; the variants and their order as in containerd's platforms package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WORD = r"[a-z0-9][a-z0-9_.-]{0,63}"
_WRITTEN = re.compile(rf"^({_WORD})/({_WORD})(?:/({_WORD}))?\Z")

_MACHINES: dict[str, str] = {
    "x86_64": "linux/amd64",
    "amd64": "linux/amd64",
    "x86-64": "linux/amd64",
    "aarch64": "linux/arm64",
    "arm64": "linux/arm64",
    "armv8l": "linux/arm/v7",
    "armv7l": "linux/arm/v7",
    "armv6l": "linux/arm/v6",
    "armv5tel": "linux/arm/v5",
    "armhf": "linux/arm/v7",
    "armel": "linux/arm/v6",
    "i386": "linux/386",
    "i486": "linux/386",
    "i586": "linux/386",
    "i686": "linux/386",
    "loongarch64": "linux/loong64",
}
"""The kernel's names of machines as platforms; those that are not here have the same name in both."""

_USUAL = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
"""The variant that is meant where none is written."""

_OLDEST = {"amd64": 1, "arm64": 8, "arm": 5}


@dataclass(frozen=True)
class Platform:
    """What an image runs on, such as linux/arm/v7. Compare only what ``normal`` returns."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        if not self.is_known:
            return "unknown"
        return f"{self.os}/{self.architecture}" + (f"/{self.variant}" if self.variant else "")

    def normal(self) -> Platform:
        """The same in one spelling: machines by one name, variants with their letter, and none that is meant anyway.

        Source: containerd platforms, "database.go" (normalizeOS, normalizeArch).
        """
        system, machine, variant = (word.strip().lower() for word in (self.os, self.architecture, self.variant))
        known = _MACHINES.get(machine, "").split("/")
        architecture = known[1] if len(known) > 1 else machine
        variant = variant or (known[2] if len(known) > 2 else "")
        if architecture in _USUAL and variant.isdigit():
            variant = f"v{variant}"
        return Platform(system, architecture, "" if variant == _USUAL.get(architecture) else variant)

    @property
    def is_known(self) -> bool:
        """Whether it is one at all: builders list what they say about an image as platform unknown/unknown."""
        return self.os not in ("", "unknown") and self.architecture not in ("", "unknown")


def parse_platform(text: str) -> Platform:
    """``os/architecture`` or ``os/architecture/variant``.

    :raises ValueError: it is something else.
    """
    match = _WRITTEN.match(text)
    if not match:
        raise ValueError(f"{text!r} must be written os/architecture or os/architecture/variant, such as linux/arm64/v8")
    return Platform(match.group(1), match.group(2), match.group(3) or "")


def platform_of(data: Mapping[str, Any]) -> Platform:
    """The platform in an index's entry or a config; missing parts are empty."""
    message = [data.get(key) for key in ("os", "architecture", "variant")]
    return Platform(*(word if isinstance(word, str) else "" for word in message))


def _runnable(wanted: Platform) -> list[Platform]:
    """What runs on a platform, the best first: its own variant, then the older ones."""
    plain = wanted.normal()
    variant = plain.variant or _USUAL.get(plain.architecture, "")
    oldest = _OLDEST.get(plain.architecture)
    if oldest is None or not re.match(r"^v[0-9]{1,2}\Z", variant):
        return [plain]
    return [
        Platform(plain.os, plain.architecture, f"v{number}").normal()
        for number in range(int(variant[1:]), oldest - 1, -1)
    ]
