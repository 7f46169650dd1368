# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""StrataError, the exception for everything a user can read and act on, and advice for common errno values."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line


class StrataError(Exception):
    """What was being done, to which layer or stack, what is wrong, and what to do: one message in full words."""


class BusyError(StrataError):
    """A mounted stack cannot be unmounted because processes or other mounts hold it."""


class UnhealthyError(StrataError):
    """A change was made, and what uses the stack does not work with it.

    :ivar name: the stack.
    """

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


class DefinitionError(StrataError):
    """Mistakes in a definition, all of them."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = list(dict.fromkeys(one_line(problem) for problem in errors))
        count = len(self.errors)
        head = "1 mistake" if count == 1 else f"{count} mistakes"
        listed = "".join(f"\n  - {problem}" for problem in self.errors)
        super().__init__(f"The definition has {head}; nothing was changed:{listed}")


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""The file system has no block, or no inode, for another file."""

_ADVICE = {
    errno.ENOSPC: "Make room on that file system (df -h, df -i; strata.overlay.prune frees what nothing uses)",
    errno.EDQUOT: "Make room within that quota, or raise it (strata.overlay.prune frees what nothing uses)",
    errno.EROFS: "Make that file system writable; where it became read-only by itself, the kernel's log says why",
    errno.EXDEV: (
        "A store has to lie on one file system as a whole: unmount what is mounted on its directories "
        "(strata.overlay.store_check names them)"
    ),
    errno.EIO: "Look into the kernel's log (dmesg): the disk or its file system may be failing",
    errno.EACCES: "Run it as root (become: true); where it is, see whether SELinux or AppArmor forbids it",
    errno.EPERM: "Run it as root (become: true); where it is, see whether a container or SELinux forbids it",
}


def advice(error: OSError) -> str:
    """What to do about the kernel's answer: a whole sentence, "" where that depends on what was being done."""
    message = _ADVICE.get(error.errno or 0, "")
    return f"{message}, and run again." if message else ""


def error_text(error: Exception) -> str:
    """An error in words; the kernel's answer with the path that it is about."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
    return str(error)


@contextlib.contextmanager
def about(path: str) -> Iterator[None]:
    """Errors of calls that know only a descriptor get the path of what it is."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, (str, bytes)):
            error.filename = path
        raise
