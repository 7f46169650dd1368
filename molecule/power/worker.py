# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in a machine whose plug is going to be pulled: looks at the store that the last life has left, then changes it.

    worker.py LAST [mount]
    worker.py wait

LAST is the number of the last release that the life before has announced, 0 for none. With ``mount`` it first mounts
what the units of a host mount when it boots. With ``wait`` it reads these words from the FIFO ``asked`` beside this
program and prints into the FIFO ``answered``: so a snapshot has it in memory with all of its code. It makes the file
``waits`` when it is ready to begin.

It imports releases, switches a stack from one to the next and prunes, without end. What it prints is JSON, one line for
each thing done: ``{"release": 7}`` says that release 7 is there, and that it must not be lost any more.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

# The code of the collection, beside this program; no Ansible is needed for what modules do on a host.
sys.path.insert(0, str(Path(__file__).parent))

from ansible_collections.strata.overlay.plugins.module_utils._boot.mount_strata import main as mount_helper
from ansible_collections.strata.overlay.plugins.module_utils._check.run import check
from ansible_collections.strata.overlay.plugins.module_utils._prune.run import prune
from ansible_collections.strata.overlay.plugins.module_utils._run.engine import Run
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store

ROOT = "/var/lib/strata"
HERE = Path(__file__).parent
RESEED = 0x5207
"""RNDRESEEDCRNG of linux/random.h."""

WRITTEN = Path("/srv/data/written")


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def content(release: int, number: int) -> str:
    """A file of up to a megabyte, the same whenever it is asked for."""
    word = hashlib.sha256(b"%d %d" % (release, number)).hexdigest()
    return f"{word}\n" * (1 + int(word[:4], 16) % (1 << (4 + 2 * (number % 6))))


def definition(release: int) -> dict[str, Any]:
    files = [{"path": f"dir{number % 4}/file{number}", "content": content(release, number)} for number in range(24)]
    app = {"name": "app", "labels": {"release": str(release)}, "files": [{"path": "release", "content": str(release)}]}
    app["files"] += files
    layers = [{"name": "base", "files": [{"path": "base", "content": "base\n"}]}, app]
    web = {"name": "web", "path": "/srv/web", "layers": ["base", "app"], "generations": 2}
    data = {"name": "data", "path": "/srv/data", "layers": ["base"], "writable": "persistent"}
    return {"root": ROOT, "layers": layers, "stacks": [web, data], "lock_timeout": 60}


def apply(release: int) -> bool:
    return bool(Run("apply", definition(release), False).execute()["changed"])


def mount_all() -> None:
    for name, record in Store(ROOT).stacks().items():
        os.makedirs(record.path, exist_ok=True)
        status = mount_helper([name, record.path, "-o", f"rw,root={ROOT}"])
        if status:
            say(fault=f"mount.strata {name} ends with {status}")
            sys.exit(1)


def look(last: int) -> int:
    """What the life before has left; the release that is there then. Ends the program where something is wrong."""
    faults = []
    found = check({"root": ROOT, "deep": True}, False)["findings"]
    lost = [item for item in found if item["kind"].startswith("content_") or not item["repairable"]]
    left = []
    if found:
        check({"root": ROOT, "deep": True, "repair": True}, False)
        left = check({"root": ROOT, "deep": True}, False)["findings"]
    record = Store(ROOT).name_record("app")
    there = int(record.labels["release"]) if record else 0
    say(found=[item["kind"] for item in found], there=there)
    if lost or left:
        faults.append(f"the check finds {lost or left}")
    if there not in (last, last + 1):
        faults.append(f"release {there} is there, and {last} was announced")
    # The next run converges: all of the release that was under way, and then there is nothing left to do.
    apply(last + 1)
    if apply(last + 1):
        faults.append("the second run changes something again")
    files = [path for path in Path("/srv/web").rglob("*") if path.is_file()]
    shown = {str(path.relative_to("/srv/web")): path.read_text() for path in files}
    wanted = {item["path"]: item["content"] for layer in definition(last + 1)["layers"] for item in layer["files"]}
    if shown != wanted:
        faults.append(f"the tree is another one: {sorted(set(shown.items()) ^ set(wanted.items()))[:3]!r:.300}")
    if last and (not WRITTEN.exists() or int(WRITTEN.read_text().split()[0]) < last):
        faults.append(f"what a user has written and synced is lost: {WRITTEN.exists() and WRITTEN.read_text()!r}")
    if faults:
        say(fault="; ".join(faults))
        sys.exit(1)
    return last + 1


def write(release: int) -> None:
    """As a careful program writes: a new file, synced, in the place of the old one."""
    beside = WRITTEN.with_suffix(".new")
    with beside.open("w") as stream:
        stream.write(f"{release} written by a user\n")
        stream.flush()
        os.fsync(stream.fileno())
    beside.rename(WRITTEN)
    directory = os.open(WRITTEN.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def asked() -> list[str]:
    """The words with which another life begins, from whoever reads the answers."""
    (HERE / "waits").touch()
    words = (HERE / "asked").read_text().split()
    # All lives out of one snapshot have its random numbers, unless what is new in each of them comes in.
    with open("/dev/urandom", "wb", 0) as pool:
        pool.write(b"%d" % time.time_ns())
        fcntl.ioctl(pool, RESEED)
    random.seed()
    answers = os.open(HERE / "answered", os.O_WRONLY)
    os.dup2(answers, 1)
    os.dup2(answers, 2)
    return words


def main() -> None:
    last, *how = asked() if sys.argv[1:] == ["wait"] else sys.argv[1:]
    if how == ["mount"]:
        mount_all()
    release = look(int(last))
    write(release)
    say(release=release)
    while True:
        release += 1
        apply(release)
        write(release)
        say(release=release)
        if release % 3 == 0:
            prune({"root": ROOT}, False)
            say(pruned=release)


main()
