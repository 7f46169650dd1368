# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers as tests write them."""

from __future__ import annotations

from typing import Any


def inline(name: str, **files: str) -> dict[str, Any]:
    """A named layer of inline files; ``__`` in a keyword stands for ``/``."""
    entries = [{"path": path.replace("__", "/"), "content": text} for path, text in files.items()]
    return {"name": name, "files": entries}


def numbered(count: int) -> list[dict[str, Any]]:
    """Layers ``n0``, ``n1``, …, each with a file of its own and one that all have."""
    return [inline(f"n{number}", **{f"file{number}": str(number), "top": str(number)}) for number in range(count)]
