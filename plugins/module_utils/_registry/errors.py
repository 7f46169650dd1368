# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Turns a registry's refusal into an error message with advice. Source: OCI distribution-spec, "Error Codes"."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from ansible_collections.strata.overlay.plugins.module_utils._source.credentials import Login
from ansible_collections.strata.overlay.plugins.module_utils._source.http import RequestError, Response

_MAX_BODY = 1 << 16
_MAX_MESSAGE = 300


def refusal(response: Response, asked: str, login: Login, secrets: Sequence[str]) -> RequestError:
    """The error that an answer without success stands for.

    :param asked: who was asked for what, as "asked for manifest 1.0 of team/app, registry.example.com".
    :param secrets: what must not be in the message, whatever the server sent.
    """
    answer_text = message_of(response, secrets)
    answer = f"{response.status} {http.client.responses.get(response.status, '')}".strip()
    by = f"redirects to {response.host}, which " if response.redirected else ""
    message = f"asked {asked} {by}answered {answer}" + (f" ({answer_text})" if answer_text else "")
    if response.wait:
        message += f", and to come back in {response.wait:.0f} seconds"
    return RequestError(f"{message}. {_advice(response, login)}", response.may_pass, response.wait, response.status)


def message_of(response: Response, secrets: Sequence[str]) -> str:
    """Codes and messages in a registry's JSON, or the error of a token server; "" where there is none."""
    try:
        data = json.loads(response.body(_MAX_BODY))
    except (RequestError, ValueError, RecursionError):
        return ""
    # Before it is cut and cleaned: half of a secret would not be known any more.
    message = _conceal("; ".join(_messages(data)), secrets)
    return re.sub(r"[^\x20-\x7e\u00a0-\ud7ff]+", " ", message)[:_MAX_MESSAGE].strip()


def _messages(data: Any) -> Sequence[str]:
    if not isinstance(data, dict):
        return []
    errors = data.get("errors")
    if isinstance(errors, list):
        pairs = [(each.get("code"), each.get("message")) for each in errors if isinstance(each, dict)]
    else:
        # As OAuth2 (RFC 6749, 5.2) and some registries have it.
        pairs = [(data.get("error"), data.get("error_description") or data.get("message") or data.get("details"))]
    return [": ".join(str(part) for part in pair if part) for pair in pairs if any(pair)]


def _conceal(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        for form in (secret, quote(secret, safe=""), quote_plus(secret)):
            text = text.replace(form, "********")
    return text


def _advice(response: Response, login: Login) -> str:
    status = response.status
    if status in (401, 403) and response.redirected:
        return "It gets no login: it is not who was asked. Whoever runs that one has to correct where it leads"
    if status in (401, 403):
        if login.is_anonymous:
            return "Give username and password, or an auth_file with a login for it, and check the repository's name"
        who = f"user {login.username!r}" if login.username else "the login"
        origin = f" from {login.found}" if login.found else ""
        return f"Check {who}{origin}: the password or token, and what it may do with this repository"
    if status == 413:
        return "It takes none so large: raise the limit of the registry, or of what stands before it"
    if status == 404:
        return "Check the repository and the tag or digest"
    if status == 429:
        return "It allows no more for now: run again later, log in, or give mirrors"
    if status >= 500:
        return "The fault is on its side: look into its log, or run again later"
    return "Check that it is a registry (OCI distribution, API version 2)"
