# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inline files: what goes into the layer, and every mistake in them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import layer_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.files import InlineFile, inline_files
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import check_options


def inline(*items: dict[str, Any]) -> tuple[tuple[InlineFile, ...], list[str]]:
    """As users write them, through the same check of types."""
    errors: list[str] = []
    options = check_options("layer conf", {"name": "conf", "files": list(items)}, layer_spec(), errors)
    return inline_files("layer conf", options["files"], errors), errors


def test_inline_files_are_normalised() -> None:
    files, errors = inline(
        {"path": "/etc//./app.conf", "content": "p\u00f6rt\n", "mode": "0640", "owner": 10, "group": "33"},
        {"path": "etc/empty", "content": ""},
        {"path": "srv/", "state": "directory", "opaque": True, "mode": "1777", "owner": "root"},
        {"path": "srv/now", "state": "link", "target": "../releases/2"},
        {"path": "old", "state": "absent"},
    )
    assert errors == []
    assert files == (
        InlineFile("etc/app.conf", "file", b"p\xc3\xb6rt\n", 0o640, 10, 33, "", False),
        InlineFile("etc/empty", "file", b"", None, 0, 0, "", False),
        InlineFile("srv", "directory", b"", 0o1777, 0, 0, "", True),
        InlineFile("srv/now", "link", b"", None, 0, 0, "../releases/2", False),
        InlineFile("old", "absent", b"", None, 0, 0, "", False),
    )


OCTAL = 'must be octal in quotes, such as "0640"'
BELOW = "must name something below the layer's top, without '..'"
NUMBER = "must be a number or root; names differ between hosts"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"path": "a"}, "file a: option 'content' is missing; an empty file is content: \"\""),
        ({"path": "a", "state": "link"}, "file a: option 'target' is missing; it says where the link points"),
        ({"path": "", "content": ""}, f"file 1: option 'path': '' {BELOW}"),
        ({"path": "./", "content": ""}, f"file ./: option 'path': './' {BELOW}"),
        ({"path": "a/../b", "content": ""}, f"file a/../b: option 'path': 'a/../b' {BELOW}"),
        ({"path": "a\0b", "content": ""}, f"file a\0b: option 'path': 'a\\x00b' {BELOW}"),
        (
            {"path": "a/.wh.b", "content": ""},
            "file a/.wh.b: option 'path': names beginning with .wh. are whiteouts; write state: absent",
        ),
        ({"path": "a", "content": "", "mode": 416}, f"file a: option 'mode': 416 {OCTAL}"),
        ({"path": "a", "content": "", "mode": "0888"}, f"file a: option 'mode': '0888' {OCTAL}"),
        ({"path": "a", "content": "", "mode": "0640\n"}, f"file a: option 'mode': '0640\\n' {OCTAL}"),
        ({"path": "a", "content": "", "mode": "u=rw"}, f"file a: option 'mode': 'u=rw' {OCTAL}"),
        ({"path": "a", "content": "", "owner": "ann"}, f"file a: option 'owner': 'ann' {NUMBER}"),
        ({"path": "a", "content": "", "group": -1}, f"file a: option 'group': -1 {NUMBER}"),
        ({"path": "a", "content": "", "group": "\u00b2"}, f"file a: option 'group': '\u00b2' {NUMBER}"),
        ({"path": "a", "content": "", "owner": True}, f"file a: option 'owner': True {NUMBER}"),
        ({"path": "a", "content": "", "owner": 2**32 - 1}, f"file a: option 'owner': {2**32 - 1} {NUMBER}"),
        (
            {"path": "a", "content": "", "target": "b"},
            "file a: option 'target' says nothing for state: file; remove it",
        ),
        (
            {"path": "a", "state": "absent", "mode": "0644"},
            "file a: option 'mode' says nothing for state: absent; remove it",
        ),
        (
            {"path": "a", "state": "link", "target": "b", "opaque": True},
            "file a: option 'opaque' says nothing for state: link; remove it",
        ),
        (
            {"path": "a", "state": "directory", "content": "x"},
            "file a: option 'content' says nothing for state: directory; remove it",
        ),
        (
            {"path": "a", "state": "socket", "content": "x"},
            "file a: option 'state' must be one of file, directory, link, absent, not 'socket'",
        ),
    ],
)
def test_error_in_an_inline_file_is_reported(item: dict[str, Any], expected: str) -> None:
    assert inline(item)[1] == [f"layer conf: {expected}"]


def test_largest_owner_id_is_accepted() -> None:
    files, errors = inline({"path": "a", "content": "", "owner": 2**32 - 2})
    assert (files[0].uid, errors) == (2**32 - 2, [])


def test_file_repeated_or_below_a_non_directory_is_reported() -> None:
    errors = inline(
        {"path": "a", "content": ""},
        {"path": "/a", "content": ""},
        {"path": "a/b", "content": ""},
        {"path": "gone", "state": "absent"},
        {"path": "gone/x/y", "content": ""},
        {"path": "d", "state": "directory"},
        {"path": "d/ok", "content": ""},
    )[1]
    assert errors == [
        "layer conf: file a: option 'path' is used twice",
        "layer conf: file a/b: lies below a, which is not a directory",
        "layer conf: file gone/x/y: lies below gone, which is not a directory",
    ]


def test_empty_list_of_inline_files_is_refused() -> None:
    assert inline() == ((), ["layer conf: option 'files' is empty; name at least one file"])
