# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stack_info tells of changes: known answers, and random scripts of changes against `docker diff`."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._info.stack import stack_info
from ansible_collections.strata.overlay.plugins.module_utils._layer.changes import find_changes
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack import ChunkReader
from ansible_collections.strata.overlay.plugins.module_utils._layer.pack_overlay import pack_content
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import unpack
from ansible_collections.strata.overlay.plugins.module_utils._linux import syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.features import find_abilities
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.tests.integration.docker import Docker, missing_programs, running_docker
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.images import Layout, sha256, skopeo
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.privileges import in_private_namespace
from ansible_collections.strata.overlay.tests.integration.random_changes import (
    Change,
    layer_tars,
    run_script,
    scripts,
    tar_layers,
)
from ansible_collections.strata.overlay.tests.integration.trees import Facts, Tree, assert_same, tree_of
from hypothesis import HealthCheck, event, example, given, settings

DOCKER_S_OWN = (b".dockerenv", b"dev", b"etc", b"proc", b"sys")
"""What it makes in each container for mounts of its own."""

# FUZZ=10 tries ten times as many scripts as the suite has time for.
TIMES = int(os.environ.get("FUZZ", "1"))
KINDS = "CAD"
"""Docker's numbers of kinds."""


def changes_of(host: Host, name: str = "web") -> list[tuple[str, str]]:
    return [(change["kind"], change["path"]) for change in stack_info(host.store, name, changes=True)["changes"]]


def three_layers(host: Host) -> None:
    """A persistent stack ``web`` of the three layers."""
    layers = tar_layers(host.top)
    names = [layer["name"] for layer in layers]
    stack = {"name": "web", "path": host.path("web"), "layers": names, "writable": "persistent"}
    host.run(layers=layers, stacks=[stack])


def test_every_kind_of_change_is_reported(host: Host) -> None:
    three_layers(host)
    top = Path(host.path("web"))
    assert changes_of(host) == []
    (top / "new").mkdir()
    (top / "new/one").write_text("12345")
    (top / "a/file").write_text("changed")
    (top / "only/run").unlink()
    (top / "only/file").chmod(0o644)
    (top / "b/null").chmod(0o666)
    shutil.rmtree(top / "over/deep")
    (top / "over/deep").write_text("a file")
    shutil.rmtree(top / "a/deep")
    (top / "a/deep").mkdir()
    (top / "c/link").unlink()
    expected = [
        ("C", "/a"),
        ("C", "/a/deep"),
        ("D", "/a/deep/sub"),
        ("C", "/a/file"),
        ("C", "/b"),
        ("C", "/b/null"),
        ("C", "/c"),
        ("D", "/c/link"),
        ("A", "/new"),
        ("A", "/new/one"),
        ("C", "/only"),
        ("C", "/only/file"),
        ("D", "/only/run"),
        ("C", "/over"),
        ("C", "/over/deep"),
    ]
    assert changes_of(host) == expected
    sizes = {change["path"]: change["size"] for change in stack_info(host.store, "web", changes=True)["changes"]}
    assert {path: size for path, size in sizes.items() if size} == {
        "/new/one": 5,
        "/a/file": 7,
        "/only/file": 9,
        "/over/deep": 6,
    }
    assert "changes" not in stack_info(host.store, "web")
    host.run(stacks=[{"name": "web", "state": "unmounted"}])
    assert changes_of(host) == expected, "the same without the mount"


def test_volatile_stack_has_changes_while_mounted_and_read_only_none(host: Host) -> None:
    stacks = [
        {"name": "web", "path": host.path("web"), "layers": ["base"]},
        {"name": "job", "path": host.path("job"), "layers": ["base"], "writable": "volatile"},
    ]
    host.run(layers=[inline("base", etc__name="base")], stacks=stacks)
    Path(host.path("job"), "etc/name").unlink()
    assert changes_of(host, "web") == []
    assert changes_of(host, "job") == [("C", "/etc"), ("D", "/etc/name")]
    host.run(stacks=[{"name": "job", "state": "unmounted"}])
    assert changes_of(host, "job") == []


def test_file_copied_up_with_mapped_owner_is_no_change(host: Host) -> None:
    """A file copied up has the owner that the stack shows; that is no change."""
    host.needs_idmap()
    stack = {"name": "web", "path": host.path("web"), "layers": ["base"], "writable": "persistent"}
    idmap = {"uid": "0:1000:9", "gid": "0:1000:9"}
    host.run(layers=[inline("base", etc__name="base", etc__other="base")], stacks=[{**stack, "idmap": idmap}])
    path = Path(host.path("web"), "etc/name")
    assert path.stat().st_uid == 1000
    path.chmod(path.stat().st_mode)
    assert os.listdir(upper_tree(host.store, host.store.stacks()["web"])), "it was copied up"
    assert changes_of(host) == []
    os.chown(path, 1001, 1000)
    assert changes_of(host) == [("C", "/etc"), ("C", "/etc/name")]


def test_changes_of_tree_deeper_than_longest_path_are_reported(host: Host) -> None:
    host.run(
        layers=[inline("base", etc="base")],
        stacks=[{"name": "web", "path": host.path("web"), "layers": ["base"], "writable": "persistent"}],
    )
    before = os.getcwd()
    os.chdir(host.path("web"))
    try:
        for _level in range(60):
            os.mkdir("x" * 200)
            os.chdir("x" * 200)
    finally:
        os.chdir(before)
    found = changes_of(host)
    assert [kind for kind, _path in found] == ["A"] * 60
    assert len(found[-1][1]) == 60 * 201
    host.run(stacks=[{"name": "web", "state": "absent"}])


def test_links_in_the_upper_are_not_followed(host: Host) -> None:
    """A directory replaced by a link to another one: what lies behind it is not looked at."""
    three_layers(host)
    upper = Path(upper_tree(host.store, host.store.stacks()["web"]))
    canary = host.top / "canary"
    canary.mkdir()
    (canary / "inside").write_text("outside")
    host.run(stacks=[{"name": "web", "state": "unmounted"}])
    (upper / "a").symlink_to(canary)
    (upper / "fresh").symlink_to("/")
    assert changes_of(host) == [("C", "/a"), ("A", "/fresh")]


def test_missing_layer_is_reported_instead_of_changes(host: Host) -> None:
    three_layers(host)
    host.run(stacks=[{"name": "web", "state": "unmounted"}])
    record = host.store.stacks()["web"]
    content = Path(host.store.content(record.diff_ids[0]))
    content.rename(host.top / "moved")
    with pytest.raises(StrataError, match="stack web: its changes are unknown because .* is missing"):
        changes_of(host)


def test_stack_info_through_ansible_returns_changes(host: Host, ansible: Ansible) -> None:
    three_layers(host)
    (Path(host.path("web")) / "only/new name").write_text("1")
    os.mkdir(os.fsencode(host.path("web")) + b"/\xff")
    told = ansible.module("stack_info", {"root": str(host.root), "name": "web", "changes": True})
    assert "changes" in told, told
    assert [(change["kind"], change["path"], change["size"]) for change in told["changes"][:2]] == [
        ("C", "/only", 0),
        ("A", "/only/new name", 1),
    ]
    assert told["changes"][2] == {"kind": "A", "path": "/\\xff", "size": 0}
    assert not told["changed"]


class _Socket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


@dataclass
class Pair:
    """The same three layers as a stack of ours and as a container of Docker's that does not run.

    :ivar lowers: layers of the container, top to bottom, the one that Docker makes for its mounts among them.
    """

    host: Host
    docker: Docker
    container: str
    lowers: list[str]
    upper: Path

    def run_in_docker(self, script: list[Change]) -> None:
        """Docker mounts a container while it runs, with these options but for those that we set everywhere."""
        work = self.upper.parent / "work"
        empty(self.upper)
        empty(work)
        place = self.host.top / "container"
        place.mkdir(exist_ok=True)
        options = f"index=off,metacopy=off,redirect_dir=off,lowerdir={':'.join(self.lowers)}"
        syscalls.mount("overlay", str(place), "overlay", 0, f"{options},upperdir={self.upper},workdir={work}")
        try:
            run_script(place, script)
        finally:
            syscalls.umount(str(place))

    def run_in_stack(self, script: list[Change]) -> None:
        self.host.run(stacks=[{"name": "web", "state": "unmounted"}])
        empty(Path(upper_tree(self.host.store, self.host.store.stacks()["web"])))
        self.host.run(stacks=[{"name": "web", "state": "mounted"}])
        run_script(Path(self.host.path("web")), script)

    def docker_diff(self) -> list[tuple[str, str]]:
        """What `docker diff` prints, from where it has it."""
        told = self._ask("GET", f"/containers/{self.container}/changes")
        return sorted((KINDS[change["Kind"]], change["Path"]) for change in told or [])

    @contextmanager
    def docker_commit(self) -> Iterator[Path]:
        """The tree of the layer that `docker commit` makes, as Docker has unpacked it; nothing changed makes none."""
        made = self._ask("POST", f"/commit?container={self.container}", "{}")["Id"]
        nothing = self.host.top / "nothing"
        nothing.mkdir(exist_ok=True)
        try:
            image = self._ask("GET", f"/images/{made}/json")
            added = len(image["RootFS"]["Layers"]) > len(layer_tars())
            yield Path(image["GraphDriver"]["Data"]["UpperDir"]) if added else nothing
        finally:
            self._ask("DELETE", f"/images/{made}")

    def docker_export(self) -> bytes:
        """What `docker export` writes: the whole tree of the container as a tar."""
        return self._fetch("GET", f"/containers/{self.container}/export", None)

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        return json.loads(self._fetch(method, path, body))

    def _fetch(self, method: str, path: str, body: str | None) -> bytes:
        connection = _Socket(self.docker.socket)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            told = answer.read()
        finally:
            connection.close()
        assert answer.status in (200, 201), told
        return told


def empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not in_private_namespace() or missing_programs():
        pytest.skip(f"needs root in a mount namespace of its own, and {', '.join(missing_programs())}")
    if find_abilities().userxattr:
        pytest.skip("dockerd needs root, and not that of a user namespace")
    top = tmp_path_factory.mktemp("changes")
    host = Host(top / "host")
    host.top.mkdir()
    try:
        load = image_archive(top)
        with running_docker(top / "root", top / "log") as docker:
            # dockerd has mounts of its own, a copy of those that there were: no stack may be among them.
            three_layers(host)
            docker.call("load", "--input", str(load))
            container = docker.call("create", "--network", "none", "three:1", "/none").strip()
            layers = json.loads(docker.call("inspect", container))[0]["GraphDriver"]["Data"]
            yield Pair(host, docker, container, layers["LowerDir"].split(":"), Path(layers["UpperDir"]))
    finally:
        unmount_all(top)
        shutil.rmtree(top)


def image_archive(top: Path) -> Path:
    """The three layers as an archive for `docker load`."""
    tars = layer_tars()
    layout = Layout(top / "layout")
    config = {"architecture": "amd64", "os": "linux", "config": {}}
    rootfs = {"type": "layers", "diff_ids": [sha256(data) for data in tars]}
    media = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "config": layout.blob(json.dumps({**config, "rootfs": rootfs}).encode(), f"{media}.config.v1+json"),
        "layers": [layout.blob(data, f"{media}.layer.v1.tar") for data in tars],
    }
    layout.list("1", layout.blob(json.dumps(manifest).encode(), f"{media}.manifest.v1+json"))
    skopeo(f"oci:{layout.directory}:1", f"docker-archive:{top}/three.tar:three:1")
    return top / "three.tar"


def test_docker_diff_prints_what_the_docker_socket_returns(pair: Pair) -> None:
    script = [Change("write", "a/file", "", 3), Change("remove", "b", "", 0), Change("mkdir", "new", "", 0)]
    pair.run_in_docker(script)
    printed = pair.docker.call("diff", pair.container).splitlines()
    assert sorted(tuple(line.split(" ", 1)) for line in printed) == pair.docker_diff()
    assert pair.docker_diff() == [("A", "/new"), ("C", "/a"), ("C", "/a/file"), ("D", "/b")]


# Fractions of a second that an archive has not, and a device in the place of another, alike in all but its number.
@settings(max_examples=200 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts)
@example([Change("utime", "a/run", "", 1)])
@example(
    [
        Change("remove", "b/null", "", 0),
        Change("device", "b/null", "", 2),
        Change("chmod", "b/null", "", 1),
        Change("utime", "b/null", "", 0),
    ]
)
def test_random_changes_are_reported_as_docker_diff_does(pair: Pair, script: list[Change]) -> None:
    pair.run_in_docker(script)
    expected = pair.docker_diff()
    for kind, _path in expected:
        event(kind)
    same_tree = find_changes(str(pair.upper), pair.lowers, userxattr=False)
    assert sorted((change.kind, change.path) for change in same_tree) == expected
    pair.run_in_stack(script)
    assert sorted(changes_of(pair.host)) == expected


def as_docker_keeps_it(top: Path) -> Tree:
    """A layer's tree without what Docker's archives do not hold: attributes but capabilities, parts of seconds; and
    without the times and owners of whiteouts, which nobody sees.
    """
    found: Tree = {}
    for name, facts in tree_of(top).items():
        if facts.kind == stat.S_IFCHR and facts.device == (0, 0):
            found[name] = Facts(facts.kind, 0, (0, 0))
        else:
            kept = tuple(item for item in facts.xattrs if item[0] == "security.capability")
            found[name] = replace(facts, xattrs=kept, mtime_ns=facts.mtime_ns // 10**9)
    del found[b"."]
    return found


def opaque_in(top: Path) -> set[Path]:
    directories = [path for path in top.rglob("*") if path.is_dir() and not path.is_symlink()]
    return {path.relative_to(top) for path in directories if "trusted.overlay.opaque" in os.listxattr(path)}


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts)
def test_random_changes_become_the_layer_that_docker_makes(pair: Pair, script: list[Change]) -> None:
    pair.run_in_docker(script)
    packed = pair.host.top / "packed"
    shutil.rmtree(packed, ignore_errors=True)
    packed.mkdir()
    unpack(ChunkReader(pack_content(str(pair.upper), userxattr=False, live=True)).read, str(packed), False)
    with pair.docker_commit() as theirs:
        assert_same(as_docker_keeps_it(packed), as_docker_keeps_it(theirs))
        assert opaque_in(packed) == opaque_in(theirs)


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts)
def test_random_changes_become_a_layer_that_shows_the_same_tree(pair: Pair, script: list[Change]) -> None:
    host = pair.host
    pair.run_in_stack(script)
    live = tree_of(Path(host.path("web")))
    commit({"root": str(host.root), "stack": "web", "name": "kept"}, False)
    layers = ["layer0", "layer1", "layer2", "kept"]
    host.run(stacks=[{"name": "copy", "path": host.path("copy"), "layers": layers}])
    assert_same(tree_of(Path(host.path("copy"))), live)
    host.run(stacks=[{"name": "copy", "state": "absent"}], layers=[{"name": "kept", "state": "absent"}])


@settings(max_examples=40 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts)
def test_random_changes_make_the_tree_that_docker_exports(pair: Pair, script: list[Change]) -> None:
    """Docker's own writable layer, packed here, above the same three layers."""
    host = pair.host
    pair.run_in_docker(script)
    archive, exported = host.top / "kept.tar", host.top / "exported"
    archive.write_bytes(b"".join(pack_content(str(pair.upper), userxattr=False, live=True)))
    shutil.rmtree(exported, ignore_errors=True)
    exported.mkdir()
    unpack(io.BytesIO(pair.docker_export()).read, str(exported), False)
    copy = {"name": "copy", "path": host.path("copy"), "layers": ["layer0", "layer1", "layer2", "exported"]}
    host.run(layers=[{"name": "exported", "src": str(archive), "remote_src": True}], stacks=[copy])
    theirs = as_docker_keeps_it(exported)
    for name in list(theirs):
        if name.split(b"/")[0] in DOCKER_S_OWN:
            del theirs[name]
    assert_same(as_docker_keeps_it(Path(host.path("copy"))), theirs)
