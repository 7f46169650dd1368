# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Where a content's bytes come from. Pure: `_source/source` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.value import Value
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True, eq=False, repr=False)
class Origin(Value):
    """Where the bytes of one content can be had.

    :ivar size: bytes of the regular files in it.
    :ivar awaited: the controller has them and has not sent them.
    :ivar remote: the bytes come over the network.
    :ivar label: the layer or image that wants it, for messages.
    :ivar declared: the DiffID is what an image's config says; nobody has read the bytes.
    :ivar chain: the contents, bottom first, of which it is the copy as one tree; empty for all others.
    :ivar opener: opens the archive, compressed or not, at its first byte, as often as it is called, also in another
        process than the one that made it; None where the source says where it is.
    :ivar blob: where the archive lies in a file, if that is known without looking.
    :ivar source_digest: as in ``Digested``.
    """

    diff_id: str
    size: int
    description: str
    source: Source
    awaited: bool = False
    opener: Optional[Opener] = None
    remote: bool = False
    label: str = field(default="", compare=False)
    declared: bool = False
    chain: tuple[str, ...] = ()
    blob: Optional[Blob] = field(default=None, compare=False)
    source_digest: str = ""


def sent(facts: Mapping[str, Any]) -> Origin:
    """The origin that the controller found: diff_id, size, words, source_digest where it has packed the archive with
    its times, and path when it has sent it.
    """
    path = facts.get("path") or ""
    return Origin(
        facts["diff_id"],
        int(facts["size"]),
        facts["words"],
        Source("src", path, True),
        awaited=not path,
        source_digest=facts.get("source_digest") or "",
    )


def describe(source: Source) -> str:
    """A source in a few words, with what is taken of it, for plans and records; a URL without what may be a secret."""
    place = _place(source)
    return f"{place} ({source.selection})" if source.selection else place


def _place(source: Source) -> str:
    if source.kind == "url":
        # Imported only when needed: most definitions have no URL.
        from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import shown_url

        return shown_url(source.location)
    message = {
        "files": "inline files",
        "dir": f"directory {source.location}",
        "upper": f"the changes of stack {source.stack}",
    }
    return message.get(source.kind, source.location)
