# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store on disk: Docker's format, to the byte (DESIGN section 2)."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline, numbered

LINK = re.compile(r"^[A-Z2-7]{26}$")


def chain(diff_ids: list[str]) -> list[str]:
    """ChainIDs by the formula of the OCI image specification, written here once more."""
    found = diff_ids[:1]
    for diff_id in diff_ids[1:]:
        found.append("sha256:" + hashlib.sha256(f"{found[-1]} {diff_id}".encode()).hexdigest())
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_layers_links_and_records_are_in_the_format_of_docker(host: Host) -> None:
    result = host.run(
        layers=numbered(3), stacks=[{"name": "web", "path": host.path("web"), "layers": ["n0", "n1", "n2"]}]
    )
    diff_ids: list[str] = result["diff_ids"]
    ids = [chain_id[7:] for chain_id in chain(diff_ids)]
    assert result["stacks"][0]["chain_id"] == f"sha256:{ids[-1]}"
    home = host.root / "overlay2"
    assert (mode(host.root), mode(home), mode(home / "l")) == (0o711, 0o710, 0o700)
    links: list[str] = []
    for index, layer_id in enumerate(ids):
        layer = home / layer_id
        link = (layer / "link").read_bytes().decode()
        assert LINK.match(link)
        assert os.readlink(home / "l" / link) == f"../{layer_id}/diff"
        assert os.readlink(layer / "diff") == f"../../content/sha256/{diff_ids[index][7:]}"
        assert (layer / f"diff/file{index}").read_text() == str(index)
        lower = ":".join(f"l/{below}" for below in reversed(links))
        if index == 0:
            assert not (layer / "lower").exists()
            assert not (layer / "work").exists()
        else:
            assert (layer / "lower").read_bytes().decode() == lower
            assert (layer / "work").is_dir()
        # Docker marks a layer when another is made above it.
        assert (layer / "committed").exists() == (index < 2)
        records = host.root / "image/overlay2/layerdb/sha256" / layer_id
        assert (records / "cache-id").read_text() == layer_id
        assert (records / "diff").read_text() == diff_ids[index]
        assert (records / "size").read_text() == "2"
        assert (records / "parent").exists() == (index > 0)
        if index:
            assert (records / "parent").read_text() == f"sha256:{ids[index - 1]}"
        links.append(link)


def test_writable_layer_is_in_the_format_of_docker(host: Host) -> None:
    host.run(
        layers=numbered(2),
        stacks=[{"name": "web", "path": host.path("web"), "layers": ["n0", "n1"], "writable": "persistent"}],
    )
    record = host.store.stacks()["web"]
    assert re.match(r"^[0-9a-f]{64}$", record.stack_id)
    home = host.root / "overlay2"
    upper = home / record.stack_id
    link = (upper / "link").read_text()
    assert LINK.match(link)
    assert os.readlink(home / "l" / link) == f"../{record.stack_id}/diff"
    assert (upper / "upper").read_text() == f"l/{link}"
    ids = [chain_id[7:] for chain_id in chain(list(record.diff_ids))]
    below = [(home / layer_id / "link").read_text() for layer_id in ids]
    assert (upper / "lower").read_text() == f"l/{below[1]}:l/{below[0]}"
    assert all((upper / name).is_dir() for name in ("diff", "work", "merged"))
    assert all((home / layer_id / "committed").exists() for layer_id in ids)
    records = host.root / "image/overlay2/layerdb/mounts" / record.stack_id
    assert (records / "mount-id").read_text() == record.stack_id
    assert (records / "parent").read_text() == f"sha256:{ids[-1]}"


def test_content_in_several_chains_is_stored_once(host: Host) -> None:
    shared = inline("shared", data="x" * 100_000)
    names = [f"own{number}" for number in range(5)]
    result = host.run(
        layers=[shared, *(inline(name, **{name: name}) for name in names)],
        stacks=[{"name": name, "path": host.path(name), "layers": [name, "shared"]} for name in names],
    )
    assert len(os.listdir(host.root / "content/sha256")) == len(set(result["diff_ids"])) == 6
    assert len(os.listdir(host.root / "image/overlay2/layerdb/sha256")) == 10
    for name in names:
        assert host.tree(name) == {"data": "x" * 100_000, name: name}


def test_chain_with_the_same_layer_twice_is_mounted(host: Host) -> None:
    result = host.four_steps(
        layers=[inline("a", f="a", only="a"), inline("b", f="b")],
        stacks=[{"name": "twice", "path": host.path("twice"), "layers": ["a", "b", "a"]}],
    )
    assert host.tree("twice") == {"f": "a", "only": "a"}
    assert len(host.mounts("twice")[0].lowers()) == 3
    top = host.root / "overlay2" / result["stacks"][0]["chain_id"][7:]
    assert (top / "diff").is_dir()
    assert not (top / "diff").is_symlink()
