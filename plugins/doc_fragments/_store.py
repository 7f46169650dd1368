# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  root:
    description:
      - The store's directory on the host, in Docker's own on-disk format. It is made when something first comes
        into it.
      - Root refuses a store that somebody else owns or may write to, or that lies below a directory or link that others
        could change; a directory with the sticky bit, such as C(/tmp), is fine.
    type: path
    default: /var/lib/strata
"""

    CHANGES = r"""
options:
  lock_timeout:
    description:
      - Seconds to wait for the store's lock while another run on the same host changes it.
    type: int
    default: 300
  _controller:
    description:
      - What the action plugin found out on the controller, as JSON. Not for use in tasks.
    type: str
"""
