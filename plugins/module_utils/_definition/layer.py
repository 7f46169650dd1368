# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses one layer. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional
from urllib.parse import quote

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import UNLESS_SET, Limits, read_limits
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import DIFF_ID
from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import (
    PART_OPTIONS,
    Selection,
    read_selection,
)

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import UrlAccess
    from ansible_collections.strata.overlay.plugins.module_utils._definition.files import InlineFile

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:@+/-]{0,199}\Z")
_LONGEST_FILE_NAME = 240
_SOURCES = ("src", "url", "dir", "files")
_OF_URLS = ("username", "password", "headers", "auth_file")


class Source(NamedTuple):
    """Where a layer's tar comes from.

    :ivar kind: ``src``, ``url``, ``dir``, ``files``, ``upper`` (a stack's writable layer, which no user writes), or
        ``""`` where the controller has resolved it already.
    :ivar location: path, or URL without userinfo; ``""`` for inline files. A URL is shown by ``describe`` only.
    :ivar on_host: read on the managed host and not on the controller.
    :ivar limits: beyond which its archive is refused.
    :ivar stack: whose writable layer it is; ``fuse``: and fuse-overlayfs has written it.
    :ivar pinned: the definition names its digest, so that no archive with it was cut.
    :ivar access: who asks for what lies under a URL; None for all else.
    :ivar times: of files, of ``dir`` and ``files``: ``keep`` or ``fixed``.
    :ivar selection: what of it the layer is made of, and under which names; None for all as it is.
    """

    kind: str
    location: str = ""
    on_host: bool = False
    files: tuple[InlineFile, ...] = ()
    limits: Limits = UNLESS_SET
    stack: str = ""
    fuse: bool = False
    access: Optional[UrlAccess] = None
    times: str = "keep"
    pinned: bool = False
    selection: Optional[Selection] = None

    @property
    def keeps_times(self) -> bool:
        """Whether its archive is packed here, with times that do not count for whether it has changed."""
        return self.kind in ("dir", "files") and self.times == "keep"


class LayerSpec(NamedTuple):
    """One layer as written. ``label`` is its name in messages and its key between controller and host."""

    label: str
    name: str
    source: Source
    digest: str = ""
    labels: Mapping[str, str] = MappingProxyType({})
    absent: bool = False

    @property
    def read_from(self) -> Source:
        """The source, and of an archive whether what is read of it is held against a digest."""
        return self.source._replace(pinned=bool(self.digest) and self.source.kind in ("src", "url"))


def check_name(label: str, name: Any, errors: list[str]) -> str:
    """The name of a layer, image or stack; "" where none is given."""
    if name is None:
        return ""
    # The name of its record is the name with / : @ + written as %2F and so on.
    if not _NAME.match(name) or len(quote(name, safe="")) > _LONGEST_FILE_NAME:
        errors.append(
            f"{label}: option 'name': {name!r} must begin with a letter or digit and hold only letters, digits "
            "and . _ : @ + / - (at most 200)"
        )
    return str(name)


def read_layer(item: Mapping[str, Any], label: str, resolved: Sequence[str], errors: list[str]) -> LayerSpec:
    """An item whose options have been checked.

    :param resolved: ``label`` of the layers whose source the controller has resolved already.
    """
    name = check_name(label, item["name"], errors)
    absent = item.get("state") == "absent"
    digest = item["digest"] or ""
    if digest and not DIFF_ID.match(digest):
        errors.append(f"{label}: option 'digest': {digest!r} must be 'sha256:' and 64 lower-case hexadecimal digits")
    labels = {str(key): str(value) for key, value in (item["labels"] or {}).items()}
    source = Source("") if absent else _source(item, label, resolved, errors)
    return LayerSpec(label, name, source, digest, labels, absent)


def _source(item: Mapping[str, Any], label: str, resolved: Sequence[str], errors: list[str]) -> Source:
    given = [kind for kind in _SOURCES if item[kind] is not None]
    limits = read_limits(item["limits"], label, errors)
    if label in resolved:
        return Source("", limits=limits)
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "none is given"
        errors.append(f"{label}: exactly one of src, url, dir, files says where the layer comes from; {found}")
        return Source("")
    kind = given[0]
    if kind in ("src", "url") and item["times"] != "keep":
        errors.append(f"{label}: option 'times' is for dir and files; the archive of '{kind}' has times of its own")
    if kind == "url":
        # Imported only when needed: most definitions have no URL.
        from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import read_url

        location, access = read_url(item, label, errors)
        selection = read_selection(item, label, errors)
        return Source(kind, location, True, limits=limits, access=access, selection=selection)
    for key in _OF_URLS:
        if item[key] is not None:
            errors.append(f"{label}: option '{key}' is of no use with {kind}; leave it out")
    if kind == "files":
        for key in PART_OPTIONS:
            if item[key]:
                errors.append(
                    f"{label}: option '{key}' is of no use with files; write the paths as they should be in the layer"
                )
        # Imported only when needed: hosts get such a layer by its digest.
        from ansible_collections.strata.overlay.plugins.module_utils._definition.files import inline_files

        return Source(kind, files=inline_files(label, item["files"], errors), limits=limits, times=item["times"])
    location = item[kind]
    on_host = item["remote_src"]
    if on_host and not os.path.isabs(location):
        errors.append(f"{label}: option '{kind}': {location!r} must be absolute, since remote_src is true")
    selection = read_selection(item, label, errors)
    return Source(kind, location, on_host, limits=limits, times=item["times"], selection=selection)
