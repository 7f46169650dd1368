# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Roles on the controller -> a digest of all that is in them and in the roles that they depend on."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

_LEFT_OUT = (".git", "__pycache__", "molecule", "tests")
"""What a role's tasks never see."""


class RoleFinder:
    """Finds roles as a play finds them.

    :param beside: directories that a relative path may begin at.
    :param places: directories of roles, in the order in which they are looked through.
    :param in_collection: the path of a role whose name has two dots, "" where there is none.
    :param load: reads a YAML file.
    """

    def __init__(
        self,
        beside: Sequence[Path],
        places: Sequence[Path],
        in_collection: Callable[[str], str],
        load: Callable[[str], Any],
    ) -> None:
        self._beside = beside
        self._places = places
        self._in_collection = in_collection
        self._load = load

    def facts(self, name: str) -> dict[str, str]:
        """A role's name, path and digest. :raises StrataError: it, or a role that it depends on, is not there."""
        total = hashlib.sha256()
        seen: set[Path] = set()
        waiting = [(name, "")]
        while waiting:
            each, wanted_by = waiting.pop()
            path = self._find(each, wanted_by)
            if path not in seen:
                seen.add(path)
                total.update(_tree_digest(path))
                waiting += [(needed, each) for needed in self._dependencies(path)]
        return {"name": name, "path": str(self._find(name, "")), "digest": f"sha256:{total.hexdigest()}"}

    def _find(self, name: str, wanted_by: str) -> Path:
        if name.count(".") >= 2 and "/" not in name:
            found = self._in_collection(name)
            candidates = [Path(found)] if found else []
        elif "/" in name:
            candidates = [place / Path(name).expanduser() for place in [*self._beside, Path.cwd()]]
        else:
            candidates = [place / name for place in self._places]
        path = next((candidate.resolve() for candidate in candidates if candidate.is_dir()), None)
        if path is None:
            looked = ", ".join(map(str, candidates)) or "no collection of that name"
            needed = f", on which role '{wanted_by}' depends," if wanted_by else ""
            raise StrataError(f"role '{name}'{needed} is not on the controller; looked for: {looked}")
        return path

    def _dependencies(self, role: Path) -> list[str]:
        meta = next(
            (role / "meta" / name for name in ("main.yml", "main.yaml") if (role / "meta" / name).exists()), None
        )
        data = self._load(str(meta)) if meta else None
        listed = data.get("dependencies") if isinstance(data, Mapping) else None
        names = [item.get("role") or item.get("name") if isinstance(item, Mapping) else item for item in listed or []]
        return [str(name) for name in names if name]


def _tree_digest(top: Path) -> bytes:
    """Of names, types, executable bits and contents; not of owners and times, which a checkout makes anew."""
    total = hashlib.sha256()
    for name, path in _files(top):
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            parts = [b"link", os.fsencode(os.readlink(path))]
        else:
            parts = [b"program" if facts.st_mode & stat.S_IXUSR else b"file", path.read_bytes()]
        for part in (os.fsencode(name), *parts):
            total.update(b"%d:" % len(part) + part)
    return total.digest()


def _files(top: Path) -> Iterator[tuple[str, Path]]:
    for directory, directories, files in os.walk(top):
        directories[:] = sorted(name for name in directories if name not in _LEFT_OUT)
        links = [name for name in directories if (Path(directory) / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(directory) / name
            if not name.endswith(".pyc"):
                yield str(path.relative_to(top)), path
