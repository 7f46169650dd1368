# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Health checks: as users write them, and against real servers, ports and programs."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._definition.health import HealthSpec, read_health
from ansible_collections.strata.overlay.plugins.module_utils._services.health import check_health


def read(**options: Any) -> HealthSpec:
    errors: list[str] = []
    spec = read_health("stack web", options, errors)
    assert errors == []
    assert spec is not None
    return spec


def mistakes(**options: Any) -> list[str]:
    errors: list[str] = []
    assert read_health("stack web", options, errors) is None
    return errors


# As users write them.


def test_missing_health_option_gives_no_check_and_no_error() -> None:
    errors: list[str] = []
    assert read_health("stack web", None, errors) is None
    assert errors == []


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (8080, ("127.0.0.1", 8080)),
        ("db.internal:5432", ("db.internal", 5432)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_tcp_option_takes_a_port_alone_or_with_a_host(written: Any, address: tuple[str, int]) -> None:
    assert read(tcp=written).address == address


@pytest.mark.parametrize("written", ["", "host", "host:", "host:0", "host:65536", "::1:80", "host:http", ":-1"])
def test_malformed_tcp_option_is_refused(written: str) -> None:
    assert any("option 'tcp'" in text for text in mistakes(tcp=written))


def test_command_is_split_into_words_without_shell_expansion() -> None:
    assert read(command="check 'two words' $HOME; rm").command == ("check", "two words", "$HOME;", "rm")
    assert read(command=["check", 1]).command == ("check", "1")


@pytest.mark.parametrize("written", ["", [], [""], "'open", {"a": 1}, ["x", None], ["x\0y"]])
def test_malformed_command_option_is_refused(written: Any) -> None:
    assert any("option 'command'" in text for text in mistakes(command=written))


@pytest.mark.parametrize(
    "written", ["ftp://host/", "http://", "host:80", "http://h:99999/", "http://h/a b", "http://[::1/"]
)
def test_malformed_url_option_is_refused(written: str) -> None:
    assert any("option 'url'" in text for text in mistakes(url=written))


def test_status_option_defaults_to_200_and_takes_valid_codes_only() -> None:
    assert read(url="http://h/").statuses == (200,)
    assert read(url="http://h/", status=204).statuses == (204,)
    assert read(url="http://h/", status=["200", 301]).statuses == (200, 301)
    for wrong in (99, 600, "ok", [], [None]):
        assert any("option 'status'" in text for text in mistakes(url="http://h/", status=wrong))


def test_health_check_needs_exactly_one_of_url_tcp_and_command() -> None:
    assert "exactly one of url, tcp and command" in mistakes(retries=1)[0]
    assert "it has url and tcp" in mistakes(url="http://h/", tcp=80)[0]
    assert "option 'status' is for url only" in mistakes(tcp=80, status=200)[0]


def test_tries_over_an_hour_in_all_and_too_small_numbers_are_refused() -> None:
    assert "more than 3600 s" in mistakes(tcp=80, retries=1000, timeout=60)[0]
    assert [text.split(": ")[-1] for text in mistakes(tcp=80, retries=-1, timeout=0, delay=-1)] == [
        "option 'timeout' must be at least 1",
        "option 'retries' must be at least 0",
        "option 'delay' must be at least 0",
    ]


def test_unknown_health_option_is_reported_with_a_suggestion() -> None:
    assert "did you mean 'timeout'" in mistakes(tcp=80, timout=5)[0]


def test_login_query_and_headers_are_not_shown() -> None:
    spec = read(url="https://user:hunter2@host:8443/healthz?token=abc", headers={"Authorization": "Bearer xyz"})
    assert spec.describe() == "GET https://host:8443/healthz"
    assert "xyz" not in repr(spec)
    assert "hunter2" not in "".join(mistakes(url="http://user:hunter2@host:99999/"))


# Against what is really there.


class Site(BaseHTTPRequestHandler):
    """Answers as its path says; the first answers are wrong as long as ``failures`` says so."""

    failures = 0
    seen: list[str | None] = []  # noqa: RUF012  # every test has a class of its own
    stop = threading.Event()

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("X-Key"))
        if self.path == "/slow":
            self.drip()
            return
        status = int(self.path[1:])
        if len(self.seen) <= self.failures:
            status = 503
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def drip(self) -> None:
        """A byte now and then: no single wait on the socket is long."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.stop.wait(0.1):
            try:
                self.wfile.write(b"x")
            except OSError:
                return

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[type[Site]]:
    class Own(Site):
        seen: list[str | None] = []  # noqa: RUF012
        stop = threading.Event()
        base = ""

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        Own.base = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Own
        Own.stop.set()
        server.shutdown()
        # Those that answer and those that still wait for an answer.
        for other in threading.enumerate():
            if other is not threading.current_thread():
                other.join(10)


def at(site: type[Site], path: str, **options: Any) -> HealthSpec:
    return read(url=f"{site.base}{path}", **{"retries": 0, "delay": 0, **options})  # type: ignore[attr-defined]


def test_expected_answer_is_healthy_after_one_try(site: type[Site]) -> None:
    verdict = check_health(at(site, "/200", headers={"X-Key": "abc"}))
    assert (verdict.healthy, verdict.tries) == (True, 1)
    assert site.seen == ["abc"]


def test_unexpected_status_is_reported_after_all_retries(site: type[Site]) -> None:
    verdict = check_health(at(site, "/500", retries=2))
    assert (verdict.healthy, verdict.tries, len(site.seen)) == (False, 3, 3)
    assert verdict.description.endswith("/500: answered 500, not 200")


def test_check_is_repeated_until_the_expected_answer(site: type[Site]) -> None:
    site.failures = 2
    verdict = check_health(at(site, "/200", retries=5))
    assert (verdict.healthy, verdict.tries) == (True, 3)


def test_listed_status_is_healthy_and_other_redirects_are_followed(site: type[Site]) -> None:
    assert check_health(at(site, "/404", status=[200, 404])).healthy
    assert check_health(at(site, "/302")).healthy, "the redirection leads to 200"
    assert check_health(at(site, "/302", status=302)).healthy
    assert not check_health(at(site, "/200", status=302)).healthy


def test_proxy_is_not_used_for_this_host(site: type[Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    assert check_health(at(site, "/200")).healthy


def test_server_that_answers_byte_by_byte_is_given_up_after_timeout(site: type[Site]) -> None:
    verdict = check_health(at(site, "/slow", timeout=1))
    assert verdict.description.endswith("no answer within 1 s")


def test_port_is_healthy_while_something_listens_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert check_health(read(tcp=port)).healthy
    verdict = check_health(read(tcp=port, retries=1, delay=0))
    assert not verdict.healthy
    assert verdict.description == f"connect to 127.0.0.1 port {port}: Connection refused"


def test_command_is_healthy_at_exit_0_and_its_failure_is_described(tmp_path: Path) -> None:
    assert check_health(read(command="true")).healthy
    failed = check_health(read(command=["sh", "-c", "echo broken by design >&2; exit 3"], retries=0))
    assert failed.description == "run sh: it ended with 3: broken by design"
    missing = check_health(read(command=str(tmp_path / "none"), retries=0))
    assert missing.description.endswith("it cannot be run: No such file or directory")
    killed = check_health(read(command=["sh", "-c", "kill -9 $$"], retries=0))
    assert killed.description == "run sh: it was ended by signal 9"


def test_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {note}; wait"
    verdict = check_health(read(command=["sh", "-c", script], retries=0, timeout=1))
    assert verdict.description == "run sh: it had not ended after 1 s"
    child = int(note.read_text())
    for _attempt in range(200):
        if not os.path.exists(f"/proc/{child}") or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.01)
    else:
        pytest.fail("what the command started lives on")
