# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person is told while a module runs: the file on the host, and the lines made of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import Progress
from ansible_collections.strata.overlay.plugins.module_utils._run import progress as progress_module
from ansible_collections.strata.overlay.plugins.module_utils._run.progress import progress_file
from ansible_collections.strata.overlay.plugins.plugin_utils import _progress as module
from ansible_collections.strata.overlay.plugins.plugin_utils._progress import (
    IN_LOG,
    Speed,
    amounts,
    duration,
    interval,
    module_line,
    size,
)

TOKEN = "0123456789abcdef" * 2
JOBS = [
    Progress("content aaa from base.tar", 5_000_000, 9_000_000, "finished"),
    Progress("content bbb from app.tar", 1_500_000, 3_000_000, "running"),
    Progress("content ccc from late.tar", 0, 8_000_000, "waiting"),
]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where the file may be."""
    places = [(str(tmp_path / "no such"), "x"), (str(tmp_path), progress_module.PREFIX)]
    monkeypatch.setattr(progress_module, "places", lambda: places)
    return tmp_path


def test_progress_file_gives_a_line_and_is_removed_after_the_run(directory: Path) -> None:
    with progress_file(TOKEN) as report:
        assert report is not None
        assert list(directory.iterdir()) == [], "a run with nothing to tell makes no file"
        report(JOBS)
        (file,) = directory.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        long = file.read_text()
        report([JOBS[0]])
        assert len(file.read_text()) < len(long)
        assert json.loads(file.read_text())["finished"] == 1
    assert list(directory.iterdir()) == []
    assert module_line(long, Speed()) == "layer 2 of 3, 10.5 of 20.0 MB: content bbb from app.tar 1.5 of 3.0 MB"


def test_progress_file_is_removed_after_a_failed_run(directory: Path) -> None:
    def run() -> None:
        with progress_file(TOKEN) as report:
            assert report is not None
            report(JOBS)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("token", ["", "../../etc/passwd", "0123", TOKEN + "\n", TOKEN.upper()])
def test_missing_or_malformed_token_makes_no_progress_file(directory: Path, token: str) -> None:
    with progress_file(token) as report:
        assert report is None


def test_directory_writable_by_others_gets_no_progress_file(directory: Path) -> None:
    directory.chmod(0o1777)
    with progress_file(TOKEN) as report:
        assert report is not None
        report(JOBS)
        assert list(directory.iterdir()) == []


def test_link_at_the_path_of_the_progress_file_is_not_followed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = directory / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(os, "urandom", lambda size: b"\0" * size)
    (directory / f"strata.overlay-progress-{'00' * 8}").symlink_to(victim)
    with progress_file(TOKEN) as report:
        assert report is not None
        report(JOBS)
    assert victim.read_text() == "precious"
    assert len(list(directory.iterdir())) == 2


def test_progress_files_of_killed_runs_are_removed(directory: Path) -> None:
    old, new, other = (directory / name for name in ("strata.overlay-progress-1", "strata.overlay-progress-2", "x"))
    for path in (old, new, other):
        path.write_text("")
    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    with progress_file(TOKEN) as report:
        assert report is not None
        report(JOBS)
        assert not old.exists()
    assert sorted(directory.iterdir()) == sorted([new, other])


@dataclass
class Shell:
    """A connection to this machine, with a home of its own, that keeps what it was asked to run."""

    home: Path
    commands: list[str] = field(default_factory=list)

    def exec_command(self, command: str, sudoable: bool) -> tuple[int, bytes, bytes]:
        self.commands.append(command)
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        done = subprocess.run(command, shell=True, capture_output=True, check=False, env=environment, timeout=20)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(progress_module, "places", lambda: [(str(tmp_path), f".{progress_module.PREFIX}")])
    return Shell(tmp_path)


def ask(shell: Shell, progress: module.Progress) -> str:
    return module.of_run(progress._run(module.READ), progress.token)


def test_file_of_this_run_is_read_without_its_token_in_a_command_line(shell: Shell) -> None:
    progress = module.Progress("host", shell, 1)
    with progress_file("f" * 32) as other, progress_file(progress.token) as report:
        assert other is not None
        assert report is not None
        other([JOBS[0]])
        assert ask(shell, progress) == ""
        report(JOBS)
        assert json.loads(ask(shell, progress))["layers"] == 3
    assert ask(shell, progress) == ""
    assert not any(progress.token in command for command in shell.commands)


def test_only_regular_files_of_the_login_user_are_read_up_to_a_limit(shell: Shell) -> None:
    """What a user of the host could put there: fifos would stall the controller, and devices fill it."""
    fifo, link, great = (shell.home / f".{progress_module.PREFIX}{name}" for name in ("fifo", "link", "great"))
    os.mkfifo(fifo)
    link.symlink_to("/dev/zero")
    for number in range(20):
        great.with_name(f"{great.name}{number}").write_bytes(b"x" * 2_000_000)
    progress = module.Progress("host", shell, 1)
    begun = time.monotonic()
    assert len(progress._run(module.READ)) == 1 << 16
    assert time.monotonic() - begun < 5


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to somebody else")
def test_progress_file_of_another_user_is_not_read(shell: Shell) -> None:
    other = shell.home / f".{progress_module.PREFIX}1"
    other.write_text("planted")
    assert "planted\n" in module.Progress("host", shell, 1)._run(module.READ)
    os.chown(other, 12345, 12345)
    assert "planted" not in module.Progress("host", shell, 1)._run(module.READ)


def line(**facts: Any) -> str:
    given = {"time": 1.0, "layers": 4, "finished": 0, "done": 0, "total": 0, "running": [], **facts}
    return module_line(json.dumps(given), Speed())


def test_progress_line_has_layers_amounts_and_shortened_names() -> None:
    assert line() == "layer 1 of 4, 0 B"
    assert line(finished=4, done=7_000, total=7_000) == "layer 4 of 4, 7.0 of 7.0 kB"
    assert line(running=[["content from\x1b[31m\nhost", 5, 0]]) == "layer 1 of 4, 0 B: content from\\x1b[31m\\nhost 5 B"
    assert line(running=[["a" * 50 + "z" * 49, 5, 10]]).endswith(f": {'a' * 30}...{'z' * 30} 5 of 10 B")


@pytest.mark.parametrize("said", ["", "{", "[]", "7", '{"layers": 1}', '{"layers": "x", "finished": 1}'])
def test_incomplete_progress_file_gives_no_line(said: str) -> None:
    assert module_line(said, Speed()) == ""


def test_speed_is_measured_between_different_answers() -> None:
    speed = Speed()
    assert speed.describe(10.0, 1_000_000) == ""
    assert speed.describe(12.0, 118_000_000) == ", 58.5 MB/s"
    assert speed.describe(12.0, 118_000_000) == ", 58.5 MB/s", "the same answer once more"
    assert speed.describe(14.0, 118_000_000) == ""


def test_time_left_is_reckoned_from_the_speed_where_the_total_is_known() -> None:
    speed = Speed()
    assert speed.describe(0.0, 0, 500) == ""
    assert speed.describe(2.0, 200, 500) == ", 100 B/s, 3 s left"
    assert speed.describe(3.0, 500, 500) == ", 300 B/s"
    assert speed.describe(4.0, 600) == ", 100 B/s"


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (45, "45 s"), (120, "2 min"), (12_600, "3.5 h")])
def test_duration_is_shown_in_the_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456_789, "123 MB"), (2.5e9, "2.5 GB")]
)
def test_size_is_shown_in_the_fitting_unit(number: float, text: str) -> None:
    assert size(number) == text


def test_amounts_are_shown_in_the_unit_of_the_total() -> None:
    assert amounts(412_000_000, 980_000_000) == "412 of 980 MB"
    assert amounts(5, 0) == "5 B"
    assert amounts(1_000, 2_000_000_000) == "0.0 of 2.0 GB"


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [("auto", IN_LOG), ("5", 5.0), (0.5, 0.5), (0, 0.0), (False, 0.0), ("no", 0.0), (True, IN_LOG)],
)
def test_interval_option_is_read_as_seconds(monkeypatch: pytest.MonkeyPatch, wanted: Any, seconds: float) -> None:
    monkeypatch.setattr(os, "readlink", lambda path: "pipe:[1]")
    assert interval(wanted) == seconds


def test_malformed_interval_is_refused() -> None:
    with pytest.raises(AnsibleError, match="overlay_progress: 'often' must be auto, false, or a number of seconds"):
        interval("often")
