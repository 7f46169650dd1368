# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""How a stack is mounted at boot: a systemd mount unit, or an fstab line where there is no systemd.

Both say no more than "mount -t strata NAME PATH"; how the stack is mounted, the helper mount.strata reads from the
store. Sources: systemd.mount(5), systemd.unit(5), fstab(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._boot.fstab import escape
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry, BootFacts

FSTYPE = "strata"

_PLAIN = re.compile(r"^[A-Za-z0-9/_.:@%+-]+\Z")
_LONGEST_UNIT_NAME = 255


def escape_path(path: str) -> str:
    """A path as the name of a unit, as ``systemd-escape --path`` writes it."""
    text = os.fsencode(path.strip("/"))
    if not text:
        return "-"
    plain = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:_."
    escaped = [
        "-" if byte == ord("/") else chr(byte) if byte in plain and (index or byte != ord(".")) else f"\\x{byte:02x}"
        for index, byte in enumerate(text)
    ]
    return "".join(escaped)


def boot_entry(facts: BootFacts, stack: str, path: str, root: str, services: Sequence[str]) -> BootEntry:
    """What is to be written for a stack.

    :param path: where it is mounted, without links: systemd takes no other.
    :param services: units that must not start without the tree.
    """
    options = f"root={root}" + (",_netdev" if facts.remote else "")
    if not facts.systemd:
        line = f"{escape(stack)} {escape(path)} {FSTYPE} {escape(options)} 0 0"
        return BootEntry(stack, facts.places.fstab, line)
    name = f"{escape_path(path)}.mount"
    target = "remote-fs.target" if facts.remote else "local-fs.target"
    wanting = [f"{target}.wants", *(f"{service}.requires" for service in services)]
    before = f"Before={' '.join(services)}\n" if services else ""
    required = f"RequiredBy={' '.join(services)}\n" if services else ""
    text = (
        f"# strata.overlay: stack {stack} of the store {root}. Written by Ansible; changes are overwritten.\n"
        "[Unit]\n"
        f"Description=Stack {stack}\n"
        "Documentation=https://github.com/strata-overlay/strata.overlay\n"
        f"RequiresMountsFor={_quoted(root)} {facts.places.library}\n"
        f"{before}"
        "\n"
        "[Mount]\n"
        f"What={_literal(stack)}\n"
        f"Where={_literal(path)}\n"
        f"Type={FSTYPE}\n"
        f"Options={_literal(options)}\n"
        "\n"
        "[Install]\n"
        f"WantedBy={target}\n"
        f"{required}"
    )
    directory = facts.places.units
    return BootEntry(stack, f"{directory}/{name}", text, frozenset(f"{directory}/{end}/{name}" for end in wanting))


def _literal(text: str) -> str:
    """No specifier of systemd.unit(5)."""
    return text.replace("%", "%%")


def _quoted(path: str) -> str:
    """One word of a list."""
    text = _literal(path)
    return text if _PLAIN.match(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def boot_problems(label: str, entry: BootEntry, path: str, root: str, facts: BootFacts) -> list[str]:
    """Why an entry cannot be written. Pure."""
    prefix = f"{label}: option 'boot': "
    advice = "; choose another, or set boot: false"
    if any(letter in root for letter in ',"\\') or root.strip() != root:
        return [f"{prefix}the store's path {root!r} has a character that no mount option can hold{advice}"]
    if entry.is_unit and (path.endswith("\\") or path.strip() != path or not _is_utf8(path)):
        return [f"{prefix}systemd cannot mount at {path!r}, a name that no unit file can hold{advice}"]
    if len(entry.name) > _LONGEST_UNIT_NAME:
        return [f"{prefix}{path} makes a unit name of more than {_LONGEST_UNIT_NAME} characters{advice}"]
    if entry.path in facts.foreign:
        return [
            f"{prefix}{entry.path} is there already and was not written for this stack; remove it, or set boot: false"
        ]
    return []


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class BootChanges(NamedTuple):
    """What is to be removed, and what is to be written: each entry with the links that go away."""

    removed: tuple[BootEntry, ...]
    written: tuple[tuple[BootEntry, frozenset[str]], ...]


def boot_changes(
    wanted: Mapping[str, BootEntry], decided: set[str], known: Iterable[str], facts: BootFacts
) -> BootChanges:
    """The changes from what is written to what is wanted. Pure.

    :param wanted: by stack.
    :param decided: stacks about which this run decides; others keep what they have, unless the store lost them.
    :param known: all stacks of the store.
    """
    kept = set(known) - decided
    removed: list[BootEntry] = []
    found: dict[str, BootEntry] = {}
    for entry in facts.entries:
        mine = wanted.get(entry.stack)
        if mine is not None and mine.path == entry.path and entry.stack not in found:
            found[entry.stack] = entry
        elif entry.stack not in kept:
            removed.append(entry)
    written: list[tuple[BootEntry, frozenset[str]]] = []
    for stack, entry in wanted.items():
        before = found.get(stack)
        if before is None or not before.holds(entry):
            written.append((entry, before.own_links() - entry.links if before else frozenset()))
    return BootChanges(tuple(removed), tuple(written))
