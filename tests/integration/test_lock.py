# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions that are checked without a host, and sources that a lock file pins."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.images import Layer, Layout
from ansible_collections.strata.overlay.tests.integration.registry import running_registry
from ansible_collections.strata.overlay.tests.integration.web import serving

LAYERS: list[Layer] = [{"etc/os": "base"}, {"etc/app": "one"}]


@pytest.fixture
def inventory(ansible: Ansible, host: Host) -> Path:
    """A directory of an inventory, with an archive in it, whose hosts do not exist."""
    home = ansible.directory / "inventory"
    (home / "files").mkdir(parents=True)
    write_archive(home, "one")
    hosts: dict[str, dict[str, str]] = {"nowhere1": {}, "nowhere2": {}}
    (home / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": {"ansible_host": "192.0.2.1"}}}))
    return home


def write_archive(home: Path, text: str) -> None:
    (home / "release").write_text(text)
    subprocess.run(["tar", "-cf", home / "files/app.tar", "-C", home, "release"], check=True)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A server of a layer's archive: its URL."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file").write_text("x")
    subprocess.run(["tar", "-czf", tmp_path / "served/web.tar.gz", "-C", tmp_path / "served", "file"], check=True)

    class ServiceFreeze(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *_arguments: Any) -> None:
            pass

    with serving(ServiceFreeze) as server:
        yield f"http://127.0.0.1:{server.server_port}/web.tar.gz"


def play(ansible: Ansible, home: Path, playbook: str, variables: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    arguments = ["-i", str(home / "hosts.yml"), f"strata.overlay.{playbook}", "-e", json.dumps(variables)]
    return ansible.call("ansible-playbook", *arguments)


def definition(**more: Any) -> dict[str, Any]:
    return {
        "overlay_layers": [
            {"name": "app", "src": "files/app.tar"},
            {"name": "c", "files": [{"path": "x", "content": ""}]},
        ],
        "overlay_stacks": [
            {"name": "web", "path": "/srv/web", "layers": ["app", {"dir": "{{ inventory_dir }}/files"}]}
        ],
        **more,
    }


def test_errors_of_a_whole_inventory_are_reported_without_a_connection(ansible: Ansible, inventory: Path) -> None:
    done = play(ansible, inventory, "validate", definition())
    assert done.returncode == 0, done.stdout
    wrong = definition(overlay_stacks__more=[{"name": "b", "path": "srv/b", "layers": ["app"], "writeable": "none"}])
    wrong["overlay_layers"][0]["digest"] = f"sha256:{'0' * 64}"
    wrong["overlay_layers"].append({"name": "lost", "src": "files/lost.tar"})
    done = play(ansible, inventory, "validate", wrong)
    assert done.returncode != 0
    assert "UNREACHABLE" not in done.stdout
    for words in (
        "stack b: unknown option 'writeable'",
        "stack b: option 'path': 'srv/b' must be absolute",
        "layer app: option 'digest': expected sha256:0000",
        "layer lost: option 'src': cannot read files/lost.tar",
    ):
        assert done.stdout.count(words) >= 2, f"{words}, for both hosts: {done.stdout}"


def test_lock_file_pins_every_source_and_a_changed_archive_is_refused(
    ansible: Ansible, inventory: Path, served: str, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "layout")
    images = [layout.image(*LAYERS, {"platform": one}, platform=one) for one in ("linux/amd64", "linux/arm64")]
    layout.list("1.0", layout.index(*images))
    layout.list("2.0", images[0])
    with running_registry(tmp_path / "registry") as registry:
        registry.push(layout, "1.0", "1.0", "--all")
        reference = f"{registry.host}/team/app:1.0"
        variables = definition(overlay_images=[{"name": "image", "registry": reference}])
        variables["overlay_layers"].append({"name": "web", "url": served})
        signed = f"{served.replace('//', '//someone:s3cret@')}?sig=t0ken&part="
        variables["overlay_layers"] += [{"name": part, "url": signed + part} for part in ("first", "second")]
        part = {"name": "part", "src": "files/app.tar", "prefix": "{{ 'opt' }}", "exclude": ["{{ '*.pyc' }}"]}
        variables["overlay_layers"].append(part)
        done = play(ansible, inventory, "lock", variables)
        assert done.returncode == 0, done.stdout
        text = (inventory / "overlay.lock.yml").read_text()
        lock = yaml.safe_load(text)
        assert lock["images"] == {reference: layout.entries[0]["digest"]}
        shown = f"{served}?sig=***&part=***#"
        keys = [key for key in lock["layers"] if key.startswith(shown)]
        locked_part = 'files/app.tar {"prefix": "opt", "exclude": ["*.pyc"]}'
        assert set(lock["layers"]) == {"files/app.tar", locked_part, "files", served, *keys}
        assert lock["layers"][locked_part] != lock["layers"]["files/app.tar"]
        assert len(keys) == 2, "URLs that differ in a value of the query are told apart"
        assert not {"someone", "s3cret", "t0ken"} & set(re.findall(r"\w+", text)), "the file is made to be committed"
        os.utime(inventory / "files/app.tar")  # as another checkout would: times do not count for the directory
        again = play(ansible, inventory, "lock", variables)
        assert "changed=1" not in again.stdout
        assert (inventory / "overlay.lock.yml").read_text() == text
        locked = {**variables, "overlay_lock": str(inventory / "overlay.lock.yml")}
        assert play(ansible, inventory, "validate", locked).returncode == 0
        # The tag means another image now, and the archive is another.
        registry.push(layout, "2.0", "1.0")
        write_archive(inventory, "two")
        done = play(ansible, inventory, "validate", locked)
        assert f"layer app: option 'digest': expected {lock['layers']['files/app.tar']}" in done.stdout
        write_archive(inventory, "one")
        unlocked = {**locked, "overlay_layers__new": [{"name": "new", "src": "files/app.tar.gz"}]}
        done = play(ansible, inventory, "validate", unlocked)
        assert "layer new: files/app.tar.gz is not in" in done.stdout


def test_locked_image_is_pulled_by_its_digest(host: Host, ansible: Ansible, inventory: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    layout.list("1.0", layout.image(*LAYERS))
    layout.list("2.0", layout.image({"etc/os": "other"}))
    with running_registry(tmp_path / "registry") as registry:
        registry.push(layout, "1.0", "1.0")
        images = [{"name": "image", "registry": f"{registry.host}/team/app:1.0"}]
        variables = {"overlay_images": images, "overlay_root": str(host.root), "ansible_connection": "local"}
        variables["ansible_python_interpreter"] = sys.executable
        assert play(ansible, inventory, "lock", variables).returncode == 0
        registry.push(layout, "2.0", "1.0")
        locked = {
            **variables,
            "overlay_lock": str(inventory / "overlay.lock.yml"),
            "overlay_stacks": [{"name": "web", "path": host.path("web"), "layers": ["image"]}],
            "overlay_hosts": "nowhere1",
        }
        done = play(ansible, inventory, "site", locked)
        assert done.returncode == 0, done.stdout + done.stderr
        assert host.tree("web") == {"etc/app": "one", "etc/os": "base"}
