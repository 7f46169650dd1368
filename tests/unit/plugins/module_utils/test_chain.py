# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Identities are those of the OCI image specification, and files say what Docker's would."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import (
    DIFF_ID,
    LINK_ID,
    chain_ids,
    has_twin_below,
    hex_of,
    link_id,
    lower_text,
    short,
)

A = "sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3"
B = "sha256:55fea2a37a9fc5963f1beccd0d162b856e6bd05ca07cdd3726847846ab740f0d"
C = "sha256:e6c65c655ca8172ab7a2b634dab3220a45472dd6571b6efd956ccc05e229a201"
AB = "sha256:267c5fd16af60e52927fabf0a36a31f3b5a2069347f7f00c7bd7f93f6ebc01f4"
ABC = "sha256:82c0ed5f6c15be9b9180a8c04b9f2c676d74af6db13c711f5bb47a0fa43b56df"


def test_short_id_has_12_digits_as_in_docker() -> None:
    assert short("sha256:0123456789abcdef") == "0123456789ab"


def test_chain_ids_match_the_reference_vector() -> None:
    assert ["sha256:" + hashlib.sha256(text).hexdigest() for text in (b"layer-a", b"layer-b", b"layer-c")] == [A, B, C]
    assert chain_ids([A, B, C]) == (A, AB, ABC)


def test_chain_of_one_layer_is_its_diff_id_and_of_none_is_empty() -> None:
    assert chain_ids([C]) == (C,)
    assert chain_ids([]) == ()


def test_order_and_repetition_change_the_chain_id() -> None:
    assert chain_ids([B, A])[-1] != AB
    assert len(set(chain_ids([A, A, A]))) == 3


def test_link_ids_are_pinned_and_have_docker_form() -> None:
    """A lost link is rebuilt from the directory's name, so this text may never change."""
    assert link_id(hex_of(A)) == "KA76JKNAT6YEHPMX6AFX25ICBR"
    assert link_id(hex_of(ABC)) == "JX74JJWKYZUK2PXJIPXCHCB3B7"
    assert LINK_ID.match(link_id(hex_of(AB)))


def test_lower_file_lists_layers_top_to_bottom() -> None:
    assert lower_text(["BOTTOM", "MIDDLE", "TOP"]) == "l/TOP:l/MIDDLE:l/BOTTOM"
    assert lower_text(["ONLY"]) == "l/ONLY"
    assert lower_text([]) == ""


def test_only_upper_occurrences_of_a_layer_have_a_twin_below() -> None:
    assert [has_twin_below([A, B, A, B, C], index) for index in range(5)] == [False, False, True, True, False]


@pytest.mark.parametrize("text", [A.upper(), A[:-1], A + "0", A + "\n", hex_of(A), "sha512:" + "0" * 64, ""])
def test_malformed_diff_id_does_not_match(text: str) -> None:
    assert DIFF_ID.match(A)
    assert not DIFF_ID.match(text)
