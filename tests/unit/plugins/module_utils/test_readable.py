# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes from outside cannot speak to a terminal."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._boot import mount_strata
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line, readable
from ansible_collections.strata.overlay.plugins.module_utils._linux.holders import Holder


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u00fcber, \u65e5\u672c and\u00a0space", None),
        ("\x1b[2J\x07\x00", "\\x1b[2J\\x07\\x00"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("one\rtwo", "one\\rtwo"),
        ("abc\u202egnp.exe\u2066", "abc\\u202egnp.exe\\u2066"),
        ("a\u2028b\u200b\ufeff", "a\\u2028b\\u200b\\ufeff"),
        ("tag\U000e0041", "tag\\U000e0041"),
        (os.fsdecode(b"\xff\x1b"), "\\xff\\x1b"),
    ],
)
def test_control_characters_of_a_text_are_shown_escaped(text: str, shown: str | None) -> None:
    assert readable([{text: text}]) == [{shown or text: shown or text}]
    assert one_line(text) == (shown or text)


def test_line_breaks_are_kept_only_in_multi_line_texts() -> None:
    assert readable("a\n\tb\x1bc") == "a\n\tb\\x1bc"
    assert one_line("a\n\tb\x1bc") == "a\\n\\tb\\x1bc"


def test_no_control_character_but_newline_and_tab_is_left() -> None:
    every = "".join(map(chr, range(0x20000)))
    left = {letter for letter in readable(every) if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert left == {"\n", "\t"}


def test_error_with_a_line_break_cannot_fake_another_error() -> None:
    error = DefinitionError(["layer app: the server said x\n  - stack web: gone"])
    assert str(error).count("\n") == 1


def test_process_name_with_a_line_break_cannot_fake_a_line() -> None:
    assert Holder(7, "sh\nok: [host]\x1b[2J", "/srv").describe() == "sh\\nok: [host]\\x1b[2J (process 7) holds /srv"


def test_mount_helper_escapes_control_characters_in_its_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mount_strata.main(["web", "/srv/web", "-o", f"root={tmp_path}/\x1b[2J"]) == 32
    assert (
        capsys.readouterr().err
        == f"mount.strata: there is no store at {tmp_path}/\\x1b[2J; name it by the option root\n"
    )
