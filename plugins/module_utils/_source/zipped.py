# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Opens a zip archive from any source. One that arrives as a stream is stored until it has been read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._archive.zip_archive import zip_members
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.reserve import Reserve
from ansible_collections.strata.overlay.plugins.module_utils._layer.select import Piece

_CHUNK = 1 << 20
_PLACE = "/var/tmp"
"""For what may be large: /tmp is memory on many hosts."""


@contextlib.contextmanager
def open_zip(
    file: Optional[IO[bytes]], read: Callable[[int], bytes], rest: Callable[[int], bytes], limits: Limits
) -> Iterator[Iterator[Piece]]:
    """The members of an archive.

    :param file: where it lies, if that is seekable; None for a stream.
    :param read: reads that file, and counts. ``rest``: gives the archive from its first byte on.
    :raises StrataError: it is no usable archive, or beyond a limit.
    """
    with contextlib.ExitStack() as stack:
        if file is None:
            place = _PLACE if os.access(_PLACE, os.W_OK) else None
            kept: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=place))
            _keep(rest, kept, limits)
            members = zip_members(kept, kept.read, limits)
        else:
            members = zip_members(file, read, limits)
        yield members


def _keep(read: Callable[[int], bytes], kept: IO[bytes], limits: Limits) -> None:
    reserve = Reserve(kept.fileno(), limits.reserve)
    total = 0
    while True:
        piece = read(_CHUNK)
        if not piece:
            break
        total += len(piece)
        if total > limits.bytes:
            raise StrataError(
                f"the zip archive has more bytes than the limit of {limits.bytes}; if you trust where it comes from, "
                "raise the option 'limits.bytes'"
            )
        reserve.wrote(len(piece))
        kept.write(piece)
    kept.flush()
