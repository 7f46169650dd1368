# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes over the cables of a fleet: an upgrade from the controller, images from a registry and from its mirror."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.tests.bench.scales import CODE
from ansible_collections.strata.overlay.tests.integration.fleet import COUNT, Fleet, FleetHost
from ansible_collections.strata.overlay.tests.integration.images import Layout
from ansible_collections.strata.overlay.tests.integration.registry import Authority, Place, Registry, running_registry

LAYER = 10_000_000
OVER = 64 << 10
"""Bytes that a host may cost beside the layer's archive: headers of SSH and TCP, and the definition."""


def archive(path: Path, size: int) -> Path:
    """A layer of one file that nothing makes smaller."""
    (path.parent / "big").write_bytes(os.urandom(size))
    with tarfile.open(path, "w") as stream:
        stream.add(path.parent / "big", "data")
    return path


def definition(top: Path) -> dict[str, Any]:
    """Ten layers on a stack."""
    files = [{"name": f"l{number}", "files": [{"path": f"etc/{number}", "content": "x"}]} for number in range(9)]
    return {
        "overlay_layers": [*files, {"name": "data", "src": str(top)}],
        "overlay_stacks": [
            {"name": "web", "path": "/srv/web", "layers": [*(item["name"] for item in files), "data"]},
        ],
    }


def upgrade(fleet: Fleet, path: Path) -> dict[str, int]:
    """Bytes that came to each host."""
    before = fleet.sent()
    done = fleet.play("strata.overlay.site", variables=definition(path)).check()
    assert set(done.counts("changed").values()) == {1}
    return {name: count - before[name] for name, count in fleet.sent().items()}


def test_upgrade_of_one_layer_in_ten_moves_only_that_layer(fleet: Fleet, tmp_path: Path) -> None:
    """What Ansible sends anyway, the modules, is told by an upgrade to a layer of next to nothing."""
    fleet.play("strata.overlay.site", variables=definition(archive(tmp_path / "first.tar", 1))).check()
    modules = upgrade(fleet, archive(tmp_path / "second.tar", 2))
    big = archive(tmp_path / "big.tar", LAYER)
    moved = upgrade(fleet, big)
    size = big.stat().st_size
    over = {name: count - modules[name] - size for name, count in moved.items()}
    print(f"{size} bytes of a layer; beside it {min(over.values())} to {max(over.values())} for a host")
    print(f"modules and connection: {min(modules.values())} to {max(modules.values())}")
    assert CODE / 2 < min(modules.values()) <= max(modules.values()) <= CODE, "what docs/scale.md reckons with"
    assert all(-OVER < each <= OVER for each in over.values()), over
    assert {host.run("stat", "-c", "%s", "/srv/web/data").strip() for host in fleet.hosts} == {str(LAYER)}


def place(host: FleetHost, *environment: str) -> Place:
    """On a host, but no process of its own: the test ends it."""
    namespaces = ("nsenter", f"--target={host.init}", "--mount", "--net", "--uts", "--")
    return Place(host.address, (*namespaces, "env", *environment))


def pull(fleet: Fleet, registry: Registry, tag: str, *flags: str, **options: Any) -> set[int]:
    """What has changed, of all hosts."""
    image = {"name": "app", "registry": f"{registry.host}/team/app:{tag}", **options}
    stack = {"name": "web", "path": "/srv/web", "layers": ["app"]}
    done = fleet.play(
        "strata.overlay.site", *flags, variables={"overlay_images": [image], "overlay_stacks": [stack]}
    ).check()
    return set(done.counts("changed").values())


def shown(fleet: Fleet) -> set[str]:
    return {host.file("/srv/web/release").read_text() for host in fleet.hosts}


def blobs(registry: Registry) -> list[int]:
    """How often each blob has been asked for since the last question."""
    return sorted(Counter(asked for asked in registry.asked() if asked.startswith("blobs/")).values())


def test_fleet_pulls_from_a_registry_and_through_a_mirror(fleet: Fleet, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    layout.list("1.0", layout.image({"etc/os": "base"}, {"release": "one"}))
    layout.list("2.0", layout.image({"etc/os": "base"}, {"release": "two"}))
    with fleet.another("registry", 100) as first, fleet.another("mirror", 101) as second:
        authority = Authority.make(tmp_path / "authority", first.address, second.address)
        trusted = {"ca_path": str(authority.ca)}
        with running_registry(tmp_path / "registry", None, place(first), tls=authority.tls) as registry:
            for tag in ("1.0", "2.0"):
                registry.push(layout, tag, tag, enter=fleet.enter)
            assert pull(fleet, registry, "1.0", **trusted) == {1}
            assert blobs(registry) == [COUNT] * 3, "two layers and a config, by each host once"
            assert shown(fleet) == {"one"}
            assert pull(fleet, registry, "1.0", **trusted) == {0}
            assert blobs(registry) == []
            proxy = {"remoteurl": f"https://{registry.host}"}
            there = place(second, f"SSL_CERT_FILE={authority.ca}")
            with running_registry(tmp_path / "mirror", None, there, tls=authority.tls, proxy=proxy) as mirror:
                mirrored = {**trusted, "mirrors": [mirror.host]}
                assert pull(fleet, registry, "2.0", "--limit", "h1", **mirrored) == {1}
                # It asks once to answer and once to keep (distribution 2.8), so how often says nothing of us.
                assert len(blobs(registry)) == 2, "the layer and the config that are new"
                assert pull(fleet, registry, "2.0", **mirrored) == {0, 1}
                assert blobs(mirror) == [COUNT] * 2, "each host asks the mirror"
                assert blobs(registry) == []
    assert shown(fleet) == {"two"}
