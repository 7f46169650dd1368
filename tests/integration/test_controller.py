# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller does for many hosts it does once: an archive on it is digested for the first one."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import _FRESH_NS
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host

_IN_OPEN = 0x20
_EVENT = 16
"""Bytes of an event about a file that is watched itself, without a name (inotify(7))."""


class Opened:
    """How often a file has been opened, by whatever process, as the kernel tells it."""

    def __init__(self, path: Path) -> None:
        self.times = 0
        self._over = threading.Event()
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert library.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_OPEN) >= 0, ctypes.get_errno()
        self._thread = threading.Thread(target=self._count)

    def _count(self) -> None:
        """As they come. The kernel makes one of several that nobody has read yet, so many at once may be few."""
        while True:
            over = self._over.is_set()
            if select.select([self._descriptor], [], [], 0 if over else 0.05)[0]:
                self.times += len(os.read(self._descriptor, 1 << 16)) // _EVENT
            elif over:
                return

    @contextlib.contextmanager
    def counting(self) -> Iterator[Opened]:
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()
            os.close(self._descriptor)


def write_inventory(ansible: Ansible, archive: Path, top: Path, hosts: int) -> None:
    """So many hosts over the local connection; all of them want the archive."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "overlay_root": f"{top}/{{{{ inventory_hostname }}}}/store",
        "overlay_layers": [{"name": "app", "src": str(archive)}],
    }
    names: dict[str, dict[str, str]] = {f"h{number}": {} for number in range(hosts)}
    (ansible.directory / "hosts.json").write_text(json.dumps({"all": {"hosts": names, "vars": variables}}))


def opened_by(ansible: Ansible, archive: Path, playbook: str, hosts: int) -> int:
    """Times that the archive was opened while a playbook ran over so many hosts at once."""
    with Opened(archive).counting() as opened:
        done = ansible.call("ansible-playbook", "-i", "hosts.json", "--forks", str(hosts), f"strata.overlay.{playbook}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("failed=0") == hosts
    return opened.times


def test_archive_is_read_once_for_all_hosts(host: Host, ansible: Ansible, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(20_000_000))
    archive = tmp_path / "app.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "data"], check=True)
    cache = Path(ansible.environment["XDG_CACHE_HOME"])
    while time.time_ns() - archive.stat().st_ctime_ns < _FRESH_NS:
        time.sleep(0.1)  # a file that may still be written to is digested each time
    write_inventory(ansible, archive, host.top, 1)
    assert [opened_by(ansible, archive, "validate", 1) for _run in range(2)] == [1, 0]
    shutil.rmtree(cache)
    write_inventory(ansible, archive, host.top, 8)
    assert opened_by(ansible, archive, "validate", 8) == 1
    shutil.rmtree(cache)
    assert opened_by(ansible, archive, "site", 8) > 0, "its bytes are what hosts lack"
    assert opened_by(ansible, archive, "site", 8) == 0, "nothing is lacking anywhere"
