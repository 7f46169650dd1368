# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Health through the real modules, with a real server; and nothing that is secret in what they say."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.web import serving

SECRET = "hunter2-and-more"


class Site(BaseHTTPRequestHandler):
    """Right for those who know the secret, as long as the stack is not broken."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers.get("X-Key") == SECRET and self.path == "/well" else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with serving(Site) as server:
        yield f"127.0.0.1:{server.server_port}"


def stack(host: Host, url: str, **options: Any) -> dict[str, Any]:
    health = {"url": url, "headers": {"X-Key": SECRET}, "retries": 1, "delay": 0}
    layers = [{"files": [{"path": "file", "content": "x"}]}, {"files": [{"path": "other", "content": "y"}]}]
    return {
        "root": str(host.root),
        "name": "web",
        "path": host.path("web"),
        "layers": layers,
        "health": health,
        **options,
    }


def test_healthy_stack_reports_health_without_secrets(host: Host, ansible: Ansible, address: str) -> None:
    url = f"http://someone:{SECRET}@{address}/well?token={SECRET}"
    checked = ansible.module("stack", stack(host, f"http://{address}/well"), "--check", "--diff", "-vvv")
    assert checked["plan"][-1]["action"] == "check_health"
    done = ansible.module("stack", stack(host, f"http://{address}/well"), "-vvv")
    assert done["stacks"][0]["health"] == f"GET http://{address}/well: right after 1 try"
    assert done["plan"] == checked["plan"]
    again = ansible.module("stack", stack(host, f"http://{address}/well"))
    assert (again["changed"], again["stacks"][0]["health"]) == (False, "")
    assert SECRET not in repr(
        [checked, done, again, host.run("stack", check=True, **stack(host, url, state="unmounted"))]
    )
    assert not [path for path in host.root.rglob("*.json") if SECRET in path.read_text()]


def test_unhealthy_stack_is_unmounted_again(host: Host, ansible: Ansible, address: str) -> None:
    failed = ansible.module("stack", stack(host, f"http://u:{SECRET}@{address}/ill?key={SECRET}"))
    assert failed["msg"] == (
        f"stack web: the health check failed: GET http://{address}/ill: answered 500, not 200 (2 tries). "
        f"Nothing was mounted at {host.path('web')} before, so it was unmounted again."
    )
    assert (failed["changed"], failed["unhealthy"]) == (True, "web")
    assert SECRET not in repr(failed)
    assert host.mounts("web") == []
    assert ansible.module("stack", stack(host, f"http://{address}/well"))["changed"]
    assert len(host.mounts("web")) == 1


def test_services_need_systemd(host: Host) -> None:
    """This very host may have it: then the unit is what is not there."""
    with pytest.raises(Exception, match="needs systemd|knows no such unit"):
        host.run("stack", **{**stack(host, "http://127.0.0.1/"), "services": ["strata-test-of-no-host"]})
    assert not host.root.exists()
