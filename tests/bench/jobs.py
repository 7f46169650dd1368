# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same stacks for the collection and for a playbook written by hand, and what that playbook needs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible.release
from ansible_collections.strata.overlay.tests.bench.measure import call
from ansible_collections.strata.overlay.tests.integration.debian_root import cache_directory

BY_HAND = Path(__file__).with_name("by_hand.yml")


@dataclass(frozen=True)
class Job:
    """Stacks of small layers, no layer in two stacks: the work that sharing saves is done here too.

    :ivar top: the archives are below it.
    :ivar host: so is all else, on the host; where it is not ``top``, archives and the rest are on two machines.
    """

    top: Path
    stacks: int
    layers: int
    host: Path | None = None

    @property
    def home(self) -> Path:
        return self.host or self.top

    @property
    def description(self) -> str:
        return f"{self.stacks} x {self.layers}"

    def write(self) -> Job:
        """Make the archives, each of a directory and a file of some kilobytes."""
        self.archive(0, 0).parent.mkdir(parents=True)
        for stack in range(self.stacks):
            for layer in range(self.layers):
                with tarfile.open(self.archive(stack, layer), "w") as tar:
                    directory = tarfile.TarInfo("etc")
                    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(directory)
                    content = f"stack {stack} layer {layer}\n".encode() * 200
                    member = tarfile.TarInfo(f"etc/layer-{layer}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        return self

    def archive(self, stack: int, layer: int) -> Path:
        return self.top / "archives" / f"{stack}-{layer}.tar"

    def definition(self) -> dict[str, Any]:
        """For ``strata.overlay.apply``."""
        return {
            "root": str(self.home / "store"),
            "layers": [
                {"name": f"s{stack}-l{layer}", "src": str(self.archive(stack, layer))}
                for stack in range(self.stacks)
                for layer in range(self.layers)
            ],
            "stacks": [
                {
                    "name": f"s{stack}",
                    "path": str(self.home / "mounts" / str(stack)),
                    "layers": [f"s{stack}-l{layer}" for layer in range(self.layers)],
                    "writable": "persistent",
                }
                for stack in range(self.stacks)
            ],
        }

    def inline(self) -> dict[str, Any]:
        """The same size of definition with the files written in it, and no archive to look at."""
        found = self.definition()
        found["root"] = str(self.home / "inline-store")
        found["layers"] = [
            {"name": layer["name"], "files": [{"path": "etc/name", "content": layer["name"]}]}
            for layer in found["layers"]
        ]
        found["stacks"] = [{**stack, "path": f"{stack['path']}-inline"} for stack in found["stacks"]]
        return found

    def by_hand(self) -> dict[str, Any]:
        """Variables of by_hand.yml."""
        home = self.home / "by-hand"
        directories = [home, home / "l", home / "tar"]
        layers: list[dict[str, str]] = []
        stacks: list[dict[str, str]] = []
        for stack in range(self.stacks):
            below: list[str] = []
            for layer in range(self.layers):
                name = hashlib.sha256(f"{stack} {layer}".encode()).hexdigest()
                item = {"id": name, "short": name[:26].upper(), "src": str(self.archive(stack, layer))}
                layers.append({**item, "lower": ":".join(f"l/{short}" for short in below)})
                below.insert(0, item["short"])
            writable, mounted = home / f"rw-{stack}", home / f"mount-{stack}"
            directories += [writable, writable / "upper", writable / "work", mounted]
            lowers = ":".join(f"{home}/l/{short}" for short in below)
            options = f"lowerdir={lowers},upperdir={writable}/upper,workdir={writable}/work"
            stacks.append({"path": str(mounted), "options": options})
        names = list(map(str, directories))
        return {"home": str(home), "directories": names, "layers": layers, "stacks": stacks}

    def nothing(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """A definition that takes everything down again."""
        return {"root": definition["root"], "layers": [], "stacks": [], "exclusive": True}


def ansible_posix() -> Path:
    """A collections directory with ansible.posix, out of the ansible package that belongs to this ansible-core."""
    cache = cache_directory()
    # ansible 12 is built on ansible-core 2.19, 13 on 2.20 and so on.
    release = int(ansible.release.__version__.split(".")[1]) - 7
    wanted = cache / f"ansible-{release}-posix"
    if wanted.exists():
        return wanted
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        print(f"  (downloading ansible {release} for ansible.posix, once)", flush=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        call([*pip, "--dest", scratch, f"ansible=={release}.*"])
        with zipfile.ZipFile(next(Path(scratch).glob("ansible-*.whl"))) as wheel:
            members = [name for name in wheel.namelist() if name.startswith("ansible_collections/ansible/posix/")]
            wheel.extractall(Path(scratch) / "posix", members)
        with contextlib.suppress(FileExistsError):
            (Path(scratch) / "posix").rename(wanted)
    return wanted
