# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What mounts stacks at boot: texts, names, and files in a directory of the test's own."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot.entries import (
    boot_changes,
    boot_entry,
    boot_problems,
    escape_path,
)
from ansible_collections.strata.overlay.plugins.module_utils._boot.facts import observe_boot
from ansible_collections.strata.overlay.plugins.module_utils._boot.files import remove_entries, write_entries
from ansible_collections.strata.overlay.plugins.module_utils._boot.fstab import (
    block_lines,
    escape,
    first_field,
    with_block,
)
from ansible_collections.strata.overlay.plugins.module_utils._boot.model import BootEntry, BootFacts, Places
from ansible_collections.strata.overlay.plugins.module_utils._linux.mounts import Mount

ROOT = "/var/lib/strata"

UNIT = """\
# strata.overlay: stack web of the store /var/lib/strata. Written by Ansible; changes are overwritten.
[Unit]
Description=Stack web
Documentation=https://github.com/strata-overlay/strata.overlay
RequiresMountsFor=/var/lib/strata /usr/local/lib/strata
Before=app.service worker@1.service

[Mount]
What=web
Where=/srv/web
Type=strata
Options=root=/var/lib/strata

[Install]
WantedBy=local-fs.target
RequiredBy=app.service worker@1.service
"""

SERVICES = ("app.service", "worker@1.service")


def test_unit_for_services_has_expected_text_path_and_links() -> None:
    entry = boot_entry(BootFacts(), "web", "/srv/web", ROOT, SERVICES)
    units = "/etc/systemd/system"
    assert entry.text == UNIT
    assert entry.path == f"{units}/srv-web.mount"
    assert entry.links == {
        f"{units}/local-fs.target.wants/srv-web.mount",
        f"{units}/app.service.requires/srv-web.mount",
        f"{units}/worker@1.service.requires/srv-web.mount",
    }


def test_unit_without_services_has_no_before_and_no_required_by() -> None:
    entry = boot_entry(BootFacts(), "web", "/srv/web", ROOT, ())
    assert "Before=" not in entry.text
    assert entry.text.endswith("[Install]\nWantedBy=local-fs.target\n")


def test_store_on_the_network_gets_netdev_and_remote_fs_target() -> None:
    entry = boot_entry(BootFacts(remote=True), "web", "/srv/web", ROOT, ())
    assert "Options=root=/var/lib/strata,_netdev\n" in entry.text
    assert entry.links == {"/etc/systemd/system/remote-fs.target.wants/srv-web.mount"}


def test_characters_special_to_systemd_are_escaped_in_the_unit() -> None:
    entry = boot_entry(BootFacts(), "web", "/srv/100% of\ttwo", "/a b/50%", ())
    assert "Where=/srv/100%% of\ttwo\n" in entry.text
    assert 'RequiresMountsFor="/a b/50%%" ' in entry.text
    assert "Options=root=/a b/50%%\n" in entry.text


PATHS = ["/srv/web", "/srv/my-web", "/srv/.hidden", "/.top", "/a b", "/ü", "/x/%n", "/back\\slash", "/a:b_c.d", "/@"]


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="the program systemd-escape is not here")
def test_unit_name_of_a_path_equals_that_of_systemd_escape() -> None:
    numbers = random.Random(4)
    letters = [chr(code) for code in range(32, 127) if chr(code) != "/"]
    drawn = ["/" + "".join(numbers.choices(letters, k=12)) + "/x" for _number in range(40)]
    # systemd-escape takes no name that is nothing but dots.
    for path in PATHS + drawn:
        done = subprocess.run(["systemd-escape", "--path", "--", path], capture_output=True, text=True, check=True)
        assert escape_path(path) == done.stdout.strip()


def test_unit_name_of_the_root_directory_is_a_dash() -> None:
    assert escape_path("/") == "-"


@pytest.mark.parametrize(
    ("path", "root", "told"),
    [
        ("/srv/web", "/a,b", "no mount option can hold"),
        ("/srv/web", '/a"b', "no mount option can hold"),
        ("/srv/web\\", ROOT, "no unit file can hold"),
        ("/srv/web ", ROOT, "no unit file can hold"),
        (os.fsdecode(b"/srv/\xff"), ROOT, "no unit file can hold"),
        ("/" + "ü" * 70, ROOT, "more than 255 characters"),
        ("/srv/foreign", ROOT, "was not written for this stack"),
    ],
)
def test_boot_entry_that_cannot_be_written_is_reported(path: str, root: str, told: str) -> None:
    facts = BootFacts(foreign=frozenset({"/etc/systemd/system/srv-foreign.mount"}))
    (problem,) = boot_problems("stack web", boot_entry(facts, "web", path, root, ()), path, root, facts)
    assert problem.startswith("stack web: option 'boot': ")
    assert told in problem


def test_ordinary_stack_has_no_boot_errors() -> None:
    for facts in (BootFacts(), BootFacts(systemd=False)):
        entry = boot_entry(facts, "web", "/srv/a b", ROOT, ())
        assert boot_problems("stack web", entry, "/srv/a b", ROOT, facts) == []


# From what is there to what shall be.


def facts_with(*entries: BootEntry) -> BootFacts:
    return BootFacts(helper=True, entries=entries)


WEB = boot_entry(BootFacts(), "web", "/srv/web", ROOT, SERVICES)
DB = boot_entry(BootFacts(), "db", "/srv/db", ROOT, ())


def test_correct_boot_entry_with_a_foreign_link_is_kept() -> None:
    found = BootEntry("web", WEB.path, WEB.text, WEB.links | {"/etc/systemd/system/others.target.wants/srv-web.mount"})
    changes = boot_changes({"web": WEB}, {"web"}, ["web"], facts_with(found))
    assert (changes.removed, changes.written) == ((), ())


@pytest.mark.parametrize(
    "found", [BootEntry("web", WEB.path, "other", WEB.links), BootEntry("web", WEB.path, WEB.text)]
)
def test_boot_entry_with_wrong_text_or_missing_links_is_rewritten(found: BootEntry) -> None:
    changes = boot_changes({"web": WEB}, {"web"}, ["web"], facts_with(found))
    assert (changes.removed, changes.written) == ((), ((WEB, frozenset()),))


def test_links_of_dropped_services_are_removed_and_foreign_ones_kept() -> None:
    other = "/etc/systemd/system/other.service.requires/srv-web.mount"
    now = boot_entry(BootFacts(), "web", "/srv/web", ROOT, SERVICES[:1])
    found = BootEntry("web", WEB.path, WEB.text, WEB.links | {other})
    changes = boot_changes({"web": now}, {"web"}, ["web"], facts_with(found))
    assert changes.written == ((now, frozenset({"/etc/systemd/system/worker@1.service.requires/srv-web.mount"})),)


def test_stale_boot_entries_are_removed_and_those_of_others_kept() -> None:
    lost = BootEntry("lost", "/etc/systemd/system/srv-lost.mount", "x")
    moved = BootEntry("web", "/etc/systemd/system/srv-old.mount", "x")
    # "db" is a stack of another definition; "lost" is one that the store knows no more.
    changes = boot_changes({"web": WEB}, {"web"}, ["web", "db"], facts_with(DB, lost, moved))
    assert changes.removed == (lost, moved)
    assert changes.written == ((WEB, frozenset()),)
    assert boot_changes({}, {"db"}, ["db"], facts_with(DB)).removed == (DB,)


# Files.


@pytest.fixture
def places(tmp_path: Path) -> Places:
    init = tmp_path / "sbin/init"
    init.parent.mkdir()
    init.symlink_to("../lib/systemd/systemd")
    (tmp_path / "etc").mkdir()
    return Places(
        units=str(tmp_path / "etc/units"),
        fstab=str(tmp_path / "etc/fstab"),
        init=str(init),
        helper=str(tmp_path / "sbin/mount.strata"),
        running=str(tmp_path / "run"),
    )


def test_units_are_written_observed_and_removed(places: Places) -> None:
    facts = observe_boot(ROOT, [], places)
    assert (facts.entries, facts.helper, facts.systemd) == ((), False, True)
    entry = boot_entry(facts, "web", "/srv/web", ROOT, SERVICES)
    write_entries([(entry, frozenset())], ROOT)
    assert all(os.readlink(link) == entry.path for link in entry.links)
    assert observe_boot(ROOT, [], places).entries == (entry,)
    assert observe_boot("/other", [], places).foreign == {entry.path}
    fewer = boot_entry(facts, "web", "/srv/web", ROOT, ())
    write_entries([(fewer, entry.links - fewer.links)], ROOT)
    assert observe_boot(ROOT, [], places).entries == (fewer,)
    assert sorted(os.listdir(places.units)) == ["local-fs.target.wants", "srv-web.mount"]
    remove_entries([fewer], ROOT)
    remove_entries([fewer], ROOT)
    assert os.listdir(places.units) == []


def test_fstab_lines_are_written_observed_and_removed_without_systemd(places: Places) -> None:
    os.unlink(places.init)
    original = "# mine\r\nUUID=1  /  ext4 defaults 0 1"
    Path(places.fstab).write_bytes(original.encode())
    os.chmod(places.fstab, 0o640)
    facts = observe_boot(ROOT, [], places)
    assert not facts.systemd
    web, shop = (boot_entry(facts, name, path, ROOT, ()) for name, path in (("web", "/srv/a b"), ("shop", "/srv/#1")))
    write_entries([(web, frozenset()), (shop, frozenset())], ROOT)
    text = Path(places.fstab).read_bytes().decode()
    assert text.startswith(original + "\n# BEGIN strata.overlay /var/lib/strata ")
    assert "\nweb /srv/a\\040b strata root=/var/lib/strata 0 0\nshop /srv/\\0431 strata root" in text
    assert os.stat(places.fstab).st_mode & 0o777 == 0o640
    assert observe_boot(ROOT, [], places).entries == (web, shop)
    assert observe_boot("/other", [], places).entries == ()
    moved = boot_entry(facts, "web", "/srv/c", ROOT, ())
    write_entries([(moved, frozenset())], ROOT)
    assert observe_boot(ROOT, [], places).entries == (moved, shop)
    remove_entries([moved, shop], ROOT)
    assert Path(places.fstab).read_bytes().decode() == original + "\n"
    assert os.listdir(os.path.dirname(places.fstab)) == ["fstab"]


def test_running_systemd_is_recognised_when_init_is_missing(places: Places) -> None:
    os.unlink(places.init)
    os.mkdir(places.running)
    assert observe_boot(ROOT, [], places).systemd


def test_helper_that_is_not_executable_does_not_count(places: Places) -> None:
    Path(places.helper).write_text("")
    assert not observe_boot(ROOT, [], places).helper
    os.chmod(places.helper, 0o755)
    assert observe_boot(ROOT, [], places).helper


@pytest.mark.parametrize(("fstype", "remote"), [("ext4", False), ("nfs4", True), ("fuse.sshfs", True)])
def test_store_on_a_network_file_system_is_remote(places: Places, fstype: str, remote: bool) -> None:
    def line(number: int, path: str, kind: str) -> Mount:
        return Mount(number, 1, "8:1", "/", path, ("rw",), kind, "x", ("rw",))

    mounts = [line(1, "/", "xfs"), line(2, "/var/lib", fstype), line(3, "/var/lib/strata2", "xfs")]
    assert observe_boot(ROOT, mounts, places).remote is remote


@pytest.mark.parametrize("field", ["a b", "tab\tnew\nline", "back\\slash", "#first", "plain"])
def test_escaped_fstab_field_is_read_back_unchanged(field: str) -> None:
    line = f"{escape(field)} rest"
    assert len(line.split()) == 2
    assert first_field(line) == field


def test_repair_of_an_fstab_block_without_end_keeps_other_lines() -> None:
    text = with_block("UUID=1 / ext4\n", ROOT, ["web /srv/web strata root=/x 0 0"])
    broken = text.replace(text.splitlines()[-1] + "\n", "tmpfs /tmp tmpfs\n")
    assert block_lines(broken, ROOT) == []
    repaired = with_block(broken, ROOT, [])
    assert "tmpfs /tmp tmpfs" in repaired
    assert "BEGIN" not in repaired


def test_two_stores_have_separate_fstab_blocks() -> None:
    text = with_block(with_block("", "/a", ["a /1 strata"]), "/b", ["b /2 strata"])
    assert (block_lines(text, "/a"), block_lines(text, "/b")) == (["a /1 strata"], ["b /2 strata"])
    assert block_lines(with_block(text, "/a", []), "/b") == ["b /2 strata"]
