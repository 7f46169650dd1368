# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses prune options: `unused_for`, `labels`, `keep`, `max_bytes`. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.sizes import parse_size

_DURATION = re.compile(r"^\s*([0-9]{1,9})\s*([smhdw]?)\s*\Z", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class PruneSpec:
    """What may go.

    :ivar unused_for: seconds since its last use, or None: names stay, and what nothing refers to goes at once.
    :ivar labels: only names with all of these labels, and what belongs to them alone.
    :ivar keep: names, or patterns of shell style, that are never pruned.
    :ivar max_bytes: the most bytes the store may take, or None.
    """

    unused_for: Optional[int] = None
    labels: tuple[tuple[str, str], ...] = ()
    keep: tuple[str, ...] = ()
    max_bytes: Optional[int] = None

    def keeps(self, name: str) -> bool:
        """Whether ``keep`` says so."""
        return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in self.keep)


def read_prune(options: Mapping[str, Any], label: str, errors: list[str]) -> PruneSpec:
    """Options that have been checked for their types; what is wrong with their values goes to ``errors``.

    :param label: how messages name it: ``""`` for the module, ``prune`` in a definition.
    """
    prefix = f"{label}: " if label else ""
    return PruneSpec(
        unused_for=_duration(prefix, options.get("unused_for"), errors),
        labels=tuple(sorted((str(key), str(value)) for key, value in (options.get("labels") or {}).items())),
        keep=_patterns(prefix, options.get("keep") or [], errors),
        max_bytes=_max_bytes(prefix, options.get("max_bytes"), errors),
    )


def _duration(prefix: str, value: Any, errors: list[str]) -> Optional[int]:
    if value is None:
        return None
    match = _DURATION.match(str(value))
    if not match:
        errors.append(f"{prefix}option 'unused_for': {value!r} must be a time such as 7d, 12h or 30m")
        return None
    return int(match.group(1)) * _SECONDS[match.group(2).lower()]


def _max_bytes(prefix: str, value: Any, errors: list[str]) -> Optional[int]:
    if value is None:
        return None
    size = parse_size(value)
    if size is None:
        errors.append(f"{prefix}option 'max_bytes': {value!r} must be a number of bytes such as 512m or 10g")
        return None
    return size


def _patterns(prefix: str, values: list[Any], errors: list[str]) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str) or not value:
            errors.append(f"{prefix}option 'keep': {value!r} must be a name or a pattern such as app:*")
    return tuple(value for value in values if isinstance(value, str) and value)
