# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See the documentation of the module of this name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._errors import StrataError
from ansible_collections.strata.overlay.plugins.plugin_utils._controlleronly import ControllerAction
from ansible_collections.strata.overlay.plugins.plugin_utils._lockfile import IMAGE_SOURCES, LAYER_SOURCES, source_of
from ansible_collections.strata.overlay.plugins.plugin_utils._locking import (
    digest_in_registry,
    digest_of_images,
    digest_of_url,
)


class ActionModule(ControllerAction):
    """Digests of all sources that can be read from here."""

    def answer(self, definition: Definition, problems: list[str]) -> dict[str, Any]:
        """They, by the source as it is written."""
        local, images = self._digest_all(definition, problems), self._read_images(definition, problems)
        if problems:
            return {}
        home = str(self._variables.get("inventory_dir") or "")
        found: dict[str, dict[str, str]] = {"layers": {}, "images": {}}
        for layer, item in zip(definition.sources(), _written(self._task.args), strict=True):
            key = source_of(item, LAYER_SOURCES, home)
            try:
                if layer.where in local:
                    digest = local[layer.where].found.diff_id
                elif layer.source.kind == "url":
                    digest = digest_of_url(layer.source)
                else:
                    raise StrataError(f"{layer.where}: it lies on the host (remote_src) and cannot be locked from here")
            except StrataError as error:
                problems.append(str(error))
                continue
            if key:
                found["layers"][key] = digest
        given = [item for item in self._task.args.get("images") or [] if item.get("state") != "absent"]
        for spec, item in zip([spec for spec in definition.images if not spec.absent], given, strict=True):
            try:
                if spec.where in images:
                    digest = digest_of_images(images[spec.where].images)
                elif spec.kind == "registry":
                    digest = digest_in_registry(spec)
                else:
                    raise StrataError(f"{spec.where}: it lies on the host (remote_src) and cannot be locked from here")
            except StrataError as error:
                problems.append(str(error))
                continue
            found["images"][source_of(item, IMAGE_SOURCES, home)] = digest
        return found


def _written(arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Layers as they are written, in the order of ``Definition.sources``."""
    named = [item for item in arguments.get("layers") or [] if item.get("state") != "absent"]
    in_place = [item for stack in arguments.get("stacks") or [] for item in stack.get("layers") or []]
    return named + [item for item in in_place if isinstance(item, Mapping)]
