# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers of a part of their source: strip_components, prefix, include and exclude, from every kind of source. And zip
archives, from every kind of source too.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.test_sources import web
from ansible_collections.strata.overlay.tests.integration.web import serving

PART: dict[str, Any] = {"strip_components": 1, "prefix": "opt", "exclude": ["*.pyc"]}
TREE = {"opt/bin/run": "run", "opt/etc/conf": "conf"}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory with a release in it."""
    for name in ("bin/run", "bin/run.pyc", "etc/conf"):
        path = tmp_path / "from/app-1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return tmp_path / "from"


@pytest.fixture
def archive(top: Path) -> Path:
    """A plain tar of it, whose digest is its DiffID."""
    subprocess.run(["tar", "-cf", top.parent / "app.tar", "-C", top, "app-1"], check=True)
    return top.parent / "app.tar"


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("kind", ["src", "dir"])
def test_part_of_a_source_is_mounted_and_made_once(host: Host, top: Path, archive: Path, kind: str) -> None:
    source = {"src": str(archive)} if kind == "src" else {"dir": str(top)}
    done = host.four_steps(**web(host, **source, remote_src=True, **PART))
    assert host.tree("web") == TREE
    words = "(strip_components 1; prefix opt; exclude '*.pyc')"
    assert [step["text"].endswith(words) for step in done["plan"] if step["action"] == "import_content"] == [True]
    record = host.store.content_record(done["diff_ids"][0])
    assert record is not None
    assert record.source.endswith(words)
    other = host.four_steps(**web(host, **source, remote_src=True, strip_components=1))
    assert set(host.tree("web")) == {"bin/run", "bin/run.pyc", "etc/conf"}
    assert other["diff_ids"] != done["diff_ids"]


def test_digest_of_a_tar_is_not_taken_for_that_of_its_part(host: Host, archive: Path) -> None:
    whole = {"name": "whole", "src": str(archive), "remote_src": True, "digest": digest(archive)}
    host.run(layers=[whole])  # the store has a content of this digest now
    done = host.four_steps(**web(host, src=str(archive), remote_src=True, digest=digest(archive), **PART))
    assert host.tree("web") == TREE
    pinned = host.run(**web(host, src=str(archive), remote_src=True, digest=done["diff_ids"][0], **PART))
    assert not pinned["changed"]
    with pytest.raises(
        (DefinitionError, StrataError), match="expected sha256:0{64}, but .*app.tar .strip_components 1;"
    ):
        host.run(**web(host, src=str(archive), remote_src=True, digest="sha256:" + "0" * 64, **PART))


@pytest.fixture
def served(archive: Path) -> Iterator[tuple[str, list[str]]]:
    """The URL of the archive, and what was asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(archive.parent))

        def log_message(self, *_arguments: Any) -> None:
            pass

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            asked.append(str(int(code)))

    with serving(Handler) as server:
        yield f"http://127.0.0.1:{server.server_port}/app.tar", asked


def test_part_of_what_lies_under_a_url_is_fetched_once(
    host: Host, archive: Path, served: tuple[str, list[str]]
) -> None:
    url, asked = served
    layers = [{"name": "whole", "url": url}, {"name": "app", "url": url, **PART}]
    definition = {**web(host), "layers": layers}
    host.run(**definition)
    assert asked == ["200", "200"]  # they are two sources
    assert host.tree("web") == TREE
    assert not host.run(**definition)["changed"]
    assert asked[2:] == ["304", "304"]
    layers[1]["digest"] = digest(archive)
    assert not host.run(**definition)["changed"]
    layers[1]["digest"] = host.run(**definition)["layers"]["app"][0]
    asked.clear()
    assert not host.run(**definition)["changed"]
    assert asked == ["304"]  # nothing for the one with a digest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"strip_components": 7},
            "layer app: nothing of it is left by its options (strip_components 7); its names have 3",
        ),
        ({"include": ["app-2"]}, "layer app: option 'include': nothing in it matches 'app-2'"),
    ],
    ids=["strip", "include"],
)
def test_options_that_leave_nothing_are_refused_before_anything_changes(
    host: Host, archive: Path, options: dict[str, Any], words: str
) -> None:
    for check in (True, False):
        with pytest.raises((DefinitionError, StrataError)) as failure:
            host.run(**web(host, src=str(archive), remote_src=True, **options), check=check)
        assert words.partition(": ")[2] in str(failure.value)
        assert not (host.root / "content").exists() or not any((host.root / "content/sha256").iterdir())
        assert host.mounts("web") == []


@pytest.fixture
def zipped(top: Path) -> Path:
    """A zip archive of the directory, with a symbolic link in it."""
    (top / "app-1/current").symlink_to("bin/run")
    (top / "app-1/bin/run").chmod(0o750)
    path = top.parent / "app.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("app-1/", "app-1/bin/", "app-1/bin/run", "app-1/bin/run.pyc", "app-1/etc/conf"):
            archive.write(top / name, name)
        link = zipfile.ZipInfo("app-1/current")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "bin/run")
    return path


def test_zip_archive_on_the_host_is_mounted_and_made_once(host: Host, zipped: Path) -> None:
    done = host.four_steps(**web(host, src=str(zipped), remote_src=True))
    assert {*host.tree("web")} == {"app-1/bin/run", "app-1/bin/run.pyc", "app-1/etc/conf", "app-1/current"}
    assert (Path(host.path("web")) / "app-1/current").readlink() == Path("bin/run")
    assert (Path(host.path("web")) / "app-1/bin/run").stat().st_mode & 0o7777 == 0o750
    assert not host.run(**web(host, src=str(zipped), remote_src=True, digest=digest(zipped)))["changed"]
    assert not host.run(**web(host, src=str(zipped), remote_src=True, digest=done["diff_ids"][0]))["changed"]
    part = host.four_steps(**web(host, src=str(zipped), remote_src=True, **PART))
    assert host.tree("web") == {**TREE, "opt/current": "run"}
    assert part["diff_ids"] != done["diff_ids"]


def test_zip_archive_under_a_url_is_fetched_once(host: Host, zipped: Path, served: tuple[str, list[str]]) -> None:
    url = served[0].replace("app.tar", "app.whl")
    local = host.run(**web(host, src=str(zipped), remote_src=True, **PART))
    done = host.run(**web(host, url=url, **PART))
    assert done["diff_ids"] == local["diff_ids"]
    assert not host.run(**web(host, url=url, **PART))["changed"]
    assert served[1] == ["200", "304"]
    digested = host.run(**web(host, url=url, digest=digest(zipped), **PART))
    assert (digested["changed"], served[1]) == (False, ["200", "304"])


def test_zip_archive_of_the_controller_has_the_tree_that_unarchive_makes(
    host: Host, ansible: Ansible, zipped: Path, tmp_path: Path
) -> None:
    definition = {"root": str(host.root), **web(host, src=str(zipped))}
    assert ansible.module("apply", definition)["changed"]
    (tmp_path / "by-unarchive").mkdir()
    arguments = {"src": str(zipped), "dest": str(tmp_path / "by-unarchive")}
    result = ansible.call("ansible", "localhost", "-m", "ansible.builtin.unarchive", "-a", json.dumps(arguments))
    assert result.returncode == 0, result.stdout
    assert without_times(tmp_path / "by-unarchive") == without_times(Path(host.path("web")))
    assert not ansible.module("apply", definition)["changed"]


def without_times(top: Path) -> dict[str, tuple[Any, ...]]:
    """What lies below a directory: the zone of this host decides the times that unarchive gives."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(top.rglob("*")):
        facts = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(top))] = (facts.st_mode, facts.st_uid, content)
    return found


def test_part_of_sources_on_the_controller_is_sent_and_second_run_changes_nothing(
    host: Host, ansible: Ansible, top: Path, archive: Path
) -> None:
    layers = [{"name": "app", "src": str(archive), **PART}, {"name": "tree", "dir": str(top), "exclude": ["app-1/bin"]}]
    definition = {"root": str(host.root), **web(host), "layers": layers}
    first = ansible.module("apply", definition)
    second = ansible.module("apply", definition)
    assert (first["changed"], second["changed"]) == (True, False)
    assert host.tree("web") == TREE
    assert first["diff_ids"] == second["diff_ids"]
