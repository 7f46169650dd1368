# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries as they are out there: TLS, logins, tokens, mirrors, and networks that break."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.images import Layout
from ansible_collections.strata.overlay.tests.integration.registry import (
    PASSWORD,
    USER,
    Authority,
    BadNetwork,
    Registry,
    TokenServer,
    password_file,
    running_registry,
)

BIG = os.urandom(300_000).hex()
"""More than one piece of a download."""

TREE = {"etc/app": "one", "etc/os": "base"}


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made = Layout(tmp_path_factory.mktemp("images") / "layout")
    made.list("1.0", made.image({"etc/os": "base"}, {"etc/app": "one"}, {"big": BIG}))
    made.list("2.0", made.image({"etc/os": "base"}, {"etc/app": "two"}, {"big": BIG}))
    return made


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority") / "made")


@pytest.fixture
def plain(tmp_path: Path, layout: Layout) -> Iterator[Registry]:
    with running_registry(tmp_path / "plain") as registry:
        registry.push(layout, "1.0", "1.0")
        registry.push(layout, "2.0", "2.0")
        yield registry


@pytest.fixture
def network(plain: Registry) -> Iterator[BadNetwork]:
    with BadNetwork(plain).running() as network:
        yield network


def image(host: str, tag: str = "1.0", **options: Any) -> dict[str, Any]:
    return {"name": "app", "registry": f"{host}/team/app:{tag}", **options}


def pull(host: Host, **options: Any) -> dict[str, Any]:
    stack = {"name": "web", "path": host.path("web"), "layers": ["app"]}
    return host.run(images=[options], stacks=[stack])


def refused(host: Host, **options: Any) -> str:
    """What a pull says that fails; nothing of it stays."""
    with pytest.raises((DefinitionError, StrataError)) as raised:
        pull(host, **options)
    staging = host.root / "staging"
    assert not staging.exists() or not list(staging.iterdir())
    assert not (host.root / "content/sha256").exists() or not list((host.root / "content/sha256").iterdir())
    return str(raised.value)


def assert_pulled(host: Host) -> None:
    assert host.tree("web") == {**TREE, "big": BIG}


def test_pull_needs_trusted_tls_and_a_login_and_stores_no_password(
    host: Host, tmp_path: Path, layout: Layout, authority: Authority
) -> None:
    auth = password_file(tmp_path / "passwords")
    with running_registry(tmp_path / "tls", tls=authority.tls, auth=auth) as registry:
        registry.push(layout, "1.0", "1.0", f"--dest-creds={USER}:{PASSWORD}")
        there = image(registry.host)
        trusted = {**there, "ca_path": str(authority.ca)}
        assert "is not accepted: unable to get local issuer certificate" in refused(host, **there)
        said = refused(host, **trusted)
        assert "answered 401" in said
        assert "Give username and password" in said
        said = refused(host, **trusted, username=USER, password="wrong-word")
        assert f"Check user '{USER}'" in said
        assert "wrong-word" not in said
        done = host.four_steps(images=[{**trusted, "username": USER, "password": PASSWORD}])
        assert PASSWORD not in json.dumps(done)
        pull(host, **there, username=USER, password=PASSWORD, validate_certs=False)
        assert_pulled(host)
        kept = [path for path in host.root.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
        assert kept == [], "a password is in no file of the store"


def test_login_is_taken_from_the_auth_file_of_docker_or_podman(
    host: Host, tmp_path: Path, layout: Layout, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = password_file(tmp_path / "passwords")
    with running_registry(tmp_path / "tls", tls=authority.tls, auth=auth) as registry:
        registry.push(layout, "1.0", "1.0", f"--dest-creds={USER}:{PASSWORD}")
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        file = tmp_path / "auth.json"
        file.write_text(json.dumps({"auths": {f"{registry.host}/team": {"auth": login}}}))
        trusted = image(registry.host, ca_path=str(authority.ca))
        assert pull(host, **trusted, auth_file=str(file))["changed"]
        assert_pulled(host)
        file.write_text(json.dumps({"auths": {f"{registry.host}/other": {"auth": login}}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
        with pytest.raises(DefinitionError, match="answered 401"):
            pull(host, **trusted)
        file.write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
        assert not pull(host, **trusted)["changed"]


def test_pull_asks_for_one_token_and_shows_no_password(
    host: Host, tmp_path: Path, layout: Layout, authority: Authority
) -> None:
    with TokenServer(authority).running() as tokens:
        with running_registry(tmp_path / "open") as first:
            first.push(layout, "1.0", "1.0")
        data = tmp_path / "open/data"
        with running_registry(tmp_path / "tokens", data, tls=authority.tls, auth=tokens.auth) as registry:
            trusted = image(registry.host, ca_path=str(authority.ca), username=USER)
            said = refused(host, **trusted, password="wrong-word")
            assert "UNAUTHORIZED" in said
            assert "wrong-word" not in said
            assert base64.b64encode(f"{USER}:wrong-word".encode()).decode() not in said
            tokens.asked.clear()
            assert pull(host, **trusted, password=PASSWORD)["changed"]
            assert_pulled(host)
            assert {query["scope"][0] for query in tokens.asked} == {"repository:team/app:pull"}
            assert tokens.asked[0]["service"] == ["registry of the test"]
            # One for the manifest and the config; workers that unpack begin with what it has.
            assert len(tokens.asked) == 1


def test_interrupted_download_resumes_where_it_stopped(host: Host, network: BadNetwork) -> None:
    network.faults = ["", "cut", "cut", "cut"]
    assert pull(host, **image(network.host))["changed"]
    assert_pulled(host)
    resumed = [entry for entry in network.ranges if entry]
    assert resumed, "nothing was resumed"
    assert all(int(entry[len("bytes=") : -1]) > 0 for entry in resumed)


def test_interrupted_download_from_a_server_without_ranges_completes(host: Host, network: BadNetwork) -> None:
    network.faults = ["cut", "whole", "cut", "whole", "cut", "whole", "cut", "whole"]
    assert pull(host, **image(network.host))["changed"]
    assert_pulled(host)


def test_pull_is_retried_when_the_server_asks_to_wait(host: Host, network: BadNetwork) -> None:
    network.faults = [429, 503]
    assert pull(host, **image(network.host))["changed"]
    assert_pulled(host)


def test_damaged_blob_is_refused_and_not_kept(host: Host, network: BadNetwork) -> None:
    network.faults = ["", "flip", "flip", "flip"]
    assert "is damaged" in refused(host, **image(network.host))
    network.faults.clear()
    assert pull(host, **image(network.host))["changed"]
    assert_pulled(host)


def test_upgrade_asks_only_for_what_is_new(host: Host, plain: Registry) -> None:
    pull(host, **image(plain.host))
    plain.asked()
    assert pull(host, **image(plain.host, "2.0"))["changed"]
    assert sorted(each.split("/")[0] for each in plain.asked()) == ["blobs", "blobs", "manifests"], "config and a layer"


def test_mirrors_are_tried_in_turn_and_get_no_login(
    host: Host, tmp_path: Path, plain: Registry, network: BadNetwork, layout: Layout
) -> None:
    with running_registry(tmp_path / "empty") as empty:
        login = {"username": USER, "password": PASSWORD}
        mirrors = ["127.0.0.1:1", empty.host, network.host]
        assert pull(host, **image("registry.invalid", mirrors=mirrors, **login))["changed"]
        assert_pulled(host)
        assert network.credentials == [], "a login is for the registry and not for its mirrors"
        assert plain.asked()
        host.run(images=[{"name": "app", "state": "absent"}], stacks=[{"name": "web", "state": "absent"}])
        with pytest.raises(DefinitionError) as raised:
            pull(host, **image(empty.host, "9.9", mirrors=[network.host]))
        assert f"registry {empty.host} answered 404" in str(raised.value)
        assert f"Before it: asked for manifest 9.9 of team/app, mirror {network.host}" in str(raised.value)


def test_image_from_registry_equals_image_from_archive(host: Host, plain: Registry, layout: Layout) -> None:
    by_archive = host.run(
        images=[{"name": "app", "src": str(layout.directory), "reference": "1.0", "remote_src": True}]
    )
    by_registry = pull(host, **image(plain.host))
    assert by_registry["images"]["app"]["image_id"] == by_archive["images"]["app"]["image_id"]
    assert by_registry["layers"] == by_archive["layers"]
    assert not [step for step in by_registry["plan"] if step["action"] in ("import_content", "store_image")]
