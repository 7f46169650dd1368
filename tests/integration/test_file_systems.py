# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One store on file systems of different kinds: what one of them has for itself is no part of a layer."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._layer.tree_digest import tree_digest
from ansible_collections.strata.overlay.plugins.module_utils._store.layout import upper_tree
from ansible_collections.strata.overlay.plugins.module_utils._store.records import dump
from ansible_collections.strata.overlay.tests.integration.disk import mounted_xfs
from ansible_collections.strata.overlay.tests.integration.host import Host, unmount_all
from ansible_collections.strata.overlay.tests.integration.test_commit import commit_of
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import member

ACCESS = "system.posix_acl_access"
LIST = bytes.fromhex("02000000 01000600ffffffff 02000600e8030000 04000400ffffffff 10000600ffffffff 20000400ffffffff")
"""user::rw-, user:1000:rw-, group::r--, mask::rw-, other::r--"""

SECOND = "trusted.SGI_ACL_FILE"


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Host]:
    with mounted_xfs(tmp_path) as place:
        yield Host(place)
        unmount_all(place)


def run_with_access_lists(host: Host, path: str) -> None:
    """A persistent stack, unmounted, of a layer with an access list, and another one written in it."""
    archive = member(b"etc/shared", b"x", xattrs={ACCESS: LIST, SECOND: b"of another XFS"}) + END
    (host.top / "base.tar").write_bytes(archive)
    stack = {"name": "web", "path": path, "layers": ["base"], "writable": "persistent"}
    host.run(layers=[{"name": "base", "src": str(host.top / "base.tar")}], stacks=[stack])
    written = Path(path, "written")
    written.write_text("x")
    os.utime(written, ns=(1, 1))
    os.setxattr(written, ACCESS, LIST)
    host.run(stacks=[{"name": "web", "state": "unmounted"}])


def test_store_copied_to_xfs_is_sound_and_commits_the_same(host: Host, xfs: Host) -> None:
    run_with_access_lists(host, host.path("web"))
    subprocess.run(["cp", "-a", host.root, xfs.root], check=True)
    content = xfs.store.content(xfs.store.stacks()["web"].diff_ids[0])
    upper = upper_tree(xfs.store, xfs.store.stacks()["web"])
    for file in (f"{content}/etc/shared", f"{upper}/written"):
        assert SECOND in os.listxattr(file), "XFS lists it twice"
    assert xfs.check(deep=True)["findings"] == []
    assert commit_of(xfs)["diff_id"] == commit_of(host)["diff_id"]


def test_record_of_an_earlier_version_on_xfs_still_verifies(xfs: Host) -> None:
    run_with_access_lists(xfs, xfs.path("web"))
    diff_id = xfs.store.stacks()["web"].diff_ids[0]
    record = xfs.store.content_record(diff_id)
    assert record is not None
    found = tree_digest(xfs.store.content(diff_id))
    assert (record.digest == found.digest, found.digest == found.with_all) == (True, False)
    file = Path(xfs.root, xfs.store.content_file(diff_id))
    before = file.read_text()
    file.write_text(dump(dataclasses.replace(record, digest=found.with_all)))
    assert file.read_text() != before
    assert xfs.check(deep=True)["findings"] == []


def test_copy_of_layers_on_xfs_keeps_access_lists(xfs: Host) -> None:
    run_with_access_lists(xfs, xfs.path("web"))
    copy = {"name": "copy", "path": xfs.path("copy"), "layers": ["base", "more"], "driver": "copy"}
    xfs.run(layers=[{"name": "more", "files": [{"path": "more", "content": "x"}]}], stacks=[copy])
    shown = Path(xfs.path("copy"), "etc/shared")
    assert os.getxattr(shown, ACCESS) == LIST
    assert xfs.check(deep=True)["findings"] == []
