# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Parses registry references: host, repository, tag, digest. Pure.

Sources: OCI distribution-spec, "Pulling manifests" (grammar of repositories and tags);
github.com/distribution/reference, "normalize.go" (docker.io and its library).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError

DOCKER_HUB = "docker.io"
_DOCKER_HUB_NAMES = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_DOCKER_HUB_ADDRESS = "registry-1.docker.io"
_LIBRARY = "library/"

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"^{_PART}(?:/{_PART})*\Z")
_HOST = re.compile(r"^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?\Z")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}\Z")
_LOOPBACK = re.compile(r"^(?:localhost|127(?:\.[0-9]+){3}|\[::1\])(?::[0-9]+)?\Z")


@dataclass(frozen=True)
class Reference:
    """An image in a registry.

    :ivar host: host, with its port where one is given; ``docker.io`` for Docker Hub.
    :ivar repository: such as ``team/app``.
    :ivar tag: "" only where there is a digest.
    :ivar digest: of its manifest or index; "" where none is given.
    :ivar plain_http: without TLS, since the user wrote ``http://``.
    """

    host: str
    repository: str
    tag: str
    digest: str = ""
    plain_http: bool = False

    @property
    def address(self) -> str:
        """Where the host's API answers."""
        return _DOCKER_HUB_ADDRESS if self.host == DOCKER_HUB else self.host


@dataclass(frozen=True)
class Mirror:
    """A registry that may have what another one has.

    :ivar prefix: what stands before a repository there; "" or ending in a slash.
    """

    host: str
    prefix: str
    plain_http: bool


_EXAMPLES = {"registry": "/repository:tag", "mirror": ", such as mirror.example.com:5000"}


def parse_reference(registry: str, name: str) -> Reference:
    """What the option ``registry`` says, with repository and tag from ``name`` where it is only a host.

    :raises StrataError: it is not a reference; the message names the wrong part.
    """
    text, scheme = _without_scheme(registry)
    text, digest = _split_digest(text, registry)
    _refuse_login(text)
    host, slash, path = text.partition("/")
    if not scheme:
        _refuse_short_name(text, digest, registry)
    _check_host(host, registry)
    if host in _DOCKER_HUB_NAMES:
        host = DOCKER_HUB
    if not slash or not path:
        path = name[len(host) + 1 :] if name.startswith(f"{host}/") else name
        if not digest:
            path, digest = _split_digest(path, name)
    repository, tag = _split_tag(path)
    what = f"registry {registry!r}" if slash and path else f"registry {registry!r} with name {name!r}"
    if not _REPOSITORY.match(repository):
        raise StrataError(
            f"{what}: the repository {repository!r} is not one; it has lower-case letters, digits and . _ - between "
            "them, in parts divided by slashes, such as team/app"
        )
    if tag and not _TAG.match(tag):
        raise StrataError(f"{what}: the tag {tag!r} is not one; it has up to 128 letters, digits and . _ -")
    if host == DOCKER_HUB and "/" not in repository:
        repository = _LIBRARY + repository
    return Reference(host, repository, tag or ("" if digest else "latest"), digest, scheme == "http")


def parse_mirror(text: str) -> Mirror:
    """``host[:port][/prefix]``, also with ``https://`` or ``http://`` before it.

    :raises StrataError: it is not a reference.
    """
    rest, scheme = _without_scheme(text)
    _refuse_login(rest)
    host, _slash, prefix = rest.rstrip("/").partition("/")
    _check_host(host, text, "mirror")
    if prefix and not _REPOSITORY.match(prefix):
        raise StrataError(f"mirror {text!r}: what follows the host is not the beginning of a repository's name")
    return Mirror(host, f"{prefix}/" if prefix else "", scheme == "http")


def is_loopback(host: str) -> bool:
    """Whether a host, with its port or without, is this machine."""
    return bool(_LOOPBACK.match(host))


def _without_scheme(text: str) -> tuple[str, str]:
    for scheme in ("https", "http"):
        if text.startswith(f"{scheme}://"):
            return text[len(scheme) + 3 :], scheme
    return text, ""


def _split_digest(text: str, whole: str) -> tuple[str, str]:
    """What stands before an @, and the digest behind it."""
    before, at, digest = text.rpartition("@")
    if not at:
        return text, ""
    if _DIGEST.match(digest):
        return before, digest
    if not digest.startswith("sha256:"):
        _refuse_login(text)
    raise StrataError(f"registry {whole!r}: {digest!r} is no digest: 'sha256:' and 64 lower-case hexadecimal digits")


def _refuse_login(text: str) -> None:
    """Called before any message repeats the text: what stands before an @ may be a password."""
    if "@" in text:
        raise StrataError(
            "no user and password can stand before the host of a registry or mirror; give those of the registry as "
            "username and password, and those of mirrors in an auth_file"
        )


def _split_tag(path: str) -> tuple[str, str]:
    repository, colon, tag = path.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (path, "")


def _refuse_short_name(text: str, digest: str, whole: str) -> None:
    """Docker takes what has no slash, or neither dot nor port before it, for an image of Docker Hub; others for a host,
    and nginx:125 for one at port 125. So it is neither here.
    """
    host, slash, _path = text.partition("/")
    word, colon, _port = host.partition(":")
    if "." in word or word == "localhost" or word.startswith("[") or (slash and colon) or not _HOST.match(word):
        return
    full = f"{DOCKER_HUB}/{'' if slash else _LIBRARY}{text.rstrip('/')}{f'@{digest}' if digest else ''}"
    raise StrataError(
        f"registry {whole!r}: {word!r} names no registry; write {full} for an image of Docker Hub, and https:// before "
        "a host without a dot"
    )


def _check_host(host: str, whole: str, kind: str = "registry") -> None:
    port = host.rpartition(":")[2] if re.search(r":[0-9]+\Z", host) else ""
    if not _HOST.match(host) or ".." in host or (port and not 0 < int(port) < 65536):
        raise StrataError(f"{kind} {whole!r}: {host!r} is not a host; write host:port{_EXAMPLES[kind]}")
