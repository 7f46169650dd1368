# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A tree of the test's own that nothing may touch, not even read: watched by the kernel and compared byte by byte."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root
from ansible_collections.strata.overlay.tests.integration.trees import assert_same, tree_of

SECRET = "what the canary knows"

_IN_ALL_EVENTS = 0xFFF
_EVENT = struct.Struct("iIII")


class Watch:
    """Everything that any process does to files below a directory, by inotify(7)."""

    def __init__(self, top: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._names: dict[int, Path] = {}
        for path in [top, *top.rglob("*")]:
            if not path.is_symlink():
                number = library.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_ALL_EVENTS)
                if number < 0:
                    raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))
                self._names[number] = path

    def events(self) -> list[tuple[str, int]]:
        """What happened since it was asked last: path and kind of event."""
        found: list[tuple[str, int]] = []
        while True:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return found
            while data:
                number, mask, _cookie, length = _EVENT.unpack_from(data)
                name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
                found.append((f"{self._names.get(number, '')}/{os.fsdecode(name)}", mask))
                data = data[_EVENT.size + length :]

    def close(self) -> None:
        os.close(self._descriptor)


def plant(top: Path) -> Path:
    """Files of every kind that an archive could aim at."""
    need_full_root("makes no devices")
    canary = top / "canary"
    (canary / "directory" / "below").mkdir(parents=True)
    (canary / "file").write_text(SECRET)
    (canary / "file").chmod(0o600)
    (canary / "directory" / "below" / "other").write_text(SECRET)
    (canary / "link").symlink_to("file")
    os.mkfifo(canary / "fifo")
    os.mknod(canary / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for path in sorted(canary.rglob("*"), reverse=True):
        os.utime(path, ns=(1, 1), follow_symlinks=False)
    os.utime(canary, ns=(1, 1))
    return canary


@contextmanager
def untouched(canary: Path) -> Iterator[None]:
    """Fails where anything in the canary was so much as opened meanwhile, or is otherwise than it was."""
    before = tree_of(canary)
    watch = Watch(canary)
    try:
        yield
        events = watch.events()
    finally:
        watch.close()
    assert events == []
    assert_same(tree_of(canary), before)
