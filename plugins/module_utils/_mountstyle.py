# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""How a stack's mount behaves beyond its layers: flags, propagation, SELinux context. One table for all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.strata.overlay.plugins.module_utils import _kernel, _mountapi

PROPAGATION: Mapping[str, int] = {
    "private": _kernel.MS_PRIVATE,
    "slave": _kernel.MS_SLAVE,
    "shared": _kernel.MS_SHARED,
    "unbindable": _kernel.MS_UNBINDABLE,
}

_TIMES = ("noatime", "relatime", "strictatime")


@dataclass(frozen=True)
class _Flag:
    """One flag as each interface knows it; ``shown`` as mountinfo writes it, "" where it writes nothing."""

    ms: int
    attribute: int
    shown: str


_FLAGS: Dict[str, _Flag] = {
    "nosuid": _Flag(_kernel.MS_NOSUID, _mountapi.ATTR_NOSUID, "nosuid"),
    "nodev": _Flag(_kernel.MS_NODEV, _mountapi.ATTR_NODEV, "nodev"),
    "noexec": _Flag(_kernel.MS_NOEXEC, _mountapi.ATTR_NOEXEC, "noexec"),
    "nosymfollow": _Flag(_kernel.MS_NOSYMFOLLOW, _mountapi.ATTR_NOSYMFOLLOW, "nosymfollow"),
    "noatime": _Flag(_kernel.MS_NOATIME, _mountapi.ATTR_NOATIME, "noatime"),
    "nodiratime": _Flag(_kernel.MS_NODIRATIME, _mountapi.ATTR_NODIRATIME, "nodiratime"),
    "relatime": _Flag(_kernel.MS_RELATIME, 0, "relatime"),
    "strictatime": _Flag(_kernel.MS_STRICTATIME, _mountapi.ATTR_STRICTATIME, ""),
}
FLAG_NAMES: Tuple[str, ...] = tuple(_FLAGS)


@dataclass(frozen=True)
class MountStyle:
    """What a user asks of the mount itself.

    :ivar options: of FLAG_NAMES, each once, sorted.
    :ivar propagation: a key of PROPAGATION, or "" to leave what the kernel gives it.
    :ivar context: SELinux label that all files show, or "".
    """

    options: Tuple[str, ...] = ()
    propagation: str = ""
    context: str = ""

    def ms_flags(self) -> int:
        """For mount(2)."""
        return sum(_FLAGS[name].ms for name in self.options)

    def attributes(self) -> int:
        """For fsmount(2) and mount_setattr(2)."""
        return sum(_FLAGS[name].attribute for name in self.options)

    def missing_from(self, options: Tuple[str, ...], optional: Tuple[str, ...]) -> List[str]:
        """What of this a mount does not have, in words.

        :param options: the mount's own options in mountinfo; ``optional``: its fields such as ``shared:3``.
        """
        wrong = [name for name in self.options if _FLAGS[name].shown and _FLAGS[name].shown not in options]
        if "strictatime" in self.options and {"noatime", "relatime"} & set(options):
            wrong.append("strictatime")
        if self.propagation and self.propagation != _propagation_of(optional):
            wrong.append(f"propagation {self.propagation}")
        return wrong


def _propagation_of(optional: Tuple[str, ...]) -> str:
    kinds = {field.partition(":")[0] for field in optional}
    shown = {"shared": "shared", "master": "slave", "unbindable": "unbindable"}
    return next((name for word, name in shown.items() if word in kinds), "private")


def style_problems(options: List[Any]) -> List[str]:
    """What is wrong with a list of mount options, in words."""
    problems = [f"{name!r} is not one of {', '.join(FLAG_NAMES)}" for name in options if name not in FLAG_NAMES]
    times = [name for name in _TIMES if name in options]
    if len(times) > 1:
        problems.append(f"{' and '.join(times)} exclude each other")
    return problems
