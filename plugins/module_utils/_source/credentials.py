# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Finds registry logins in Docker's and Podman's files and credential helpers.

Sources: containers-auth.json(5); docker-login(1); github.com/docker/docker-credential-helpers, README.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import DOCKER_HUB

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_IDENTITY_USER = "<token>"
_NOT_FOUND = "credentials not found"
_HELPER_TIMEOUT = 60


@dataclass(frozen=True)
class Login:
    """Who asks; all empty for nobody in particular.

    :ivar identity_token: an OAuth2 refresh token, in place of a password.
    :ivar registry_token: a bearer token for the registry itself.
    :ivar found: where it is from, for messages.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    found: str = ""

    @property
    def is_anonymous(self) -> bool:
        return not (self.username or self.identity_token or self.registry_token)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no message."""
        return tuple(secret for secret in (self.password, self.identity_token, self.registry_token) if secret)


def find_login(host: str, repository: str, auth_file: str, environment: Mapping[str, str]) -> Login:
    """The most specific login of the first file that has one; an anonymous one where none has.

    :param host: such as ``docker.io`` or ``registry.example.com:5000``.
    :param auth_file: the only file to look into; "" for the usual ones, which may be missing.
    :raises StrataError: a file that is there cannot be read, or names a program that is not there.
    """
    named = auth_file or environment.get("REGISTRY_AUTH_FILE", "")
    for path in [named] if named else usual_files(environment):
        data = _read(path, must_exist=bool(auth_file))
        login = login_in(data, host, repository, path) if data is not None else None
        if login is not None:
            return login
    return Login()


def usual_files(environment: Mapping[str, str]) -> list[str]:
    """Where Podman and Docker keep logins, in the order in which they are looked into."""
    home = environment.get("HOME") or os.path.expanduser("~")
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    return [f"{runtime}/containers/auth.json", f"{config}/containers/auth.json", f"{docker}/config.json"]


def login_in(data: Mapping[str, Any], host: str, repository: str, path: str) -> Optional[Login]:
    """The login that a file of logins has for a repository; None where it has none.

    A program for the host comes before what stands in the file, and a program for all hosts after it.
    """
    helpers = _mapping(data, "credHelpers", path)
    for key in (host, *((_DOCKER_HUB_KEY, "index.docker.io") if host == DOCKER_HUB else ())):
        if key in helpers:
            return _ask_helper(str(helpers[key]), key, path)
    auths = _mapping(data, "auths", path)
    entry = _entry(auths, host, repository)
    login = _login_of(entry, path, host) if entry is not None else None
    if login is not None:
        return login
    store = str(data.get("credsStore") or "")
    # Docker leaves an empty entry for each host whose login the program keeps.
    if store and (entry is not None or shutil.which(_program(store))):
        return _ask_helper(store, _DOCKER_HUB_KEY if host == DOCKER_HUB else host, path)
    return None


def _read(path: str, must_exist: bool) -> Optional[Mapping[str, Any]]:
    try:
        with open(path, "rb") as stream:
            data = json.load(stream)
    except (FileNotFoundError, NotADirectoryError) as error:
        if must_exist:
            raise StrataError(f"the file of logins {path} is not there; correct auth_file") from error
        return None
    except OSError as error:
        raise StrataError(f"cannot read the file of logins {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        # What the parser says might repeat a part of it.
        raise StrataError(f"the file of logins {path} is not JSON; log in again, or correct it") from error
    if not isinstance(data, dict):
        raise StrataError(f"the file of logins {path} is not an object of JSON; log in again, or correct it")
    return data


def _mapping(data: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, dict):
        raise StrataError(f"the file of logins {path}: {key!r} is not an object; log in again, or correct it")
    return value


def _entry(auths: Mapping[str, Any], host: str, repository: str) -> Optional[Mapping[str, Any]]:
    normal = {_normal(key): value for key, value in auths.items() if isinstance(value, dict)}
    for key in _keys(host, repository):
        if key in auths and isinstance(auths[key], dict):
            found: Mapping[str, Any] = auths[key]
            return found
    return normal.get(host)


def _keys(host: str, repository: str) -> Iterator[str]:
    """Host and repository, then with one part less each time, down to the host."""
    path = f"{host}/{repository}"
    while path:
        yield path
        path = path.rpartition("/")[0]


def _normal(key: str) -> str:
    """Keys of older Dockers are addresses: the host in them. A key of a namespace is not a host's."""
    text = key.split("://", 1)[-1].rstrip("/")
    host, _slash, path = text.partition("/")
    if path and path not in ("v1", "v2"):
        return key
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io") else host


def _login_of(entry: Mapping[str, Any], path: str, host: str) -> Optional[Login]:
    identity = str(entry.get("identitytoken") or "")
    token = str(entry.get("registrytoken") or "")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            text = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise StrataError(f"the login for {host} in {path} is not in base64; log in again") from error
        username, _colon, password = text.partition(":")
        password = password.strip("\0")
    if not (identity or token or username):
        return None
    return Login(username, password, identity, token, path)


def _program(name: str) -> str:
    return f"docker-credential-{name}"


def _ask_helper(name: str, key: str, path: str) -> Optional[Login]:
    program = shutil.which(_program(name)) if "/" not in name else None
    if program is None:
        raise StrataError(
            f"{path} says that the program {_program(name)} keeps the login for {key}, and it is not there; install "
            "it, or give username and password, or another auth_file"
        )
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, check=False, timeout=_HELPER_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StrataError(f"the program {_program(name)}, which keeps the login for {key}, does not answer") from error
    if done.returncode:
        output = done.stdout.decode(errors="replace").strip()
        if _NOT_FOUND in output:
            return None
        raise StrataError(
            f"the program {_program(name)} gave no login for {key}: exit status {done.returncode}; "
            f"try: echo {key} | {_program(name)} get"
        )
    try:
        facts = json.loads(done.stdout)
        username, secret = str(facts["Username"]), str(facts["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StrataError(f"the program {_program(name)} gave the login for {key} in an unknown form") from error
    if username == _IDENTITY_USER:
        return Login(identity_token=secret, found=_program(name))
    return Login(username, secret, found=_program(name))
