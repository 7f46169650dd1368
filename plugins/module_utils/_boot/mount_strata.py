# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""mount.strata, the helper that mount(8) runs for "mount -t strata NAME PATH", mostly at boot.

It reads the stack's record in the store and mounts with the very code of the modules. Python's standard library is all
it needs; Ansible is not there when a host boots. Interface: mount(8), "EXTERNAL HELPERS".
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, error_text
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import readable
from ansible_collections.strata.overlay.plugins.module_utils._linux import mountinfo
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._mount.mounter import Mounter
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_check import ended
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import (
    mismatch,
    mount_request,
    of_store_at,
    root_on_device,
    shown_content,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.inspect_layout import (
    inspect_layer,
    inspect_writable,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import LayerLink, layer_links
from ansible_collections.strata.overlay.plugins.module_utils._store.records import StackRecord
from ansible_collections.strata.overlay.plugins.module_utils._store.stage_layout import stage_layer, stage_writable
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store, open_store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction

_DEFAULT_ROOT = "/var/lib/strata"
_LOCK_TIMEOUT = 60.0

# Exit codes of mount(8).
_WRONG_CALL = 1
_FAILED = 32

_FOR_OTHERS = {"rw", "defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group", "nofail", "_netdev"}
"""Options for mount(8), systemd or init scripts, which do not affect the mount itself."""


class CallError(Exception):
    """The helper was called in a way that it does not understand."""


@dataclass(frozen=True)
class Call:
    """What mount(8) asks for.

    :ivar spec: the stack's name. :ivar fake: find out whether it could be mounted, and do not mount.
    """

    spec: str
    path: str
    root: str
    read_only: bool = False
    fake: bool = False
    verbose: bool = False


def main(arguments: Sequence[str]) -> int:
    """Mount one stack; the exit code of mount(8)."""
    try:
        call = read_call(arguments)
        done = mount(call)
    except CallError as error:
        sys.stderr.write(f"mount.strata: {readable(str(error))}\n")
        return _WRONG_CALL
    except (StrataError, OSError) as error:
        sys.stderr.write(f"mount.strata: {readable(error_text(error))}\n")
        return _FAILED
    if call.verbose:
        sys.stdout.write(f"mount.strata: {readable(done)}\n")
    return 0


def read_call(arguments: Sequence[str]) -> Call:
    """The arguments of a helper; CallError where they are no call that mount(8) makes, or ask for what cannot be."""
    try:
        flags, message = getopt.gnu_getopt(list(arguments), "sfnvN:o:t:")
    except getopt.GetoptError as error:
        raise CallError(f"{error}; usage: mount -t strata NAME PATH [-o root=STORE]") from error
    given = dict(flags)
    if len(message) != 2:
        raise CallError("a stack's name and the path are needed: mount -t strata NAME PATH [-o root=STORE]")
    if "-N" in given:
        raise CallError("option -N is not known here; enter the namespace by nsenter(1) and mount there")
    options = _options([value for flag, value in flags if flag == "-o"], sloppy="-s" in given)
    root = options.get("root") or _DEFAULT_ROOT
    if not os.path.isabs(root):
        raise CallError(f"option root: {root!r} must be the absolute path of a store")
    return Call(message[0], message[1], root, "ro" in options, "-f" in given, "-v" in given)


def _options(texts: Sequence[str], sloppy: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in filter(None, ",".join(texts).split(",")):
        key, _equals, value = option.partition("=")
        if key in ("root", "ro"):
            found[key] = value
        elif key == "remount":
            raise CallError("a stack is not remounted: its definition says how it is mounted; run strata.overlay.apply")
        elif not (sloppy or key in _FOR_OTHERS or key.lower().startswith("x-") or key == "comment"):
            raise CallError(
                f"option {key!r} is not for a stack: its definition says how it is mounted; only root is given here"
            )
    return found


def mount(call: Call) -> str:
    """Mount what is asked for, if it is not mounted already. Says what was done.

    A stack that is mounted right needs no lock: while a run of a module holds it, that run may be waiting for systemd,
    and systemd for this.
    """
    store = open_store(call.root)
    if not store.exists():
        raise StrataError(f"there is no store at {store.root}; name it by the option root")
    record = _find(store, call)
    count = len(record.diff_ids)
    if _is_mounted(store, record):
        return f"stack {record.name} is mounted at {record.path} already"
    if call.fake:
        return f"stack {record.name} would be mounted at {record.path}: {_layers(count)}"
    # Nothing has to be written to mount what is whole: also a store on a full or read-only disk comes back at boot.
    hold = store.reading if os.statvfs(store.root).f_flag & os.ST_RDONLY else store.changing
    with hold(_LOCK_TIMEOUT):
        record = _find(store, call)
        if not _is_mounted(store, record):
            _restore_links(store, record)
            try:
                Mounter(store, "", find_abilities()).mount(record)
            except (OSError, StrataError) as error:
                raise StrataError(f"stack {record.name}: cannot mount {record.path}: {error_text(error)}") from error
    return f"stack {record.name} is mounted at {record.path}: {_layers(count)}"


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count > 1 else ''}"


def _find(store: Store, call: Call) -> StackRecord:
    """The record of the stack that is meant.

    mount(8) takes a name for a relative path where a file of this name lies in its working directory, and gives the
    whole path of it.
    """
    record = store.stack_record(call.spec) or _by_path(store, call)
    if record is None:
        known = ", ".join(sorted(store.stacks())) or "none"
        raise StrataError(f"the store {store.root} has no stack {call.spec!r}; it has: {known}")
    if os.path.realpath(record.path) != os.path.realpath(call.path):
        raise StrataError(f"stack {record.name} belongs at {record.path} and not at {call.path}")
    if call.read_only and record.writable != "none":
        raise StrataError(
            f"stack {record.name} has a {record.writable} layer to write to, so it is not mounted read-only; "
            "change its definition to writable: none"
        )
    return record


def _by_path(store: Store, call: Call) -> Optional[StackRecord]:
    if not os.path.isabs(call.spec):
        return None
    found = [record for name, record in store.stacks().items() if call.spec.endswith(f"/{name}")]
    here = [record for record in found if os.path.realpath(record.path) == os.path.realpath(call.path)]
    return here[0] if here else None


def _is_mounted(store: Store, record: StackRecord) -> bool:
    """Whether it is mounted as it should be; StrataError where another tree of the store is in its place."""
    mounts = mountinfo.read(store.home)
    ours = of_store_at(mounts, os.path.realpath(record.path), store.root)
    if not ours:
        return False
    content = root_on_device(mounts, shown_content(store.root, record))
    wrong = mismatch(ours[-1], mount_request(store.home, record), content) or ended(ours[-1].path)
    if wrong or len(ours) > 1:
        raise StrataError(
            f"stack {record.name}: what is mounted at {record.path} is not what the store's record says: "
            f"{wrong or 'it is mounted more than once'}. Unmount it first, or run strata.overlay.apply."
        )
    return True


def _restore_links(store: Store, record: StackRecord) -> None:
    """Make again what is derived and was lost: links and files of layers. StrataError where content is lost."""
    wrong: list[LayerLink] = []
    for layer in layer_links(record.shown):
        if not store.has_content(layer.diff_id):
            raise StrataError(
                f"stack {record.name}: the content {layer.diff_id} of one of its layers is missing from the store; "
                "run strata.overlay.apply with its definition, which brings it again"
            )
        if inspect_layer(store, layer) is not None:
            wrong.append(layer)
    wrong_writable = inspect_writable(store, record) is not None
    if not wrong and not wrong_writable:
        return
    store.prepare()
    with store.workspace() as workspace:
        transaction = Transaction(store, workspace)
        for layer in wrong:
            known = store.content_record(layer.diff_id)
            stage_layer(store, transaction, layer, known.size if known else 0, store.content(layer.diff_id))
        if wrong_writable:
            _refuse_lost_changes(store, record)
            stage_writable(store, transaction, record)
        transaction.commit()
    store.tidy()


def _refuse_lost_changes(store: Store, record: StackRecord) -> None:
    if record.writable == "persistent" and not os.path.isdir(f"{store.layer(record.stack_id)}/diff"):
        raise StrataError(
            f"stack {record.name}: its writable layer {store.layer(record.stack_id)} has gone with all changes. "
            "Bring it back from a backup, or run strata.overlay.apply to begin with an empty one."
        )
