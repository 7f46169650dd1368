# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See the documentation of the module of this name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
from ansible_collections.strata.overlay.plugins.module_utils._definition.image import ImageSpec
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec
from ansible_collections.strata.overlay.plugins.plugin_utils._controlleronly import ControllerAction
from ansible_collections.strata.overlay.plugins.plugin_utils._lockfile import IMAGE_SOURCES, LAYER_SOURCES, source_of
from ansible_collections.strata.overlay.plugins.plugin_utils._locking import (
    digest_in_registry,
    digest_of_images,
    digest_of_url,
)


class ActionModule(ControllerAction):
    """Digests of all sources that can be read from here."""

    def answer(self, definition: Definition, errors: list[str]) -> dict[str, Any]:
        """They, by the source as it is written."""
        local, images = self._digest_all(definition, errors), self._read_images(definition, errors)
        if errors:
            return {}
        layers = zip(definition.sources(), _written(self._task.args), strict=True)
        written = [item for item in self._task.args.get("images") or [] if item.get("state") != "absent"]
        specs = zip([spec for spec in definition.images if not spec.absent], written, strict=True)
        home = str(self._variables.get("inventory_dir") or "")
        found: dict[str, dict[str, str]] = {"layers": {}, "images": {}}
        for layer, item in layers:
            with _reporting(errors):
                here = local.get(layer.label)
                # Of what has no times of its own, what does not depend on when it was checked out.
                digest = (here.found.source_digest or here.found.diff_id) if here else _digest_of_layer(layer)
                found["layers"][source_of(item, LAYER_SOURCES, home)] = digest
        for spec, item in specs:
            with _reporting(errors):
                image = images.get(spec.label)
                digest = digest_of_images(image.images) if image else _digest_of_image(spec)
                found["images"][source_of(item, IMAGE_SOURCES, home)] = digest
        found["layers"].pop("", None)  # files written in the definition
        return found


@contextlib.contextmanager
def _reporting(errors: list[str]) -> Iterator[None]:
    try:
        yield
    except StrataError as error:
        errors.append(str(error))


def _digest_of_layer(layer: LayerSpec) -> str:
    if layer.source.kind == "url":
        return digest_of_url(layer.read_from)
    raise _out_of_reach(layer.label)


def _digest_of_image(spec: ImageSpec) -> str:
    if spec.kind == "registry":
        return digest_in_registry(spec)
    raise _out_of_reach(spec.label)


def _out_of_reach(label: str) -> StrataError:
    return StrataError(f"{label}: it lies on the host (remote_src) and cannot be locked from here")


def _written(arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Layers as they are written, in the order of ``Definition.sources``."""
    named = [item for item in arguments.get("layers") or [] if item.get("state") != "absent"]
    in_place = [item for stack in arguments.get("stacks") or [] for item in stack.get("layers") or []]
    return named + [item for item in in_place if isinstance(item, Mapping)]
