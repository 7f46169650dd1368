# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Numbers of mount flags and attributes (linux/mount.h). Pure."""

from __future__ import annotations

MS_RDONLY = 0x1


MS_NOSUID = 0x2


MS_NODEV = 0x4


MS_NOEXEC = 0x8


MS_REMOUNT = 0x20


MS_NOSYMFOLLOW = 0x100


MS_NOATIME = 0x400


MS_NODIRATIME = 0x800


MS_BIND = 0x1000

MS_REC = 0x4000


MS_UNBINDABLE = 0x20000


MS_PRIVATE = 0x40000


MS_SLAVE = 0x80000


MS_SHARED = 0x100000


MS_RELATIME = 0x200000


MS_STRICTATIME = 0x1000000


ATTR_RDONLY = 0x1


ATTR_NOSUID = 0x2


ATTR_NODEV = 0x4


ATTR_NOEXEC = 0x8


ATTR_NOATIME = 0x10


ATTR_STRICTATIME = 0x20


ATTR_TIMES = 0x70
"""The bits of the access time modes together; relatime is none of them."""


ATTR_NODIRATIME = 0x80


ATTR_IDMAP = 0x100000


ATTR_NOSYMFOLLOW = 0x200000


ATTR_RESTRICTIONS = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NOSYMFOLLOW
"""The bits that restrict what may be done with files; a bind mount has those of the mount that it is made from."""
