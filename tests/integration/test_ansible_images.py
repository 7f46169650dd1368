# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images on the controller: what of them goes to a host."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.images import Layer, Layout, simple_layout, skopeo, tar_of
from ansible_collections.strata.overlay.tests.integration.sshd import Sshd
from ansible_collections.strata.overlay.tests.integration.test_ansible import executions, transfers

SIZE = 200_000
"""Bytes of a layer's one file."""

SLACK = 64 << 10
"""Bytes that may travel beside a layer's archive: what encryption and the protocol of ssh take."""


class CountingProxy:
    """Passes a port of loopback on to another one and counts the bytes towards it."""

    def __init__(self, target: int) -> None:
        self.bytes = 0
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open = [self._listening]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End all connections; ssh's master process that keeps one for later ends with it."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            for source, sink, counted in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._copy, args=(source, sink, counted), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _copy(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.bytes += len(data) if counted else 0
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[CountingProxy]:
    counting = CountingProxy(sshd.port)
    yield counting
    counting.close()


@pytest.fixture
def target(ansible: Ansible, sshd: Sshd, proxy: CountingProxy) -> Iterator[None]:
    """One host ``target`` behind an sshd, whose bytes can be counted: nothing is compressed on the way."""
    # A path of a socket has to be short.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as sockets:
        inventory(ansible, proxy.port, sshd.key, f"{sockets}/%C")
        yield


def inventory(ansible: Ansible, port: int, key: Path, socket_path: str) -> None:
    """The host, with one connection for all that is asked of it."""
    variables = {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": str(ansible.directory / "remote"),
        "ansible_ssh_args": "-o Compression=no -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        f"-o ControlMaster=auto -o ControlPersist=60 -o ControlPath={socket_path}",
    }
    (ansible.directory / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"target": variables}}}))


def run(ansible: Ansible, arguments: dict[str, Any], target: str = "target") -> str:
    """The module ``image`` on a host: what was said."""
    flags = ("-i", "inventory.yml") if target == "target" else ()
    done = ansible.call("ansible", target, *flags, "-m", "strata.overlay.image", "-vvv", "-a", json.dumps(arguments))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def ten_layers(directory: Path, changed: str) -> Layout:
    """An image of ten layers of 200 kB that do not compress, the seventh with its own content."""
    seeds = [f"{number} {changed}" if number == 6 else str(number) for number in range(10)]
    layers: list[Layer] = [{f"file{number}": random.Random(seed).randbytes(SIZE)} for number, seed in enumerate(seeds)]
    return simple_layout(directory, *layers)


def test_upgrade_of_one_layer_in_ten_sends_only_that_layer(
    host: Host, ansible: Ansible, target: None, proxy: CountingProxy, tmp_path: Path
) -> None:
    archives = []
    for version in ("1", "2", "3"):
        layout = ten_layers(tmp_path / f"layout{version}", version)
        archives.append(tmp_path / f"{version}.tar")
        skopeo(f"oci:{layout.directory}:1.0", f"docker-archive:{archives[-1]}:app:{version}")
    subprocess.run(["gzip", archives[2]], check=True)
    arguments = {"root": str(host.root), "name": "app", "src": str(archives[0])}
    # The host is this machine, so the first version can come the short way.
    assert executions(run(ansible, arguments, "localhost")) == 2
    again = run(ansible, arguments)
    assert (executions(again), transfers(again)) == (1, [])
    before = proxy.bytes
    labelled = run(ansible, {**arguments, "labels": {"stage": "test"}})
    assert (executions(labelled), transfers(labelled)) == (2, [])
    modules = proxy.bytes - before
    for archive in (archives[1], f"{archives[2]}.gz"):
        before = proxy.bytes
        upgrade = run(ansible, {**arguments, "src": str(archive)})
        sent = proxy.bytes - before
        assert (executions(upgrade), len(transfers(upgrade))) == (2, 1)
        # The layer is noise with at most 20 blocks of tar around it; what the modules themselves take is known.
        assert SIZE < sent - modules < SIZE + 20 * 512 + SLACK
    assert len(os.listdir(host.root / "content/sha256")) == 12
    assert list((ansible.directory / "remote").iterdir()) == [], "temporary files stayed on the host"


def test_damaged_archive_is_not_sent(host: Host, ansible: Ansible, target: None, tmp_path: Path) -> None:
    layout = simple_layout(tmp_path / "layout", {"a": "a"})
    blob = layout.path(layout.manifest(layout.entries[0])["layers"][0]["digest"])
    data = blob.read_bytes()
    blob.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    archive = tar_of(layout.directory, tmp_path / "image.tar")
    arguments = json.dumps({"root": str(host.root), "name": "app", "src": str(archive)})
    done = ansible.call("ansible", "target", "-i", "inventory.yml", "-m", "strata.overlay.image", "-a", arguments)
    assert "Cannot send what the host lacks: the blob in " in done.stdout
    assert not host.root.exists()


def test_image_for_controller_itself_is_imported_without_a_copy(host: Host, ansible: Ansible, tmp_path: Path) -> None:
    layout = ten_layers(tmp_path / "layout", "1")
    archive = tar_of(layout.directory, tmp_path / "image.tar")
    arguments = {"root": str(host.root), "name": "app", "src": str(archive)}
    first = run(ansible, arguments, "localhost")
    assert executions(first) == 2
    assert "image.tar (layer 10 of 10)" in first
    # A layer that is cut out of the archive would have been a file here.
    assert "blob" not in first
    assert executions(run(ansible, arguments, "localhost")) == 1


def test_check_mode_returns_same_plan_as_the_run(host: Host, ansible: Ansible, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    platforms = ("linux/amd64", "linux/arm64", "linux/s390x")
    layout.list("1.0", layout.index(*(layout.image({"on": name}, platform=name) for name in platforms)))
    arguments = {
        "root": str(host.root),
        "images": [{"name": "app", "src": str(layout.directory), "platform": "linux/s390x"}],
        "stacks": [{"name": "web", "path": host.path("web"), "layers": ["app"]}],
    }
    announced = ansible.module("apply", arguments, "--check")
    assert not host.root.exists()
    done = ansible.module("apply", arguments)
    assert announced["plan"] == done["plan"]
    assert host.tree("web") == {"on": "linux/s390x"}
    assert ansible.module("apply", arguments)["plan"] == []
    shown = ansible.module("store_info", {"root": str(host.root)})["images"]
    assert [(image["names"], image["platform"]) for image in shown] == [(["app"], "linux/s390x")]


def test_documented_examples_of_image_module_succeed(host: Host, ansible: Ansible, tmp_path: Path) -> None:
    shown = ansible.call("ansible-doc", "--json", "strata.overlay.image")
    examples = json.loads(shown.stdout)["strata.overlay.image"]["examples"]
    layout = Layout(tmp_path / "tools")
    layout.list(
        "stable", layout.index(*(layout.image({"on": on}, platform=f"linux/{on}") for on in ("amd64", "arm64")))
    )
    layout.list("next", layout.image({"x": "x"}))
    archive = tar_of(simple_layout(tmp_path / "layout", {"a": "a"}).directory, ansible.directory / "app-1.4.tar")
    assert archive.exists()
    text = examples.replace("/srv/images", str(tmp_path)).replace("/srv/app", host.path("app"))
    apart = ("registry", "stack")  # of what is not here
    tasks = [task for task in yaml.safe_load(text) if not set(apart) & set(task.get("strata.overlay.image", {}))]
    assert len(tasks) == 4
    group = {"group/strata.overlay.strata": {"root": str(host.root)}}
    play = {"hosts": "localhost", "gather_facts": False, "module_defaults": group, "tasks": tasks}
    done = ansible.playbook(yaml.safe_dump([play], sort_keys=False))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert host.tree("app") == {"a": "a"}


def test_failed_run_never_shows_registry_password(host: Host, ansible: Ansible, tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    items = [{"name": "app", "registry": "127.0.0.1:1/app:1.0", "username": "me", "password": secret}]
    for module, arguments in (("apply", {"images": items}), ("image", items[0])):
        done = ansible.call(
            "ansible",
            "localhost",
            "-m",
            f"strata.overlay.{module}",
            "-vvvvv",
            "--diff",
            "-a",
            json.dumps({"root": str(host.root), **arguments}),
        )
        assert done.returncode != 0
        assert "image app: " in done.stdout
        shown = done.stdout.split("FAILED! =>")[1] + done.stderr
        assert secret not in shown


def test_errors_in_images_and_stacks_are_reported_together(host: Host, ansible: Ansible, tmp_path: Path) -> None:
    simple_layout(tmp_path / "layout", {"a": "a"})
    good = {"name": "good", "src": str(tmp_path / "layout")}
    result = ansible.module(
        "apply",
        {
            "root": str(host.root),
            "layers": [{"name": "shared", "files": [{"path": "x", "content": "x"}]}],
            "images": [
                good,
                {"name": "shared", "src": str(tmp_path / "layout")},
                {"name": "missing", "src": "missing.tar"},
                {"name": "none"},
                {"name": "both", "src": "x", "registry": "r.example/x:1"},
                {"name": "pinned", "src": str(tmp_path / "layout"), "digest": "sha256:" + "0" * 64},
                {"name": "platform", "src": str(tmp_path / "layout"), "platform": "amd64"},
                {"name": "user", "registry": "r.example/x:1", "username": "me"},
            ],
            "stacks": [{"name": "web", "path": host.path("web"), "layers": ["good", "goud"]}],
        },
    )
    expected = [
        "image shared: option 'name' is the name of a layer too; each needs its own",
        "image missing: option 'src': cannot read missing.tar:",
        "image none: exactly one of src and registry says where the image comes from; none is given",
        "image both: exactly one of src and registry says where the image comes from; both are given",
        f"image pinned: option 'digest': expected sha256:{'0' * 64}, but",
        "image platform: option 'platform': 'amd64' must be written os/architecture or os/architecture/variant",
        "image user: option 'username' is given without 'password'; a registry needs both",
        "stack web: option 'layers': no layer is named 'goud', neither in the definition nor in the store",
    ]
    for text in expected:
        assert any(problem.startswith(text) for problem in result["problems"]), f"{text!r} in {result['problems']}"
    assert len(result["problems"]) == len(expected)
    assert not host.root.exists()
