# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `make bench` measures. Called by tests/bench/run, which gives it namespaces and a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.strata.overlay.tests.bench.byhand import measure_by_hand
from ansible_collections.strata.overlay.tests.bench.changes import measure_changes
from ansible_collections.strata.overlay.tests.bench.commits import measure_commits
from ansible_collections.strata.overlay.tests.bench.controllers import measure_controller
from ansible_collections.strata.overlay.tests.bench.copies import measure_copies
from ansible_collections.strata.overlay.tests.bench.fleets import measure_fleet
from ansible_collections.strata.overlay.tests.bench.imports import measure_imports
from ansible_collections.strata.overlay.tests.bench.jobs import BY_HAND, Job, ansible_posix
from ansible_collections.strata.overlay.tests.bench.layer_images import measure_layer_images
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


# What is measured.


def no_change(work: Path) -> None:
    """A run that finds everything in place."""
    host = Host(work)
    job = Job(work / "no-change", 50, 10).write()
    definition, inline = job.definition(), job.inline()
    heading(
        f"A run that changes nothing, {job.description} (stacks x layers), local connection, median of {PAIRS} each"
    )
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
        seconds(f"apply, {job.description}, from nothing", ours[size], f"{ours[size] / size[0]:.2f} s a stack")
        seconds(f"apply, {job.description}, nothing to change", again[size])
        host.apply(job.nothing(definition), changed=True)
    hand: dict[int, float] = {}
    hand_again: dict[int, float] = {}
    full = os.environ.get("BENCH_FULL") == "1"
    for stacks in (1, 2, 10) if full else (1, 2):
        job = Job(work / f"hand-{stacks}", stacks, 5).write()
        variables = job.by_hand()
        hand[stacks] = clock(partial(host.play, BY_HAND, variables, changed=True))
        seconds(f"by hand, {job.description}, from nothing", hand[stacks], f"{hand[stacks] / stacks:.2f} s a stack")
        if stacks != 2:
            hand_again[stacks] = clock(partial(host.play, BY_HAND, variables, changed=False))
            seconds(f"by hand, {job.description}, nothing to change", hand_again[stacks])
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


PARTS: Mapping[str, Callable[[Path], None]] = {
    "no-change": no_change,
    "from-nothing": from_nothing,
    "import": measure_imports,
    "layer-image": measure_layer_images,
    "prune": measure_prune,
    "info": measure_info,
    "check": measure_check,
    "switch": measure_switches,
    "changes": measure_changes,
    "commit": measure_commits,
    "copy": measure_copies,
    "fleet": measure_fleet,
    "controller": measure_controller,
    "by-hand": measure_by_hand,
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
