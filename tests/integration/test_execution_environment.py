# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment: a real image, run as AWX runs one, also against hosts of the fleet over SSH."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError
from ansible_collections.strata.overlay.tests.integration.environment import Environment, built_environment
from ansible_collections.strata.overlay.tests.integration.fleet import USER, Fleet

DEFINITION = {
    "overlay_layers": [{"name": "app", "files": [{"path": "release", "content": "one\n"}]}],
    "overlay_stacks": [{"name": "web", "path": "/srv/web", "layers": ["app"]}],
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    try:
        with built_environment(tmp_path_factory.mktemp("environment")) as one:
            yield one
    except UnavailableError as error:
        pytest.skip(str(error))


def runner_data(top: Path, hosts: dict[str, Any], variables: dict[str, Any]) -> Path:
    """A directory as ansible-runner wants one."""
    for name in ("inventory", "env", "project"):
        (top / name).mkdir(parents=True)
    inventory = {"all": {"hosts": hosts, "vars": {**variables, **DEFINITION}}}
    (top / "inventory/hosts.json").write_text(json.dumps(inventory))
    (top / "env/envvars").write_text(json.dumps({"ANSIBLE_HOST_KEY_CHECKING": "false", "ANSIBLE_NOCOLOR": "1"}))
    return top


def test_definitions_are_validated_in_the_image(environment: Environment, tmp_path: Path) -> None:
    data = runner_data(tmp_path / "data", {"nowhere": {}}, {})
    command = ("ansible-playbook", "-i", "inventory", "strata.overlay.validate")
    assert "ok=1 " in environment.run(*command, data=data)
    wrong = json.dumps({"overlay_stacks": [{"name": "web", "path": "srv/web", "layers": ["app"]}]})
    with pytest.raises(AssertionError, match="'srv/web' must be absolute"):
        environment.run(*command, "-e", wrong, data=data)


def test_navigator_runs_the_image(environment: Environment, tmp_path: Path) -> None:
    data = runner_data(tmp_path / "data", {"nowhere": {}}, {})
    said = environment.navigate("run", "strata.overlay.validate", "-i", "inventory/hosts.json", "-vv", project=data)
    assert "executable location = /usr/local/bin/ansible-playbook" in said, "the image's, not the one of this machine"
    assert "ok=1 " in said


def test_image_contains_ssh_and_zstd_from_bindep(environment: Environment, tmp_path: Path) -> None:
    """Neither program is in the base, and the definition names neither: bindep.txt does."""
    said = environment.run("sh", "-c", "command -v ssh && command -v zstd && id -u", data=tmp_path)
    assert said.split() == ["/usr/bin/ssh", "/usr/bin/zstd", "1000"]


def test_runner_in_the_image_brings_hosts_to_their_definition(
    environment: Environment, fleet: Fleet, tmp_path: Path
) -> None:
    hosts = {host.name: {"ansible_host": host.address} for host in fleet.hosts[:3]}
    variables = {
        "ansible_user": USER,
        "ansible_become": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "overlay_root": "/srv/strata",
    }
    data = runner_data(tmp_path / "data", hosts, variables)
    (data / "env/ssh_key").write_text((fleet.top / "keys/user").read_text())
    network = f"ns:/proc/{fleet.router}/ns/net"
    command = ("ansible-runner", "run", "/runner", "--ident")
    environment.run(*command, "1", "--playbook", "strata.overlay.rollout", data=data, network=network)
    assert [host.file("/srv/web/release").read_text() for host in fleet.hosts[:3]] == ["one\n"] * 3
    environment.run(*command, "2", "--playbook", "strata.overlay.site", data=data, network=network)
    assert [changes(data, ident) for ident in ("1", "2")] == [dict.fromkeys(hosts, 2), {}]


def changes(data: Path, ident: str) -> dict[str, int]:
    """What the runner has on record of a run: tasks that have changed something, by host."""
    events = [json.loads(path.read_text()) for path in (data / "artifacts" / ident / "job_events").glob("*.json")]
    (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
    assert stats["failures"] == {}
    found: dict[str, int] = stats["changed"]
    return found
