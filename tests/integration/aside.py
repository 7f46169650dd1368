# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs that write all over the host, kept from it by a mount namespace where /etc and such are copies."""

from __future__ import annotations

from collections.abc import Sequence

WRITTEN = ("/etc", "/opt", "/var/lib")
"""Where container engines leave keys, locks and caches, whatever roots they are given."""

_SCRIPT = """
set -e
# The layers over these directories lie on a tmpfs which lies on one of them, in this namespace alone.
mount -t tmpfs tmpfs /mnt
for directory in {directories}; do
    upper="/mnt$directory/upper" work="/mnt$directory/work"
    mkdir -p "$upper" "$work"
    mount -t overlay overlay -o "lowerdir=$directory,upperdir=$upper,workdir=$work" "$directory"
done
mount -t tmpfs -o mode=0755 tmpfs /run
[ ! -d /dev/shm ] || mount -t tmpfs -o mode=1777 tmpfs /dev/shm
exec "$@"
"""


def apart(command: Sequence[str]) -> list[str]:
    """The command in such a namespace; it ends with the command, and so does every mount made in it."""
    script = _SCRIPT.format(directories=" ".join(WRITTEN))
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command]
