# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of layer source, and every way in which one can be wrong."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.images import simple_layout
from ansible_collections.strata.overlay.tests.integration.privileges import is_full_root
from ansible_collections.strata.overlay.tests.integration.test_ansible import executions
from ansible_collections.strata.overlay.tests.integration.web import serving

HALF = 3_000_000
COMPRESSIONS = {"tar": "", "tar.gz": "--gzip", "tar.bz2": "--bzip2", "tar.xz": "--xz", "tar.zst": "--zstd"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small directory."""
    top = tmp_path / "tree"
    (top / "etc").mkdir(parents=True)
    (top / "etc/app.conf").write_text("listen = 8080\n")
    (top / "etc/secret").write_text("hidden")
    (top / "etc/secret").chmod(0o600)
    (top / "current").symlink_to("etc")
    return top


def archive(tree: Path, name: str, *options: str) -> Path:
    """A tar archive of a directory."""
    path = tree.parent / name
    subprocess.run(["tar", *options, "-cf", str(path), "-C", str(tree), "."], check=True)
    return path


def web(host: Host, **layer: Any) -> dict[str, Any]:
    """A definition of one stack of one layer."""
    layers = [{"name": "app", **layer}]
    return {"layers": layers, "stacks": [{"name": "web", "path": host.path("web"), "layers": ["app"]}]}


def mistake(host: Host, **layer: Any) -> str:
    """The one mistake in a definition, which leaves nothing on the host."""
    with pytest.raises(DefinitionError) as failure:
        host.run(**web(host, **layer))
    (problem,) = failure.value.errors
    assert not host.root.exists()
    assert not Path(host.path("web")).exists()
    return problem


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_archive_of_every_compression_is_mounted(host: Host, tree: Path, suffix: str) -> None:
    path = archive(tree, f"app.{suffix}", *filter(None, [COMPRESSIONS[suffix]]))
    done = host.four_steps(**web(host, src=str(path), remote_src=True))
    assert host.tree("web") == {"etc/app.conf": "listen = 8080\n", "etc/secret": "hidden"}
    plain = subprocess.run(["sha256sum", archive(tree, "plain.tar")], capture_output=True, text=True, check=True)
    assert done["diff_ids"] == [f"sha256:{plain.stdout.split()[0]}"]


def test_directory_with_a_socket_is_taken_without_it_and_with_a_warning(
    host: Host, ansible: Ansible, tree: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tree / "door"))
    words = "layer app: 1 socket was left out, which no layer can hold: 'door'"
    for check, changed in ((True, True), (False, True), (False, False), (True, False)):
        result = host.run(**web(host, dir=str(tree), remote_src=True), check=check)
        assert (result["changed"], result["warnings"]) == (changed, [words])
    assert set(host.tree("web")) == {"etc/app.conf", "etc/secret"}
    arguments = json.dumps({"root": str(host.top / "other"), "name": "app", "dir": str(tree)})
    done = ansible.call("ansible", "localhost", "-m", "strata.overlay.layer", "-a", arguments)
    assert done.stdout.startswith("localhost | CHANGED")
    assert " ".join(done.stderr.split()).count(words) == 1


def test_directory_with_other_times_and_owners_is_the_same_layer(host: Host, tree: Path) -> None:
    done = host.four_steps(**web(host, dir=str(tree), remote_src=True))
    for path in (tree / "etc/app.conf", tree / "etc", tree):
        os.utime(path, (1, 1))
        os.chown(path, 1234 if is_full_root() else 0, 0)
    assert not host.run(**web(host, dir=str(tree), remote_src=True))["changed"]
    assert Path(host.path("web"), "etc/secret").stat().st_mode & 0o7777 == 0o600
    assert Path(host.path("web"), "etc/app.conf").stat().st_uid == 0
    (tree / "etc/app.conf").write_text("listen = 8081\n")
    os.utime(tree / "etc/app.conf", (2, 2))  # another second than the one before, as where a person writes it
    changed = host.four_steps(**web(host, dir=str(tree), remote_src=True))
    assert changed["diff_ids"] != done["diff_ids"]
    assert host.tree("web")["etc/app.conf"] == "listen = 8081\n"


def test_inline_files_are_mounted_with_their_modes_and_links(host: Host) -> None:
    files = [
        {"path": "etc/app.conf", "content": "a = 1\n", "mode": "0640"},
        {"path": "/var/lib/app", "state": "directory", "mode": "0700"},
        {"path": "etc/current", "state": "link", "target": "app.conf"},
    ]
    host.four_steps(**web(host, files=files))
    top = Path(host.path("web"))
    assert (top / "etc/current").read_text() == "a = 1\n"
    assert (top / "etc/app.conf").stat().st_mode & 0o7777 == 0o640
    assert (top / "var/lib/app").stat().st_mode & 0o7777 == 0o700


def test_digest_of_the_tar_or_of_the_compressed_file_is_accepted(host: Host, tree: Path) -> None:
    path = archive(tree, "app.tar.gz", "--gzip")
    blob = "sha256:" + subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    done = host.four_steps(**web(host, src=str(path), remote_src=True, digest=blob))
    (diff_id,) = done["diff_ids"]
    assert diff_id != blob
    assert not host.run(**web(host, src=str(path), remote_src=True, digest=diff_id))["changed"]


def test_wrong_digest_is_refused_with_both_digests(host: Host, tree: Path) -> None:
    path = archive(tree, "app.tar.gz", "--gzip")
    problem = mistake(host, src=str(path), remote_src=True, digest="sha256:" + "0" * 64)
    assert problem.startswith(f"layer app: option 'digest': expected sha256:{'0' * 64}, but {path} has DiffID sha256:")


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_truncated_archive_is_refused(host: Host, tree: Path, suffix: str) -> None:
    path = archive(tree, f"app.{suffix}", *filter(None, [COMPRESSIONS[suffix]]))
    # In the middle of a file, also of the plain archive, the second half of which is padding.
    os.truncate(path, 2000 if suffix == "tar" else path.stat().st_size // 2)
    assert mistake(host, src=str(path), remote_src=True).startswith("layer app: ")


def test_noise_empty_and_missing_sources_are_refused(host: Host, tmp_path: Path) -> None:
    for content in (b"", os.urandom(5000), b"\x1f\x8b" + os.urandom(5000), b"PK\x03\x04 no tar"):
        (tmp_path / "noise").write_bytes(content)
        assert mistake(host, src=str(tmp_path / "noise"), remote_src=True).startswith("layer app: ")
    assert "No such file or directory" in mistake(host, src=str(tmp_path / "missing"), remote_src=True)
    assert mistake(host, dir=str(tmp_path / "missing"), remote_src=True).startswith("layer app: ")


def test_archive_that_changes_between_check_and_import_is_refused(
    host: Host, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tree, "app.tar")
    module = "ansible_collections.strata.overlay.plugins.module_utils._run.reconcile.stage_contents"
    from ansible_collections.strata.overlay.plugins.module_utils._run.stage import stage_contents

    # What comes from a new place is read once, so nothing can change in between; what was imported before is not.
    host.run(**web(host, src=str(path), remote_src=True))
    before = list((host.root / "content/sha256").iterdir())
    (tree / "etc/app.conf").write_text("listen = 5555\n")
    archive(tree, "app.tar")

    def swap(*arguments: Any, **options: Any) -> Any:
        (tree / "etc/app.conf").write_text("listen = 6666\n")
        archive(tree, "app.tar")
        return stage_contents(*arguments, **options)

    monkeypatch.setattr(module, swap)
    with pytest.raises(Exception, match="changed while it was read"):
        host.run(**web(host, src=str(path), remote_src=True))
    assert list((host.root / "content/sha256").iterdir()) == before
    assert list((host.root / "staging").iterdir()) == []


class _Server(http.server.SimpleHTTPRequestHandler):
    """Counts what is asked and keeps the test's output clean."""

    asked: list[tuple[str, int]] = []  # noqa: RUF012
    encoding = ""

    @staticmethod
    def at_half(path: str) -> None:
        """Called between the two parts of every body."""

    def log_message(self, *_arguments: Any) -> None:
        pass

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        self.asked.append((self.path, int(code)))

    def end_headers(self) -> None:
        if self.encoding:
            self.send_header("Content-Encoding", self.encoding)
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        outputfile.write(source.read(HALF))
        self.at_half(self.path)
        shutil.copyfileobj(source, outputfile)


@pytest.fixture
def server(tree: Path) -> Iterator[str]:
    """A web server on loopback for the archives beside the tree."""
    _Server.asked.clear()
    with serving(functools.partial(_Server, directory=str(tree.parent))) as listening:
        yield f"http://127.0.0.1:{listening.server_port}"


def test_unchanged_url_is_fetched_once(host: Host, tree: Path, server: str) -> None:
    archive(tree, "app.tar.gz", "--gzip")
    url = f"{server}/app.tar.gz"
    assert host.run(**web(host, url=url))["changed"]
    assert _Server.asked == [("/app.tar.gz", 200)]
    again = host.run(**web(host, url=url))
    assert not again["changed"]
    assert _Server.asked[1:] == [("/app.tar.gz", 304)], "the server is asked whether it has changed"
    assert not host.run(**web(host, url=url, digest=again["diff_ids"][0]))["changed"]
    assert len(_Server.asked) == 2, "a pinned layer that is in the store needs no question"
    (tree / "etc/app.conf").write_text("listen = 8081\n")
    os.utime(archive(tree, "app.tar.gz", "--gzip"), (2_000_000_000, 2_000_000_000))
    assert host.run(**web(host, url=url))["changed"]
    assert host.tree("web")["etc/app.conf"] == "listen = 8081\n"


def test_url_in_check_mode_leaves_nothing(host: Host, tree: Path, server: str) -> None:
    archive(tree, "app.tar.gz", "--gzip")
    assert host.run(check=True, **web(host, url=f"{server}/app.tar.gz"))["changed"]
    assert not host.root.exists()


def test_urls_are_unpacked_while_downloading_and_fetched_once(
    host: Host, tree: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"app-{number}.tar" for number in range(4)]
    for number, name in enumerate(names):
        (tree / "number").write_text(str(number))
        # A file that is whole in the first half, and behind it one that reaches into the second.
        (tree.parent / "large").mkdir(exist_ok=True)
        (tree.parent / "large/end").write_bytes(os.urandom(HALF))
        archive(tree, name)
        subprocess.run(["tar", "-rf", tree.parent / name, "-C", tree.parent / "large", "end"], check=True)
    arrived: dict[str, bool] = {}

    def at_half(path: str) -> None:
        number = path.removeprefix("/app-").removesuffix(".tar")
        deadline = time.monotonic() + 20
        while not (there := any((host.root / "staging").glob(f"*/unread-{number}/number"))):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        arrived[path] = there

    monkeypatch.setattr(_Server, "at_half", staticmethod(at_half))
    layers = [{"name": f"layer-{number}", "url": f"{server}/{name}"} for number, name in enumerate(names)]
    definition: dict[str, Any] = {
        "layers": layers,
        "stacks": [{**web(host)["stacks"][0], "layers": [item["name"] for item in layers]}],
    }
    assert host.run(**definition)["changed"]
    assert arrived == {f"/{name}": True for name in names}
    assert sorted(_Server.asked) == [(f"/{name}", 200) for name in names], "each is loaded once"
    assert Path(host.path("web"), "number").read_text() == "3"
    assert not host.run(**definition)["changed"]
    assert [code for _path, code in _Server.asked[4:]] == [304] * 4


def test_url_beside_sources_of_the_controller_is_fetched_once(
    host: Host, ansible: Ansible, tree: Path, server: str, tmp_path: Path
) -> None:
    """The host first asks for what it lacks, also for an image's config, and reads the URL when it has been sent."""
    archive(tree, "app.tar.gz", "--gzip")
    archive(tree, "base.tar")
    image = simple_layout(tmp_path / "image", {"etc/image": b"1"}).directory
    plain = {
        "root": str(host.root),
        "images": [{"name": "image", "src": str(image)}],
        "layers": [
            {"name": "app", "url": f"{server}/app.tar.gz"},
            {"name": "base", "src": str(tree.parent / "base.tar"), "remote_src": True},
        ],
    }

    def apply(version: int) -> tuple[bool, int]:
        """Whether that changed anything, and how often a module was called for it."""
        layers = ["image", "base", "app", {"files": [{"path": "etc/version", "content": str(version)}]}]
        arguments = {**plain, "stacks": [{"name": "web", "path": host.path("web"), "layers": layers}]}
        done = ansible.call("ansible", "localhost", "-m", "strata.overlay.apply", "-vvv", "-a", json.dumps(arguments))
        assert done.returncode == 0, done.stdout
        assert host.tree("web")["etc/version"] == str(version)
        return "CHANGED" in done.stdout, executions(done.stdout)

    assert apply(1) == (True, 2)
    assert [code for _path, code in _Server.asked] == [200]
    assert apply(1) == (False, 1)
    assert apply(2) == (True, 2)
    assert [code for _path, code in _Server.asked] == [200, 304, 304, 304]
    assert host.check(deep=True)["findings"] == []


def test_digest_read_before_the_host_asks_for_more_is_remembered(host: Host, tree: Path) -> None:
    path = archive(tree, "app.tar")
    app = {"name": "app", "src": str(path), "remote_src": True}
    host.run(layers=[app], stacks=[])
    (tree / "etc/app.conf").write_text("listen = 8081\n")
    archive(tree, "app.tar")
    time.sleep(2.1)  # what is younger than two seconds may change again within one tick of a clock
    lacking = "sha256:" + "1" * 64
    facts = {"diff_id": lacking, "size": "7", "words": "inline files", "path": ""}
    known = set(os.listdir(host.store.sources))
    told = json.dumps({"layers": {"layer config": facts}})
    reply = host.run(layers=[app, {"name": "config"}], stacks=[], _controller=told)
    assert reply == {"changed": False, "missing": [lacking]}
    (new,) = set(os.listdir(host.store.sources)) - known
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert digest in Path(host.store.sources, new).read_text()


def test_digest_of_the_file_at_a_url_is_accepted_and_remembered(
    host: Host, tree: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tree, "app.tar.gz", "--gzip")
    blob = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    monkeypatch.setattr(_Server, "encoding", "gzip")  # as some servers label every .gz: it is the same file
    url = f"{server}/app.tar.gz"
    assert host.run(**web(host, url=url))["changed"]
    assert not host.run(**web(host, url=url, digest=blob))["changed"]
    assert len(_Server.asked) == 1, "which digest the file had is remembered"
    with pytest.raises(DefinitionError, match=f"has DiffID sha256:[0-9a-f]* and the file itself {blob}; correct"):
        host.run(**web(host, url=url, digest="sha256:" + "1" * 64))
    assert [code for _path, code in _Server.asked] == [200, 304]


class _Guarded(_Server):
    """Gives files to who has the password or the token, and knows who has asked with what."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012
    elsewhere = ""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization") or self.headers.get("X-Token") or ""
        self.seen.append((self.path, given))
        path, _mark, _query = self.path.partition("?")
        if path == "/moved.tar":
            self.send_response(302)
            self.send_header("Location", f"{self.elsewhere}/app.tar")
            self.end_headers()
        elif given not in (BASIC, "t0ken"):
            self.send_error(401)
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("/file?name=", "/"))


BASIC = "Basic " + base64.b64encode(b"someone:s3@cret").decode()


@pytest.fixture
def guarded(tree: Path) -> Iterator[str]:
    """A web server that wants a password, with an archive app.tar: its host and port."""
    _Guarded.seen.clear()
    archive(tree, "app.tar")
    with serving(functools.partial(_Guarded, directory=str(tree.parent))) as listening:
        yield f"127.0.0.1:{listening.server_port}"


def secrets_in(text: str) -> set[str]:
    return {secret for secret in ("someone", "s3@cret", "s3%40cret", "t0ken", BASIC[6:], "s1gned") if secret in text}


def kept(host: Host) -> str:
    """All that the store remembers, names of files too."""
    files = [path for path in (host.root / "strata").rglob("*") if path.is_file()]
    return "".join(f"{path}\n{path.read_text()}\n" for path in files)


def test_url_with_credentials_is_fetched_and_secrets_are_not_kept(host: Host, guarded: str, tmp_path: Path) -> None:
    logins = tmp_path / "auth.json"
    logins.write_text(json.dumps({"auths": {guarded: {"auth": BASIC[6:]}}}))
    ways: list[dict[str, Any]] = [
        {"url": f"http://someone:s3%40cret@{guarded}/app.tar?sig=s1gned"},
        {"url": f"http://{guarded}/app.tar", "username": "someone", "password": "s3@cret"},
        {"url": f"http://{guarded}/app.tar?way=3", "headers": {"X-Token": "t0ken"}},
        {"url": f"http://{guarded}/app.tar?way=4", "auth_file": str(logins)},
    ]
    definition = web(host, **ways[0])
    announced = host.run(check=True, **definition)
    done = host.run(**definition)
    assert announced["plan"] == done["plan"]
    assert done["changed"]
    assert f"http://{guarded}/app.tar?sig=***" in json.dumps(done["plan"])
    for way in ways[1:]:
        assert not host.run(**web(host, **way))["changed"]
    assert not secrets_in(json.dumps([announced, done]) + kept(host))
    assert {given for _path, given in _Guarded.seen} == {BASIC, "t0ken"}


def test_refused_credentials_are_not_in_the_error(host: Host, guarded: str, tmp_path: Path) -> None:
    refused = mistake(host, url=f"http://someone:t0ken@{guarded}/app.tar?sig=s1gned")
    assert "the server answered 401" in refused
    assert not secrets_in(refused)
    logins = tmp_path / "auth.json"
    logins.write_text(json.dumps({"auths": {"example.org": {"auth": BASIC[6:]}}}))
    assert f"no login for {guarded}" in mistake(host, url=f"http://{guarded}/app.tar", auth_file=str(logins))


def test_urls_that_differ_in_the_query_are_two_files(host: Host, tree: Path, guarded: str) -> None:
    (tree / "etc/app.conf").write_text("other\n")
    archive(tree, "other.tar")
    access = {"headers": {"X-Token": "t0ken"}}
    first = host.run(**web(host, url=f"http://{guarded}/file?name=app.tar", **access))
    second = host.run(**web(host, url=f"http://{guarded}/file?name=other.tar", **access))
    assert first["diff_ids"] != second["diff_ids"]
    assert host.tree("web")["etc/app.conf"] == "other\n"


def test_credentials_are_not_sent_to_another_server_after_a_redirect(
    host: Host, guarded: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []

    def do_get(handler: Any) -> None:
        given.append([name for name in handler.headers if name in ("Authorization", "X-Token")])
        http.server.SimpleHTTPRequestHandler.do_GET(handler)

    monkeypatch.setattr(_Guarded, "elsewhere", server)
    monkeypatch.setattr(_Server, "do_GET", do_get)
    access = {"username": "someone", "password": "s3@cret", "headers": {"X-Token": "t0ken"}}
    assert host.run(**web(host, url=f"http://{guarded}/moved.tar", **access))["changed"]
    assert given == [[]]


def test_secrets_of_a_url_are_in_no_output_of_ansible(host: Host, ansible: Ansible, guarded: str) -> None:
    def apply(name: str) -> str:
        in_place = {"url": f"http://{guarded}/app.tar?way=2", "username": "someone", "password": "s3@cret"}
        definition = {
            "root": str(host.root),
            "layers": [{"name": "app", "url": f"http://someone:s3%40cret@{guarded}/{name}?sig=s1gned"}],
            "stacks": [{"name": "web", "path": host.path("web"), "layers": ["app", in_place]}],
        }
        flags = ("-vvv", "--diff", "-a", json.dumps(definition))
        done = ansible.call("ansible", "localhost", "-m", "strata.overlay.apply", *flags)
        return done.stdout + done.stderr

    failed = apply("missing.tar")
    assert f"http://{guarded}/missing.tar?sig=***" in failed
    changed = apply("app.tar")
    assert "CHANGED" in changed, changed
    assert not secrets_in(failed + changed)


def test_control_characters_from_a_server_do_not_reach_the_terminal(
    host: Host, ansible: Ansible, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handler: Any) -> None:
        handler.send_response_only(404, "gone\x1b[2J\x9b31m\x07")
        handler.end_headers()

    monkeypatch.setattr(_Server, "do_GET", refuse)
    arguments = json.dumps({"root": str(host.root), "name": "app", "url": f"{server}/x.tar"})
    command = ("ansible", "localhost", "-m", "strata.overlay.layer", "-a", arguments)
    ansible.environment["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "yaml"  # which writes such letters as they are
    done = ansible.call(*command)
    said = done.stdout + done.stderr
    assert "the server answered 404 gone" in said
    assert not {"\x1b", "\x9b", "\x07"} & set(said)


def test_errors_of_several_urls_are_reported_at_once_and_leave_nothing(host: Host, tree: Path, server: str) -> None:
    archive(tree, "app.tar.gz", "--gzip")
    layers = [
        {"name": "app", "url": f"{server}/app.tar.gz"},
        {"name": "gone", "url": f"{server}/gone.tar"},
        {"name": "wrong", "url": f"{server}/app.tar.gz", "digest": "sha256:" + "1" * 64},
    ]
    with pytest.raises(DefinitionError) as failure:
        host.run(layers=layers, stacks=[])
    gone, wrong = failure.value.errors
    assert gone.startswith("layer gone: the server answered 404")
    assert wrong.startswith("layer wrong: option 'digest': expected")
    assert not host.root.exists()


def test_url_that_cannot_be_fetched_or_has_another_digest_is_refused(host: Host, tree: Path, server: str) -> None:
    archive(tree, "app.tar.gz", "--gzip")
    assert "the server answered 404" in mistake(host, url=f"{server}/missing.tar")
    assert "cannot fetch http://127.0.0.1:1/x.tar" in mistake(host, url="http://127.0.0.1:1/x.tar")
    wrong = mistake(host, url=f"{server}/app.tar.gz", digest="sha256:" + "1" * 64)
    assert "option 'digest': expected" in wrong
