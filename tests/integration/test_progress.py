# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person sees while a play moves many bytes, and that a run with little to do is as silent as ever."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, Entry, header
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.sshd import Sshd

LAYERS = 3
FILES = 20_000
LARGE = 400 << 20

FAR = re.compile(r"^(\w+): layer \d of 3, [\d.]+ of [\d.]+ [kMG]B", re.MULTILINE)
"""A line about a module that unpacks layers."""


@pytest.fixture
def layers(tmp_path: Path) -> list[dict[str, Any]]:
    """Archives that take seconds to unpack on any machine: what takes long is the number of files."""
    files = b"".join(header(Entry(b"file%d" % number, "file", mode=0o644)) for number in range(FILES))
    for number in range(LAYERS):
        first = header(Entry(b"layer%d" % number, "file", mode=0o644))
        (tmp_path / f"{number}.tar").write_bytes(first + files + END)
    return [{"name": f"l{number}", "src": str(tmp_path / f"{number}.tar")} for number in range(LAYERS)]


def playbook(ansible: Ansible, host: Host, layers: list[dict[str, Any]], hosts: str = "localhost") -> list[str]:
    task = {"strata.overlay.apply": {"root": str(host.root), "layers": layers}}
    path = ansible.directory / "playbook.yml"
    path.write_text(json.dumps([{"hosts": hosts, "gather_facts": False, "tasks": [task]}]))
    return ["ansible-playbook", str(path)]


def left_behind() -> list[str]:
    """Files that no process has open: other tests, at the same time, have theirs."""
    found = list(Path("/run").glob("strata.overlay-progress-*"))
    opened = set()
    for link in Path("/proc").glob("[0-9]*/fd/*") if found else ():
        with contextlib.suppress(OSError):
            opened.add(os.readlink(link))
    return [path.name for path in found if path.exists() and str(path) not in opened]


def on_terminal(command: list[str], ansible: Ansible) -> str:
    """All that a command shows to a person who runs it."""
    ours, theirs = pty.openpty()
    said = b""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=ansible.environment, cwd=ansible.directory
    ) as running:
        os.close(theirs)
        try:
            while True:
                try:
                    piece = os.read(ours, 1 << 16)
                except OSError:  # EIO: the other side has closed
                    break
                if not piece:
                    break
                said += piece
        finally:
            os.close(ours)
    assert running.returncode == 0, said.decode()
    return said.decode().replace("\r\n", "\n")


def test_progress_shows_layer_amount_and_speed(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    command = playbook(ansible, host, layers)
    first = ansible.call(*command, "-e", "overlay_progress=0.05")
    assert first.returncode == 0, first.stdout + first.stderr
    told = FAR.findall(first.stderr)
    assert set(told) == {"localhost"}, first.stderr
    assert re.search(
        r"^localhost: layer \d of \d, .*, [\d.]+ [kMG]B/s.*: layer \w+ \(\S+\.tar\) ", first.stderr, re.MULTILINE
    )
    lines = [line for line in first.stderr.splitlines() if line.startswith("localhost: ")]
    assert len(lines) == len(set(lines)), "the same line twice tells nothing"
    assert re.search(r"^localhost: reading /.*\.tar for its digest$", first.stderr, re.MULTILINE)
    assert not FAR.search(first.stdout), "standard output belongs to the callback"
    assert left_behind() == []
    second = ansible.call(*command, "-e", "overlay_progress=0.05")
    assert second.returncode == 0
    assert not FAR.search(second.stderr), "a run that changes nothing has nothing to tell"


def test_short_run_into_a_log_shows_no_progress(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    done = ansible.call(*playbook(ansible, host, layers))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"^localhost: (layer|reading|sending) ", done.stderr, re.MULTILINE)


def test_progress_false_shows_nothing_on_a_terminal(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    said = on_terminal([*playbook(ansible, host, layers), "-e", "overlay_progress=false"], ansible)
    assert not re.search(r"^localhost: (layer|reading|sending) ", said, re.MULTILINE)


def test_progress_interval_on_a_terminal_is_shorter_than_in_a_log(tmp_path: Path) -> None:
    """What `auto` means is read off the parent's output, since a worker's own goes nowhere."""
    program = tmp_path / "tell.py"
    program.write_text(
        "import os\n"
        "from ansible_collections.strata.overlay.plugins.plugin_utils._progress import interval\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os.dup2(os.open(os.devnull, os.O_RDWR), 2)\n"
        f"    open({str(tmp_path / 'said')!r}, 'w').write(str(interval('auto')))\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]}
    ansible = Ansible(tmp_path, environment)
    on_terminal(["python", str(program)], ansible)
    watched = float((tmp_path / "said").read_text())
    subprocess.run(["python", program], stderr=subprocess.PIPE, env=environment, check=True)
    logged = float((tmp_path / "said").read_text())
    assert (watched, logged) == (3.0, 60.0)


def test_progress_shows_transfers_over_ssh(host: Host, ansible: Ansible, sshd: Sshd, tmp_path: Path) -> None:
    archive = tmp_path / "large.tar"
    archive.write_bytes(header(Entry(b"large", "file", mode=0o644, size=LARGE)))
    with open(archive, "ab") as stream:
        stream.truncate(len(header(Entry(b"", "file"))) + LARGE + len(END))
    layers = [{"name": "large", "src": str(archive)}]
    (ansible.directory / "inventory.yml").write_text(sshd.inventory(str(ansible.directory / "remote")))
    command = playbook(ansible, host, layers, "target")
    done = ansible.call(*command, "-i", str(ansible.directory / "inventory.yml"), "-e", "overlay_progress=0.05")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^target: sending layer 1 of 1: [\d.]+ of [\d.]+ MB", done.stderr, re.MULTILINE), done.stderr
    assert left_behind() == []


def test_invalid_overlay_progress_is_refused(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    done = ansible.call(*playbook(ansible, host, layers), "-e", "overlay_progress=often")
    assert done.returncode != 0
    assert "variable overlay_progress: 'often' must be auto, false, or a number of seconds" in done.stdout
    assert not host.root.exists()
