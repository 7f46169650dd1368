# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may be a secret in a URL is in no text; and options with secrets are in no argument that a host logs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.redact import hide, reveal
from ansible_collections.strata.overlay.plugins.module_utils._common.url_text import UrlAccess, lock_key, shown_url
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import normalise
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, dump, load


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/app.tar.gz", "https://example.org/app.tar.gz"),
        ("https://user:pw@example.org:8443/x", "https://example.org:8443/x"),
        ("https://user:p@w@example.org/@scope/x", "https://example.org/@scope/x"),
        ("https://token@[::1]:80/x?a=1&b=&flag;c=2#part", "https://[::1]:80/x?a=***&b=***&***;c=***"),
        ("http://h?secret", "http://h?***"),
        ("http://user:p/w@example.org/x", "***"),
        ("file:///srv/a.tar", "file:///srv/a.tar"),
        ("user:pw@example.org/x", "***"),
        ("http://[::1?a=b", "http://[::1?a=***"),
    ],
)
def test_url_is_shown_without_possible_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert shown_url(shown) == shown


def test_lock_key_differs_by_query_and_not_by_user() -> None:
    one, other = (lock_key(f"https://u:{pw}@h/x?v={value}") for pw, value in (("a", "1"), ("b", "2")))
    assert one != other
    assert one == lock_key("https://h/x?v=1")
    assert one.startswith("https://h/x?v=***#")
    assert lock_key("https://u:pw@h/x") == "https://h/x"


def layer(**options: Any) -> tuple[Any, list[str]]:
    definition, errors = normalise("apply", {"layers": [{"name": "app", **options}]})
    return definition.layers[0].source, errors


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"url": "s3cret@h/x"}, "option 'url' must begin with https://"),
        ({"url": "ftp://s3cret@h/x"}, "option 'url' must begin with https://"),
        ({"url": "http://s3cret@[::1/x"}, "option 'url' must have a host"),
        ({"url": "http://a..b/x?s3cret"}, "option 'url' must have a host"),
        ({"url": "http://h:70000/x?s3cret"}, "option 'url' must have a host"),
        ({"url": "http://u:s3c/ret@h/x"}, "option 'url' must have a host"),
        ({"url": "http://h/x s3cret"}, "option 'url' has spaces"),
        ({"url": ["http://s3cret@h/"]}, "option 'url' must be a string, not what is given, which is not shown"),
        ({"url": "http://h/x", "password": "s3cret"}, "option 'password' is given without 'username'"),
        ({"url": "http://u:p@h/x", "username": "a", "password": "s3cret"}, "leave out one of them"),
        ({"url": "http://h/x", "username": "a:b", "password": "s3cret"}, "option 'username' has a colon"),
        ({"url": "http://h/x", "headers": {"X-Token": "s3cret\r\nHost: h"}}, "the value of X-Token has letters"),
        ({"url": "http://h/x", "headers": {"Range": "s3cret"}}, "Range is for a download to set"),
        ({"url": "http://h/x", "headers": {"a b": "s3cret"}}, "'a b' is no name of a header"),
        ({"url": "http://u@h/x", "headers": {"authorization": "s3cret"}}, "leave out one of them"),
        ({"url": "file:///x", "headers": {"a": "s3cret"}}, "of no use with it"),
        ({"src": "x.tar", "username": "a", "password": "s3cret"}, "option 'username' is of no use with src"),
    ],
)
def test_error_of_an_option_is_reported_without_the_secret(options: dict[str, Any], fault: str) -> None:
    _source, errors = layer(**options)
    assert errors
    assert errors[0].startswith("layer app: ")
    assert fault in errors[0]
    assert not any("s3c" in problem for problem in errors)


def test_userinfo_of_a_url_is_not_in_the_location() -> None:
    source, errors = layer(url="https://user:s3%40cret@h/x?sig=1#part")
    assert errors == []
    assert source.location == "https://h/x?sig=1"
    assert source.access == UrlAccess("user", "s3@cret")
    assert "s3@cret" not in f"{source!r} {source}"


def test_short_header_value_is_not_treated_as_a_secret() -> None:
    url = {"url": "https://h/x", "username": "u", "password": "s3cret", "headers": {"X-Version": "1", "X-T": "s3cret2"}}
    definition, errors = normalise("apply", {"layers": [{"name": "app", **url}]})
    assert errors == []
    assert definition.secrets() == {"s3cret", "s3cret2"}


def test_secrets_are_hidden_from_arguments_and_revealed_again() -> None:
    secret = {"url": "https://u:s3cret@h/x", "headers": {"X": "s3cret"}}
    parameters: dict[str, Any] = {
        "layers": [{"name": "plain", "url": "https://h/x"}, {"name": "app", **secret}, {"name": "f", "files": []}],
        "stacks": [
            {
                "name": "web",
                "layers": ["app", {"url": "https://h/y?s3cret=s3cret"}],
                "health": {**secret, "retries": 1},
            },
            {"name": "b", "layers": None, "health": None},
        ],
    }
    before = json.dumps(parameters)
    plain, hidden = hide(parameters)
    assert "s3cret" not in json.dumps(plain)
    assert len(hidden) == 3
    assert plain["layers"][0] == parameters["layers"][0]
    assert reveal(plain, hidden) == parameters
    assert json.dumps(parameters) == before
    alone, hidden = hide({"name": "app", "state": "present", **secret})
    assert "s3cret" not in json.dumps(alone)
    assert reveal(alone, hidden) == {"name": "app", "state": "present", **secret}


def test_record_of_an_earlier_release_is_shown_without_secrets() -> None:
    record = ContentRecord("sha256:" + "1" * 64, 1, 1, "http://u:s3cret@h/x?sig=s3cret", "2026-01-01T00:00:00Z")
    assert load(ContentRecord, dump(record), "x").source == "http://h/x?sig=***"
