# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Maps names in the store to Docker references (repository and tag). Pure.

Source: github.com/distribution/reference, "normalize.go": the familiar form of a name.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

_DOMAINS = ("docker.io/", "index.docker.io/")
_LIBRARY = "library/"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"^((?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(sha256:[0-9a-f]{{64}}))?\Z"
)


class Reference(NamedTuple):
    """A repository, such as ``debian`` or ``registry.example.com/team/app``, and the whole with its tag or digest."""

    repository: str
    full: str


def familiar(name: str) -> Optional[Reference]:
    """A name as Docker shows it, with ``:latest`` where it has no tag; None for one that Docker could not have."""
    match = _REFERENCE.match(name)
    # A repository of 64 hexadecimal digits would be an image id.
    if not match or re.match(r"^[0-9a-f]{64}\Z", match.group(1)):
        return None
    repository, tag, digest = match.groups()
    for domain in _DOMAINS:
        if repository.startswith(domain):
            repository = repository[len(domain) :]
            break
    if repository.startswith(_LIBRARY) and repository.count("/") == 1:
        repository = repository[len(_LIBRARY) :]
    return Reference(repository, f"{repository}@{digest}" if digest else f"{repository}:{tag or 'latest'}")


def is_same(reference: str, name: str) -> bool:
    """Whether a user's reference means an image that an archive lists under this name."""
    sought = familiar(reference)
    return reference == name or (sought is not None and sought == familiar(name))
