# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Rooms compiled once.

On a host a module is one zip file, and Python compiles each file of a zip twice: once to tell its path, once to run it
(``zipimporter.get_filename``, CPython 3.9 to 3.13). For some fifty rooms that is a third of a module's time.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, List, Optional, Sequence, cast
from zipimport import zipimporter

if TYPE_CHECKING:
    from importlib.abc import Loader
    from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]


class _Rooms:
    """Tells where a room lies in the zip without looking into it; the zip's own importer does the rest."""

    def __init__(self, directory: str, importer: zipimporter) -> None:
        self._directory = directory
        self._importer = importer

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        package, _dot, room = fullname.rpartition(".")
        if package != _PACKAGE:
            return None
        file = f"{self._directory}/{room}.py"
        spec = ModuleSpec(fullname, cast("Loader", self._importer), origin=file)
        spec.has_location = True
        return spec


def compile_rooms_once() -> None:
    """From now on in this process; nothing where the collection lies unpacked. Call it before other rooms are imported.

    A room that is not in the zip is an ImportError, as ever.
    """
    places: List[str] = list(sys.modules[_PACKAGE].__path__)
    # Whoever brings modules to hosts in a way of his own may give packages no place at all.
    importer = pkgutil.get_importer(places[0]) if places else None
    if isinstance(importer, zipimporter) and not any(isinstance(finder, _Rooms) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Rooms(places[0], importer))
