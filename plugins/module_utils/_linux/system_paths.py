# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Paths that are the same on every Linux system. Pure."""

from __future__ import annotations

SYSTEMD_RUNS = "/run/systemd/system"
"""There while systemd is the init system (sd_booted(3))."""
