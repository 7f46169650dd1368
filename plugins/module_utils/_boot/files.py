# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Writes and removes mount units, their links and fstab lines, each by one rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._boot.fstab import block_lines, first_field, with_block
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import CREATE


def write_entries(changes: Sequence[tuple[BootEntry, frozenset[str]]], root: str) -> None:
    """Bring units and fstab to these entries, each given with the links that go away."""
    entries = [entry for entry, _stale in changes]
    for entry, stale in changes:
        if entry.is_unit:
            # Before the text that names them is gone.
            for link in sorted(stale):
                _remove_link(link)
            replace_file(entry.path, entry.text)
            for link in sorted(entry.links):
                _replace_link(entry.path, link)
    _edit_fstab({entry.stack: entry.text for entry in entries if not entry.is_unit}, _fstabs(entries), root)


def remove_entries(entries: Sequence[BootEntry], root: str) -> None:
    """Remove them with every link; what is gone already is fine."""
    for entry in entries:
        if entry.is_unit:
            # The links first: systemd complains about a dangling one at every boot.
            for link in sorted(entry.links):
                _remove_link(link)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
    _edit_fstab({entry.stack: "" for entry in entries if not entry.is_unit}, _fstabs(entries), root)


def _fstabs(entries: Sequence[BootEntry]) -> list[str]:
    return sorted({entry.path for entry in entries if not entry.is_unit})


def _edit_fstab(changes: dict[str, str], paths: Sequence[str], root: str) -> None:
    """Set or, where it is "", remove the line of each stack."""
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
                text = stream.read()
        except FileNotFoundError:
            text = ""
        lines = {first_field(line): line for line in block_lines(text, root)}
        lines.update(changes)
        replace_file(path, with_block(text, root, [line for line in lines.values() if line]))


def replace_file(path: str, text: str, mode: Optional[int] = None) -> None:
    """A file of this text under this name, or the old one, at every moment.

    :param mode: None keeps mode and owner of the old one, and is 0644 for a new one.
    """
    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    staged = f"{os.path.dirname(path)}/.{os.path.basename(path)[:100]}.{os.urandom(4).hex()}"
    descriptor = os.open(staged, CREATE, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)
            stream.flush()
            _take_over(descriptor, path, mode)
            os.fsync(descriptor)
        os.rename(staged, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
        raise


def _take_over(descriptor: int, path: str, mode: Optional[int]) -> None:
    try:
        before = os.stat(path)
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644 if mode is None else mode)
    else:
        os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, before.st_mode & 0o7777 if mode is None else mode)


def _replace_link(target: str, link: str) -> None:
    with contextlib.suppress(OSError):
        if os.readlink(link) == target:
            return
    os.makedirs(os.path.dirname(link), 0o755, exist_ok=True)
    staged = f"{os.path.dirname(link)}/.{os.urandom(8).hex()}"
    os.symlink(target, staged)
    os.rename(staged, link)


def _remove_link(link: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    # Others may keep links of their own there.
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(link))
