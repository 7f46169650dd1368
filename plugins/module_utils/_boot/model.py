# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What mounts stacks at boot, as values. Pure: `_boot/facts` looks."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ansible_collections.strata.overlay.plugins.module_utils._linux.system_paths import SYSTEMD_RUNS

_ASKED = re.compile(r"^(Wanted|Required)By=(.*)$", re.MULTILINE)


class Places(NamedTuple):
    """Where a host keeps what is read and written to bring stacks back at boot."""

    units: str = "/etc/systemd/system"
    fstab: str = "/etc/fstab"
    init: str = "/sbin/init"
    helper: str = "/sbin/mount.strata"
    library: str = "/usr/local/lib/strata"
    running: str = SYSTEMD_RUNS


class BootEntry(NamedTuple):
    """What is, or will be, written for one stack.

    :ivar path: the unit file, or the fstab that holds the line.
    :ivar text: the unit's text, or the line.
    :ivar links: symbolic links to the unit file, as ``systemctl enable`` makes them.
    """

    stack: str
    path: str
    text: str
    links: frozenset[str] = frozenset()

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

    def own_links(self) -> frozenset[str]:
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
    entries: tuple[BootEntry, ...] = ()
    foreign: frozenset[str] = frozenset()

    @property
    def matters(self) -> bool:
        """Whether there can be anything to write or to remove."""
        return self.helper or bool(self.entries)

    def means(self, wanted: bool) -> str:
        """How a stack is mounted at boot, in one word, as results show it."""
        if not wanted:
            return "off"
        return "no_helper" if not self.helper else "unit" if self.systemd else "fstab"
