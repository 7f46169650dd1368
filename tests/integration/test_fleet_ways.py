# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other ways to the same hosts: ansible-runner with a part of the inventory each, ansible-pull, strategies, tags."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.fleet import COUNT, NETWORK, Fleet, FleetHost
from ansible_collections.strata.overlay.tests.integration.test_fleet import definition, releases

PROGRAMS = Path(sys.executable).parent


# Several controllers, as AWX slices a job.


def job(fleet: Fleet, top: Path, hosts: list[FleetHost]) -> Path:
    """A job's directory as AWX hands one to ansible-runner: its part of the inventory, and a key that no file keeps."""
    for name in ("inventory", "env", "project"):
        (top / name).mkdir(parents=True)
    variables = json.loads((fleet.ansible.directory / "inventory.yml").read_text())["all"]["vars"]
    del variables["ansible_ssh_private_key_file"]
    inventory = {"all": {"hosts": {host.name: {"ansible_host": host.address} for host in hosts}, "vars": variables}}
    (top / "inventory/hosts.json").write_text(json.dumps(inventory))
    (top / "env/ssh_key").write_text((fleet.top / "keys/user").read_text())
    (top / "env/extravars").write_text(json.dumps({**definition("one"), "overlay_serial": [1, "100%"]}))
    (top / "env/envvars").write_text(json.dumps({"ANSIBLE_INVENTORY": str(top / "inventory")}))
    return top


def start(fleet: Fleet, directory: Path) -> subprocess.Popen[str]:
    program = str(PROGRAMS / "ansible-runner")
    command = [*fleet.enter, program, "run", str(directory), "--ident", "job", "--playbook", "strata.overlay.rollout"]
    return subprocess.Popen(command, env=fleet.ansible.environment, stdout=subprocess.PIPE, text=True)


def test_parallel_jobs_each_change_only_their_slice_of_the_inventory(fleet: Fleet, tmp_path: Path) -> None:
    slices = [fleet.hosts[number::3] for number in range(3)]
    jobs = [job(fleet, tmp_path / str(number), part) for number, part in enumerate(slices)]
    for running, directory, part in zip([start(fleet, one) for one in jobs], jobs, slices, strict=True):
        output, _none = running.communicate()
        assert running.returncode == 0, output
        events = [json.loads(path.read_text()) for path in (directory / "artifacts/job/job_events").glob("*.json")]
        (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
        assert stats["changed"] == {host.name: 2 for host in part}, "staged, then switched"
    assert releases(fleet) == ["one"] * COUNT


# Hosts that come by themselves.


@contextlib.contextmanager
def repository(fleet: Fleet, top: Path) -> Iterator[Path]:
    """A repository that the hosts can clone over the network: its work tree."""
    tree = top / "hosts"
    tree.mkdir(parents=True)
    (tree / "inventory.json").write_text(json.dumps({"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}}))
    (tree / "site.yml").write_text("- ansible.builtin.import_playbook: strata.overlay.site\n")
    (tree / "group_vars").mkdir()
    git(tree, "init", "--quiet")
    address = f"{NETWORK}.1"
    flags = ["--export-all", f"--base-path={top}", f"--listen={address}", "--reuseaddr"]
    place = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    command = [*fleet.enter, f"{place}/git-daemon", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as daemon:
        try:
            limit = time.monotonic() + 60
            probe = [*fleet.enter, "bash", "-c", f"exec 3<>/dev/tcp/{address}/9418"]
            while subprocess.run(probe, check=False, stderr=subprocess.DEVNULL).returncode != 0:
                assert time.monotonic() < limit, "git daemon does not answer"
                time.sleep(0.1)
            yield tree
        finally:
            daemon.terminate()


def git(tree: Path, *arguments: str) -> None:
    own = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", f"safe.directory={tree}"]
    subprocess.run(["git", "-C", tree, *own, *arguments], check=True)


def commit(tree: Path, variables: dict[str, Any]) -> None:
    (tree / "group_vars/all.json").write_text(json.dumps({"overlay_root": "/srv/strata", **variables}))
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "hosts")


def pull(fleet: Fleet, hosts: list[FleetHost]) -> list[int]:
    """How many tasks have changed something on each; all of them run at once."""
    home = {"HOME": "/srv/home", "ANSIBLE_HOME": "/srv/home/.ansible", "XDG_CACHE_HOME": "/srv/home/.cache"}
    home["ANSIBLE_LOG_PATH"] = "/srv/home/log"
    environment = {**fleet.ansible.environment, **home, "PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"}
    environment.pop("ANSIBLE_INVENTORY")
    command = ["ansible-pull", "--url", f"git://{NETWORK}.1/hosts", "--directory", "/srv/home/hosts"]
    command += ["--inventory", "/srv/home/hosts/inventory.json", "site.yml"]
    for process in [
        subprocess.Popen([*host.enter, *command], env=environment, stdout=subprocess.PIPE) for host in hosts
    ]:
        output, _none = process.communicate()
        assert process.returncode == 0, output
    changed = []
    for host in hosts:
        # ansible-pull may lose the end of what it prints, so the log is read.
        log = host.file("/srv/home/log")
        changed += re.findall(r"localhost +: .*changed=(\d+)", log.read_text())
        log.unlink()
    return [int(number) for number in changed]


def test_hosts_that_pull_follow_each_commit_of_their_definition(fleet: Fleet, tmp_path: Path) -> None:
    hosts = fleet.hosts[:3]
    with repository(fleet, tmp_path / "git") as tree:
        try:
            for text in ("one", "two"):
                commit(tree, definition(text))
                assert pull(fleet, hosts) == [1] * 3
                assert pull(fleet, hosts) == [0] * 3
                assert releases(fleet) == [text] * 3 + [""] * 9
        finally:
            for host in hosts:
                host.run("rm", "-rf", "/srv/home/hosts", "/srv/home/.ansible", "/srv/home/.cache")


# Strategies, pipelining, limits and tags.


@pytest.mark.parametrize("pipelining", [False, True])
def test_free_strategy_applies_with_and_without_pipelining(fleet: Fleet, tmp_path: Path, pipelining: bool) -> None:
    fleet.write_inventory({"ansible_pipelining": pipelining})
    playbook = tmp_path / "free.yml"
    playbook.write_text("- hosts: all\n  strategy: free\n  gather_facts: false\n  roles: [strata.overlay.stacks]\n")
    done = fleet.play(str(playbook), "-vvv", variables=definition("one")).check()
    assert set(done.counts("changed").values()) == {1}
    # Sent as a file and then run, or over the standard input of the Python that runs it.
    assert ("/AnsiballZ_apply.py" in done.output) == (not pipelining)
    assert releases(fleet) == ["one"] * COUNT


def test_limit_and_tags_restrict_what_a_playbook_changes(fleet: Fleet) -> None:
    variables = {**definition("one"), "overlay_prune": {}}
    limited = fleet.play("strata.overlay.site", "--limit", "h2,h3", variables=variables).check()
    assert limited.counts("changed") == {"h2": 1, "h3": 1}
    for tag, skipped in (("prune", True), ("stacks", False)):
        tagged = fleet.play("strata.overlay.site", "--limit", "h4", "--tags", tag, variables=variables).check()
        assert (tagged.counts("changed") == {"h4": 1}) != skipped, tag
        assert (releases(fleet)[3] == "") == skipped
    pruned = fleet.play("strata.overlay.prune", variables={"overlay_hosts": "h2"}).check()
    assert pruned.counts("changed") == {"h2": 0}
    assert releases(fleet) == ["", "one", "one", "one", *[""] * 8]
