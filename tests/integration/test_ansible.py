# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules through Ansible itself: what the controller does, and what a person sees."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host, snapshot
from ansible_collections.strata.overlay.tests.integration.sshd import Sshd

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - strata.overlay.apply:
        root: {root}
        layers: {layers}
        stacks: {stacks}
"""


def executions(output: str) -> int:
    """Module executions in the output of ``-vvv``."""
    return len(re.findall(r"Using module file .*plugins/modules/", output))


def transfers(output: str) -> list[str]:
    """Layers among the files that were sent, in the output of ``-vvv``."""
    return re.findall(r"PUT \S+ TO (\S+\.tar)\b", output)


def recap(output: str) -> dict[str, int]:
    """The numbers of the play recap's only line."""
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", output.split("PLAY RECAP")[1])}


@pytest.fixture
def layers(tmp_path: Path) -> list[dict[str, Any]]:
    """An archive, a directory and inline files on the controller."""
    directory = tmp_path / "source"
    (directory / "etc").mkdir(parents=True)
    (directory / "etc/os").write_text("base")
    archive = tmp_path / "base.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", directory, "."], check=True)
    (directory / "etc/os").write_text("app")
    return [
        {"name": "base", "src": str(archive)},
        {"name": "app", "dir": str(directory)},
        {"name": "config", "files": [{"path": "etc/app.conf", "content": "secret = 12345\n", "mode": "0600"}]},
    ]


def stack(host: Host, **options: Any) -> dict[str, Any]:
    return {"name": "web", "path": host.path("web"), "layers": ["base", "app", "config"], **options}


def test_check_and_second_run_change_nothing(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    text = PLAYBOOK.format(root=host.root, layers=json.dumps(layers), stacks=json.dumps([stack(host)]))
    before = snapshot(host.top)
    announced = ansible.playbook(text, "--check", "--diff")
    left = [entry for entry in snapshot(host.top) if "/controller" not in entry[0]]
    assert left == [entry for entry in before if "/controller" not in entry[0]], "check mode left something"
    assert recap(announced.stdout)["changed"] == 1, announced.stdout
    first = ansible.playbook(text)
    assert recap(first.stdout)["changed"] == 1
    second = ansible.playbook(text, "-vvv")
    assert recap(second.stdout)["changed"] == 0
    assert executions(second.stdout) == 1
    assert host.tree("web") == {"etc/app.conf": "secret = 12345\n", "etc/os": "app"}


CALLBACK = """
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "history"

    def v2_runner_on_ok(self, result):
        fields = getattr(result, "task_fields", None) or result._task_fields
        self._display.display("HISTORY " + self._dump_results({"args": fields["args"]}, indent=None))
"""


@pytest.mark.parametrize("flags", [(), ("--check",)])
def test_callbacks_see_the_arguments_of_the_task(host: Host, ansible: Ansible, flags: tuple[str, ...]) -> None:
    """As a job's history has them, with what changes something and with what does not."""
    (ansible.directory / "callback_plugins").mkdir()
    (ansible.directory / "callback_plugins/history.py").write_text(CALLBACK)
    layers = [{"name": "config", "files": [{"path": "etc/app.conf", "content": "x"}]}]
    done = ansible.playbook(PLAYBOOK.format(root=host.root, layers=layers, stacks=[]), *flags)
    history = [json.loads(line.split(" ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("HISTORY")]
    assert [each["args"] for each in history] == [{"root": str(host.root), "layers": layers, "stacks": []}], done.stdout


@pytest.mark.parametrize("keywords", ["retries: 1", "until: result is succeeded\n      retries: 1"])
def test_retry_of_failed_task_fails_again(host: Host, ansible: Ansible, keywords: str) -> None:
    """What fails fails again, and is never a run of nothing that succeeds."""
    stacks = json.dumps([{**stack(host), "layers": ["absent"]}])
    text = PLAYBOOK.format(root=host.root, layers="[]", stacks=stacks)
    done = ansible.playbook(f"{text}      register: result\n      delay: 0\n      {keywords}\n")
    assert done.returncode != 0, done.stdout
    assert "FAILED - RETRYING" in done.stdout
    assert "absent" in done.stdout.rpartition("fatal:")[2]
    assert recap(done.stdout)["failed"] == 1


def test_check_mode_returns_same_plan_as_the_run(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    arguments = {"root": str(host.root), "layers": layers, "stacks": [stack(host)]}
    announced = ansible.module("apply", arguments, "--check", "--diff")
    assert not host.root.exists()
    done = ansible.module("apply", arguments, "--diff")
    assert announced["plan"] == done["plan"]
    assert [step["action"] for step in done["plan"]] == [
        "create_store",
        *["import_content"] * 3,
        *["link_layer"] * 3,
        *["set_name"] * 3,
        "write_stack",
        "mount",
    ]
    assert ansible.module("apply", arguments)["plan"] == []


def test_first_run_executes_twice_and_second_once(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    arguments = json.dumps({"root": str(host.root), "layers": layers, "stacks": [stack(host)]})
    command = ("ansible", "localhost", "-m", "strata.overlay.apply", "-vvv", "-a", arguments)
    counts = [executions(ansible.call(*command).stdout) for _run in range(2)]
    assert counts == [2, 1]


def test_content_lost_on_host_during_transfer_is_sent_too(
    host: Host, ansible: Ansible, layers: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = ansible.module("apply", {"root": str(host.root), "layers": layers, "stacks": [stack(host)]})
    base = host.root / "content/sha256" / first["layers"]["base"][0].removeprefix("sha256:")
    assert base.is_dir()
    # A Python that loses the content before the call that has been sent all: after the plan was made.
    script, done_once = tmp_path / "python", tmp_path / "done"
    script.write_text(f"""#!/bin/sh
case "$1" in *AnsiballZ_apply.py) mkdir {done_once} 2>/dev/null && rm -r {base} ;; esac
exec {sys.executable} "$@"
""")
    script.chmod(0o755)
    layers[2]["files"][0]["content"] = "secret = 54321\n"
    arguments = json.dumps({"root": str(host.root), "layers": layers, "stacks": [stack(host)]})
    python = ("-e", f"ansible_python_interpreter={script}")
    done = ansible.call("ansible", "localhost", "-m", "strata.overlay.apply", "-vvv", *python, "-a", arguments)
    assert done.returncode == 0, done.stdout
    assert executions(done.stdout) == 3
    assert base.is_dir()
    assert host.tree("web") == {"etc/app.conf": "secret = 54321\n", "etc/os": "app"}
    assert host.check(deep=True)["findings"] == []


def wait_for_a_day_with_time_left(seconds: float) -> None:
    """What is compared names days: it is not begun where midnight (UTC) would come between."""
    left = 86400 - time.time() % 86400
    if left < seconds:
        time.sleep(left)


def test_prune_removes_what_check_mode_announced(host: Host, ansible: Ansible, layers: list[dict[str, Any]]) -> None:
    """The whole module runs at once, since only it can look at all of the store; the plan shows what will go."""
    wait_for_a_day_with_time_left(30)
    everything = {"root": str(host.root), "layers": layers, "stacks": [stack(host)]}
    assert ansible.module("apply", {**everything, "prune": {}})["removed"] == []
    less = {
        "root": str(host.root),
        "layers": [layers[0], {"name": "app", "state": "absent"}],
        "stacks": [{**stack(host), "layers": ["base"], "generations": 1}],
        "prune": {},
    }
    announced = ansible.module("apply", less, "--check")
    planned = ansible.module("plan", less)
    assert announced["plan"] == planned["plan"]
    assert "prune" in [step["action"] for step in planned["plan"]]
    done = ansible.module("apply", less)
    assert (done["plan"], done["removed"]) == (announced["plan"], announced["removed"])
    command = ("ansible", "localhost", "-m", "strata.overlay.apply", "-vvv", "-a", json.dumps(less))
    again = ansible.call(*command).stdout
    assert executions(again) == 1
    assert '"changed": false' in again


def test_secrets_in_inline_files_are_not_in_the_result(
    host: Host, ansible: Ansible, layers: list[dict[str, Any]]
) -> None:
    arguments = json.dumps({"root": str(host.root), "layers": layers, "stacks": [stack(host)]})
    done = ansible.call("ansible", "localhost", "-m", "strata.overlay.apply", "-vvv", "--diff", "-a", arguments)
    assert "12345" not in done.stdout.split("CHANGED =>")[1]


def test_all_errors_are_reported_at_once_before_host_is_touched(
    host: Host, ansible: Ansible, layers: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "noise.tar").write_bytes(b"no archive")
    full = Path(host.path("full"))
    full.mkdir(parents=True)
    (full / "keep").write_text("me")
    result = ansible.module(
        "apply",
        {
            "root": str(host.root),
            "layers": [
                *layers,
                {"name": "app", "src": "missing.tar"},
                {"name": "noise", "src": str(tmp_path / "noise.tar")},
                {"name": "pinned", "src": layers[0]["src"], "digest": "sha256:1"},
                {"name": "other", "srk": "x.tar"},
            ],
            "stacks": [
                stack(host, layers=["base", "ap"]),
                stack(host, name="full", path=str(full)),
                stack(host, name="twin"),
                stack(host, name="inner", path=f"{host.path('web')}/inner"),
                stack(host, name="relative", path="srv/x"),
                stack(host, name="root", path="/"),
                stack(host, name="store", path=f"{host.root}/x"),
                stack(host, name="none", layers=[], path=host.path("none")),
                stack(host, name="deep", layers=["base"] * 501, path=host.path("deep")),
                stack(host, name="wrong", path=host.path("wrong"), writable="yes", cover="maybe"),
            ],
        },
    )
    web = host.path("web")
    expected = [
        "layer app: option 'name' is used 2 times; each layer needs its own",
        "layer app: option 'src': cannot read missing.tar:",
        "layer noise: ",
        "layer pinned: option 'digest': 'sha256:1' must be 'sha256:' and 64 lower-case hexadecimal digits",
        "layer other: unknown option 'srk'; did you mean 'src'?",
        "layer other: exactly one of src, url, dir, files says where the layer comes from; none is given",
        "stack web: option 'layers': no layer is named 'ap', neither in the definition nor in the store; did you mean",
        f"stack full: option 'path': the directory {full} is not empty; empty it, or set cover: true to hide what",
        f"stack twin: option 'path': {web} is the path of stack web too",
        f"stack inner: option 'path': {web}/inner lies inside {web}, the path of stack web",
        "stack relative: option 'path': 'srv/x' must be absolute, beginning with /",
        "stack root: option 'path': a stack can't be mounted over /; name a directory below it",
        f"stack store: option 'path': {host.root}/x lies inside the store {host.root}; choose another",
        "stack none: option 'layers' is empty; a stack needs at least one layer",
        "stack deep: option 'layers' has 501 layers; the kernel takes at most 500",
        "stack wrong: option 'writable' must be one of none, persistent, volatile, not 'yes'",
        "stack wrong: option 'cover' must be true or false, not 'maybe'",
    ]
    for text in expected:
        found = [problem for problem in result["problems"] if problem.startswith(text)]
        assert len(found) == 1, f"{text!r} is told {len(found)} times in {json.dumps(result['problems'], indent=1)}"
        assert found[0] in result["msg"]
    assert not host.root.exists()


@pytest.mark.parametrize(
    "module",
    ["apply", "layer", "lock", "plan", "prune", "stack", "stack_info", "store_check", "store_info", "validate"],
)
def test_documented_examples_of_module_succeed(
    request: pytest.FixtureRequest, host: Host, ansible: Ansible, tmp_path: Path, module: str
) -> None:
    shown = subprocess.run(
        [Path(sys.executable).parent / "ansible-doc", "--json", f"strata.overlay.{module}"],
        capture_output=True,
        text=True,
        check=True,
        env=ansible.environment,
    )
    examples = json.loads(shown.stdout)[f"strata.overlay.{module}"]["examples"]
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/motd").write_text("motd")
    files = ansible.directory / "files"
    files.mkdir()
    subprocess.run(["tar", "--zstd", "-cf", files / "debian-12.tar.zst", "-C", tree, "."], check=True)
    subprocess.run(["tar", "-czf", files / "app-1.4.tar.gz", "-C", tree, "."], check=True)
    summed = subprocess.run(["sha256sum", files / "app-1.4.tar.gz"], capture_output=True, text=True, check=True)
    (ansible.directory / "templates").mkdir()
    (ansible.directory / "templates/app.conf.j2").write_text("listen = 8080\n")
    text = (
        examples.replace("/srv/", f"{host.top}/srv/")
        .replace("/opt/build/tools", str(tree))
        .replace("https://example.org/", f"file://{files}/")
        .replace("589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3", summed.stdout.split()[0])
    )
    if "/var/lib/docker" in text:
        text = text.replace("/var/lib/docker", str(request.getfixturevalue("stopped_docker").root))
    tasks = yaml.safe_load(text)
    for task in tasks:
        for option in ("services", "health"):  # test_services has a machine with systemd for these
            (task.get(f"strata.overlay.{module}") or {}).pop(option, None)
    group = {"group/strata.overlay.strata": {"root": str(host.root)}}
    names = ["base", "app", "site"] if module.startswith("stack") else []
    before: list[dict[str, Any]] = [
        {"strata.overlay.layer": {"name": name, "files": [{"path": name, "content": name}]}} for name in names
    ]
    if module == "stack_info":
        before.append({"strata.overlay.stack": {"name": "web", "path": host.path("web"), "layers": names}})
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": group,
        "vars": {"overlay_layers": [], "overlay_stacks": []},
        "pre_tasks": before,
        "tasks": tasks,
    }
    done = ansible.playbook(yaml.safe_dump([play], sort_keys=False))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert recap(done.stdout)["failed"] == 0


def test_only_layers_that_the_host_lacks_are_sent_over_ssh(
    host: Host, ansible: Ansible, sshd: Sshd, layers: list[dict[str, Any]]
) -> None:
    (ansible.directory / "inventory.yml").write_text(sshd.inventory(str(ansible.directory / "remote")))

    def run() -> str:
        arguments = json.dumps({"root": str(host.root), "layers": layers, "stacks": [stack(host)]})
        done = ansible.call(
            "ansible", "target", "-i", "inventory.yml", "-m", "strata.overlay.apply", "-vvv", "-a", arguments
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    first = run()
    assert (executions(first), len(transfers(first))) == (2, 3)
    assert host.tree("web")["etc/os"] == "app"
    second = run()
    assert (executions(second), transfers(second)) == (1, [])
    layers[2]["files"][0]["content"] = "secret = 2\n"
    third = run()
    assert (executions(third), len(transfers(third))) == (2, 1)
    assert host.tree("web")["etc/app.conf"] == "secret = 2\n"
    assert list((ansible.directory / "remote").iterdir()) == [], "temporary files stayed on the host"
