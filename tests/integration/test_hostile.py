# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile and broken archives through the whole engine, beside a canary: nothing outside is touched, nothing stays,
the error names layer, entry and reason, and the store works on. Those that do no harm are taken, and stay inside.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.tests.integration.canary import plant, untouched
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import (
    COMPRESSORS,
    directory,
    member,
    symlink,
)
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.hostile import (
    BOMBS,
    CONFINED,
    DAMAGED,
    DOTS,
    REFUSED,
    Case,
)
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_unpack import kinds

GOOD = directory(b"etc") + member(b"etc/good", b"1") + END
GOOD_TREE = {"etc": "dir", "etc/good": "1"}


NOISE = random.Random(1).randbytes(100_000)
ZEROS = bytes(100 << 20)
BIG = member(b"noise", NOISE) + END


DAMAGE = "the archive is (damaged|cut short)"
LITTLE: dict[str, object] = {"bytes": "1m"}
PACKED: dict[str, Callable[[Callable[[bytes], bytes]], Case]] = {
    "noise in it": lambda pack: Case(pack(NOISE), "no tar archive, or it is damaged: no valid header at byte 0"),
    "noise behind its first bytes": lambda pack: Case(pack(BIG)[:10] + NOISE, DAMAGE),
    "noise behind its end": lambda pack: Case(pack(BIG) + NOISE, DAMAGE),
    "noise in the middle": lambda pack: Case(pack(BIG)[:50_000] + NOISE[:1000] + pack(BIG)[51_000:], DAMAGE),
    "a flipped bit": lambda pack: Case(flipped(pack(BIG), 70_000), f"{DAMAGE}|no tar archive"),
    "only its first bytes": lambda pack: Case(pack(BIG)[:12], "cut short"),
    "cut in the middle": lambda pack: Case(pack(BIG)[:50_000], "cut short"),
    "its last byte missing": lambda pack: Case(pack(BIG)[:-1], "cut short"),
    "a tar that is cut in it": lambda pack: Case(pack(BIG[:50_000]), "cut short: .*in entry 'noise'"),
    "a hostile tar in it": lambda pack: Case(pack(REFUSED["name out"].archive), REFUSED["name out"].reason),
    "a bomb": lambda pack: Case(pack(member(b"zeros", ZEROS) + END), "entry 'zeros': .*'limits.bytes'", limits=LITTLE),
    "a bomb that says nothing": lambda pack: Case(pack(GOOD + ZEROS), "'limits.bytes'", limits=LITTLE),
}
"""Damage and bombs of a compression."""


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]


@pytest.fixture
def canary(host: Host) -> Iterator[Path]:
    """A tree beside the store that the test must leave alone."""
    place = plant(host.top)
    with untouched(place):
        yield place


def test_canary_notices_every_access_and_change(host: Host) -> None:
    """A look at a file is noticed, and so are a name, a mode and an attribute that come or change."""
    place = plant(host.top)
    (host.top / "link").symlink_to(place)
    for touch in (
        (host.top / "link/file").read_text,
        lambda: os.listdir(place / "directory"),
        lambda: (place / "file").chmod(0o600),
        lambda: os.setxattr(place / "directory", "user.a", b"x"),
        lambda: os.link(place / "file", host.top / "other"),
        lambda: (place / "new").symlink_to("x"),
        lambda: os.chown(place, 1, 1),
    ):
        with pytest.raises(AssertionError), untouched(place):
            touch()
    with untouched(place):
        (host.top / "link").unlink()


def layer(host: Host, name: str, archive: bytes, **options: Any) -> dict[str, Any]:
    """The parameters of a layer whose archive lies on the host."""
    path = host.top / f"{name}.tar"
    path.write_bytes(archive)
    return {"name": name, "src": str(path), "remote_src": True, **options}


def contents(host: Host) -> list[Path]:
    place = host.root / "content/sha256"
    return sorted(place.iterdir()) if place.exists() else []


def assert_nothing_stayed(host: Host) -> None:
    """No content, nothing in flight, no name; and beside the store only what the test has put there."""
    assert contents(host) == []
    for place in ("staging", "trash", "strata/names", "overlay2/l", "image/overlay2/layerdb/sha256"):
        assert not (host.root / place).exists() or os.listdir(host.root / place) == [], place
    assert {path.name for path in host.top.iterdir()} <= {"bad.tar", "good.tar", "canary", "store"}


def assert_works(host: Host) -> None:
    """A good archive goes in as ever."""
    assert host.run("layer", **layer(host, "good", GOOD))["changed"]
    (content,) = contents(host)
    assert kinds(content) == GOOD_TREE
    assert not host.run("layer", **layer(host, "good", GOOD))["changed"]
    assert host.check()["findings"] == []


def refuse(host: Host, case: Case, name: str = "bad") -> str:
    """Import a layer that has to be refused; what was said."""
    with pytest.raises(StrataError) as failure:
        host.run("layer", **layer(host, name, case.archive, limits=case.limits))
    text = str(failure.value)
    assert f"layer {name}" in text
    assert re.search(case.reason, text, re.DOTALL), text
    assert text.replace("\n", " ").isprintable(), "a terminal would obey something in it"
    return text


@pytest.mark.parametrize("name", [*REFUSED, *DAMAGED, *BOMBS])
def test_hostile_archive_is_refused_and_leaves_nothing(host: Host, canary: Path, name: str) -> None:
    refuse(host, {**REFUSED, **DAMAGED, **BOMBS}[name])
    assert_nothing_stayed(host)
    assert_works(host)


@pytest.mark.parametrize("name", [*REFUSED, *DAMAGED])
def test_hostile_archive_is_refused_by_a_store_with_contents(host: Host, canary: Path, name: str) -> None:
    """The archive of the bad layer was a good one when it was imported."""
    host.run("layer", **layer(host, "bad", GOOD))
    before = contents(host)
    refuse(host, {**REFUSED, **DAMAGED}[name])
    assert contents(host) == before
    assert os.listdir(host.root / "staging") == []
    assert_works(host)


@pytest.mark.parametrize("name", CONFINED)
def test_archive_that_stays_inside_its_layer_is_imported(host: Host, canary: Path, name: str) -> None:
    assert host.run("layer", **layer(host, "bad", CONFINED[name].archive))["changed"]
    (content,) = contents(host)
    assert kinds(content) == CONFINED[name].tree
    assert {path.name for path in host.top.iterdir()} <= {"bad.tar", "canary", "store"}
    assert not host.run("layer", **layer(host, "bad", CONFINED[name].archive))["changed"]


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("name", PACKED)
def test_bad_archive_is_refused_in_each_compression(host: Host, canary: Path, compression: str, name: str) -> None:
    if compression == "zstd" and shutil.which("zstd") is None:
        pytest.skip("the Debian package zstd is missing")
    refuse(host, PACKED[name](COMPRESSORS[compression]))
    assert_nothing_stayed(host)
    assert_works(host)


def test_archive_aimed_at_an_absolute_path_does_not_reach_it(host: Host, canary: Path) -> None:
    """Every way to where the canary really is; links are taken as if the layer were the root of all."""
    path = os.fsencode(canary)
    place = path.lstrip(b"/")
    up = b"../" * 40
    attempts = [
        symlink(b"a", path) + member(b"a/new", b"x"),
        symlink(b"a", up + place) + member(b"a/new", b"x"),
        symlink(b"a", path + b"/file") + member(b"a", b"x"),
        symlink(b"a", path) + member(b"a/.wh.file"),
        symlink(b"a", path) + member(b"a/.wh..wh..opq"),
        symlink(b"a", path + b"/directory") + directory(b"a/below", 0o777, uid=1),
        symlink(b"a", path + b"/device") + member(b"a", b"x"),
        member(path + b"/new", b"x"),
        member(up + place + b"/new", b"x"),
    ]
    for archive in attempts:
        shutil.rmtree(host.root, ignore_errors=True)
        try:
            host.run("layer", **layer(host, "bad", archive + END))
        except StrataError as error:
            assert "entry '" in str(error)  # noqa: PT017 both are right, as long as the canary stays as it is
            assert contents(host) == []
        for content in contents(host):
            inside = content / os.fsdecode(place)
            assert not inside.is_symlink()


def test_bad_layers_among_good_ones_are_reported_and_none_is_kept(host: Host, canary: Path) -> None:
    """All are told at once, and not even the good ones are kept of a definition that cannot be."""
    layers = [
        layer(host, "good", GOOD),
        layer(host, "bad", REFUSED["name out"].archive),
        layer(host, "worse", DAMAGED["cut in a file"].archive),
    ]
    with pytest.raises(DefinitionError) as failure:
        host.run(layers=layers)
    told = "\n".join(failure.value.errors)
    assert re.search(f"layer bad: entry '../canary/new': .*{DOTS}", told)
    assert re.search("layer worse: .*cut short.*in entry 'f'", told)
    assert "layer good" not in told
    (host.top / "worse.tar").unlink()
    assert_nothing_stayed(host)
    assert_works(host)


def test_hostile_archive_is_refused_by_ansible_without_traceback(host: Host, canary: Path, ansible: Ansible) -> None:
    """What a user of the real program reads."""
    arguments = {"root": str(host.root), **layer(host, "bad", REFUSED["write through a loop"].archive)}
    result = ansible.module("layer", arguments)
    assert not result["changed"]
    assert re.search("layer bad.*entry 'x/f': .*loop of symbolic links", result["msg"])
    assert "Traceback" not in str(result)
    shutil.rmtree(ansible.directory)
    assert_nothing_stayed(host)
    assert_works(host)
