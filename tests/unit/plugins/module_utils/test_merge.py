# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers become one tree: what covers what. That it is what the kernel shows, tests/integration sees."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids, copy_id, shown_chain
from ansible_collections.strata.overlay.plugins.module_utils._layer.clone import names_in
from ansible_collections.strata.overlay.plugins.module_utils._source import flatten
from ansible_collections.strata.overlay.plugins.module_utils._source.flatten import merge_trees

A, B = (f"sha256:{letter * 64}" for letter in "ab")

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make whiteouts and trusted attributes")


def tree(top: Path, **files: str) -> str:
    """A layer of files; ``__`` in a keyword stands for ``/``, the text ``-`` for a whiteout."""
    for name, text in files.items():
        path = top / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text == "-":
            os.mknod(path, stat.S_IFCHR, 0)
        else:
            path.write_text(text)
    return str(top)


def shown(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): path.read_text() if path.is_file() else "directory" for path in top.rglob("*")}


@root_only
def test_upper_files_whiteouts_and_opaque_directories_cover_lower(tmp_path: Path) -> None:
    low = tree(tmp_path / "low", a__x="1", a__y="1", b__z="1", c="1", d__e__f="1", g="1", h__i="1", k__l="1")
    middle = tree(tmp_path / "mid", a__x="2", b="-", c__n="2", d__e__f="-", g="-", h="2", k__m="2")
    os.setxattr(tmp_path / "mid/k", "trusted.overlay.opaque", b"y")
    top = tree(tmp_path / "top", b__new="3", h__o="3", k__n="3")
    merge_trees([top, middle, low], str(tmp_path / "all"))
    files = {"a/x": "2", "a/y": "1", "b/new": "3", "c/n": "2", "h/o": "3", "k/m": "2", "k/n": "3"}
    directories = dict.fromkeys(("a", "b", "c", "d", "d/e", "h", "k"), "directory")
    assert shown(tmp_path / "all") == {**files, **directories}
    assert os.listxattr(tmp_path / "all/k") == []


def test_merged_directory_has_mode_and_time_of_the_uppermost_layer(tmp_path: Path) -> None:
    low, top = tree(tmp_path / "low", a__x="1"), tree(tmp_path / "top", a__y="2")
    os.chmod(f"{low}/a", 0o700)
    os.chmod(f"{top}/a", 0o750)
    os.utime(f"{top}/a", ns=(1, 1_000_000_007))
    os.utime(top, ns=(1, 2_000_000_009))
    merge_trees([top, low], str(tmp_path / "all"))
    facts = (tmp_path / "all/a").stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_mtime_ns) == (0o750, 1_000_000_007)
    assert (tmp_path / "all").stat().st_mtime_ns == 2_000_000_009


def test_hard_links_of_a_layer_stay_linked_after_the_merge(tmp_path: Path) -> None:
    low = tree(tmp_path / "low", a="1")
    for name in ("b", "c"):
        os.link(f"{low}/a", f"{low}/{name}")
    merge_trees([tree(tmp_path / "top", a="2"), low], str(tmp_path / "all"))
    assert (tmp_path / "all/b").stat().st_ino == (tmp_path / "all/c").stat().st_ino
    assert (tmp_path / "all/a").read_text() == "2"
    assert (tmp_path / "low/a").stat().st_nlink == 3, "the layer keeps its files for itself"


def test_merge_of_a_layer_removed_meanwhile_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is deleted under a reader's hands, less and less is to be seen, without any error."""
    low, top = tree(tmp_path / "low", a__x="1"), tree(tmp_path / "top", b="2")

    def thrown_away(root: int, directory: bytes) -> list[bytes]:
        if os.path.isdir(low):
            os.rename(low, tmp_path / "trash")
            os.unlink(tmp_path / "trash/a/x")
        return names_in(root, directory)

    monkeypatch.setattr(flatten, "names_in", thrown_away)
    with pytest.raises(FileNotFoundError, match="low"):
        merge_trees([top, low], str(tmp_path / "all"))


def test_copy_has_an_id_of_its_own_for_each_chain_and_stack() -> None:
    assert copy_id((A, B)) not in {A, B, *chain_ids((A, B))}
    assert copy_id((A, B)) != copy_id((B, A))
    assert copy_id((A, B), "web") not in {copy_id((A, B)), copy_id((A, B), "db")}
    assert shown_chain("copy", "none", (A, B)) == (copy_id((A, B)),)
    assert shown_chain("copy", "none", (A,)) == (A,)
    assert shown_chain("copy", "persistent", (A, B)) == (A, B)
    assert shown_chain("overlay", "none", (A, B)) == (A, B)
