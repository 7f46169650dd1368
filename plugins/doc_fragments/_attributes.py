# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and returns what it would do, without changing anything on the host.
    support: full
  diff_mode:
    description: Returns what was before and what is after when in diff mode.
    support: full
  idempotent:
    description: When run twice in a row with the same arguments, the second run changes nothing and says so.
    support: full
  platform:
    description: Target systems it works on.
    platforms: linux
    support: full
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/strata.overlay.strata) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - strata.overlay.strata
"""

    SHIPS = r"""
options: {}
attributes:
  action:
    description: Has an action plugin that runs on the controller and ships layers.
    support: full
  async:
    description: Can be run with C(async).
    support: none
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    description: Reads only; the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
  platform:
    description: Target systems it works on.
    platforms: linux
    support: full
"""

    CONTROLLER_ONLY = r"""
options: {}
attributes:
  action:
    description: Runs on the controller only.
    support: full
  async:
    description: Can be run with C(async).
    support: none
  check_mode:
    description: Reads only; the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
  platform:
    description: Target systems it works on.
    platforms: all
    support: full
"""
