# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See the documentation of the module of this name."""

from __future__ import annotations

from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
from ansible_collections.strata.overlay.plugins.plugin_utils._controlleronly import ControllerAction


class ActionModule(ControllerAction):
    """Find every mistake that can be found here."""

    def answer(self, definition: Definition, errors: list[str]) -> dict[str, Any]:
        """Names, once all sources that lie here have been read."""
        self._digest_all(definition, errors)
        self._read_images(definition, errors)
        names = {item.name for item in definition.named() if not item.absent}
        wanted = {name for stack in definition.stacks for name in stack.layers if isinstance(name, str)}
        return {
            "layers": sorted(names),
            "stacks": [stack.name for stack in definition.stacks],
            "assumed": sorted(wanted - names),
        }
