# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.strata.overlay.plugins.plugin_utils._fleet import ATTENTION, FORMAT, HostReport, fleet
from ansible_collections.strata.overlay.plugins.plugin_utils._page import page


class ActionModule(ActionBase):
    """Write the report of a fleet on the controller, from results that its hosts' variables hold."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _spec, options = self.validate_argument_spec(
            argument_spec={
                "dest": {"type": "str", "required": True},
                "json": {"type": "str", "required": True},
                "title": {"type": "str", "default": "Overlay fleet"},
                "store": {"type": "str", "default": "overlay_report_store"},
                "plan": {"type": "str", "default": "overlay_report_plan"},
                "run": {"type": "str", "default": "overlay_result"},
            }
        )
        dest, plain = (os.path.abspath(os.path.expanduser(options[key])) for key in ("dest", "json"))
        if dest == plain:
            return {
                **result,
                "failed": True,
                "msg": f"options 'dest' and 'json' name the same file {dest}; give it two",
            }
        before = _runs_before(plain)
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        model = fleet(list(_host_reports(task_vars or {}, options, before)), time, options["title"])
        if not self._task.check_mode:
            try:
                _write(plain, (*json.JSONEncoder(indent=1).iterencode(model), "\n"))
                _write(dest, page(model))
            except OSError as error:
                target = f"{error.filename or dest}: {error.strerror}"
                text = f"cannot write the report to {target}; choose another 'dest' or 'json'"
                return {**result, "failed": True, "msg": text}
        wrong = [host["name"] for host in model["hosts"] if host["state"] in ATTENTION]
        return {
            **result,
            "changed": False,
            "msg": f"{len(model['hosts'])} hosts, {len(wrong)} need attention: {dest}",
            "dest": dest,
            "json": plain,
            "summary": model["summary"],
            "attention": wrong,
        }


def _host_reports(
    variables: Mapping[str, Any], options: Mapping[str, str], before: Mapping[str, Any]
) -> Iterator[HostReport]:
    """What each host of the play has reported; one host's variables are in memory at a time."""
    for name in variables.get("ansible_play_hosts_all", ()):
        known = variables["hostvars"].raw_get(name)
        store, plan, run = (_plain(known.get(options[key])) for key in ("store", "plan", "run"))
        yield HostReport(str(name), store, plan, run, before.get(str(name)))


_WANTED = frozenset(
    [
        "abilities",
        "attention",
        "bytes",
        "changed",
        "engine",
        "exists",
        "failed",
        "layers",
        "msg",
        "names",
        "plan",
        "seconds",
        "skipped",
        "stacks",
        "unreachable",
        "usage",
    ]
)


def _plain(result: Any) -> dict[str, Any] | None:
    """A registered result as plain JSON values, without what the report has no use for."""
    if not isinstance(result, Mapping):
        return None
    found: dict[str, Any] = json.loads(
        json.dumps({key: value for key, value in result.items() if key in _WANTED}, default=str)
    )
    return found


def _runs_before(path: str) -> dict[str, Any]:
    """The last run of each host as the report before this one has it; nothing where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        with open(path, encoding="utf-8") as stream:
            model = json.load(stream)
        if model["format"] == FORMAT:
            return {host["name"]: host["run"] for host in model["hosts"] if isinstance(host["run"], dict)}
    return {}


def _write(path: str, pieces: Iterable[str]) -> None:
    """A file as a whole or not at all, for whom the controller's umask lets read it."""
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    mask = os.umask(0o077)
    os.umask(mask)
    descriptor, scratch = tempfile.mkstemp(prefix=".report-", dir=directory)
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.writelines(pieces)
            os.fchmod(stream.fileno(), 0o666 & ~mask)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise
