# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Interprets names in a layer's archive: a path below the root, a whiteout, an opaque mark, or nothing.

Sources: OCI image-spec layer.md, "Whiteouts"; moby go-archive (aufs names that are left out).
"""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._archive.header import Entry, show
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux.overlay_marks import OVERLAY_PREFIXES

WHITEOUT = b".wh."
AUFS = b".wh..wh."
OPAQUE = b".wh..wh..opq"

MAX_PATH = 4095
"""Bytes that a path may have in a system call (PATH_MAX without its final zero)."""

MAX_NAME = 255
"""Bytes of one component (NAME_MAX)."""

_MAX_ATTRIBUTE_NAME = 255
_MAX_ATTRIBUTE = 65536
"""Bytes that the kernel takes as name and as value of an attribute (XATTR_NAME_MAX, XATTR_SIZE_MAX, xattr(7))."""


class Place(NamedTuple):
    """Where an entry goes.

    :ivar parent: its directory, relative to the root, components joined by one slash; b"" is the root.
    :ivar name: its last component; b"" for the root itself and for an opaque mark, which is about ``parent``.
    :ivar role: "entry", "whiteout" (``name`` is what is hidden), "opaque" or "ignored".
    """

    parent: bytes
    name: bytes
    role: str

    @property
    def path(self) -> bytes:
        return join(self.parent, self.name)

    @property
    def depth(self) -> int:
        """Components of the path, 0 for the root itself."""
        return self.parent.count(b"/") + bool(self.parent) + bool(self.name)


def join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent and name else parent or name


def split(path: bytes) -> tuple[bytes, bytes]:
    """A path's directory and its last component; what ``join`` has put together."""
    parent, _slash, name = path.rpartition(b"/")
    return parent, name


def components(name: bytes) -> list[bytes]:
    """A name's components below the root: a leading slash, doubled slashes and "." say nothing, as for tar.

    :raises ValueError: the name is empty, has a ".." or is longer than the kernel takes.
    """
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if not name:
        raise ValueError("its name is empty")
    if b".." in parts:
        raise ValueError("a name with '..' could lead out of the layer and is refused")
    # What is short as a whole is short in all its parts.
    if len(name) > MAX_NAME and (len(name) > MAX_PATH or max(map(len, parts), default=0) > MAX_NAME):
        raise ValueError(f"its name is too long: {MAX_PATH} bytes, and {MAX_NAME} between slashes, are possible")
    return parts


def place(entry: Entry) -> Place:
    """Where an entry goes and what it means there.

    :raises StrataError: a name that means nothing or leads out.
    """
    try:
        parts = components(entry.name)
        name = parts.pop() if parts else b""
        if WHITEOUT in entry.name:
            return _marked_place(parts, name)
        return Place(b"/".join(parts), name, "entry")
    except ValueError as error:
        raise StrataError(f"entry {show(entry.name)}: {error}") from error


def _marked_place(parents: list[bytes], name: bytes) -> Place:
    parent = b"/".join(parents)
    if any(part.startswith(AUFS) for part in parents):
        return Place(parent, name, "ignored")
    if any(part.startswith(WHITEOUT) for part in parents):
        raise ValueError("a whiteout is no directory, nothing can lie below it")
    if name == OPAQUE:
        return Place(parent, b"", "opaque")
    if name.startswith(AUFS):
        return Place(parent, name, "ignored")
    if name.startswith(WHITEOUT):
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise ValueError("a whiteout has to name what it hides")
        return Place(parent, hidden, "whiteout")
    return Place(parent, name, "entry")


def link_target(entry: Entry) -> Place:
    """The name that a hard link is another name of, below the root.

    :raises StrataError: it leads out or is a whiteout or something that was left out.
    """
    try:
        parts = components(entry.target)
        if not parts:
            raise ValueError("the root cannot have another name")
        found = _marked_place(parts[:-1], parts[-1])
        if found.role != "entry":
            raise ValueError("that is a mark and not a file")
        return found
    except ValueError as error:
        raise StrataError(f"entry {show(entry.name)}: hard link to {show(entry.target)}: {error}") from error


def check_entry(entry: Entry, label: Place) -> None:
    """Check an entry as far as possible without a file system.

    :raises StrataError: naming entry and reason.
    """
    if label.role != "entry":
        return
    if entry.xattrs:
        _check_attributes(entry)
    if not label.name and entry.kind != "directory":
        raise StrataError(f"entry {show(entry.name)}: the top of a layer can only be a directory")
    if entry.kind == "hardlink":
        link_target(entry)
    elif entry.kind == "symlink" and not 0 < len(entry.target) <= MAX_PATH:
        raise StrataError(f"entry {show(entry.name)}: a symbolic link to nothing, or to more than {MAX_PATH} bytes")


def _check_attributes(entry: Entry) -> None:
    for name, value in entry.xattrs.items():
        if name.startswith(OVERLAY_PREFIXES):
            raise StrataError(
                f"entry {show(entry.name)}: the attribute {name} is overlayfs's own and is refused in an archive; "
                "whiteouts and opaque directories are written as .wh. names"
            )
        raw = name.encode("utf-8", "surrogateescape")
        if len(raw) > _MAX_ATTRIBUTE_NAME:
            raise StrataError(
                f"entry {show(entry.name)}: the attribute {show(raw)} has a name of {len(raw)} bytes; Linux takes "
                f"{_MAX_ATTRIBUTE_NAME}"
            )
        if len(value) > _MAX_ATTRIBUTE:
            raise StrataError(
                f"entry {show(entry.name)}: the attribute {show(raw)} has {len(value)} bytes; Linux takes "
                f"{_MAX_ATTRIBUTE}"
            )
