# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""A layer's archive from a URL, into a file without a name."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from typing import IO, Any, Dict, Mapping, Optional
from urllib.error import HTTPError, URLError

from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError

_TIMEOUT = 60
_NOT_MODIFIED = 304


@dataclass(frozen=True)
class Fetched:
    """A download; ``stream`` is None where the server says that it is still what was seen before."""

    stream: Optional[IO[bytes]]
    marks: Mapping[str, str]


def fetch(url: str, seen: Mapping[str, str], directory: str) -> Fetched:
    """Download ``url`` unless the server says that it has not changed.

    :param seen: ``marks`` of an earlier download: ETag and Last-Modified.
    :param directory: where the file without a name takes its room; nothing is ever seen there, and it goes with
        the process.
    """
    # Imported here: it is large, and a run without URLs shall not pay for it.
    from ansible.module_utils.urls import open_url

    headers: Dict[str, str] = {}
    if seen.get("etag"):
        headers["If-None-Match"] = seen["etag"]
    if seen.get("last_modified"):
        headers["If-Modified-Since"] = seen["last_modified"]
    try:
        response: Any = open_url(url, headers=headers, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == _NOT_MODIFIED:
            return Fetched(None, seen)
        raise StrataError(f"the server answered {error.code} {error.reason} to a request for {url}") from error
    except (URLError, OSError, ValueError) as error:
        raise StrataError(f"cannot fetch {url}: {getattr(error, 'reason', error)}") from error
    stream = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed with the run
    try:
        shutil.copyfileobj(response, stream, 1 << 20)
        _check_length(url, response, stream.tell())
    except OSError as error:
        stream.close()
        raise StrataError(f"the download of {url} broke off: {error}") from error
    except StrataError:
        stream.close()
        raise
    stream.seek(0)
    marks = {"etag": response.headers.get("ETag") or "", "last_modified": response.headers.get("Last-Modified") or ""}
    return Fetched(stream, marks)


def _check_length(url: str, response: Any, got: int) -> None:
    promised = response.headers.get("Content-Length")
    if promised and promised.isdigit() and int(promised) != got:
        raise StrataError(f"the download of {url} ended after {got} of {promised} bytes; run again")
