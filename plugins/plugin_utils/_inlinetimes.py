# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""When each file that is written in a definition got its content: the first time that this controller saw it.

What the controller does not remember, hosts do: there a file with the bytes that it had before keeps its time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping

from ansible_collections.strata.overlay.plugins.module_utils._definition.files import InlineFile
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._store.lock import locked


def with_times(source: Source, cache: DigestCache, directory: str, timeout: float) -> Source:
    """Inline files with the time of each.

    :param directory: of the cache. Of many hosts that are served at once only the first one decides.
    :param timeout: seconds.
    """
    times = {file.path: _remembered(file, cache) for file in source.files}
    if not all(times.values()):
        os.makedirs(directory, 0o700, exist_ok=True)
        with locked(os.path.join(directory, "lock"), exclusive=True, timeout=timeout):
            now = int(time.time())
            for file in source.files:
                times[file.path] = _remembered(file, cache) or now
                cache.put(_key(file), {"time": str(times[file.path])})
            cache.flush()
    return source._replace(files=tuple(file._replace(time=times[file.path]) for file in source.files))


def _remembered(file: InlineFile, cache: DigestCache) -> int:
    """Seconds since 1970, 0 where it was never seen."""
    known: Mapping[str, str] = cache.get(_key(file)) or {}
    text = str(known.get("time", ""))
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 12 else 0


def _key(file: InlineFile) -> str:
    parts = ["time of an inline file", file.path, file.state, file.target]
    head = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(head.encode("utf-8", "surrogateescape") + file.content).hexdigest()
