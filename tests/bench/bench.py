# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `make bench` measures. Called by tests/bench/run, which gives it namespaces and a directory of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ansible.release
from ansible_collections.strata.overlay.tests.bench.changes import measure_changes
from ansible_collections.strata.overlay.tests.bench.commits import measure_commits
from ansible_collections.strata.overlay.tests.bench.fleets import measure_fleet
from ansible_collections.strata.overlay.tests.bench.imports import measure_imports
from ansible_collections.strata.overlay.tests.bench.measure import (
    PAIRS,
    FailedError,
    call,
    clock,
    heading,
    medians,
    ratio,
    seconds,
)
from ansible_collections.strata.overlay.tests.bench.scales import measure_scale
from ansible_collections.strata.overlay.tests.bench.stores import measure_check, measure_info, measure_prune
from ansible_collections.strata.overlay.tests.bench.switches import measure_switches

CHECKOUT = Path(__file__).resolve().parents[2]
BY_HAND = Path(__file__).with_name("by_hand.yml")
# Ansible, on this machine.


@dataclass
class Host:
    """This machine as a host of Ansible, with default settings, the local connection and a home for its files.

    :ivar collections: where collections lie beside this one's.
    """

    work: Path
    collections: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.work / "ansible.cfg").touch()
        # Named, because discovering it takes longer than a module and is not what is to be compared.
        (self.work / "inventory").write_text(
            f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n"
        )

    def ping(self) -> None:
        self._call("ansible", "localhost", "-m", "ping")

    def apply(self, definition: Mapping[str, Any], changed: bool) -> None:
        said = self._call("ansible", "localhost", "-m", "strata.overlay.apply", "-a", json.dumps(definition))
        if f'"changed": {json.dumps(changed)}' not in said:
            raise FailedError(f"apply should have said changed={changed}:\n{said[:1000]}")

    def play(self, playbook: Path, variables: Mapping[str, Any], changed: bool) -> None:
        with self._file(variables) as path:
            said = self._call("ansible-playbook", playbook, "-e", f"@{path}")
        if bool(re.search(r"changed=[1-9]", said)) != changed:
            raise FailedError(f"{playbook} should have said changed={changed}:\n{said[-1000:]}")

    @contextlib.contextmanager
    def _file(self, content: object) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile("w", dir=self.work, suffix=".json") as stream:
            json.dump(content, stream)
            stream.flush()
            yield Path(stream.name)

    def _call(self, program: str, *arguments: str | Path) -> str:
        paths = [CHECKOUT / ".venv/collections", *self.collections]
        own = {
            "ANSIBLE_COLLECTIONS_PATH": ":".join(map(str, paths)),
            "ANSIBLE_CONFIG": str(self.work / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.work / "ansible"),
            "ANSIBLE_REMOTE_TEMP": str(self.work / "ansible"),
            "LC_ALL": "C.UTF-8",
            "XDG_CACHE_HOME": str(self.work / "cache"),
        }
        others = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}
        return call([program, "-i", self.work / "inventory", *arguments], {**others, **own})


@dataclass(frozen=True)
class Job:
    """Stacks of small layers, no layer in two stacks: the work that sharing saves is done here too.

    :ivar top: everything of this job is below it.
    """

    top: Path
    stacks: int
    layers: int

    @property
    def words(self) -> str:
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
            "root": str(self.top / "store"),
            "layers": [
                {"name": f"s{stack}-l{layer}", "src": str(self.archive(stack, layer))}
                for stack in range(self.stacks)
                for layer in range(self.layers)
            ],
            "stacks": [
                {
                    "name": f"s{stack}",
                    "path": str(self.top / "mounts" / str(stack)),
                    "layers": [f"s{stack}-l{layer}" for layer in range(self.layers)],
                    "writable": "persistent",
                }
                for stack in range(self.stacks)
            ],
        }

    def inline(self) -> dict[str, Any]:
        """The same size of definition with the files written in it, and no archive to look at."""
        found = self.definition()
        found["root"] = str(self.top / "inline-store")
        found["layers"] = [
            {"name": layer["name"], "files": [{"path": "etc/name", "content": layer["name"]}]}
            for layer in found["layers"]
        ]
        found["stacks"] = [{**stack, "path": f"{stack['path']}-inline"} for stack in found["stacks"]]
        return found

    def by_hand(self) -> dict[str, Any]:
        """Variables of by_hand.yml."""
        home = self.top / "by-hand"
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


# What is measured.


def no_change(work: Path) -> None:
    """A run that finds everything in place."""
    host = Host(work)
    job = Job(work / "no-change", 50, 10).write()
    definition, inline = job.definition(), job.inline()
    heading(f"A run that changes nothing, {job.words} (stacks x layers), local connection, median of {PAIRS} each")
    host.apply(definition, changed=True)
    host.apply(inline, changed=True)
    took = medians(
        {
            "ping": host.ping,
            "archives": partial(host.apply, definition, changed=False),
            "inline": partial(host.apply, inline, changed=False),
        }
    )
    seconds("ansible -m ping", took["ping"])
    seconds("apply, 500 archives on the controller", took["archives"])
    ratio("apply / ping", took["archives"] / took["ping"], "aim: at most 1.5")
    seconds("apply, 500 layers as files in the definition", took["inline"])
    ratio("apply / ping", took["inline"] / took["ping"])
    host.apply(job.nothing(definition), changed=True)
    host.apply(job.nothing(inline), changed=True)


def from_nothing(work: Path) -> None:
    """Everything made and mounted, ours and by hand."""
    heading("From nothing and again: apply against a playbook of file, copy, unarchive and ansible.posix.mount")
    host = Host(work, [ansible_posix()])
    ours: dict[tuple[int, int], float] = {}
    again: dict[tuple[int, int], float] = {}
    for size in ((1, 5), (50, 5), (50, 10)):
        job = Job(work / f"ours-{size[0]}-{size[1]}", *size).write()
        definition = job.definition()
        ours[size] = clock(partial(host.apply, definition, changed=True))
        again[size] = clock(partial(host.apply, definition, changed=False))
        seconds(f"apply, {job.words}, from nothing", ours[size], f"{ours[size] / size[0]:.2f} s a stack")
        seconds(f"apply, {job.words}, nothing to change", again[size])
        host.apply(job.nothing(definition), changed=True)
    hand: dict[int, float] = {}
    hand_again: dict[int, float] = {}
    full = os.environ.get("BENCH_FULL") == "1"
    for stacks in (1, 2, 10) if full else (1, 2):
        job = Job(work / f"hand-{stacks}", stacks, 5).write()
        variables = job.by_hand()
        hand[stacks] = clock(partial(host.play, BY_HAND, variables, changed=True))
        seconds(f"by hand, {job.words}, from nothing", hand[stacks], f"{hand[stacks] / stacks:.2f} s a stack")
        if stacks != 2:
            hand_again[stacks] = clock(partial(host.play, BY_HAND, variables, changed=False))
            seconds(f"by hand, {job.words}, nothing to change", hand_again[stacks])
        for stack in variables["stacks"]:
            call(["umount", stack["path"]])
    most = max(hand)
    each = (hand[most] - hand[1]) / (most - 1)
    seconds(f"by hand, each further stack of 5 layers ({most} stacks less 1)", each)
    ratio("by hand / apply, 1 x 5, from nothing, measured", hand[1] / ours[1, 5])
    ratio("by hand / apply, 1 x 5, nothing to change, measured", hand_again[1] / again[1, 5])
    fifty = hand[1] + 49 * each
    seconds("by hand, 50 x 5, from nothing, EXTRAPOLATED from the above", fifty)
    ratio("by hand / apply, 50 x 5, from nothing, EXTRAPOLATED", fifty / ours[50, 5], "aim: at least 20")
    double = 2 * fifty
    seconds("by hand, 50 x 10, from nothing, EXTRAPOLATED, twice 50 x 5", double)
    ratio("by hand / apply, 50 x 10, from nothing, EXTRAPOLATED", double / ours[50, 10], "aim: at least 20")


def ansible_posix() -> Path:
    """A collections directory with ansible.posix, out of the ansible package that belongs to this ansible-core."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strata.overlay"
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


PARTS: Mapping[str, Callable[[Path], None]] = {
    "no-change": no_change,
    "from-nothing": from_nothing,
    "import": measure_imports,
    "prune": measure_prune,
    "info": measure_info,
    "check": measure_check,
    "switch": measure_switches,
    "changes": measure_changes,
    "commit": measure_commits,
    "fleet": measure_fleet,
    "scale": measure_scale,
}


def main(work: Path, names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"bench: no such part: {', '.join(unknown)}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        for name, part in PARTS.items():
            if not names or name in names:
                (work / name).mkdir()
                part(work / name)
    except FailedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
