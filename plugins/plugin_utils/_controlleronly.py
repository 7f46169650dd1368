# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What the modules have in common that only the controller runs: they read a definition, and no host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import readable
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition, normalise
from ansible_collections.strata.overlay.plugins.plugin_utils._shipping import ShippingAction


class ControllerAction(ShippingAction):
    """A definition in, what is wrong with it or :meth:`answer` out."""

    module = "apply"

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result; it fails with all mistakes together."""
        result: dict[str, Any] = super(ShippingAction, self).run(tmp, task_vars)
        self._variables = task_vars or {}
        definition, errors = normalise("apply", self._task.args)
        found = self.answer(definition, errors)
        if errors:
            error = DefinitionError(errors)
            return {**result, "failed": True, "msg": readable(str(error)), "problems": error.errors}
        return {**result, "changed": False, **readable(found)}

    def answer(self, definition: Definition, errors: list[str]) -> Mapping[str, Any]:
        """What is returned when nothing is wrong; what is wrong goes to ``errors``."""
        raise NotImplementedError
