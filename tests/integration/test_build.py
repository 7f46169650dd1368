# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook build: layers made by roles in throw-away stacks, and built again only when what they are of changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.busybox_root import busybox_root
from ansible_collections.strata.overlay.tests.integration.debian_root import UnavailableError, debian_root
from ansible_collections.strata.overlay.tests.integration.fleet import Fleet
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/built-layer"
PATIENCE = 60

# Without Python in the tree a role has `raw` and `script`, and both must work.
ROLE = """
- name: Write
  ansible.builtin.raw: "echo '{{ word }}' > /etc/word; id -u > /etc/who; ls /proc/self >/dev/null; rm -f /etc/old"
- name: Send a script, and run it
  ansible.builtin.script: files/make
- name: Leave what no layer needs
  ansible.builtin.raw: "echo x > /tmp/left; echo x > /run/left; sleep 1000 >/dev/null 2>&1 &"
- name: Fail
  ansible.builtin.raw: "false"
  when: word == 'fail'
- name: Wait
  ansible.builtin.raw: "touch /run/waiting; sleep 1000"
  when: word == 'wait'
"""


def role(top: Path, tasks: str = ROLE) -> Path:
    """The role ``word``, beside the inventory."""
    (top / "roles/word/tasks").mkdir(parents=True)
    (top / "roles/word/files").mkdir()
    (top / "roles/word/tasks/main.yml").write_text(tasks)
    (top / "roles/word/files/make").write_text("#!/bin/sh\nmkdir /made\necho by a script > /made/file\n")
    return top / "roles/word"


@dataclass
class Builder:
    """This machine as the build host."""

    host: Host
    ansible: Ansible
    layers: list[dict[str, Any]]

    @property
    def directory(self) -> Path:
        return self.host.top / "build"

    def arguments(self, builds: list[dict[str, Any]], *flags: str, **variables: Any) -> list[str]:
        hosts = {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": shutil.which("python3")}}
        own = {
            "overlay_root": str(self.host.root),
            "overlay_layers": self.layers,
            "overlay_builds": builds,
            "overlay_build_directory": str(self.directory),
            "overlay_build_facts": False,
            **variables,
        }
        inventory = self.ansible.directory / "inventory.yml"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": own}}))
        return ["ansible-playbook", "-i", str(inventory), "strata.overlay.build", *flags]

    def build(self, builds: list[dict[str, Any]], *flags: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        return self.ansible.call(*self.arguments(builds, *flags, **variables))

    def changes(self, done: subprocess.CompletedProcess[str]) -> int:
        """Of the build host, as the recap counts them."""
        assert done.returncode == 0, done.stdout + done.stderr
        return int(re.findall(r"localhost .*changed=(\d+)", done.stdout)[-1])

    def names(self) -> dict[str, str]:
        """Names in the store, each with the last DiffID of its chain."""
        if not self.host.store.exists():
            return {}
        records = [self.host.store.name_record(name) for name in self.host.store.names()]
        return {record.name: record.diff_ids[-1] for record in records if record}

    def is_clean(self) -> bool:
        """No throw-away stack is there, mounted or on record, and none of its files."""
        mounted = str(self.directory) in Path("/proc/self/mountinfo").read_text()
        return not mounted and not self.host.store.stacks() and not any(self.directory.glob("*"))

    def tree(self, *layers: str) -> Path:
        """The layers, mounted one above the other."""
        self.host.run(stacks=[{"name": "seen", "path": self.host.path("seen"), "layers": list(layers)}])
        return Path(self.host.path("seen"))


@pytest.fixture
def builder(host: Host, ansible: Ansible) -> Builder:
    role(ansible.directory)
    base = busybox_root(ansible.directory / "base")
    return Builder(host, ansible, [{"name": "base", "dir": str(base)}])


def word(text: str, name: str = "word") -> dict[str, Any]:
    return {"name": name, "layers": ["base"], "roles": ["word"], "vars": {"word": text}}


def test_layer_is_built_once(builder: Builder) -> None:
    announced = builder.build([word("first")], "--check", "--diff")
    assert builder.changes(announced) > 0
    assert '"msg": "word"' in announced.stdout
    assert builder.names() == {}
    assert not builder.directory.exists()
    assert builder.changes(builder.build([word("first")])) > 0
    assert builder.is_clean()
    first = builder.names()["word"]
    again = builder.build([word("first")])
    assert builder.changes(again) == 0
    assert "Run each role" not in again.stdout
    assert builder.changes(builder.build([word("first")], "--check")) == 0
    assert builder.names()["word"] == first
    tree = builder.tree("base", "word")
    assert (tree / "etc/word").read_text() == "first\n"
    assert (tree / "etc/who").read_text() == "0\n"
    assert (tree / "made/file").read_text() == "by a script\n"
    assert not (tree / "etc/old").exists()


def test_files_needed_only_for_the_build_are_not_in_the_layer(builder: Builder) -> None:
    own = {"path": "etc/apt/apt.conf", "content": "of the build alone"}
    tasks = ROLE + '- ansible.builtin.raw: "cat /etc/apt/apt.conf /usr/sbin/policy-rc.d /etc/resolv.conf > /etc/saw"\n'
    (builder.ansible.directory / "roles/word/tasks/main.yml").write_text(tasks)
    builder.changes(builder.build([word("first")], overlay_build_files=[own]))
    top = builder.host.store.content(builder.names()["word"])
    found = sorted(str(path.relative_to(top)) for path in Path(top).rglob("*"))
    files = ["etc", "etc/old", "etc/saw", "etc/who", "etc/word", "made", "made/file", "tmp"]
    assert found == files, "/tmp itself was written to"
    assert stat.S_ISCHR((Path(top) / "etc/old").lstat().st_mode), "a whiteout"
    saw = (Path(top) / "etc/saw").read_text()
    assert saw.startswith("of the build alone#!/bin/sh\n")
    assert saw.endswith(Path("/etc/resolv.conf").read_text())


def test_only_builds_with_changed_input_are_built_again(builder: Builder) -> None:
    both = [word("one"), word("two", "other")]
    builder.changes(builder.build(both))
    before = builder.names()
    done = builder.build([word("one"), word("three", "other")])
    assert builder.changes(done) > 0
    assert "build-other" in done.stdout
    assert "build-word" not in done.stdout
    assert builder.names()["word"] == before["word"]
    assert builder.names()["other"] != before["other"]
    script = builder.ansible.directory / "roles/word/files/make"
    script.write_text(script.read_text().replace("by a script", "by another"))
    builder.changes(builder.build([word("one")]))
    assert (builder.tree("base", "word") / "made/file").read_text() == "by another\n"
    assert builder.changes(builder.build([word("one")])) == 0


def test_failed_build_keeps_the_old_layer_and_cleans_up(builder: Builder) -> None:
    builder.changes(builder.build([word("first")]))
    before = builder.names()
    done = builder.build([word("fail"), word("fine", "other")])
    assert done.returncode != 0
    assert "These layers could not be built" in done.stdout + done.stderr
    assert "word (Fail:" in done.stdout + done.stderr
    assert builder.is_clean()
    after = builder.names()
    assert after["word"] == before["word"]
    assert "other" in after, "one that fails does not keep another from being built"
    mistake = {"name": "y", "layers": ["absent"], "roles": ["word"]}
    said = builder.build([word("x"), mistake], overlay_layers=[*builder.layers, {**builder.layers[0], "name": "more"}])
    assert "build y: option 'layers': the build host has no layer or image 'absent'" in said.stdout + said.stderr
    assert said.returncode != 0
    assert builder.is_clean()
    assert builder.names() == after, "not even the layers below were brought"


def test_killed_build_is_completed_by_the_next_run(builder: Builder) -> None:
    command = builder.arguments([word("wait")])
    environment, directory = builder.ansible.environment, builder.ansible.directory
    with subprocess.Popen(
        command, env=environment, cwd=directory, stdout=subprocess.DEVNULL, start_new_session=True
    ) as run:
        limit = time.monotonic() + PATIENCE
        while not list(builder.directory.glob("*/run/waiting")):
            assert run.poll() is None, "it has ended"
            assert time.monotonic() < limit, "it never came to the role's last task"
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGKILL)
    # Over the local connection nobody tells what was running in the tree that its controller is gone.
    subprocess.run(["pkill", "-KILL", "-f", f"unshare .*{builder.directory}"], check=True)
    assert not builder.is_clean()
    assert "word" not in builder.names()
    tasks = builder.ansible.directory / "roles/word/tasks/main.yml"
    tasks.write_text(tasks.read_text().replace('sleep 1000"\n  when', 'true"\n  when'))
    builder.changes(builder.build([word("wait")]))
    assert "word" in builder.names()
    left = [path for path in builder.directory.glob("*") if (path / "tree").exists()]
    assert not any(os.path.ismount(path / "tree") for path in left)
    assert not builder.host.store.stacks()


def apt_of_this_machine() -> list[dict[str, str]]:
    """How it reaches its packages, so that the tree does."""
    files = [*sorted(Path("/etc/apt/apt.conf.d").glob("9*")), Path("/etc/apt/apt.conf")]
    return [{"path": str(path)[1:], "content": path.read_text()} for path in files if path.is_file()]


def test_build_installs_packages_on_a_real_debian_root(host: Host, ansible: Ansible) -> None:
    """Modules that need Python, apt with the sources and proxies of this machine, another user, services kept still."""
    try:
        archive = debian_root()
    except UnavailableError as error:
        pytest.skip(str(error))
    tasks = """
- name: Install
  ansible.builtin.apt: {name: hello, update_cache: true}
- name: Configure
  ansible.builtin.template: {src: conf, dest: /etc/hello.conf, mode: "0640", owner: daemon}
- name: Somebody else
  ansible.builtin.command: {cmd: id -un, creates: /nothing}
  become: true
  become_user: daemon
  register: who
- name: No service is started
  ansible.builtin.command: {cmd: /usr/sbin/policy-rc.d cron start, creates: /nothing}
  register: service
  failed_when: service.rc != 101
- name: Read a file of the tree on the controller
  ansible.builtin.fetch: {src: /etc/hello.conf, dest: "{{ kept }}", flat: true}
"""
    (role(ansible.directory, tasks) / "templates").mkdir()
    (ansible.directory / "roles/word/templates/conf").write_text("{{ word }} {{ ansible_facts['distribution'] }}\n")
    builder = Builder(host, ansible, [{"name": "base", "src": str(archive)}])
    kept = str(ansible.directory / "fetched")
    build = {**word("hello"), "vars": {"word": "hello", "kept": kept}}
    done = builder.build([build], overlay_build_facts=True, overlay_build_files=apt_of_this_machine())
    assert builder.changes(done) > 0
    tree = builder.tree("base", "word")
    said = subprocess.run(["chroot", tree, "hello"], check=True, capture_output=True, text=True).stdout
    assert said == "Hello, world!\n"
    assert Path(kept).read_text() == (tree / "etc/hello.conf").read_text() == "hello Debian\n"
    assert (tree / "etc/hello.conf").stat().st_uid == 1
    assert not (tree / "usr/sbin/policy-rc.d").exists()
    assert not any((tree / "var/lib/apt/lists").glob("*Packages*"))
    assert not (tree / "root/.ansible").exists()


def test_example_builds_exports_and_deploys_nginx(host: Host, ansible: Ansible) -> None:
    """As its README says it, but for where things lie: nginx in a layer, on two hosts."""
    try:
        archive = debian_root()
    except UnavailableError as error:
        pytest.skip(str(error))
    own = {
        "example_home": str(host.top),
        "example_debian": str(archive),
        "overlay_build_host": "builder",
        "overlay_build_files": apt_of_this_machine(),
    }
    flags = ("-i", str(EXAMPLE / "inventory.yml"), "-e", json.dumps(own))
    for playbook, *limit in (
        ("strata.overlay.build",),
        (str(EXAMPLE / "export.yml"),),
        ("strata.overlay.site", "-l", "web"),
    ):
        done = ansible.call("ansible-playbook", *flags, playbook, *limit)
        assert done.returncode == 0, done.stdout + done.stderr
    for name in ("web1", "web2"):
        tree = host.top / name / "web"
        assert (tree / "var/www/html/index.html").read_text() == f"<h1>{name}</h1>"
        subprocess.run(["chroot", tree, "nginx", "-V"], check=True, capture_output=True)
        assert "worker_processes 2;" in (tree / "etc/nginx/nginx.conf").read_text()
    again = ansible.call("ansible-playbook", *flags, "strata.overlay.build")
    assert re.findall(r"builder .*changed=(\d+)", again.stdout) == ["0"]


def test_layer_built_over_ssh_is_exported_and_mounted_on_other_hosts(fleet: Fleet, tmp_path: Path) -> None:
    """Built on one host by a user who becomes root with sudo, exported, and mounted on two others."""
    controller = fleet.ansible.directory
    role(controller)
    base = busybox_root(tmp_path / "base")
    build = {
        "overlay_build_host": "h1",
        "overlay_build_directory": "/srv/build",
        "overlay_build_facts": False,
        "overlay_layers": [{"name": "base", "dir": str(base)}],
        "overlay_builds": [word("far away")],
    }
    try:
        done = fleet.play("strata.overlay.build", variables=build).check()
        assert done.counts("changed")["h1"] > 0
        assert fleet.play("strata.overlay.build", variables=build).check().counts("changed") == {"h1": 0}
        assert not fleet.hosts[0].run("find", "/srv/build", "-mindepth", "1")
        assert "sleep 1000" not in fleet.hosts[0].run("ps", "ax"), "what a command has left running ends with it"
        export = {"root": "/srv/strata", "name": "word", "state": "exported", "dest": "/srv/word.tar"}
        tasks = [
            {"strata.overlay.image": export},
            {"ansible.builtin.fetch": {"src": "/srv/word.tar", "dest": f"{tmp_path}/word.tar", "flat": True}},
        ]
        (controller / "export.yml").write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": tasks}]))
        fleet.play("export.yml").check()
        definition = {
            "overlay_layers": build["overlay_layers"],
            "overlay_images": [{"name": "word", "src": f"{tmp_path}/word.tar"}],
            "overlay_stacks": [{"name": "web", "path": "/srv/web", "layers": ["base", "word"]}],
        }
        fleet.play("strata.overlay.site", "--limit", "h2,h3", variables=definition).check()
        for host in fleet.hosts[1:3]:
            assert host.run("chroot", "/srv/web", "cat", "/etc/word", "/made/file") == "far away\nby a script\n"
    finally:
        fleet.hosts[0].run("rm", "-rf", "--one-file-system", "/srv/build", "/srv/word.tar")
