# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from textwrap import indent

_PRUNE = r"""
unused_for:
  description:
    - Only what nothing has used for this long goes, such as V(7d), V(12h) or V(30m). What counts is the time of the
      last use by a stack or a run, not the time at which a layer was built or imported.
    - Names that no stack uses go too then. Without this option and O(NAME.labels) every name stays.
  type: str
labels:
  description:
    - Only names with all of these labels go, and what belongs to them alone.
  type: dict
keep:
  description:
    - Names of layers and images that stay whatever else is said, and names of stacks whose former writable layers stay.
      Patterns such as V(app:*) are those of the shell.
  type: list
  elements: str
max_bytes:
  description:
    - What the store takes on disk at most, such as V(512m) or V(10g). While it takes more, names that no stack uses and
      whatever else nothing needs go as well, the longest unused first.
  type: str
"""


class ModuleDocFragment:
    # Annotated, since ansible-test takes a plain assignment for a literal and cannot read a computed one.
    DOCUMENTATION: str = "options:" + indent(_PRUNE.replace("NAME.", ""), "  ")

    OPTION: str = r"""
options:
  prune:
    description:
      - Remove what nothing uses, after everything else has been done. V({}) is enough to ask for it.
      - Names that the definition has are kept.
    type: dict
    suboptions:""" + indent(_PRUNE.replace("NAME.", "prune."), "      ")
