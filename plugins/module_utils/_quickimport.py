# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Compiles each Python file of a module's zip only once.

On a host a module is one zip file, and Python compiles each file of a zip twice: once to find its path, once to run it
(``zipimporter.get_filename``, CPython 3.9 to 3.13). For `plan` that is 50 of some 130 ms of importing, on 3.9, 3.11 and
3.13 alike, and a fifth of what the host does in a run that changes nothing (270 ms of processor time).
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Optional, cast
from zipimport import ZipImportError, zipimporter

if TYPE_CHECKING:
    from importlib.abc import Loader
    from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]


class _Finder:
    """Tells where a file lies in the zip without reading it; the zip's own importer does the rest."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[ModuleSpec]:
        if not fullname.startswith(f"{_PACKAGE}.") or not path:
            return None
        # Each directory of a zip has an importer of its own.
        importer = pkgutil.get_importer(path[0])
        if not isinstance(importer, zipimporter):
            return None
        try:
            if importer.is_package(fullname):
                return None  # an empty file
        except ZipImportError:
            return None
        file = f"{path[0]}/{fullname.rpartition('.')[2]}.py"
        spec = ModuleSpec(fullname, cast("Loader", importer), origin=file)
        spec.has_location = True
        return spec


def compile_once() -> None:
    """From now on in this process; nothing where the collection lies unpacked. Call it before anything else of the
    collection is imported.
    """
    places = list(sys.modules[_PACKAGE].__path__)
    # Whoever brings modules to hosts in a way of his own may give packages no place at all.
    importer = pkgutil.get_importer(places[0]) if places else None
    if isinstance(importer, zipimporter) and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
