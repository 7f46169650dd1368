# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A store on a file system of 64 MB that is full to the last block."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import main as mount_helper
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import Transaction
from ansible_collections.strata.overlay.tests.integration.crash_cases import Played
from ansible_collections.strata.overlay.tests.integration.disk import mounted_ext4
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.module_process import run_module, text_of
from ansible_collections.strata.overlay.tests.integration.syscall_faults import Interrupted


@pytest.fixture
def small(host: Host, tmp_path: Path) -> Iterator[Host]:
    """A host whose store and stacks lie on an ext4 of 64 MB, of which nothing is kept back for root."""
    with mounted_ext4(tmp_path, "-m", "0") as place:
        yield Host(place)


def fill(place: Path) -> None:
    """Take all room, down to the last block: what a file has been promised may come free again when it is synced."""
    for number in range(50):
        with (place / f"filler{number}").open("wb", buffering=0) as stream:
            for size in (1 << 20, 1 << 10):
                with suppress(OSError):
                    while True:
                        stream.write(b"x" * size)
        os.sync()
        if not os.statvfs(place).f_bavail:
            return
    pytest.fail("there is always room left")


def module(host: Host, name: str, **parameters: Any) -> dict[str, Any]:
    """The module's own process: what it returns."""
    output, errors = os.memfd_create("output"), os.memfd_create("errors")
    process = os.fork()
    if process == 0:
        run_module(name, {"root": str(host.root), **parameters}, output, errors)
        os._exit(0)
    os.waitpid(process, 0)
    return Played(Interrupted(), text_of(output), text_of(errors)).result()


def definition(host: Host, version: str, **stack: Any) -> dict[str, Any]:
    layers = [inline("base", os="base"), inline("app", run=version, much=version * 300_000)]
    return {"layers": layers, "stacks": [{"name": "web", "path": host.path("web"), "layers": ["base", "app"], **stack}]}


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
def test_run_on_full_file_system_is_refused_and_succeeds_after_prune(small: Host, writable: str) -> None:
    small.run(**definition(small, "1", writable=writable))
    small.run(layers=[inline("unused", much="x" * 6_000_000)])
    small.run(layers=[{"name": "unused", "state": "absent"}])
    before = small.tree("web")
    fill(small.top)

    said = module(small, "apply", **definition(small, "22", writable=writable))
    assert said.get("failed"), said
    assert "is full" in said["msg"] or os.strerror(errno.ENOSPC) in said["msg"]
    assert "ake room" in said["msg"]
    assert "prune" in said["msg"]
    assert small.tree("web") == before
    assert small.check()["findings"] == [], "nothing half-made is left"
    assert module(small, "apply", **definition(small, "1", writable=writable))["changed"] is False
    assert module(small, "store_info")["stacks"]

    announced = small.prune(check=True)
    done = module(small, "prune")
    assert not done.get("failed"), done
    assert done["removed"] == announced["removed"]
    assert {item["kind"] for item in done["removed"]} == {"content", "source"}
    assert os.statvfs(small.top).f_bavail * 4096 > 2_000_000
    assert small.tree("web") == before
    assert small.check(deep=True)["findings"] == []
    assert module(small, "apply", **definition(small, "22", writable=writable))["changed"] is True
    assert small.tree("web")["run"] == "22"


def test_full_file_system_with_nothing_to_prune_keeps_the_old_tree(small: Host) -> None:
    small.run(**definition(small, "1"))
    fill(small.top)
    assert small.prune()["removed"] == []
    with pytest.raises((StrataError, OSError)):
        small.run(**definition(small, "2"))
    assert small.tree("web")["run"] == "1"
    for path in small.top.glob("filler*"):
        path.unlink()
    small.run(**definition(small, "2"))
    assert small.tree("web")["run"] == "2"
    assert small.check()["findings"] == []


@pytest.mark.parametrize("writable", ["none", "persistent", "volatile"])
def test_stack_of_a_full_file_system_is_mounted_at_boot(small: Host, writable: str) -> None:
    small.run(**definition(small, "1", writable=writable))
    before = small.tree("web")
    subprocess.run(["umount", "--lazy", small.path("web")], check=True)
    fill(small.top)
    assert mount_helper(["web", small.path("web"), "-o", f"root={small.root}"]) == 0
    assert small.tree("web") == before


@pytest.mark.parametrize("empty", [False, True])
def test_stack_on_a_file_system_without_free_inodes_is_removed(host: Host, tmp_path: Path, empty: bool) -> None:
    with mounted_ext4(tmp_path, "-N", "256") as place:
        few = Host(place)
        few.run(**definition(few, "1", writable="persistent"))
        fillers = place if empty else Path(few.path("web"))
        with suppress(OSError):
            for number in range(300):
                (fillers / f"file{number}").touch()
        assert os.statvfs(place).f_ffree == 0
        announced = few.run(check=True, stacks=[{"name": "web", "state": "absent"}])
        done = few.run(stacks=[{"name": "web", "state": "absent"}])
        assert done["plan"] == announced["plan"]
        assert few.mounts("web") == []
        assert few.store.stacks() == {}
        assert few.check()["findings"] == []
        removed = few.prune()["removed"]
        assert [item["kind"] for item in removed].count("upper") == (not empty)
        if not empty:
            few.run(**definition(few, "1", writable="persistent"))


def test_stack_of_a_read_only_file_system_is_mounted_at_boot(small: Host) -> None:
    small.run(**definition(small, "1"))
    before = small.tree("web")
    subprocess.run(["umount", "--lazy", small.path("web")], check=True)
    subprocess.run(["mount", "-o", "remount,ro", small.top], check=True)
    assert mount_helper(["web", small.path("web"), "-o", f"root={small.root}"]) == 0
    assert small.tree("web") == before
    assert mount_helper(["web", small.path("web"), "-o", f"root={small.root}"]) == 0


@pytest.fixture
def thin(tmp_path: Path) -> Iterator[Host]:
    """A host whose store has a file system of 200 MB on a disk that can keep 40 of them, as thin volumes may be."""
    disk = tmp_path / "thin"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    try:
        with mounted_ext4(disk, "-O", "^has_journal", size=200 << 20) as place:
            yield Host(place)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_layer_that_the_underlying_disk_refuses_is_not_imported(thin: Host, tmp_path: Path) -> None:
    archive = tmp_path / "base.tar"
    with tarfile.open(archive, "w") as tar:
        for number in range(12):
            entry = tarfile.TarInfo(f"file{number}")
            entry.size = 10 << 20
            tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    with pytest.raises((OSError, StrataError), match="Input/output error|No space left"):
        thin.run(layers=[{"name": "base", "src": str(archive), "remote_src": True}], stacks=[])
    assert thin.store.names() == []
    assert not list((thin.root / "content/sha256").iterdir())


def test_earlier_write_error_of_the_kernel_fails_the_transaction(thin: Host) -> None:
    store = thin.store
    store.prepare()
    with store.workspace() as workspace:
        transaction = Transaction(store, workspace)
        Path(transaction.stage(f"{store.root}/content/sha256/layer")).write_bytes(os.urandom(80 << 20))
        told = subprocess.run(["sync", "--file-system", thin.root], capture_output=True, check=False)
        assert told.returncode != 0  # another program was told of it, and this run was not yet
        with pytest.raises(OSError, match="Input/output error|No space left"):
            transaction.commit()
    assert not list((thin.root / "content/sha256").iterdir())
