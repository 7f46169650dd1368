# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""plan() as tables: a definition and a host -> the exact steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, copy_id, hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import normalise
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities, Fault
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount, by_path
from ansible_collections.strata.overlay.plugins.module_utils._mount.path_facts import PathFacts
from ansible_collections.strata.overlay.plugins.module_utils._plan.desired import Known, desire
from ansible_collections.strata.overlay.plugins.module_utils._plan.driver import Drivers
from ansible_collections.strata.overlay.plugins.module_utils._plan.plan import plan
from ansible_collections.strata.overlay.plugins.module_utils._plan.state import Observed
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    ImportContent,
    LinkLayer,
    Plan,
    SetAside,
    Switch,
    Unmount,
    WriteStack,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin
from ansible_collections.strata.overlay.plugins.module_utils._store.limits import StoreFaults
from ansible_collections.strata.overlay.plugins.module_utils._store.records import Generation, NameRecord, StackRecord

ROOT = "/var/lib/strata"
HOME = f"{ROOT}/overlay2"
A, B, C, D = (f"sha256:{letter * 64}" for letter in "abcd")
DIFF_IDS = {"base": A, "app": B, "conf": C, "app2": D}
STACK_ID = "5" * 64
KERNEL = Abilities("6.12.0", overlay=True, lowerdir_append=True, userxattr=False, page_size=4096, beneath=True)
NO_FAULTS = StoreFaults()
APPARMOR = StoreFaults(mount=Fault("this process may not mount (Permission denied)", "run it as root"))
NO_OVERLAY = KERNEL._replace(overlay=False)
DISK = Mount(20, 1, "8:1", "/", "/", ("rw",), "ext4", "/dev/sda1", ("rw",))
ALL = ["base", "app", "conf"]


def layer(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "src": f"/{name}.tar", **options}


def stack(name: str = "web", path: str | None = "/srv/web", **options: Any) -> dict[str, Any]:
    return {"name": name, "layers": ALL, **({"path": path} if path else {}), **options}


def record(name: str = "web", path: str = "/srv/web", writable: str = "none", **values: Any) -> StackRecord:
    layers = values.pop("layers", ALL)
    history = (Generation(1, tuple(DIFF_IDS[item] for item in layers), tuple(layers), "2026-01-01T00:00:00Z"),)
    given = {"size": 0, "stack_id": "" if writable == "none" else STACK_ID, "mounted": True, "made_path": False}
    return StackRecord(name, path, writable, **{**given, "history": history, **values})


def mounted(known: StackRecord, path: str = "", **changes: Any) -> Mount:
    """The line of the mount table that a stack as recorded has."""
    path = path or known.path
    if len(known.diff_ids) == 1 and known.writable == "none":
        bound = f"{ROOT}/content/sha256/{hex_of(known.diff_ids[0])}"
        return Mount(60, 1, "8:1", bound, path, ("ro",), "ext4", "/dev/sda1", ("rw",))._replace(**changes)
    lowers = [f"lowerdir+={HOME}/l/{link_id(hex_of(chain))}" for chain in reversed(chain_ids(known.diff_ids))]
    inner = {"none": "", "persistent": "/diff", "volatile": "/volatile/diff"}[known.writable]
    upper = [f"upperdir={HOME}/{known.stack_id}{inner}"] if inner else []
    flag = "rw" if inner else "ro"
    line = Mount(60, 1, "0:60", "/", path, (flag,), "overlay", "overlay", (flag, *lowers, *upper))
    return line._replace(**changes)


def foreign(path: str = "/srv/web", mount_id: int = 90) -> Mount:
    return Mount(mount_id, 1, "8:7", "/", path, ("rw",), "xfs", "/dev/sdb1", ("rw",))


@dataclass
class Host:
    """A host in short: what is not said is as after a run that went well."""

    stacks: list[StackRecord] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)
    contents: set[str] = field(default_factory=lambda: {A, B, C, D})
    mounts: list[Mount] | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    writable_faults: Mapping[str, str] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    paths: Mapping[str, PathFacts] = field(default_factory=dict)
    exists: bool = True
    abilities: Abilities = KERNEL
    labels: Mapping[str, str] = field(default_factory=dict)
    store_faults: StoreFaults = NO_FAULTS
    apart: tuple[str, ...] = ()
    read_only: bool = False

    def known(self) -> Known:
        names = {
            name: NameRecord(name, (diff_id,), dict(self.labels), "an older source")
            for name, diff_id in self.names.items()
        }
        return Known(names, {stack.name: stack for stack in self.stacks})


FRESH = Host(contents=set(), exists=False, mounts=[])


def settled(**values: Any) -> Host:
    """The host that ``stack()`` has been applied to."""
    return Host(**{"stacks": [record()], "names": {name: DIFF_IDS[name] for name in ALL}, **values})


def make_plan(definition: Mapping[str, Any], host: Host) -> Plan:
    """The real way from a definition to a plan, with only the host's facts written down."""
    wanted, errors = normalise("apply", definition)
    origins = {
        spec.label: Origin(DIFF_IDS[spec.name], 1000, spec.source.location, Source("src", spec.source.location))
        for spec in wanted.sources()
    }
    known = host.known()
    desired = desire(wanted, origins, known, errors, drivers=Drivers(host.abilities, host.store_faults))
    mounts = [DISK, *(host.mounts if host.mounts is not None else [mounted(one) for one in host.stacks])]
    paths = {one.spec.path for one in desired.stacks} | {one.path for one in host.stacks}
    occupied = {mount.path for mount in mounts}
    facts = {path: PathFacts(path, "directory" if path in occupied else "missing", False, "") for path in paths}
    chains = {chain for one in desired.stacks for ids in (one.diff_ids, one.shown) for chain in chain_ids(ids)}
    there = {chain for one in host.stacks for chain in chain_ids(one.diff_ids)}
    observed = Observed(
        root=ROOT,
        home=HOME,
        exists=host.exists,
        abilities=host.abilities,
        known=known,
        contents=host.contents,
        layer_faults={**dict.fromkeys(chains - there, "missing"), **host.faults},
        writable_faults=host.writable_faults,
        written_uppers=host.written,
        paths={**facts, **host.paths},
        mounts=tuple(mounts),
        mounts_at=by_path(mounts),
        sizes={},
        faults=host.store_faults,
        apart=host.apart,
        read_only=host.read_only,
    )
    planned = plan(desired, observed)
    return planned._replace(errors=(*errors, *planned.errors))


def steps(definition: Mapping[str, Any], host: Host) -> list[tuple[str, str]]:
    planned = make_plan(definition, host)
    assert planned.errors == ()
    return [(step.action, step.object) for step in planned.steps]


def texts(definition: Mapping[str, Any], host: Host) -> list[str]:
    planned = make_plan(definition, host)
    assert planned.errors == ()
    return [step.describe() for step in planned.steps]


def chain(*names: str) -> str:
    return chain_ids([DIFF_IDS[name] for name in names])[-1]


def links(*names: str) -> list[tuple[str, str]]:
    return [("link_layer", chain(*names[: count + 1])) for count in range(len(names))]


def imports(*names: str) -> list[tuple[str, str]]:
    return [("import_content", DIFF_IDS[name]) for name in names]


def named(*names: str) -> list[tuple[str, str]]:
    return [("set_name", f"layer {name}") for name in names]


COPY = copy_id([DIFF_IDS[name] for name in ALL])
WRITE, MOUNT, UNMOUNT, SWITCH, DETACHED, FORGET = (
    (action, "stack web") for action in ("write_stack", "mount", "unmount", "switch", "set_aside", "forget_stack")
)
WHOLE = {"layers": [layer(name) for name in ALL], "stacks": [stack()]}
STACK = {"stacks": [stack()]}


def persistent(**options: Any) -> dict[str, Any]:
    return {"stacks": [stack(writable="persistent", **options)]}


PERSISTENT = record(writable="persistent")
VOLATILE = record(writable="volatile")
UPGRADE = {"layers": [layer("app2")], "stacks": [stack(layers=["base", "app2", "conf"])]}
UPGRADED = [*named("app2"), *links("base", "app2", "conf")[1:], WRITE, UNMOUNT, MOUNT]

TABLE = [
    (
        "no overlay: the layers are copied into one",
        WHOLE,
        Host(contents=set(), exists=False, mounts=[], abilities=NO_OVERLAY),
        [
            ("create_store", f"store {ROOT}"),
            *imports(*ALL),
            ("import_content", COPY),
            *links(*ALL),
            ("link_layer", COPY),
            *named(*ALL),
            WRITE,
            MOUNT,
        ],
    ),
    (
        "no overlay any more: what is mounted is replaced by a copy",
        STACK,
        settled(abilities=NO_OVERLAY),
        [("import_content", COPY), ("link_layer", COPY), WRITE, SWITCH],
    ),
    ("an empty definition on a fresh host", {}, FRESH, []),
    ("nothing to do", WHOLE, settled(), []),
    ("nothing to do, persistent", persistent(), settled(stacks=[PERSISTENT]), []),
    (
        "nothing to do, one layer bound",
        {"stacks": [stack(layers=["base"])]},
        settled(stacks=[record(layers=["base"])]),
        [],
    ),
    (
        "a fresh host",
        WHOLE,
        FRESH,
        [("create_store", f"store {ROOT}"), *imports(*ALL), *links(*ALL), *named(*ALL), WRITE, MOUNT],
    ),
    (
        "a fresh host, a layer without a stack",
        {"layers": [layer("base")]},
        FRESH,
        [("create_store", f"store {ROOT}"), *imports("base"), *named("base")],
    ),
    (
        "one new layer of three",
        UPGRADE,
        settled(contents={A, B, C}),
        [*imports("app2"), *links("base", "app2", "conf")[1:], *named("app2"), WRITE, SWITCH],
    ),
    (
        "the chain of a persistent stack changes: its writable layer goes on",
        {"layers": [layer("app2")], **persistent(layers=["base", "app2", "conf"])},
        settled(stacks=[PERSISTENT], written={"web"}, contents={A, B, C}),
        [*imports("app2"), *links("base", "app2", "conf")[1:], *named("app2"), WRITE, UNMOUNT, MOUNT],
    ),
    (
        "the chain of a volatile stack changes",
        {"stacks": [stack(writable="volatile", layers=["base", "app"])]},
        settled(stacks=[VOLATILE]),
        [WRITE, SWITCH, DETACHED],
    ),
    ("a layer fewer: all is there", {"stacks": [stack(layers=["base", "app"])]}, settled(), [WRITE, SWITCH]),
    ("persistent becomes none", STACK, settled(stacks=[PERSISTENT]), [UNMOUNT, DETACHED, WRITE, MOUNT]),
    (
        "persistent with contents becomes none",
        STACK,
        settled(stacks=[PERSISTENT], written={"web"}),
        [UNMOUNT, DETACHED, WRITE, MOUNT],
    ),
    (
        "persistent that is not mounted becomes none",
        STACK,
        settled(stacks=[PERSISTENT], mounts=[]),
        [DETACHED, WRITE, MOUNT],
    ),
    ("none becomes persistent", persistent(), settled(), [WRITE, SWITCH]),
    ("none becomes volatile", {"stacks": [stack(writable="volatile")]}, settled(), [WRITE, SWITCH]),
    ("volatile becomes persistent", persistent(), settled(stacks=[VOLATILE]), [WRITE, SWITCH, DETACHED]),
    (
        "a volatile stack mounted with other layers: its new tree needs a new volatile layer",
        {"stacks": [stack(writable="volatile")]},
        settled(stacks=[VOLATILE], mounts=[mounted(record(writable="volatile", layers=["base", "app"]))]),
        [WRITE, SWITCH, DETACHED],
    ),
    (
        "a volatile stack whose switch was killed after its record was written",
        {"stacks": [stack(writable="volatile")]},
        settled(stacks=[VOLATILE], mounts=[mounted(record(writable="volatile", stack_id="6" * 64))]),
        [SWITCH],
    ),
    (
        "a read-only stack whose switch was killed before the old tree was taken off",
        STACK,
        settled(mounts=[mounted(record()), mounted(record(layers=["base", "app"]), mount_id=61)]),
        [SWITCH],
    ),
    (
        "a kernel that puts nothing beneath",
        {"stacks": [stack(layers=["base", "app"])]},
        settled(abilities=KERNEL._replace(beneath=False)),
        [WRITE, SWITCH],
    ),
    (
        "the size of a volatile layer changes",
        {"stacks": [stack(writable="volatile", size="1g")]},
        settled(stacks=[VOLATILE]),
        [WRITE, SWITCH, DETACHED],
    ),
    ("the path moves", {"stacks": [stack(path="/srv/new")]}, settled(), [UNMOUNT, WRITE, MOUNT]),
    (
        "the path of an unmounted stack moves",
        {"stacks": [stack(path="/srv/new", state="unmounted")]},
        settled(stacks=[record(mounted=False)], mounts=[]),
        [WRITE],
    ),
    ("unmount", {"stacks": [stack(state="unmounted")]}, settled(), [WRITE, UNMOUNT]),
    (
        "unmounted already",
        {"stacks": [stack(state="unmounted")]},
        settled(stacks=[record(mounted=False)], mounts=[]),
        [],
    ),
    (
        "unmounted by record, mounted by hand",
        {"stacks": [stack(state="unmounted")]},
        settled(stacks=[record(mounted=False)]),
        [UNMOUNT],
    ),
    (
        "a new stack that is not to be mounted",
        {"stacks": [stack(state="unmounted")]},
        Host(names={name: DIFF_IDS[name] for name in ALL}),
        [*links(*ALL), WRITE],
    ),
    ("mount again", STACK, settled(stacks=[record(mounted=False)], mounts=[]), [WRITE, MOUNT]),
    ("after a reboot", STACK, settled(mounts=[]), [MOUNT]),
    ("absent", {"stacks": [{"name": "web", "state": "absent"}]}, settled(), [UNMOUNT, FORGET]),
    (
        "absent, persistent",
        {"stacks": [{"name": "web", "state": "absent"}]},
        settled(stacks=[PERSISTENT]),
        [UNMOUNT, DETACHED, FORGET],
    ),
    ("absent, not mounted", {"stacks": [{"name": "web", "state": "absent"}]}, settled(mounts=[]), [FORGET]),
    ("absent and never there", {"stacks": [{"name": "db", "state": "absent"}]}, settled(), []),
    ("a name goes", {"layers": [{"name": "conf", "state": "absent"}]}, settled(), [("drop_name", "layer conf")]),
    ("a name goes that is not there", {"layers": [{"name": "nobody", "state": "absent"}]}, settled(), []),
    (
        "exclusive: what is not named goes",
        {"layers": [layer("base")], "exclusive": True},
        settled(),
        [("drop_name", "layer app"), ("drop_name", "layer conf"), UNMOUNT, FORGET],
    ),
    ("exclusive, and all is named", {**WHOLE, "exclusive": True}, settled(), []),
    ("not exclusive: the rest stays", {"layers": [layer("base")]}, settled(), []),
    ("labels only", {"layers": [layer("base", labels={"tier": "gold"})]}, settled(), named("base")),
    ("another source of the same bytes", {"layers": [layer("base", src="/elsewhere.tar")]}, settled(), []),
    (
        "a name moves, its stack stays as it is written",
        {"layers": [layer("app2")]},
        settled(names={"app2": A}),
        named("app2"),
    ),
    ("known without path", {"stacks": [stack(path=None)]}, settled(), []),
    ("known without layers", {"stacks": [{"name": "web", "path": "/srv/web"}]}, settled(), []),
    ("known by its name alone, after a reboot", {"stacks": [{"name": "web"}]}, settled(mounts=[]), [MOUNT]),
    (
        "known by its name alone, to be unmounted",
        {"stacks": [{"name": "web", "state": "unmounted"}]},
        settled(),
        [WRITE, UNMOUNT],
    ),
    ("names lost, layers defined again", WHOLE, settled(names={}), named(*ALL)),
    ("content lost, its layer defined", WHOLE, settled(contents={A, C}), imports("app")),
    (
        "two stacks share every layer: each is linked once",
        {
            "layers": [layer(name) for name in ALL],
            "stacks": [stack("a", "/a"), stack("b", "/b"), stack("c", "/c", layers=["base"])],
        },
        FRESH,
        [
            ("create_store", f"store {ROOT}"),
            *imports(*ALL),
            *links(*ALL),
            *named(*ALL),
            ("write_stack", "stack a"),
            ("write_stack", "stack b"),
            ("write_stack", "stack c"),
            ("mount", "stack a"),
            ("mount", "stack b"),
            ("mount", "stack c"),
        ],
    ),
    (
        "two stacks change places",
        {"stacks": [stack("a", "/b"), stack("b", "/a")]},
        settled(stacks=[record("a", "/a"), record("b", "/b")]),
        [
            ("unmount", "stack a"),
            ("unmount", "stack b"),
            ("write_stack", "stack a"),
            ("write_stack", "stack b"),
            ("mount", "stack a"),
            ("mount", "stack b"),
        ],
    ),
    (
        "a stack takes the path of one that goes",
        {"stacks": [stack("new"), {"name": "web", "state": "absent"}]},
        settled(),
        [UNMOUNT, FORGET, ("write_stack", "stack new"), ("mount", "stack new")],
    ),
    (
        "more generations than are kept",
        {"stacks": [stack(generations=1)]},
        settled(stacks=[replace(record(), history=record().history * 2)]),
        [WRITE],
    ),
    (
        "a damaged writable layer",
        persistent(),
        settled(stacks=[PERSISTENT], writable_faults={"web": "its file 'link' is missing or wrong"}),
        [WRITE],
    ),
    (
        "a damaged layer",
        STACK,
        settled(faults={chain("base", "app"): "its file 'lower' is missing or wrong"}),
        [("link_layer", chain("base", "app"))],
    ),
    (
        "a record that was removed while its stack was mounted",
        STACK,
        settled(stacks=[], mounts=[mounted(record())]),
        [*links(*ALL), WRITE, UNMOUNT, MOUNT],
    ),
    (
        "drift: mounted twice",
        STACK,
        settled(mounts=[mounted(record()), mounted(record(), mount_id=61)]),
        [SWITCH],
    ),
    ("drift: other lowers", STACK, settled(mounts=[mounted(record(layers=["base", "app"]))]), [SWITCH]),
    ("drift: lowers in another order", STACK, settled(mounts=[mounted(record(layers=ALL[::-1]))]), [SWITCH]),
    ("drift: a read-only stack has an upper", STACK, settled(mounts=[mounted(PERSISTENT)]), [UNMOUNT, MOUNT]),
    (
        "drift: another upper",
        persistent(),
        settled(stacks=[PERSISTENT], mounts=[mounted(record(writable="persistent", stack_id="6" * 64))]),
        [UNMOUNT, MOUNT],
    ),
    (
        "drift: remounted read-only",
        persistent(),
        settled(stacks=[PERSISTENT], mounts=[mounted(PERSISTENT, options=("ro",))]),
        [UNMOUNT, MOUNT],
    ),
    (
        "drift: the bind of one layer can be written",
        {"stacks": [stack(layers=["base"])]},
        settled(stacks=[record(layers=["base"])], mounts=[mounted(record(layers=["base"]), options=("rw",))]),
        [SWITCH],
    ),
    ("a foreign mount that is to be covered", {"stacks": [stack(cover=True)]}, settled(mounts=[foreign()]), [MOUNT]),
    (
        "a foreign mount that is covered",
        {"stacks": [stack(cover=True)]},
        settled(mounts=[foreign(), mounted(record())]),
        [],
    ),
]


@pytest.mark.parametrize(("definition", "host", "expected"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_definition_on_a_host_gives_the_expected_steps(
    definition: dict[str, Any], host: Host, expected: list[tuple[str, str]]
) -> None:
    assert steps(definition, host) == expected


def over_ours(where: str = "stack web") -> str:
    return (
        f"{where}: option 'path': another file system (xfs /dev/sdb1) is mounted over the stack at /srv/web; unmount it"
    )


OLD_KERNEL = KERNEL._replace(release="5.10.0", lowerdir_append=False)
COVERED = settled(mounts=[mounted(record()), foreign()])
HIDDEN = PathFacts("/srv/web", "directory", False, "")

ERRORS = [
    ("foreign mount over ours", STACK, COVERED, [over_ours()]),
    ("foreign mount over ours, cover does not help", {"stacks": [stack(cover=True)]}, COVERED, [over_ours()]),
    ("foreign mount over ours, layers change", {"stacks": [stack(layers=["base", "app"])]}, COVERED, [over_ours()]),
    ("foreign mount over a stack that goes", {"stacks": [{"name": "web", "state": "absent"}]}, COVERED, [over_ours()]),
    ("foreign mount over a stack that moves", {"stacks": [stack(path="/srv/new")]}, COVERED, [over_ours()]),
    ("foreign mount over one to unmount", {"stacks": [stack(state="unmounted")]}, COVERED, [over_ours()]),
    (
        "foreign mount between two of ours",
        STACK,
        settled(mounts=[mounted(record()), foreign(), mounted(record(), mount_id=91)]),
        [over_ours()],
    ),
    (
        "foreign mount without cover",
        STACK,
        settled(mounts=[foreign()]),
        [
            (
                "stack web: option 'path': /srv/web is the mount point of another file system (xfs "
                "/dev/sdb1); unmount it, or "
                "set cover: true to mount over it"
            )
        ],
    ),
    (
        "directory that is not empty",
        STACK,
        settled(mounts=[], paths={"/srv/web": HIDDEN}),
        [
            (
                "stack web: option 'path': the directory /srv/web is not empty; empty it, or set cover: "
                "true to hide what is in "
                "it"
            )
        ],
    ),
    (
        "content lost and no source",
        STACK,
        settled(contents={A, C}),
        ["stack web: the content bbbbbbbbbbbb is missing from the store; define its layer with a source again"],
    ),
    (
        "layers unknown",
        {"stacks": [stack(layers=["base", "ap"])]},
        settled(),
        [
            (
                "stack web: option 'layers': no layer is named 'ap', neither in the definition nor in the "
                "store; did you mean "
                "'app'?"
            )
        ],
    ),
    (
        "a layer that goes is used",
        {"layers": [{"name": "db", "state": "absent"}], "stacks": [stack(layers=["db"])]},
        Host(names={"db": A, "x": B}),
        ["stack web: option 'layers': no layer is named 'db', neither in the definition nor in the store"],
    ),
    (
        "new stack by its name alone",
        {"stacks": [{"name": "db"}]},
        settled(),
        [
            "stack db: option 'path' is missing, and the store knows no stack of this name yet",
            "stack db: option 'layers' is missing, and the store knows no stack of this name yet",
        ],
    ),
    (
        "path inside that of another stack in the store",
        {"stacks": [stack("db", "/srv/web/db")]},
        settled(),
        [
            (
                "stack db: option 'path': /srv/web/db and /srv/web, the path of stack web in the store, "
                "are the same or one "
                "inside the other"
            )
        ],
    ),
    (
        "more layers than an old kernel takes",
        {"stacks": [stack(layers=["base"] * 200)]},
        settled(stacks=[], abilities=OLD_KERNEL),
        [f"stack web: option 'layers' has 200 layers; this kernel (5.10.0) mounts at most {OLD_KERNEL.layer_limit()}"],
    ),
    (
        "no right to mount",
        {"stacks": [stack()]},
        settled(mounts=[], store_faults=APPARMOR),
        ["stack web: this process may not mount (Permission denied); run it as root"],
    ),
    ("no right to mount, and all is mounted", {"stacks": [stack()]}, settled(store_faults=APPARMOR), []),
    (
        "a store that cannot be written",
        {"stacks": [stack()]},
        settled(mounts=[], read_only=True),
        [
            (
                "option 'root': the store /var/lib/strata lies on a file system that is read-only, so nothing can be "
                "changed in it; mount it writable, or set root to a directory that can be written"
            )
        ],
    ),
    ("a store that cannot be written, and all is right", {"stacks": [stack()]}, settled(read_only=True), []),
    (
        "a disk in the store",
        {"stacks": [stack()]},
        settled(stacks=[], apart=("content",)),
        [
            (
                "option 'root': something is mounted on /var/lib/strata/content in the store /var/lib/strata, or it is "
                "another subvolume. A store has to lie on one file system as a whole, since everything comes into it "
                "and leaves it by renaming; unmount it there, and mount at /var/lib/strata what is to hold the store"
            )
        ],
    ),
    (
        "no overlay, and it is asked for",
        {"stacks": [stack(driver="overlay")]},
        settled(mounts=[], abilities=NO_OVERLAY),
        [
            (
                "stack web: this kernel (6.12.0) has no overlay file system; load or build it, install "
                "fuse-overlayfs, or use driver: copy with writable: none or persistent"
            )
        ],
    ),
]

ERRORS += [
    (
        "no overlay, and a volatile stack finds no driver by itself",
        {"stacks": [stack(writable="volatile")]},
        settled(stacks=[], mounts=[], abilities=NO_OVERLAY),
        [
            (
                "stack web: option 'writable': volatile: this kernel (6.12.0) has no overlay file system; load or "
                "build it, install fuse-overlayfs, or use driver: copy with writable: none or persistent"
            )
        ],
    ),
    (
        "a copy in memory",
        {"stacks": [stack(writable="volatile", driver="copy")]},
        settled(stacks=[], mounts=[]),
        [
            (
                "stack web: option 'writable': volatile: driver: copy has no changes in memory; use driver: overlay, "
                "or writable: persistent"
            )
        ],
    ),
    (
        "fuse-overlayfs is asked for and not there",
        {"stacks": [stack(driver="fuse-overlayfs")]},
        settled(stacks=[], mounts=[]),
        [
            (
                "stack web: option 'driver': the program fuse-overlayfs is not installed on this host, or /dev/fuse "
                "cannot be used; install the package of this name, or leave the option out"
            )
        ],
    ),
    (
        "other layers below what was written into a copy",
        {"stacks": [stack(layers=["base", "app"], writable="persistent", driver="copy")]},
        settled(stacks=[record(writable="persistent", driver="copy")], mounts=[]),
        [
            (
                "stack web: option 'layers': the stack is a copy that can be written (driver: copy), so other layers "
                "cannot come below what was written; set on_change: reset to begin with a new copy, and the old one "
                "is set aside"
            )
        ],
    ),
    (
        "a generation that is not kept",
        {"stacks": [{"name": "web", "generation": "7"}]},
        settled(),
        ["stack web: option 'generation': the stack has no generation 7; there is: 1 (base, app, conf)"],
    ),
    (
        "back from the only generation",
        {"stacks": [{"name": "web", "generation": "previous"}]},
        settled(),
        ["stack web: option 'generation': the stack has no generation before this one; there is: 1 (base, app, conf)"],
    ),
]


@pytest.mark.parametrize(("definition", "host", "expected"), [pytest.param(*row[1:], id=row[0]) for row in ERRORS])
def test_definition_on_a_host_gives_the_expected_errors(
    definition: dict[str, Any], host: Host, expected: list[str]
) -> None:
    assert list(make_plan(definition, host).errors) == expected


def test_recorded_chain_longer_than_the_kernel_limit_is_refused() -> None:
    host = settled(stacks=[record(layers=["base"] * 501)], mounts=[])
    assert make_plan({"stacks": [{"name": "web"}]}, host).errors == (
        "stack web: option 'layers' has 501 layers; this kernel (6.12.0) mounts at most 500",
    )


def test_kernel_without_overlay_binds_one_layer() -> None:
    assert steps({"stacks": [stack(layers=["base"])]}, settled(stacks=[], abilities=NO_OVERLAY))[-2:] == [WRITE, MOUNT]


def test_plan_for_a_fresh_host_is_described_step_by_step() -> None:
    assert texts(WHOLE, FRESH) == [
        "create the store /var/lib/strata",
        "import content aaaaaaaaaaaa from /base.tar",
        "import content bbbbbbbbbbbb from /app.tar",
        "import content cccccccccccc from /conf.tar",
        "link layer aaaaaaaaaaaa (content aaaaaaaaaaaa)",
        f"link layer {hex_of(chain('base', 'app'))[:12]} (content bbbbbbbbbbbb) above aaaaaaaaaaaa",
        f"link layer {hex_of(chain(*ALL))[:12]} (content cccccccccccc) above {hex_of(chain('base', 'app'))[:12]}",
        "name content aaaaaaaaaaaa 'base'",
        "name content bbbbbbbbbbbb 'app'",
        "name content cccccccccccc 'conf'",
        "record stack web: base, app, conf",
        "mount 3 layers at /srv/web (read-only)",
    ]


@pytest.mark.parametrize(
    ("definition", "host", "expected"),
    [
        (
            {"stacks": [stack(layers=["base", "conf"], writable="persistent")]},
            settled(stacks=[VOLATILE]),
            [
                f"link layer {hex_of(chain('base', 'conf'))[:12]} (content cccccccccccc) above aaaaaaaaaaaa",
                "record stack web: layers base, app, conf become base, conf; writable volatile becomes persistent",
                "switch /srv/web to 2 layers without a gap: it becomes persistent",
                "remove the volatile layer 555555555555 of stack web",
            ],
        ),
        (
            STACK,
            settled(stacks=[PERSISTENT], written={"web"}),
            [
                "unmount /srv/web: it becomes none",
                "set the persistent layer 555555555555 of stack web aside",
                "record stack web: writable persistent becomes none",
                "mount 3 layers at /srv/web (read-only)",
            ],
        ),
        (
            {"stacks": [stack(path="/srv/new")]},
            settled(),
            [
                "unmount /srv/web: the stack moves to /srv/new",
                "record stack web: path /srv/web becomes /srv/new",
                "mount 3 layers at /srv/new (read-only)",
            ],
        ),
        (
            {"stacks": [stack(state="unmounted")]},
            settled(),
            ["record stack web: state mounted becomes unmounted", "unmount /srv/web: it is to be unmounted"],
        ),
        (
            {"stacks": [stack(layers=["base", "app", "renamed"])]},
            settled(names={"base": A, "app": B, "renamed": C}),
            ["record stack web: the same layers are now written base, app, renamed"],
        ),
        (
            persistent(),
            settled(stacks=[PERSISTENT], writable_faults={"web": "missing"}, mounts=[]),
            ["record stack web: the writable layer is repaired (missing)", "mount 3 layers at /srv/web (persistent)"],
        ),
        (
            {"layers": [layer("base", labels={"tier": "gold"}), layer("app2")]},
            settled(names={"base": A, "app2": B}),
            ["change the labels of 'base'", "move name 'app2' from content bbbbbbbbbbbb to dddddddddddd"],
        ),
        (
            STACK,
            settled(mounts=[mounted(record()), mounted(record(), mount_id=61)]),
            ["switch /srv/web (2 mounts) to 3 layers without a gap: it is mounted more than once"],
        ),
        (
            STACK,
            settled(mounts=[mounted(record(layers=["base", "conf"]))], abilities=KERNEL._replace(beneath=False)),
            [
                (
                    "switch /srv/web to 3 layers by unmounting and mounting: what is mounted is not what the record "
                    "says: it shows 2 layers of 3"
                )
            ],
        ),
        (
            STACK,
            settled(
                mounts=[mounted(record(), options=("rw",), super_options=("rw", *mounted(record()).super_options[1:]))]
            ),
            [
                (
                    "switch /srv/web to 3 layers without a gap: what is mounted is not what the record says: it can be "
                    "written"
                )
            ],
        ),
        (
            STACK,
            settled(faults={chain("base"): "its file 'link' is missing or wrong", chain(*ALL): "missing"}),
            [
                "repair layer aaaaaaaaaaaa: its file 'link' is missing or wrong",
                (
                    f"link layer {hex_of(chain(*ALL))[:12]} (content cccccccccccc) above "
                    f"{hex_of(chain('base', 'app'))[:12]}"
                ),
            ],
        ),
        (
            {"stacks": [{"name": "web", "state": "absent"}], "layers": [{"name": "conf", "state": "absent"}]},
            settled(stacks=[PERSISTENT], written={"web"}),
            [
                "forget the name 'conf'",
                "unmount /srv/web: the stack goes away",
                "set the persistent layer 555555555555 of stack web aside",
                "forget stack web",
            ],
        ),
    ],
)
def test_plan_of_a_change_is_described_with_its_reasons(
    definition: dict[str, Any], host: Host, expected: list[str]
) -> None:
    assert texts(definition, host) == expected


def step_of(kind: type[Any], definition: Mapping[str, Any], host: Host) -> Any:
    (found,) = [step for step in make_plan(definition, host).steps if isinstance(step, kind)]
    return found


def test_detached_upper_is_kept_only_when_it_has_contents() -> None:
    assert step_of(SetAside, STACK, settled(stacks=[PERSISTENT], written={"web"})).written
    assert not step_of(SetAside, STACK, settled(stacks=[PERSISTENT])).written


@pytest.mark.parametrize(
    ("definition", "host", "stack_id", "fresh"),
    [
        (WHOLE, FRESH, "", True),
        (persistent(layers=["base", "app"]), settled(stacks=[PERSISTENT]), STACK_ID, True),
        (persistent(path="/srv/new"), settled(stacks=[PERSISTENT]), STACK_ID, False),
        (persistent(), settled(stacks=[VOLATILE]), "", False),
        (STACK, settled(stacks=[PERSISTENT]), "", False),
    ],
)
def test_record_names_its_upper_and_whether_its_generation_is_new(
    definition: dict[str, Any], host: Host, stack_id: str, fresh: bool
) -> None:
    step = step_of(WriteStack, definition, host)
    assert (step.stack_id, step.fresh_generation) == (stack_id, fresh)


@pytest.mark.parametrize("on_busy", ["fail", "detach"])
@pytest.mark.parametrize(
    "change", [{"state": "absent"}, {"state": "unmounted"}, {"layers": ["base"], "on_change": "reset"}]
)
def test_every_unmount_detaches_only_with_on_busy_detach(change: dict[str, Any], on_busy: str) -> None:
    definition = persistent(**change, on_busy=on_busy)
    assert step_of(Unmount, definition, settled(stacks=[PERSISTENT])).detach is (on_busy == "detach")


@pytest.mark.parametrize("change", [{"path": "/new"}, {"layers": ["base"]}, {"mount_options": ["nosuid"]}])
def test_detach_of_a_persistent_layer_to_be_mounted_again_is_refused(change: dict[str, Any]) -> None:
    planned = make_plan(persistent(**change, on_busy="detach"), settled(stacks=[PERSISTENT]))
    assert [problem for problem in planned.errors if "option 'on_busy': detach cannot be used here" in problem]
    assert not make_plan(persistent(**change), settled(stacks=[PERSISTENT])).errors


@pytest.mark.parametrize("change", [{"state": "absent"}, {"layers": ["base"], "on_change": "reset"}])
def test_empty_upper_of_a_stack_with_on_busy_detach_is_kept(change: dict[str, Any]) -> None:
    assert step_of(SetAside, persistent(**change, on_busy="detach"), settled(stacks=[PERSISTENT])).written
    assert not step_of(SetAside, persistent(**change), settled(stacks=[PERSISTENT])).written


def test_switch_counts_every_mount_of_the_stack_and_no_foreign_one() -> None:
    twice = settled(mounts=[foreign(), mounted(record()), mounted(record(), mount_id=91)])
    assert step_of(Switch, {"stacks": [stack(cover=True)]}, twice).count == 2


def test_content_twice_in_a_chain_is_linked_twice_and_imported_once() -> None:
    definition = {"layers": [layer("base"), layer("app")], "stacks": [stack(layers=["base", "app", "base"])]}
    planned = make_plan(definition, FRESH)
    linked = [step for step in planned.steps if isinstance(step, LinkLayer)]
    assert [step.layer.twin for step in linked] == [False, False, True]
    assert [step.bytes for step in linked] == [0, 0, 1000]
    assert [step.object for step in planned.steps if isinstance(step, ImportContent)] == [A, B]


def test_plan_results_have_action_object_text_and_bytes() -> None:
    assert make_plan({"layers": [layer("base")]}, FRESH).results() == [
        {"action": "create_store", "object": f"store {ROOT}", "text": f"create the store {ROOT}", "bytes": 0},
        {"action": "import_content", "object": A, "text": "import content aaaaaaaaaaaa from /base.tar", "bytes": 1000},
        {"action": "set_name", "object": "layer base", "text": "name content aaaaaaaaaaaa 'base'", "bytes": 0},
    ]


def generations(*chains: list[str], back_to: int = 0) -> StackRecord:
    """A stack that has had these chains, the last one now."""
    kept = [
        Generation(number, tuple(DIFF_IDS[name] for name in names), tuple(names), "2026-01-01T00:00:00Z")
        for number, names in enumerate(chains, 1)
    ]
    kept[-1] = replace(kept[-1], back_to=back_to)
    return replace(record(), history=tuple(reversed(kept)))


@pytest.mark.parametrize(
    ("generation", "layers", "back_to"),
    [("previous", ("base", "app"), 2), ("1", ("base",), 1), ("3", ("base", "app", "conf"), 3)],
)
def test_stack_goes_back_to_the_chain_of_a_generation(generation: str, layers: tuple[str, ...], back_to: int) -> None:
    host = settled(stacks=[generations(["base"], ["base", "app"], ALL)])
    desired = desire(
        normalise("apply", {"stacks": [{"name": "web", "generation": generation}]})[0], {}, host.known(), []
    )
    assert [(one.layers, one.back_to) for one in desired.stacks] == [(layers, back_to)]


@pytest.mark.parametrize("generation", ["previous", "1"])
def test_going_back_twice_to_a_generation_changes_nothing(generation: str) -> None:
    host = settled(stacks=[generations(["base"], ["base", "app"], ["base"], back_to=1)])
    definition = {"stacks": [{"name": "web", "generation": generation}]}
    assert steps(definition, host) == []
