# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The lock file: which digest each source of a definition had when it was last locked. Values in, values out.

.. code-block:: yaml

    layers:
      files/base.tar.zst: sha256:...      # DiffID of what src, dir or url gave
      https://example.org/app?sig=***#9f86d081884c7d65: sha256:...
    images:
      registry.example.com/app:1.4: sha256:...

A layer's key is its source as it is written, but that of a URL holds no user, password or value of a query: the file
is made to be committed. Options that take a part of the source stand behind it: ``app.tar {"strip_components": 1}``.
Files written in a definition are their own lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import lock_key, shown_url
from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import PART_OPTIONS

Lock = Mapping[str, Mapping[str, str]]

LAYER_SOURCES = ("src", "dir", "url")
IMAGE_SOURCES = ("src", "registry")


def check_lock(content: Any, lock_path: str) -> Lock:
    """A lock file's content as it was read.

    :raises StrataError: it is none.
    """
    found = content or {}
    sound = isinstance(found, Mapping) and all(
        isinstance(part, Mapping) and all(isinstance(digest, str) for digest in part.values())
        for part in (found.get("layers", {}), found.get("images", {}))
    )
    if not sound:
        raise StrataError(f"{lock_path} is no lock file; write it with the playbook strata.overlay.lock")
    return {kind: dict(found.get(kind) or {}) for kind in ("layers", "images")}


def lock_layer(item: Any, lock: Lock, lock_path: str, home: str) -> Any:
    """A layer with the digest that the lock has for its source.

    :param lock_path: the lock file's path, for messages. :param home: the inventory's directory.
    :raises StrataError: the lock does not have it, or the definition pins another.
    """
    return _locked(item, LAYER_SOURCES, lock["layers"], lock_path, home)


def lock_image(item: Any, lock: Lock, lock_path: str, home: str) -> Any:
    """An image with the digest that the lock has; one from a registry is pulled by it, whatever its tag means now.

    :raises StrataError: as for ``lock_layer``.
    """
    found = _locked(item, IMAGE_SOURCES, lock["images"], lock_path, home)
    if found is not item and found.get("registry"):
        reference = str(found["registry"])
        if "@" not in reference:
            return {**item, "registry": f"{reference}@{found['digest']}"}
        if not reference.endswith(f"@{found['digest']}"):
            raise StrataError(
                f"image {item.get('name')}: {lock_path} has {found['digest']} for {reference}; lock again"
            )
        return item
    return found


def lock_stack(item: Any, lock: Lock, lock_path: str, home: str) -> Any:
    """A stack with its layers written in place locked; errors as for ``lock_layer``."""
    if not isinstance(item, Mapping) or not isinstance(item.get("layers"), (list, tuple)):
        return item
    layers = [lock_layer(layer, lock, lock_path, home) for layer in item["layers"]]
    return {**item, "layers": layers}


def source_of(item: Mapping[str, Any], kinds: tuple[str, ...], home: str) -> str:
    """The key of an item; "" for one that has nothing to be locked.

    :param home: the inventory's directory: a path below it is written as from there, since the file is shared.
    """
    if item.get("state") == "absent":
        return ""
    kind = next((kind for kind in kinds if item.get(kind) is not None), "")
    source = str(item[kind]) if kind else ""
    if kind == "url":
        source = lock_key(source)
    elif home and source.startswith(f"{home}/"):
        source = source[len(home) + 1 :]
    return f"{source}{_part(item)}" if kind else ""


def _part(item: Mapping[str, Any]) -> str:
    """The options that make another layer of the same source, as they are written; "" where none is given."""
    found = {key: _plain(item[key]) for key in PART_OPTIONS if item.get(key)}
    return f" {json.dumps(found)}" if found else ""


def _plain(value: Any) -> Any:
    """A value without the types that Ansible's templates make; a number in quotes is the same number."""
    if isinstance(value, (list, tuple)):
        return [str(part) for part in value]
    return int(value) if str(value).isdecimal() else str(value)


def _locked(item: Any, kinds: tuple[str, ...], digests: Mapping[str, str], lock_path: str, home: str) -> Any:
    if not isinstance(item, Mapping):
        return item  # what is wrong with it is told when it is read
    source = source_of(item, kinds, home)
    if not source:
        return item
    name = f"{'image' if kinds is IMAGE_SOURCES else 'layer'} {item.get('name') or source}"
    whole = str(item.get("url")) if kinds is LAYER_SOURCES else ""
    if source not in digests and whole in digests:
        raise StrataError(
            f"{name}: {lock_path} was written by an earlier release and holds the URL {shown_url(whole)} with what may "
            "be secrets in it; run the playbook strata.overlay.lock, and change them where others could read the file"
        )
    if source not in digests:
        raise StrataError(f"{name}: {source} is not in {lock_path}; run the playbook strata.overlay.lock")
    if item.get("digest") not in (None, "", digests[source]):
        raise StrataError(
            f"{name}: option 'digest' is {item['digest']}, but {lock_path} has {digests[source]} for {source}; "
            "correct one of them, or lock again"
        )
    return {**item, "digest": digests[source]}
