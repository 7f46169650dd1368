# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Checks options against an argument spec and reports every mistake, not only the first. Pure.

Ansible's own check stops at the first mistake and names no stack or layer; this one runs before it, on the same spec.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable

_TRUE = ("yes", "on", "1", "true", "t", "y")
_FALSE = ("no", "off", "0", "false", "f", "n")
_INTEGER = re.compile(r"^\s*[+-]?[0-9]{1,18}\s*$")


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` where a known word is near, else nothing."""
    import difflib  # seldom needed

    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _text(value: Any) -> tuple[Any, str]:
    if isinstance(value, str):
        return (value, "") if _is_writable(value) else (None, "text that UTF-8 can write")
    if isinstance(value, (bool, list, dict)) or value is None:
        return None, "a string"
    return str(value), ""


def _is_writable(text: str) -> bool:
    """Whether the text can go into a file name or a tar: YAML can hold halves of characters, such as "\\ud800"."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _boolean(value: Any) -> tuple[Any, str]:
    if isinstance(value, bool):
        return value, ""
    word = str(value).lower()
    if isinstance(value, (str, int)) and word in _TRUE + _FALSE:
        return word in _TRUE, ""
    return None, "true or false"


def _integer(value: Any) -> tuple[Any, str]:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value), ""
    if isinstance(value, str) and _INTEGER.match(value):
        return int(value), ""
    return None, "a whole number"


def _path(value: Any) -> tuple[Any, str]:
    # No path holds a zero byte, and expanduser cannot take one.
    if isinstance(value, str) and "\0" not in value and _is_writable(value):
        return os.path.expanduser(os.path.expandvars(value)), ""
    return None, "a path"


_CONVERT: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "str": _text,
    "path": _path,
    "bool": _boolean,
    "int": _integer,
    "dict": lambda value: (value, "") if isinstance(value, Mapping) else (None, "a dictionary"),
    "list": lambda value: (value, "") if isinstance(value, list) else (None, "a list"),
    "raw": lambda value: (value, ""),
}


def check_options(label: str, given: Any, spec: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    """The options of one thing, converted and with defaults; every mistake is appended to ``errors``.

    :param label: how messages name the thing, such as ``stack web``; ``""`` at the top.
    :returns: the options that are right; one that is wrong is left at its default.
    """
    prefix = f"{label}: " if label else ""
    if not isinstance(given, Mapping):
        errors.append(f"{prefix}must be a dictionary of options, not {_shown(given)}")
        given = {}
    for key in given:
        if key not in spec:
            hint = nearest(str(key), [name for name in spec if not name.startswith("_")])
            errors.append(f"{prefix}unknown option '{key}'{hint or '; known are ' + _known(spec)}")
    return {key: _check_option(label, key, given, option, errors) for key, option in spec.items()}


def _known(spec: Mapping[str, Any]) -> str:
    return ", ".join(sorted(key for key in spec if not key.startswith("_")))


def _check_option(label: str, key: str, given: Mapping[str, Any], option: Mapping[str, Any], errors: list[str]) -> Any:
    prefix = f"{label}: " if label else ""
    default = option.get("default")
    raw = given.get(key)
    if raw is None:
        if option.get("required"):
            errors.append(f"{prefix}option '{key}' is missing; it is required")
        return default
    value, wanted = _CONVERT[option.get("type", "str")](raw)
    if wanted:
        found = "what is given, which is not shown" if option.get("no_log") or key == "url" else _shown(raw)
        errors.append(f"{prefix}option '{key}' must be {wanted}, not {found}")
        return default
    if "choices" in option and value not in option["choices"]:
        choices = ", ".join(option["choices"])
        hint = nearest(value, option["choices"])
        errors.append(f"{prefix}option '{key}' must be one of {choices}, not {_shown(raw)}{hint}")
        return default
    if "options" in option and option["type"] == "dict":
        return check_options(f"{prefix}{key}", value, option["options"], errors)
    if "options" in option:
        return [
            check_options(_item_name(label, key, index, item), item, option["options"], errors)
            for index, item in enumerate(value)
        ]
    return value


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool)) or value is None else f"a {_kind(value)}"
    return text if len(text) < 80 else text[:76] + "..."


def _kind(value: Any) -> str:
    return "dictionary" if isinstance(value, Mapping) else "list" if isinstance(value, list) else type(value).__name__


def _item_name(label: str, key: str, index: int, item: Any) -> str:
    """``layer base``, ``stack 2`` (counted from 1) where it has no name, ``layer base: file etc/app.conf``."""
    word = key[:-1]
    item_label = item.get("name") or item.get("path") if isinstance(item, Mapping) else None
    name = f"{word} {item_label if isinstance(item_label, str) else index + 1}"
    return f"{label}: {name}" if label else name


def unknown_layer(label: str, name: str, known: Collection[str]) -> str:
    """The message for a layer name that nobody knows."""
    return (
        f"{label}: option 'layers': no layer is named '{name}', neither in the definition nor in the store"
        f"{nearest(name, sorted(known))}"
    )
