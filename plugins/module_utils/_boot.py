# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What brings a stack's mount back after a reboot: a systemd mount unit, or a line of fstab where systemd is not.

Both say no more than "mount -t strata NAME PATH"; how the stack is mounted, the helper mount.strata reads from the
store. Sources: systemd.mount(5), systemd.unit(5), fstab(5).
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.strata.overlay.plugins.module_utils._fstab import block_lines, escape, first_field
from ansible_collections.strata.overlay.plugins.module_utils._mountinfo import Mount
from ansible_collections.strata.overlay.plugins.module_utils._pathname import is_inside
from ansible_collections.strata.overlay.plugins.module_utils._services import SYSTEMD_RUNS

FSTYPE = "strata"

_MARK = re.compile(r"\A# strata\.overlay: stack (\S+) of the store (.*)\. ")
_ASKED = re.compile(r"^(Wanted|Required)By=(.*)$", re.MULTILINE)
_PLAIN = re.compile(r"^[A-Za-z0-9/_.:@%+-]+\Z")
_LONGEST_UNIT_NAME = 255
_REMOTE = ("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "virtiofs")
"""File systems that come up with the network; what needs them must not be waited for before it."""


class Places(NamedTuple):
    """Where a host keeps what this room reads and writes."""

    units: str = "/etc/systemd/system"
    fstab: str = "/etc/fstab"
    init: str = "/sbin/init"
    helper: str = "/sbin/mount.strata"
    library: str = "/usr/local/lib/strata"
    running: str = SYSTEMD_RUNS


class BootEntry(NamedTuple):
    """What is, or shall be, written for one stack.

    :ivar path: the unit file, or the fstab that holds the line.
    :ivar text: the unit's text, or the line.
    :ivar links: symbolic links to the unit file, as ``systemctl enable`` makes them.
    """

    stack: str
    path: str
    text: str
    links: FrozenSet[str] = frozenset()

    @property
    def is_unit(self) -> bool:
        return self.path.endswith(".mount")

    @property
    def name(self) -> str:
        """How people call it: ``srv-web.mount`` or ``/etc/fstab``."""
        return os.path.basename(self.path) if self.is_unit else self.path

    def holds(self, wanted: BootEntry) -> bool:
        """Whether nothing is missing of what is wanted; links that others have added are theirs."""
        return (self.path, self.text) == (wanted.path, wanted.text) and wanted.links <= self.links

    def own_links(self) -> FrozenSet[str]:
        """Those links that the unit's text asks for."""
        ends = {"Wanted": "wants", "Required": "requires"}
        asked = {f"{unit}.{ends[kind]}" for kind, units in _ASKED.findall(self.text) for unit in units.split()}
        return frozenset(link for link in self.links if os.path.basename(os.path.dirname(link)) in asked)


class BootFacts(NamedTuple):
    """What is on the host of all this.

    :ivar helper: mount.strata is installed; without it nothing could mount a stack at boot.
    :ivar systemd: it is what boots this host (it need not run now: an image may be in the making).
    :ivar remote: the store lies on a file system that comes with the network.
    :ivar entries: all that was written for stacks of this store.
    :ivar foreign: mount units that someone else has written.
    """

    places: Places = Places()
    helper: bool = False
    systemd: bool = True
    remote: bool = False
    entries: Tuple[BootEntry, ...] = ()
    foreign: FrozenSet[str] = frozenset()

    def means(self, wanted: bool) -> str:
        """How a stack comes back, in one word, as results tell it."""
        if not wanted:
            return "off"
        return "no_helper" if not self.helper else "unit" if self.systemd else "fstab"


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


def boot_problems(where: str, entry: BootEntry, path: str, root: str, facts: BootFacts) -> List[str]:
    """Why an entry cannot be written. Pure."""
    tell = f"{where}: option 'boot': "
    advice = "; choose another, or set boot: false"
    if any(letter in root for letter in ',"\\') or root.strip() != root:
        return [f"{tell}the store's path {root!r} has a character that no mount option can hold{advice}"]
    if entry.is_unit and (path.endswith("\\") or path.strip() != path or not _is_utf8(path)):
        return [f"{tell}systemd cannot mount at {path!r}, a name that no unit file can hold{advice}"]
    if len(entry.name) > _LONGEST_UNIT_NAME:
        return [f"{tell}{path} makes a unit name of more than {_LONGEST_UNIT_NAME} characters{advice}"]
    if entry.path in facts.foreign:
        return [
            f"{tell}{entry.path} is there already and was not written for this stack; remove it, or set boot: false"
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

    removed: Tuple[BootEntry, ...]
    written: Tuple[Tuple[BootEntry, FrozenSet[str]], ...]


def boot_changes(
    wanted: Mapping[str, BootEntry], decided: Set[str], known: Iterable[str], facts: BootFacts
) -> BootChanges:
    """From what is written to what shall be. Pure.

    :param wanted: by stack.
    :param decided: stacks about which this run decides; others keep what they have, unless the store lost them.
    :param known: all stacks of the store.
    """
    kept = set(known) - decided
    removed: List[BootEntry] = []
    found: Dict[str, BootEntry] = {}
    for entry in facts.entries:
        mine = wanted.get(entry.stack)
        if mine is not None and mine.path == entry.path and entry.stack not in found:
            found[entry.stack] = entry
        elif entry.stack not in kept:
            removed.append(entry)
    written: List[Tuple[BootEntry, FrozenSet[str]]] = []
    for stack, entry in wanted.items():
        before = found.get(stack)
        if before is None or not before.holds(entry):
            written.append((entry, before.own_links() - entry.links if before else frozenset()))
    return BootChanges(tuple(removed), tuple(written))


# The host.


def observe_boot(root: str, mounts: Sequence[Mount], places: Optional[Places] = None) -> BootFacts:
    """Look at units, fstab, helper and init.

    :param root: the store's directory, without links.
    """
    places = places or Places()
    ours, foreign = _units(places.units, root)
    lines = block_lines(_read(places.fstab), root)
    return BootFacts(
        places=places,
        helper=os.access(places.helper, os.X_OK),
        systemd=os.path.isdir(places.running) or os.path.basename(os.path.realpath(places.init)) == "systemd",
        remote=_is_remote(root, mounts),
        entries=(*ours, *(BootEntry(first_field(line), places.fstab, line) for line in lines)),
        foreign=frozenset(foreign),
    )


def _units(directory: str, root: str) -> Tuple[List[BootEntry], List[str]]:
    """The mount units of this store's stacks, and the paths of all others."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return [], []
    ours: List[BootEntry] = []
    foreign: List[str] = []
    links: Optional[Dict[str, Set[str]]] = None
    for name in names:
        path = f"{directory}/{name}"
        if not name.endswith(".mount"):
            continue
        text = _read(path)
        mark = _MARK.match(text)
        if mark is None or mark.group(2) != root:
            foreign.append(path)
            continue
        links = _links(directory, names) if links is None else links
        ours.append(BootEntry(mark.group(1), path, text, frozenset(links.get(name, ()))))
    return ours, foreign


def _links(directory: str, names: Sequence[str]) -> Dict[str, Set[str]]:
    """Links to mount units, by the unit's name."""
    found: Dict[str, Set[str]] = {}
    for wanting in names:
        if wanting.endswith((".wants", ".requires")):
            with contextlib.suppress(OSError):
                for name in os.listdir(f"{directory}/{wanting}"):
                    if name.endswith(".mount"):
                        found.setdefault(name, set()).add(f"{directory}/{wanting}/{name}")
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


def _is_remote(root: str, mounts: Sequence[Mount]) -> bool:
    holders = [mount for mount in mounts if is_inside(root, mount.path)]
    if not holders:
        return False
    # Of several mounts on one path the last one in the table is the one seen.
    holder = max(enumerate(holders), key=lambda item: (len(item[1].path), item[0]))[1]
    return holder.fstype in _REMOTE or holder.fstype in ("fuse.sshfs", "fuse.glusterfs", "fuse.s3fs")
