# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Checks a Docker or Podman root. Reads only; repairs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Callable, NamedTuple, Optional

from ansible_collections.strata.overlay.plugins.module_utils._check.model import Finding
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import LINK_ID
from ansible_collections.strata.overlay.plugins.module_utils._engines.detect import read_engine_root
from ansible_collections.strata.overlay.plugins.module_utils._engines.model import (
    LONGEST_CHAIN,
    EngineRoot,
    Orphan,
    with_faults,
)
from ansible_collections.strata.overlay.plugins.module_utils._engines.records import Foreign
from ansible_collections.strata.overlay.plugins.module_utils._linux.noatime import Measure, untouched

_TARGET = re.compile(r"^\.\./([^/]+)/diff\Z")


class DriverLayer(NamedTuple):
    """A directory in the driver's home: text of its files, None where one is missing."""

    link: Optional[str]
    lower: Optional[str]
    has_diff: bool


class DriverHome(NamedTuple):
    """The driver's directory.

    :ivar links: names in ``l/`` -> target, ``""`` for what is no link; None where there is no such directory.
    """

    layers: Mapping[str, DriverLayer]
    links: Optional[Mapping[str, str]]


def check_engine(root: str) -> list[Finding]:
    """Read the root and judge it. An engine that runs may be about to change what looks wrong."""
    with untouched(root) as view:
        found = read_engine_root(root, view)
        measure = Measure()
        with Foreign(view) as files:
            home = _home(files, found.home)
            found = with_faults(found, files.faults)
        return find_engine(found, home, lambda path: measure.tree(f"{view}/{path}"))


def _home(files: Foreign, top: str) -> DriverHome:
    layers = {
        entry: DriverLayer(
            files.word(f"{top}/{entry}/link"),
            files.word(f"{top}/{entry}/lower"),
            files.is_directory(f"{top}/{entry}/diff"),
        )
        for entry in files.names(top)
        if entry != "l" and files.is_directory(f"{top}/{entry}")
    }
    if not files.is_directory(f"{top}/l"):
        return DriverHome(layers, None)
    return DriverHome(layers, {entry: files.link(f"{top}/l/{entry}") for entry in files.names(f"{top}/l")})


def find_engine(found: EngineRoot, home: DriverHome, size: Callable[[str], int]) -> list[Finding]:
    """Judge what was read.

    :param size: bytes of a path in the root.
    """
    return list(_Judge(found, home, size).findings())


class _Judge:
    def __init__(self, found: EngineRoot, home: DriverHome, size: Callable[[str], int]) -> None:
        self._found = found
        self._home = home
        self._size = size
        self._engine = found.engine.capitalize()
        self._parents = _parents(found)

    def findings(self) -> Iterator[Finding]:
        for damage in self._found.damages:
            advice = (
                f"{self._engine} is to make it anew: remove the image or container that it belongs to, and pull again"
            )
            yield Finding("record_damaged", damage.path, damage.description, advice)
        for layer_id in self._found.missing(set(self._home.layers)):
            advice = "remove the images and containers that need it, and pull or build them again"
            message = f"it is on record, and its directory {self._found.home}/{layer_id} is missing"
            yield Finding("layer_missing", f"{self._found.home}/{layer_id}", message, advice)
        yield from self._broken_chains()
        for layer_id in self._parents:
            if layer_id in self._home.layers:
                yield from self._layer(layer_id, self._home.layers[layer_id])
        yield from self._links()
        for orphan in self._found.orphans:
            yield from self._orphan(orphan)

    def _broken_chains(self) -> Iterator[Finding]:
        known = self._found.by_record()
        again = "remove what needs it, and pull or build it again"
        for layer in self._found.layers:
            if layer.parent and layer.parent not in known:
                message = f"the layer below it, {layer.parent}, is not on record"
                yield Finding("chain_broken", layer.record_id, message, again)
        for image in self._found.images:
            if image.top and image.top not in known:
                message = f"layers of image {next(iter(image.names), image.image_id)} are not on record"
                yield Finding("chain_broken", image.image_id, message, again)

    def _layer(self, layer_id: str, seen: DriverLayer) -> Iterator[Finding]:
        path = f"{self._found.home}/{layer_id}"
        if not seen.has_diff:
            yield Finding("diff_wrong", path, "its directory 'diff' is missing", "remove what needs it, and pull again")
        if not seen.link or not LINK_ID.match(seen.link):
            message = "missing" if seen.link is None else "empty" if not seen.link else "malformed"
            advice = f"write the name of the link in {self._found.home}/l that points to ../{layer_id}/diff into it, "
            advice += f"without a newline, while {self._engine} is stopped"
            yield Finding("link_wrong", path, f"its file 'link' is {message}", advice)
        yield from self._lower(layer_id, path, seen.lower)

    def _lower(self, layer_id: str, path: str, lower: Optional[str]) -> Iterator[Finding]:
        parent = self._parents[layer_id]
        if parent is None:
            return  # what is below is not known
        advice = f"write {self._wanted_lower(parent)} into it" if parent and self._wanted_lower(parent) else ""
        advice = advice or "remove what needs it, and pull again"
        if not parent:
            if lower:
                yield Finding(
                    "lower_wrong", path, "its file 'lower' is there, and it is a base layer", "delete the file"
                )
        elif not lower:
            message = "missing: it is mounted without the layers below" if lower is None else "empty"
            yield Finding("lower_wrong", path, f"its file 'lower' is {message}", advice)
        elif not all(part[:2] == "l/" and LINK_ID.match(part[2:]) for part in lower.split(":")):
            yield Finding("lower_wrong", path, "its file 'lower' is malformed", advice)
        elif self._wanted_lower(parent) not in ("", lower):
            yield Finding("lower_wrong", path, "its file 'lower' is unlike the record", advice)

    def _wanted_lower(self, parent: str) -> str:
        """``lower`` of a layer above this one; ``""`` where files that it follows from are lost too."""
        links: list[str] = []
        at: Optional[str] = parent
        while at:
            seen = self._home.layers.get(at)
            if seen is None or not seen.link or len(links) >= min(LONGEST_CHAIN, len(self._home.layers) + 1):
                return ""
            links.append(f"l/{seen.link}")
            at = self._parents.get(at)
        return "" if at is None else ":".join(links)

    def _links(self) -> Iterator[Finding]:
        place = f"{self._found.home}/l"
        if self._home.links is None:
            advice = f"make the directory with mode 0700 while {self._engine} is stopped, and the links in it"
            yield Finding("short_links_replaced", place, "the directory of short links is missing or replaced", advice)
        links = self._home.links or {}
        for layer_id in self._parents:
            link = self._home.layers[layer_id].link if layer_id in self._home.layers else ""
            if link and LINK_ID.match(link) and link not in links:
                message = f"its short link {place}/{link} is missing"
                advice = f"ln -s ../{layer_id}/diff {place}/{link}"
                yield Finding("short_link_missing", f"{self._found.home}/{layer_id}", message, advice)
        for name, target in links.items():
            yield from self._link(f"{place}/{name}", name, target)

    def _link(self, path: str, name: str, target: str) -> Iterator[Finding]:
        found = _TARGET.match(target)
        to = self._home.layers.get(found.group(1)) if found else None
        if not found:
            message = f"it points astray, to {target}" if target else "it is no symbolic link"
            yield Finding("short_link_wrong", path, message, f"delete it while {self._engine} is stopped")
        elif to is None:
            message = f"it dangles: {self._found.home}/{found.group(1)} is missing"
            yield Finding("short_link_dangling", path, message, f"delete it while {self._engine} is stopped")
        elif to.link and to.link != name and LINK_ID.match(to.link):
            message = f"a second link to {found.group(1)}, whose own is {to.link}"
            yield Finding("short_link_doubled", path, message, f"delete it while {self._engine} is stopped")

    def _orphan(self, orphan: Orphan) -> Iterator[Finding]:
        taken = f"{self._size(orphan.path)} bytes"
        if orphan.kind == "leftover":
            advice = f"delete it while {self._engine} is stopped"
            yield Finding("leftover", orphan.path, f"an import or removal that was ended left it: {taken}", advice)
        elif orphan.kind == "layer":
            advice = f"look into it for files that you miss, then delete it while {self._engine} is stopped"
            yield Finding("layer_orphaned", orphan.path, f"a directory that no record knows: {taken}", advice)


def _parents(found: EngineRoot) -> dict[str, Optional[str]]:
    """Directory of each layer on record -> that of the layer below, ``""`` for a base, None where it is not known."""
    records = found.by_record()

    def below(parent: str) -> Optional[str]:
        if not parent:
            return ""
        return records[parent].layer_id or None if parent in records else None

    parents = {layer.layer_id: below(layer.parent) for layer in found.layers if layer.layer_id}
    for container in found.containers:
        ids: tuple[str, ...] = container.layer_ids
        for layer_id, under in zip(ids, (*ids[1:], None)):
            parents[layer_id] = under if under is not None else below(container.parent)
    return parents
