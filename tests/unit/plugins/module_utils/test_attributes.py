# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Extended attributes in archives: which are the file's, which are left out with a warning, which are refused."""

from __future__ import annotations

import io

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import digest
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import member, patched, pax

OVERLAYS = ["impure", "nlink", "origin", "protattr", "upper", "uuid"]
MEANING = ["opaque", "redirect", "metacopy", "whiteout", "xwhiteouts", "overlay.opaque", "unheard-of", ""]


def warnings(*members: bytes) -> tuple[str, ...]:
    return digest(io.BytesIO(b"".join(members) + END).read).left_out


@pytest.mark.parametrize("prefix", ["trusted.overlay.", "user.overlay."])
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_attribute_of_a_writable_layer_is_left_out(prefix: str, name: str) -> None:
    words = "1 attribute of overlayfs was left out, which means something in a writable layer only: "
    assert warnings(member(b"f", xattrs={prefix + name: b"y"})) == (f"{words}'{prefix}{name}'",)


@pytest.mark.parametrize("prefix", ["trusted.overlay.", "user.overlay."])
@pytest.mark.parametrize("name", MEANING)
def test_overlay_attribute_with_a_meaning_is_refused(prefix: str, name: str) -> None:
    with pytest.raises(StrataError, match=f"entry 'f': the attribute {prefix}{name} is overlayfs's own and is refused"):
        warnings(member(b"f", xattrs={prefix + name: b"y"}))


def test_attributes_of_other_systems_are_left_out_with_one_warning() -> None:
    mac = {"com.apple.provenance": b"x", "com.apple.quarantine": b"y", "user.kept": b"z"}
    words = "2 attributes were left out, which no Linux file system can hold: "
    found = warnings(member(b"a", xattrs=mac), member(b"b", xattrs=mac))
    assert found == (f"{words}'com.apple.provenance', 'com.apple.quarantine'",)


def test_mac_attribute_in_two_kinds_of_records_is_counted_once() -> None:
    records = ((b"SCHILY.xattr.com.apple.provenance", b"x"), (b"LIBARCHIVE.xattr.com.apple.provenance", b"eA=="))
    (words,) = warnings(pax(*records), member(b"a"))
    assert words == "1 attribute was left out, which no Linux file system can hold: 'com.apple.provenance'"


def test_attribute_without_a_namespace_is_left_out_with_a_warning() -> None:
    (words,) = warnings(member(b"f", xattrs={"nonsense": b"x", "user.": b"y"}))
    assert words == "2 attributes were left out, which no Linux file system can hold: 'nonsense', 'user.'"


def test_entry_of_an_unknown_type_is_taken_as_a_file_with_one_warning() -> None:
    block = patched(member(b"odd"), 156, b"Q")
    assert warnings(block, member(b"plain")) == (
        "1 entry has a type that is not known here and was taken as a file: 'odd'",
    )


def test_attributes_that_linux_can_hold_give_no_warning() -> None:
    names = ("user.a", "trusted.b", "security.capability", "system.posix_acl_access")
    assert warnings(member(b"f", xattrs=dict.fromkeys(names, b"x"))) == ()
