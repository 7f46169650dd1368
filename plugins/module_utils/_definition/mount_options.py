# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A stack's mount flags, propagation, SELinux context, owner and mode: one table for all of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.value import Value
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags

PROPAGATION: Mapping[str, int] = {
    "private": mount_flags.MS_PRIVATE,
    "slave": mount_flags.MS_SLAVE,
    "shared": mount_flags.MS_SHARED,
    "unbindable": mount_flags.MS_UNBINDABLE,
}

_LABEL = re.compile(r"^(?=.{5,255}\Z)[^\s:\"]+:[^\s:\"]+:[^\s:\"]+(:[^\s\"]+)?\Z")
_MAP = re.compile(r"^([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})\Z")
_IDS = (1 << 32) - 1
"""The last id means nobody (user_namespaces(7))."""

_NOBODY = 65534
"""What an id is shown as that a map leaves out (user_namespaces(7), "Unmapped user and group IDs")."""

_TIMES = ("noatime", "relatime", "strictatime")


class _Flag(NamedTuple):
    """One flag as each interface knows it; ``shown`` as mountinfo writes it, "" where it writes nothing."""

    ms: int
    attribute: int
    shown: str


_FLAGS: dict[str, _Flag] = {
    "nosuid": _Flag(mount_flags.MS_NOSUID, mount_flags.ATTR_NOSUID, "nosuid"),
    "nodev": _Flag(mount_flags.MS_NODEV, mount_flags.ATTR_NODEV, "nodev"),
    "dev": _Flag(0, 0, ""),
    "noexec": _Flag(mount_flags.MS_NOEXEC, mount_flags.ATTR_NOEXEC, "noexec"),
    "nosymfollow": _Flag(mount_flags.MS_NOSYMFOLLOW, mount_flags.ATTR_NOSYMFOLLOW, "nosymfollow"),
    "noatime": _Flag(mount_flags.MS_NOATIME, mount_flags.ATTR_NOATIME, "noatime"),
    "nodiratime": _Flag(mount_flags.MS_NODIRATIME, mount_flags.ATTR_NODIRATIME, "nodiratime"),
    "relatime": _Flag(mount_flags.MS_RELATIME, 0, "relatime"),
    "strictatime": _Flag(mount_flags.MS_STRICTATIME, mount_flags.ATTR_STRICTATIME, ""),
}
FLAG_NAMES: tuple[str, ...] = tuple(_FLAGS)
_EXCLUSIVE = (_TIMES, ("nodev", "dev"))
"""Options of which a mount has one."""


@dataclass(frozen=True, eq=False, repr=False)
class MountStyle(Value):
    """What a user asks of the mount itself.

    :ivar options: of FLAG_NAMES, each once, sorted.
    :ivar propagation: a key of PROPAGATION, or "" to leave what the kernel gives it.
    :ivar context: SELinux label that all files show, or "".
    :ivar idmap_uid: ``first:host:count``: users are shown as others than the layers have, or ""; ``idmap_gid``: groups.
    :ivar owner: of the top directory, as ``group`` and ``mode``; None to leave it.
    """

    options: tuple[str, ...] = ()
    propagation: str = ""
    context: str = ""
    idmap_uid: str = ""
    idmap_gid: str = ""
    owner: Optional[int] = None
    group: Optional[int] = None
    mode: Optional[int] = None

    @property
    def idmapped(self) -> bool:
        """Whether layers are shown with other owners than they have."""
        return bool(self.idmap_uid)

    def shown_owner(self, uid: int, gid: int) -> tuple[int, int]:
        """Owner and group as a layer has them -> as the stack shows them."""
        return _shown_id(self.idmap_uid, uid), _shown_id(self.idmap_gid, gid)

    @property
    def source(self) -> str:
        """The source in the mount table: it names the ID map too, which nothing else there does."""
        return f"overlay idmap uid={self.idmap_uid} gid={self.idmap_gid}" if self.idmapped else "overlay"

    @property
    def times(self) -> tuple[str, ...]:
        """Options about times of access."""
        return tuple(name for name in self.options if name.endswith("atime"))

    @property
    def sets_top(self) -> bool:
        """Whether anything is asked of the top directory."""
        return (self.owner, self.group, self.mode) != (None, None, None)

    def top_differs(self, uid: int, gid: int, mode: int) -> bool:
        """Whether a top directory differs from what is wanted."""
        wanted = ((self.owner, uid), (self.group, gid), (self.mode, mode))
        return any(value is not None and value != found for value, found in wanted)

    def changes(self, before: MountStyle) -> list[str]:
        """Describe the differences from another style."""
        pairs = (
            ("mount options", ", ".join(before.options), ", ".join(self.options)),
            ("propagation", before.propagation, self.propagation),
            ("context", before.context, self.context),
            ("idmap of users", before.idmap_uid, self.idmap_uid),
            ("idmap of groups", before.idmap_gid, self.idmap_gid),
            ("owner of the top", _shown(before.owner), _shown(self.owner)),
            ("group of the top", _shown(before.group), _shown(self.group)),
            ("mode of the top", _octal(before.mode), _octal(self.mode)),
        )
        return [f"{word}: {old or 'none'} becomes {new or 'none'}" for word, old, new in pairs if old != new]

    def same_mount(self, other: MountStyle) -> bool:
        """Whether no remount is needed between the two: the top directory can be changed in place."""
        return replace(self, owner=None, group=None, mode=None) == replace(other, owner=None, group=None, mode=None)

    @property
    def _set(self) -> Iterator[_Flag]:
        """The flags that a mount gets: device files work only where they are asked for, since layers may come from
        anywhere.
        """
        names = {*self.options, *(() if "dev" in self.options else ("nodev",))}
        return (_FLAGS[name] for name in names)

    def ms_flags(self) -> int:
        """For mount(2)."""
        return sum(flag.ms for flag in self._set)

    def attributes(self) -> int:
        """For fsmount(2) and mount_setattr(2)."""
        return sum(flag.attribute for flag in self._set)

    def cleared(self) -> int:
        """What mount_setattr(2) has to take away first: the kernel sets one of the times only in place of another."""
        return mount_flags.ATTR_TIMES if any(name in _TIMES for name in self.options) else 0

    def not_inherited(self) -> int:
        """What mount_setattr(2) has to take away of the flags of the file system that a bind mount shows."""
        return mount_flags.ATTR_RESTRICTIONS & ~self.attributes()

    def missing_from(self, options: tuple[str, ...], optional: tuple[str, ...]) -> list[str]:
        """What of this a mount does not have, in words.

        :param options: the mount's own options in mountinfo; ``optional``: its fields such as ``shared:3``.
        """
        wrong = [name for name in self.options if _FLAGS[name].shown and _FLAGS[name].shown not in options]
        if "strictatime" in self.options and {"noatime", "relatime"} & set(options):
            wrong.append("strictatime")
        if self.propagation and self.propagation != _propagation_of(optional):
            wrong.append(f"propagation {self.propagation}")
        return wrong


def _propagation_of(optional: tuple[str, ...]) -> str:
    kinds = {field.partition(":")[0] for field in optional}
    shown = {"shared": "shared", "master": "slave", "unbindable": "unbindable"}
    return next((name for word, name in shown.items() if word in kinds), "private")


def _shown_id(text: str, number: int) -> int:
    if not text:
        return number
    first, host, count = map(int, text.split(":"))
    return host + number - first if first <= number < first + count else _NOBODY


def _shown(value: Optional[int]) -> str:
    return "" if value is None else str(value)


def _octal(value: Optional[int]) -> str:
    return "" if value is None else f"{value:04o}"


STYLE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "mount_options": ("options",),
    "propagation": ("propagation",),
    "context": ("context",),
    "idmap": ("idmap_uid", "idmap_gid"),
    "owner": ("owner",),
    "group": ("group",),
    "mode": ("mode",),
}
"""Options of a stack -> what they set here."""


def read_style(item: Mapping[str, Any], stack: str, errors: list[str]) -> MountStyle:
    """The style that a stack's checked options ask for; every mistake goes to ``errors``."""
    uid, gid = _idmap(item["idmap"], stack, errors)
    owner, group, mode = _top(item, stack, errors)
    return MountStyle(
        options=_options(item["mount_options"] or [], stack, errors),
        propagation=item["propagation"] or "",
        context=_context(item["context"] or "", stack, errors),
        idmap_uid=uid,
        idmap_gid=gid,
        owner=owner,
        group=group,
        mode=mode,
    )


def _top(item: Mapping[str, Any], stack: str, errors: list[str]) -> tuple[Optional[int], Optional[int], Optional[int]]:
    if item["owner"] is item["group"] is item["mode"] is None:
        return None, None, None
    # Imported only when needed: few stacks say it.
    from ansible_collections.strata.overlay.plugins.module_utils._definition.files import numeric_id, octal_mode

    owner, group = (
        None if item[option] is None else numeric_id(stack, option, item[option], errors)
        for option in ("owner", "group")
    )
    return owner, group, octal_mode(stack, item["mode"], errors)


def _options(given: list[Any], stack: str, errors: list[str]) -> tuple[str, ...]:
    prefix = f"{stack}: option 'mount_options'"
    unknown = [name for name in given if name not in FLAG_NAMES]
    errors += [f"{prefix}: {name!r} is not one of {', '.join(FLAG_NAMES)}" for name in unknown]
    for names in _EXCLUSIVE:
        several = [name for name in names if name in given]
        if len(several) > 1:
            errors.append(f"{prefix}: {' and '.join(several)} exclude each other; keep one")
    return tuple(sorted({name for name in given if name in FLAG_NAMES}))


def _context(label: str, stack: str, errors: list[str]) -> str:
    if not label or _LABEL.match(label):
        return label
    errors.append(
        f"{stack}: option 'context': {label!r} must be a SELinux label such as system_u:object_r:container_file_t:s0"
    )
    return ""


def _idmap(given: Any, stack: str, errors: list[str]) -> tuple[str, str]:
    if not given:
        return "", ""
    maps = [str(given.get(key, "")).strip() for key in ("uid", "gid")]
    if set(given) != {"uid", "gid"} or not all(_is_map(text) for text in maps):
        errors.append(
            f"{stack}: option 'idmap' must have uid and gid, each as 'first:host:count' such as '0:100000:65536': "
            "ids from first on in the layers are shown as ids from host on"
        )
        return "", ""
    return maps[0], maps[1]


def _is_map(text: str) -> bool:
    match = _MAP.match(text)
    if not match:
        return False
    first, host, count = (int(part) for part in match.groups())
    return count > 0 and first + count <= _IDS and host + count <= _IDS
