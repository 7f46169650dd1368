# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options are held against their spec: every mistake is told, nothing raises, what is right is converted."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import apply_module_spec, stack_spec
from ansible_collections.strata.overlay.plugins.module_utils._definition.validate import (
    check_options,
    nearest,
    unknown_layer,
)
from hypothesis import given
from hypothesis import strategies as st

SPEC: dict[str, Any] = {
    "text": {"type": "str"},
    "flag": {"type": "bool", "default": False},
    "count": {"type": "int", "default": 3},
    "place": {"type": "path"},
    "any": {"type": "raw"},
    "kind": {"type": "str", "choices": ["none", "persistent"], "default": "none"},
    "items": {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}}},
    "_hidden": {"type": "dict"},
}


def check(given_options: Any, where: str = "") -> tuple[dict[str, Any], list[str]]:
    errors: list[str] = []
    return check_options(where, given_options, SPEC, errors), errors


@pytest.mark.parametrize(
    ("option", "raw", "value"),
    [
        ("text", 5, "5"),
        ("text", 1.5, "1.5"),
        ("text", "", ""),
        ("flag", "Yes", True),
        ("flag", "off", False),
        ("flag", 1, True),
        ("flag", 0, False),
        ("count", "-7", -7),
        ("count", " +12 ", 12),
        ("count", 0, 0),
        ("place", "/a", "/a"),
        ("any", {"a": [1]}, {"a": [1]}),
        ("kind", "persistent", "persistent"),
        ("items", [], []),
        ("items", [{"name": "x"}], [{"name": "x"}]),
    ],
)
def test_valid_values_are_converted_to_their_type(option: str, raw: Any, value: Any) -> None:
    options, errors = check({option: raw})
    assert (options[option], errors) == (value, [])
    assert type(options[option]) is type(value)


@pytest.mark.parametrize(
    ("option", "raw", "words"),
    [
        ("text", True, "a string, not True"),
        ("text", {}, "a string, not a dictionary"),
        ("flag", 2, "true or false, not 2"),
        ("flag", [], "true or false, not a list"),
        ("flag", 1.0, "true or false, not 1.0"),
        ("count", True, "a whole number, not True"),
        ("count", "1.5", "a whole number, not '1.5'"),
        ("count", "\u0663", "a whole number, not '\u0663'"),
        ("count", "", "a whole number, not ''"),
        ("place", 5, "a path, not 5"),
        ("items", "x" * 100, "a list, not '" + "x" * 75 + "..."),
        ("_hidden", 1, "a dictionary, not 1"),
        ("kind", "persistnt", "one of none, persistent, not 'persistnt'; did you mean 'persistent'?"),
    ],
)
def test_wrong_value_is_reported_and_the_default_used(option: str, raw: Any, words: str) -> None:
    options, errors = check({option: raw}, "stack web")
    assert errors == [f"stack web: option '{option}' must be {words}"]
    assert options[option] == SPEC[option].get("default")


def test_option_not_given_has_its_default() -> None:
    options, errors = check({"flag": None})
    assert errors == []
    assert options == {**dict.fromkeys(SPEC), "flag": False, "count": 3, "kind": "none"}


def test_paths_are_expanded_as_ansible_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("RELEASE", "7")
    assert check({"place": "~/$RELEASE/x"})[0]["place"] == "/home/ann/7/x"


def test_items_of_a_list_are_named_in_errors() -> None:
    assert check({"items": [{"name": "a", "nam": 1}, {}, 5, {"path": "/p"}]})[1] == [
        "item a: unknown option 'nam'; did you mean 'name'?",
        "item 2: option 'name' is missing; it is required",
        "item 3: must be a dictionary of options, not 5",
        "item 3: option 'name' is missing; it is required",
        "item /p: unknown option 'path'; known are name",
        "item /p: option 'name' is missing; it is required",
    ]


def test_hidden_options_are_never_suggested() -> None:
    (problem,) = check({"hidden": 1})[1]
    assert problem == "unknown option 'hidden'; known are any, count, flag, items, kind, place, text"


def test_definition_that_is_not_a_dictionary_is_refused() -> None:
    assert check([1])[1] == ["must be a dictionary of options, not a list"]
    assert check(None, "stack web")[1] == ["stack web: must be a dictionary of options, not None"]


def test_nearest_known_name_is_suggested() -> None:
    assert nearest("layer", ["layers", "stacks"]) == "; did you mean 'layers'?"
    assert nearest("zzz", ["layers", "stacks"]) == ""
    assert unknown_layer("stack web", "bsae", {"base", "app"}) == (
        "stack web: option 'layers': no layer is named 'bsae', neither in the definition nor in the store; did you "
        "mean 'base'?"
    )


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(
    values=st.dictionaries(
        st.sampled_from(sorted(apply_module_spec())) | JUNK.filter(lambda k: not isinstance(k, (list, dict))),
        JUNK,
        max_size=5,
    )
)
def test_any_input_gives_options_of_their_type_and_raises_nothing(values: dict[Any, Any]) -> None:
    errors: list[str] = []
    options = check_options("", values, apply_module_spec(), errors)
    assert set(options) == set(apply_module_spec())
    assert isinstance(options["root"], str)
    assert isinstance(options["exclusive"], bool)
    assert isinstance(options["lock_timeout"], int)
    assert all(set(stack) == set(stack_spec()) for stack in options["stacks"])
    assert len(errors) >= len(set(values) - set(apply_module_spec()))


@given(number=st.integers(min_value=-(10**17), max_value=10**17))
def test_number_is_read_back_from_its_text(number: int) -> None:
    assert check({"count": str(number)}) == ({**check({})[0], "count": number}, [])


def test_home_of_an_unknown_user_is_not_expanded() -> None:
    assert check({"place": "~no-such-user/x"})[0]["place"] == "~no-such-user/x"
