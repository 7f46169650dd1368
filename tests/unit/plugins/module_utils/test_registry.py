# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What users write of registries, where logins are found, and what servers ask for. The network is in integration."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import (
    Mirror,
    Reference,
    is_loopback,
    parse_mirror,
    parse_reference,
)
from ansible_collections.strata.overlay.plugins.module_utils._registry.auth import parse_challenges
from ansible_collections.strata.overlay.plugins.module_utils._registry.client import Access
from ansible_collections.strata.overlay.plugins.module_utils._registry.errors import refusal
from ansible_collections.strata.overlay.plugins.module_utils._source.credentials import Login, find_login, usual_files

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("registry", "name", "expected"),
    [
        ("r.example.com/team/app:1.4", "app", Reference("r.example.com", "team/app", "1.4")),
        ("r.example.com:5000/app", "x", Reference("r.example.com:5000", "app", "latest")),
        ("https://r.example.com/app", "x", Reference("r.example.com", "app", "latest")),
        ("http://127.0.0.1:5000/app:1", "x", Reference("127.0.0.1:5000", "app", "1", plain_http=True)),
        (f"r.example.com/app@{DIGEST}", "x", Reference("r.example.com", "app", "", DIGEST)),
        (f"r.example.com/app:1@{DIGEST}", "x", Reference("r.example.com", "app", "1", DIGEST)),
        ("r.example.com", "team/app:1.4", Reference("r.example.com", "team/app", "1.4")),
        ("r.example.com:5000", "r.example.com:5000/app:2", Reference("r.example.com:5000", "app", "2")),
        ("docker.io", "debian:12", Reference("docker.io", "library/debian", "12")),
        ("docker.io/team/app", "x", Reference("docker.io", "team/app", "latest")),
        ("[::1]:5000/app:1", "x", Reference("[::1]:5000", "app", "1")),
        ("localhost/app", "x", Reference("localhost", "app", "latest")),
    ],
)
def test_reference_is_parsed_from_registry_and_name(registry: str, name: str, expected: Reference) -> None:
    assert parse_reference(registry, name) == expected


def test_docker_hub_is_reached_at_its_registry_host() -> None:
    assert parse_reference("docker.io", "debian").address == "registry-1.docker.io"
    assert parse_reference("r.example.com", "debian").address == "r.example.com"


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ("r.example.com/Team/App", "'Team/App' is not one"),
        ("r.example.com/app:no tag", "is not one"),
        ("r.example.com/app@sha256:1", "is no digest"),
        ("team/app:1", "'team' names no registry; write docker.io/team/app:1 for an image of Docker Hub"),
        ("nginx", "'nginx' names no registry; write docker.io/library/nginx for"),
        ("nginx:1.25", "write docker.io/library/nginx:1.25 for"),
        ("redis:7", "write docker.io/library/redis:7 for"),
        ("library/nginx", "write docker.io/library/nginx for"),
        (f"nginx@{DIGEST}", f"write docker.io/library/nginx@{DIGEST} for"),
        ("r..example.com/app", "is not a host"),
        ("r.example.com:0/app", "is not a host"),
        ("ftp://r.example.com/app", "is not a host"),
        ("-bad-/app", "is not a host"),
    ],
)
def test_malformed_reference_is_refused(registry: str, said: str) -> None:
    with pytest.raises(StrataError, match=said):
        parse_reference(registry, "app")


@pytest.mark.parametrize(
    "text",
    [
        "user:hidden@r.example.com",
        "user:hidden@r.example.com/app:1",
        "user:hid/den@r.example.com/team/app",
        f"https://user:hidden@r.example.com/app@{DIGEST}",
        "https://user:hidden@r.example.com",
    ],
)
def test_password_before_the_host_is_refused_and_not_repeated(text: str) -> None:
    for parse in (lambda: parse_reference(text, "app"), lambda: parse_mirror(text)):
        with pytest.raises(StrataError, match="no user and password can stand before the host") as raised:
            parse()
        assert "hid" not in str(raised.value)


class Answer:
    """As much of a response as an error is made of."""

    status, wait, may_pass, host, redirected = 401, 0.0, False, "r.example.com", False

    def __init__(self, message: str) -> None:
        self._message = message

    def body(self, _limit: int) -> bytes:
        return json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": self._message}]}).encode()


@pytest.mark.parametrize("before", ["", "a" * 270, "a" * 290])
@pytest.mark.parametrize("secret", ["hidden-word-of-many-letters", "hidden \U0001f511 word", "hidden/+word="])
def test_secret_repeated_by_a_server_is_not_in_the_error(before: str, secret: str) -> None:
    for sent in (secret, quote(secret, safe=""), quote_plus(secret)):
        answer: Any = Answer(f"{before}{sent} is wrong")
        said = str(refusal(answer, "for a token, r.example.com", Login("user", secret), (secret,)))
        assert "hid" not in said
        assert "UNAUTHORIZED" in said


def test_mirror_is_parsed_with_its_repository_prefix() -> None:
    assert parse_mirror("m.example.com:5000/hub/") == Mirror("m.example.com:5000", "hub/", False)
    assert parse_mirror("http://m.example.com") == Mirror("m.example.com", "", True)
    with pytest.raises(StrataError, match="not the beginning of a repository"):
        parse_mirror("m.example.com/Hub")


def test_loopback_hosts_are_recognised() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1:5000", "localhost", "[::1]:80", "127.evil.example")] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a.example/token",service="reg, istry",scope="repository:a:pull"',
            [("bearer", {"realm": "https://a.example/token", "service": "reg, istry", "scope": "repository:a:pull"})],
        ),
        ('Bearer realm="r", Basic realm="a \\"b\\""', [("bearer", {"realm": "r"}), ("basic", {"realm": 'a "b"'})]),
        ("Negotiate", []),
        (
            "Bearer realm='https://a.example/t',service='s p'",
            [("bearer", {"realm": "https://a.example/t", "service": "s p"})],
        ),
        (
            'Bearer realm=https://a.example/t, scope="it\'s"',
            [("bearer", {"realm": "https://a.example/t", "scope": "it's"})],
        ),
    ],
)
def test_challenge_header_is_parsed_into_scheme_and_parameters(
    header: str, expected: list[tuple[str, dict[str, str]]]
) -> None:
    assert [(each.scheme, dict(each.parameters)) for each in parse_challenges([header])] == expected


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("host", "repository", "user"),
    [
        ("r.example.com", "team/app/web", "for the repository"),
        ("r.example.com", "team/app", "for the repository"),
        ("r.example.com", "team/other", "for the team"),
        ("r.example.com", "teams/app", "for the host"),
        ("docker.io", "library/debian", "for the hub"),
        ("old.example.com", "app", "for an address"),
        ("other.example.com", "app", ""),
    ],
)
def test_most_specific_login_of_a_file_is_found(tmp_path: Path, host: str, repository: str, user: str) -> None:
    file = tmp_path / "auth.json"
    auths = {
        "r.example.com": auth("for the host", "1"),
        "r.example.com/team": auth("for the team", "2"),
        "r.example.com/team/app": auth("for the repository", "3"),
        "https://index.docker.io/v1/": auth("for the hub", "4"),
        "https://old.example.com/v2/": auth("for an address", "5"),
    }
    file.write_text(json.dumps({"auths": auths}))
    assert find_login(host, repository, str(file), {}).username == user


def test_login_is_looked_up_in_the_usual_files_in_order(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    podman, second, docker = (Path(path) for path in usual_files(environment))
    assert find_login("r.example.com", "app", "", environment).is_anonymous
    for path, user in ((docker, "docker"), (second, "second"), (podman, "podman")):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"auths": {"r.example.com": auth(user, "p")}}))
        assert find_login("r.example.com", "app", "", environment).username == user


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not JSON: secret", "is not JSON"),
        ("[]", "is not an object of JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"auths": ["secret"]}', "'auths' is not an object"),
        ('{"auths": {"r.example.com": {"auth": "!secret!"}}}', "is not in base64"),
        ('{"credHelpers": {"r.example.com": "missing-one"}}', "docker-credential-missing-one keeps the login"),
    ],
)
def test_damaged_login_file_is_refused_without_its_secrets(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "auth.json"
    file.write_text(text)
    with pytest.raises(StrataError, match=said) as raised:
        find_login("r.example.com", "app", str(file), {})
    assert "secret" not in str(raised.value)


def test_login_is_read_from_a_credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker-credential-test"
    program.write_text('#!/bin/sh\nread key\necho "{\\"Username\\": \\"$key\\", \\"Secret\\": \\"s\\"}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"credsStore": "test", "auths": {"r.example.com": {}}}))
    found = find_login("r.example.com", "app", str(file), {})
    assert (found.username, found.password) == ("r.example.com", "s")


def test_repr_of_a_login_or_access_has_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {"r.example.com": auth("user", "hidden-word")}}))
    login = find_login("r.example.com", "app", str(file), {})
    assert login.password == "hidden-word"
    assert "hidden-word" not in repr(login)
    assert "hidden-word" not in repr(Access(username="user", password="hidden-word"))
