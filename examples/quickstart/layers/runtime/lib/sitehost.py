# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runtime: a file server for one directory."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def serve(site: Path, listen: str) -> None:
    """Serve a directory at ``host:port`` until the process is ended."""
    host, _separator, port = listen.rpartition(":")
    with ThreadingHTTPServer((host, int(port)), partial(SimpleHTTPRequestHandler, directory=str(site))) as server:
        server.serve_forever()
