# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sparse files on their way through a store: nobody reads the zeros of their holes, and nobody writes them."""

from __future__ import annotations

import tarfile
from pathlib import Path

from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.tests.integration.host import Host
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.test_commit import commit_of
from ansible_collections.strata.overlay.tests.integration.test_export import export_of
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import sparse
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.test_holes import bytes_read

HOLE = 8 << 30
FEW = 16 << 20
"""Bytes that a run reads of programs and records, as against those of a hole."""


def on_disk(top: Path) -> int:
    """Bytes that a tree's files take."""
    return sum(path.lstat().st_blocks * 512 for path in top.rglob("*") if path.is_file())


def test_hole_in_an_archive_is_imported_checked_and_copied_unread(host: Host) -> None:
    archive = host.top / "hole.tar"
    archive.write_bytes(sparse(b"var/log/lastlog", HOLE) + END)
    before = bytes_read()
    layer = {"name": "logs", "src": str(archive)}
    copy = {"name": "copy", "path": host.path("copy"), "layers": ["base", "logs"], "driver": "copy"}
    result = host.run(layers=[inline("base", a="a"), layer], stacks=[copy])
    assert result["changed"]
    assert host.check(deep=True)["findings"] == []
    assert bytes_read() - before < FEW
    lastlog = Path(host.path("copy"), "var/log/lastlog")
    assert lastlog.stat().st_size == HOLE
    with lastlog.open("rb") as stream:
        assert stream.read(9) == b"123456789"
    assert on_disk(host.root) < FEW


def test_committed_hole_stays_sparse_and_exports_the_committed_layer(host: Host) -> None:
    hole = 256 << 20
    stack = {"name": "web", "path": host.path("web"), "layers": ["base"]}
    host.run(layers=[inline("base", a="a")], stacks=[{**stack, "writable": "persistent"}])
    top = Path(host.path("web"))
    with (top / "lastlog").open("wb") as stream:
        stream.seek(hole)
        stream.write(b"end")
    before = bytes_read()
    done = commit_of(host)
    assert host.check(deep=True)["findings"] == []
    exported = host.top / "image.tar"
    export_of(
        host,
        stack="web",
        changes=True,
        dest=str(exported),
    )
    assert bytes_read() - before < FEW
    assert on_disk(host.root) < FEW
    assert exported.stat().st_blocks * 512 < FEW
    with tarfile.open(exported) as archive:
        names = archive.getnames()
    assert f"{done['diff_id'].partition(':')[2]}.tar" in names
