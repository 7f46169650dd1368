# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian's Chromium, spoken to by its own protocol over two pipes: no driver, no port, no package.

Source: Chrome DevTools Protocol (https://chromedevtools.github.io/devtools-protocol/); with --remote-debugging-pipe the
browser reads messages from descriptor 3 and writes them to descriptor 4, each one JSON and a NUL.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PATIENCE = 120.0


class Browser:
    """One page of a running browser.

    :ivar complaints: what it has written to its console as warning or error, exceptions, and every request it made
        but for files and data.
    """

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self._number = 0
        self._session = ""
        self._loaded = False
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._writer, data) :]
        while True:
            found = self._next()
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                answer: dict[str, Any] = found["result"]
                return answer

    def open(self, path: Path) -> None:
        """Load a file to its end."""
        self._loaded = False
        self.ask("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._next()

    def window(self, width: int, height: int = 900, dark: bool = False) -> None:
        """The window's size in pixels and the scheme that its user prefers."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, expression: str) -> Any:
        """What JavaScript makes of the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def snapshot(self, path: Path, whole: bool = False) -> None:
        """What the window, or the whole page, shows, as PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def printed(self) -> bytes:
        """The page as PDF."""
        answer = self.ask("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(answer["data"])

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            if not select.select([self._reader], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError("chromium does not answer")
            data = os.read(self._reader, 1 << 20)
            if not data:
                raise EOFError("chromium has ended")
            self._buffer += data
        line, _nul, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif (
            method == "Runtime.exceptionThrown"
            or (method == "Log.entryAdded" and parameters["entry"]["level"] in ("warning", "error"))
            or method == "Runtime.consoleAPICalled"
        ):
            self.complaints.append(json.dumps(parameters))
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.complaints.append(f"it asked for {url}")


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with the block."""
    there, our_writer = os.pipe()
    our_reader, back = os.pipe()
    # The shell puts the two ends where the browser looks for them; they come from numbers that are not 3 and 4.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there, back)]
    os.close(there)
    os.close(back)
    command = (
        f"exec 3<&{ends[0]} 4>&{ends[1]} {ends[0]}<&- {ends[1]}>&-; exec chromium --headless --no-sandbox "
        "--disable-gpu --no-first-run "
        '--disable-dev-shm-usage --disable-background-networking --remote-debugging-pipe --user-data-dir="$0"'
    )
    log = profile.with_suffix(".log").open("wb")
    process = subprocess.Popen(
        ["bash", "-c", command, profile],
        pass_fds=ends,
        stdout=log,
        stderr=log,
        start_new_session=True,
        # Its reports of crashes lie there, whatever profile it has.
        env={**os.environ, "XDG_CONFIG_HOME": str(profile)},
    )
    for end in ends:
        os.close(end)
    try:
        yield Browser(our_reader, our_writer)
    finally:
        os.close(our_writer)
        os.close(our_reader)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()
