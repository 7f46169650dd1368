# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs that write all over the host, kept from it by a mount namespace where /etc and such are copies."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

WRITTEN = ("/etc", "/opt", "/var/lib")
"""Where container engines leave keys, locks and caches, whatever roots they are given."""

_EMPTY = ("/run", "/dev/shm")

_COVER = f"""
set -e
# The layers over these directories lie on a tmpfs which lies on one of them, in this namespace alone.
mount -t tmpfs tmpfs /mnt
for directory in {" ".join(WRITTEN)}; do
    upper="/mnt$directory/upper" work="/mnt$directory/work"
    mkdir -p "$upper" "$work"
    mount -t overlay overlay -o "lowerdir=$directory,upperdir=$upper,workdir=$work" "$directory"
done
for directory in {" ".join(_EMPTY)}; do
    [ ! -d "$directory" ] || mount -t tmpfs -o mode="$(stat -c %a "$directory")" tmpfs "$directory"
done
"""


def apart(command: Sequence[str]) -> list[str]:
    """The command in such a namespace; it ends with the command, and so does every mount made in it."""
    script = _COVER + 'exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command]


@contextlib.contextmanager
def covered() -> Iterator[None]:
    """The same for all that is done meanwhile by a process which is in a mount namespace of its own already."""
    try:
        subprocess.run(["sh", "-c", _COVER], check=True)
        yield
    finally:
        for directory in (*reversed(_EMPTY), *reversed(WRITTEN), "/mnt"):
            subprocess.run(["umount", "--lazy", directory], check=False, stderr=subprocess.DEVNULL)
