# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a policy blocks openat2: a real seccomp filter in a child process, the same trees and the same refusals."""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import re
import struct
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import remove_tree, unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.tests.integration.canary import plant, untouched
from ansible_collections.strata.overlay.tests.integration.host import Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.hostile import CONFINED, DAMAGED, REFUSED
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack import facts

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER = 0
"""Where struct seccomp_data has the number of the system call."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def block(number: int, answer: int) -> None:
    """From now on the kernel answers a system call of this process, and of all that it starts, with an error.

    Source: seccomp(2); struct sock_filter is code, jump if true, jump if false, value.
    """
    steps = [
        struct.pack("HBBI", _LOAD_WORD, 0, 0, _NUMBER),
        struct.pack("HBBI", _JUMP_IF_EQUAL, 0, 1, number),
        struct.pack("HBBI", _RETURN, 0, 0, _FAIL | answer),
        struct.pack("HBBI", _RETURN, 0, 0, _ALLOW),
    ]
    program = _Program(len(steps), b"".join(steps))
    zero = ctypes.c_ulong(0)
    syscalls.libc("prctl", _PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
    syscalls.libc("prctl", _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(program), zero, zero)


def in_a_child(work: Callable[[], object]) -> object:
    """What ``work`` gives, as JSON, in a process whose system call is blocked: the filter goes with it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as stream:
                try:
                    json.dump(work(), stream)
                    status = 0
                except BaseException:  # noqa: BLE001  told by the parent
                    stream.write(traceback.format_exc())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    assert os.waitpid(child, 0)[1] == 0, said
    return json.loads(said)


def blocked(answer: int, work: Callable[[], object]) -> object:
    """The same without openat2, after proof that it is so."""

    def work_without() -> object:
        block(syscalls.OPENAT2, answer)
        with pytest.raises(OSError) as failure:
            syscalls.openat2(os.open("/", os.O_PATH), b".", os.O_PATH, 0)
        assert failure.value.errno == answer
        return work()

    return in_a_child(work_without)


def unpack_all(place: Path) -> dict[str, object]:
    """Every archive of the tables: what was said, or the tree that it made."""
    found: dict[str, object] = {}
    for name, case in {**REFUSED, **CONFINED, **DAMAGED}.items():
        top = place / "top"
        top.mkdir()
        try:
            unpack(io.BytesIO(case.archive).read, str(top), False)
            # Without times: directories that no entry stands for have that of their making.
            found[name] = [(repr(path), repr(known[:2] + known[3:])) for path, known in facts(top).items()]
        except StrataError as error:
            found[name] = str(error)
        remove_tree(str(top))
    return found


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
def test_trees_and_refusals_are_the_same_without_openat2(host: Host, tmp_path: Path, answer: int) -> None:
    with untouched(plant(tmp_path)):
        expected = in_a_child(lambda: unpack_all(tmp_path))
        assert blocked(answer, lambda: unpack_all(tmp_path)) == expected
    assert isinstance(expected, dict)
    for name, case in REFUSED.items():
        assert re.search(case.reason, expected[name], re.DOTALL), name
    assert not (tmp_path / "top").exists()


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
def test_store_and_stack_work_from_apply_to_prune_without_openat2(host: Host, tmp_path: Path, answer: int) -> None:
    """Layers, a stack that is mounted, changed and removed, a prune and a check."""

    def live() -> object:
        stack = {"name": "web", "path": host.path("web"), "layers": ["one", "two"]}
        one, two = inline("one", etc__a="1", etc__b="1"), inline("two", etc__a="2")
        host.four_steps(layers=[one, two], stacks=[stack])
        seen = [host.tree("web")]
        host.four_steps(layers=[one, inline("two", etc__a="3")], stacks=[stack])
        seen.append(host.tree("web"))
        host.four_steps(stacks=[{"name": "web", "state": "absent"}])
        host.prune(unused_for="0s")
        assert host.check()["findings"] == []
        assert os.listdir(host.root / "content/sha256") == []
        return seen

    try:
        seen = blocked(answer, live)
    finally:
        unmount_all(tmp_path)
    assert seen == [{"etc/a": "2", "etc/b": "1"}, {"etc/a": "3", "etc/b": "1"}]
