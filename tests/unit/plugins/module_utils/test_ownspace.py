# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which ids are set aside for a user, and which stores can be theirs. The namespaces are made in tests/integration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._linux import userns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("other:100000:65536\n", None),
        ("anna:100000:65536\n", (100000, 65536)),
        ("1000:100000:65536\n", (100000, 65536)),
        ("anna:5:1\nanna:100000:65536\n1000:300000:10\n", (100000, 65536)),
        ("# anna:1:2\nanna\nanna:x:1\nanna:1:-5\nanna:1:0\n\n", None),
        ("annabel:1:2\n", None),
    ],
)
def test_largest_id_range_of_the_user_is_found(tmp_path: Path, text: str, expected: tuple[int, int] | None) -> None:
    (tmp_path / "subuid").write_text(text)
    assert userns._range(str(tmp_path / "subuid"), "anna", 1000) == expected
    assert userns._range(str(tmp_path / "missing"), "anna", 1000) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_store_of_another_user_is_refused() -> None:
    with pytest.raises(StrataError, match="who cannot write to /"):
        userns.refuse_foreign("/strata-of-root/store")


def test_store_not_yet_made_in_a_writable_directory_is_accepted(tmp_path: Path) -> None:
    userns.refuse_foreign(str(tmp_path / "deep/below/store"))
