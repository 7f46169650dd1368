# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What store_check finds in damaged stores, what repair makes of it, and that it says so only where it is so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, hex_of, link_id
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, dump
from ansible_collections.strata.overlay.tests.integration.host import Host, snapshot
from ansible_collections.strata.overlay.tests.integration.layers import inline

LAYERS = [inline("base", etc__os="base"), inline("app", bin__app="app"), inline("site", etc__site="site")]


def definition(host: Host, **stack: Any) -> dict[str, Any]:
    chosen = {"name": "web", "path": host.path("web"), "layers": ["base", "app", "site"], **stack}
    return {"layers": LAYERS, "stacks": [chosen]}


def kinds(result: dict[str, Any]) -> set[str]:
    return {finding["kind"] for finding in result["findings"]}


@pytest.fixture
def sound(host: Host) -> Host:
    """A persistent stack of three layers with a file written, unmounted."""
    host.run(**definition(host, writable="persistent"))
    Path(host.path("web"), "written").write_text("by a user")
    host.run(**definition(host, writable="persistent", state="unmounted"))
    assert host.check(deep=True)["findings"] == []
    return host


def layer_ids(host: Host) -> list[str]:
    return [hex_of(chain_id) for chain_id in chain_ids(host.store.stacks()["web"].diff_ids)]


def stack_id(host: Host) -> str:
    return host.store.stacks()["web"].stack_id


def test_sound_store_has_no_findings(host: Host) -> None:
    assert host.check() == {"changed": False, "findings": [], "diff": {"before": "", "after": ""}}
    assert not host.root.exists()
    host.run(**definition(host))
    assert host.check(deep=True)["findings"] == []
    assert host.check(repair=True)["changed"] is False


def _replace(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def _empty_links(host: Host) -> None:
    for link in (host.root / "overlay2/l").iterdir():
        link.unlink()


def _links_elsewhere(host: Host) -> None:
    (host.root / "overlay2/l").rename(host.top / "elsewhere")
    (host.root / "overlay2/l").symlink_to(host.top / "elsewhere")


def _second_link(host: Host) -> None:
    (host.root / "overlay2/l" / ("A" * 26)).symlink_to(f"../{layer_ids(host)[0]}/diff")


def _dangling_link(host: Host) -> None:
    (host.root / "overlay2/l" / ("B" * 26)).symlink_to(f"../{'0' * 64}/diff")


def _link_astray(host: Host) -> None:
    path = host.root / "overlay2/l" / link_id(layer_ids(host)[1])
    path.unlink()
    path.symlink_to(host.top / "elsewhere")


def _layer_file(name: str, text: str | None) -> Callable[[Host], None]:
    def damage(host: Host) -> None:
        path = host.root / "overlay2" / layer_ids(host)[1] / name
        path.unlink()
        if text is not None:
            path.write_text(text)

    return damage


def _remove(*parts: str) -> Callable[[Host], None]:
    def damage(host: Host) -> None:
        path = host.root.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    return damage


def _orphaned_layer(host: Host) -> None:
    directory = host.root / "overlay2" / ("1" * 64)
    directory.mkdir()
    (directory / "diff").symlink_to("../../content/sha256/x")


def _broken_chain(host: Host) -> None:
    directory = host.root / "image/overlay2/layerdb/sha256" / ("2" * 64)
    directory.mkdir()
    (directory / "diff").write_text("sha256:" + "3" * 64)
    (directory / "parent").write_text("sha256:" + "4" * 64)


def _mount_record(host: Host) -> None:
    (host.root / "image/overlay2/layerdb/mounts" / ("5" * 64)).mkdir()


def _leftovers(host: Host) -> None:
    (host.root / "staging/dead").mkdir()
    (host.root / "trash/dead").mkdir()


def _foreign(host: Host) -> None:
    (host.root / "strata/names/notes.txt").write_text("mine")


def _work(host: Host) -> None:
    (host.root / "overlay2" / stack_id(host) / "work/mine").write_text("mine")


def _content_record(host: Host) -> None:
    (host.root / "strata/contents" / f"{'6' * 64}.json").write_text(
        dump(ContentRecord("sha256:" + "6" * 64, 1, 1, "x", "x", digest="7" * 64))
    )


def _in_stack(name: str) -> Callable[[Host], None]:
    return lambda host: (host.root / "overlay2" / stack_id(host) / name).unlink()


def _in_layer(name: str) -> Callable[[Host], None]:
    def damage(host: Host) -> None:
        path = host.root / "overlay2" / layer_ids(host)[1] / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    return damage


def _in_layerdb(name: str) -> Callable[[Host], None]:
    def damage(host: Host) -> None:
        (host.root / "image/overlay2/layerdb/sha256" / layer_ids(host)[1] / name).write_text("x")

    return damage


DAMAGES: dict[str, tuple[str, Callable[[Host], None]]] = {
    "directory missing": ("directory_wrong", _remove("trash")),
    "something foreign": ("foreign_file", _foreign),
    "leftovers": ("leftover", _leftovers),
    "layer missing": ("layer_missing", lambda host: shutil.rmtree(host.root / "overlay2" / layer_ids(host)[1])),
    "layer orphaned": ("layer_orphaned", _orphaned_layer),
    "layerdb missing": (
        "layer_record_missing",
        lambda host: shutil.rmtree(host.root / "image/overlay2/layerdb/sha256" / layer_ids(host)[1]),
    ),
    "layerdb wrong": ("layer_record_wrong", _in_layerdb("parent")),
    "layerdb size": ("layer_record_wrong", _in_layerdb("size")),
    "chain broken": ("chain_broken", _broken_chain),
    "link missing": ("link_wrong", _layer_file("link", None)),
    "link empty": ("link_wrong", _layer_file("link", "")),
    "link malformed": ("link_wrong", _layer_file("link", "nonsense\n")),
    "link of another": ("link_wrong", _layer_file("link", "A" * 26)),
    "lower missing": ("lower_wrong", _layer_file("lower", None)),
    "lower empty": ("lower_wrong", _layer_file("lower", "")),
    "lower malformed": ("lower_wrong", _layer_file("lower", "../../etc")),
    "lower of another": ("lower_wrong", _layer_file("lower", "l/" + "A" * 26)),
    "diff missing": ("diff_wrong", _layer_file("diff", None)),
    "diff a file": ("diff_wrong", _layer_file("diff", "x")),
    "work missing": ("work_missing", _in_layer("work")),
    "work foreign": ("work_foreign", _work),
    "committed missing": ("committed_missing", _in_layer("committed")),
    "l a link": ("short_links_replaced", _links_elsewhere),
    "l empty": ("short_link_missing", _empty_links),
    "l missing": ("directory_wrong", _remove("overlay2/l")),
    "short link astray": ("short_link_wrong", _link_astray),
    "short link dangling": ("short_link_dangling", _dangling_link),
    "short link doubled": ("short_link_doubled", _second_link),
    "content records missing": ("content_record_missing", _remove("strata/contents")),
    "content record orphaned": ("content_record_orphaned", _content_record),
    "upper's link missing": ("writable_wrong", _in_stack("link")),
    "upper's mark missing": ("writable_wrong", _in_stack("upper")),
    "mount record orphaned": ("writable_record_orphaned", _mount_record),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_to_derived_or_orphaned_parts_is_found_and_repaired(sound: Host, name: str) -> None:
    kind, damage = DAMAGES[name]
    damage(sound)
    before = snapshot(sound.root)
    found = sound.check()
    assert kind in kinds(found)
    assert found["changed"] is False
    announced = sound.check(check=True, repair=True, deep=True)
    assert announced["changed"] is True
    assert announced["findings"] == found["findings"]
    assert snapshot(sound.root) == before
    done = sound.check(repair=True)
    assert done["changed"] is True
    assert kind in kinds(done)
    assert all(finding["repairable"] for finding in done["findings"])
    assert sound.check(deep=True)["findings"] == []
    assert sound.check(repair=True)["changed"] is False
    sound.run(**definition(sound, writable="persistent"))
    assert sound.tree("web") == {"bin/app": "app", "etc/os": "base", "etc/site": "site", "written": "by a user"}


def test_lost_content_is_imported_again_by_the_next_run(sound: Host) -> None:
    lost = sound.store.stacks()["web"].diff_ids[1]
    shutil.rmtree(sound.store.content(lost))
    found = sound.check(repair=True)
    assert found["changed"] is False
    assert [(item["kind"], item["object"], item["repairable"]) for item in found["findings"]] == [
        ("content_missing", lost, False)
    ]
    sound.run(**definition(sound, writable="persistent"))
    assert sound.check(deep=True)["findings"] == []
    assert sound.tree("web")["bin/app"] == "app"


def test_changed_content_is_moved_to_lost_and_imported_again(host: Host) -> None:
    host.run(**definition(host, state="unmounted"))
    changed = host.store.stacks()["web"].diff_ids[1]
    path = Path(host.store.content(changed), "bin/app")
    facts = path.stat()
    path.write_text("bad")  # of the same size and time, so that only reading tells
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert host.check()["findings"] == []
    assert kinds(host.check(deep=True)) == {"content_changed"}
    assert host.check(deep=True, repair=True)["changed"] is True
    (kept,) = (host.root / "strata/lost").iterdir()
    assert (kept / "bin/app").read_text() == "bad"
    host.run(**definition(host))
    assert host.check(deep=True)["findings"] == []
    assert host.tree("web")["bin/app"] == "app"


def test_damaged_stack_record_loses_no_written_files(sound: Host) -> None:
    Path(sound.store.stack_file("web")).write_text("{")
    assert {"record_damaged", "writable_orphaned"} <= kinds(sound.check())
    sound.check(repair=True)
    assert sound.check()["findings"] == []
    assert [path.read_text() for path in (sound.root / "strata/lost").rglob("written")] == ["by a user"]
    sound.run(**definition(sound, writable="persistent"))
    assert sound.check()["findings"] == []


@pytest.mark.parametrize("said", ["", "0", None, 7], ids=repr)
def test_content_record_without_digest_is_reported_and_repaired(sound: Host, said: object) -> None:
    changed = sound.store.stacks()["web"].diff_ids[1]
    record = Path(sound.store.content_file(changed))
    record.write_text(json.dumps({**json.loads(record.read_text()), "digest": said}))
    assert kinds(sound.check()) == {"record_damaged", "content_record_missing"}
    sound.check(repair=True)
    assert sound.check(deep=True)["findings"] == []
    Path(sound.store.content(changed), "bin/app").write_text("bad")
    assert kinds(sound.check(deep=True)) == {"content_changed"}


# Two mounts of one upper: the kernel allows it where `index` is off, and what comes of it is undefined.

STACKED = "mount -i -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {path}"


@contextmanager
def elsewhere(*commands: str) -> Iterator[None]:
    """Commands in a mount namespace of their own, which lives as long as the context."""
    script = " && ".join([*commands, "echo done", "read _wait"])
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        assert shell.stdout.readline() == b"done\n"
        try:
            yield
        finally:
            shell.kill()


def mount_again(host: Host) -> str:
    layer = f"{host.root}/overlay2/{stack_id(host)}"
    lower = f"{host.root}/overlay2/l/{link_id(layer_ids(host)[0])}"
    return STACKED.format(lower=lower, upper=f"{layer}/diff", work=f"{layer}/work", path=host.top / "second")


@pytest.mark.drivers("overlay", "fuse-overlayfs")
def test_upper_shared_by_two_overlays_is_reported(sound: Host) -> None:
    sound.run(**definition(sound, writable="persistent"))
    upper = f"overlay2/{stack_id(sound)}/diff"
    (sound.top / "second").mkdir()
    with elsewhere("true"):
        assert sound.check()["findings"] == [], "a copy of the mount in another namespace is the same mount"
    with elsewhere(mount_again(sound)):
        found = [item for item in sound.check(repair=True)["findings"] if item["kind"] == "upper_shared"]
        assert [(item["severity"], item["object"], item["repairable"]) for item in found] == [("error", upper, False)]
        assert "2 overlays write into it" in found[0]["message"]
    assert sound.check()["findings"] == []
    other = json.loads(Path(sound.store.stack_file("web")).read_text())
    Path(sound.store.stack_file("other")).write_text(json.dumps({**other, "name": "other", "mounted": False}))
    assert "records of stacks other, web" in str(sound.check()["findings"])


def test_store_at_the_same_path_in_a_container_causes_no_finding(sound: Host) -> None:
    """Its stacks have uppers of the same names as ours; they are not ours."""
    sound.run(**definition(sound, writable="persistent"))
    (sound.top / "second").mkdir()
    subprocess.run(["cp", "--archive", sound.root, sound.top / "copy"], check=True)
    with elsewhere(f"mount --bind {sound.top}/copy {sound.root}", mount_again(sound)):
        assert sound.check()["findings"] == []


def test_missing_or_wrong_mount_is_reported(host: Host) -> None:
    host.run(**definition(host))
    subprocess.run(["umount", host.path("web")], check=True)
    assert kinds(host.check()) == {"mount_missing"}
    links = [f"{host.root}/overlay2/l/{link_id(layer_id)}" for layer_id in layer_ids(host)[:2]]
    options = f"lowerdir={links[1]}:{links[0]}"
    subprocess.run(["mount", "-i", "-t", "overlay", "overlay", "-o", options, host.path("web")], check=True)
    assert kinds(host.check()) == {"mount_wrong"}
    host.run(**definition(host))
    assert host.check()["findings"] == []
