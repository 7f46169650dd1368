# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.strata.overlay.plugins.plugin_utils._shipping import ShippingAction


class ActionModule(ShippingAction):
    """Ship what the host lacks, then run the module ``image``."""

    module = "image"

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result. What is exported lies on the host, so there is nothing to ship."""
        if self._task.args.get("state") != "exported":
            return super().run(tmp, task_vars)
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        name = "strata.overlay.image"
        return {**result, **self._execute_module(module_name=name, task_vars=task_vars)}
