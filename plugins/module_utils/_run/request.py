# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""One module call: what the user wrote and what the controller found out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import DefinitionError, StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import controller_facts, normalise
from ansible_collections.strata.overlay.plugins.module_utils._image.db_paths import config_file
from ansible_collections.strata.overlay.plugins.module_utils._run.early_checks import early_errors
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Origin, sent
from ansible_collections.strata.overlay.plugins.module_utils._source.source_digest import with_stored
from ansible_collections.strata.overlay.plugins.module_utils._store.store import open_store

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition
    from ansible_collections.strata.overlay.plugins.module_utils._image.image import ImageOrigin


class Request:
    """One module call; DefinitionError where the controller has found mistakes.

    :ivar module: whose result it is, such as ``stack``.
    :ivar controller_layers: what the controller found out of its layers, by their ``label``.
    :ivar controller_images: the same of its images.
    :ivar definition: what the user wants.
    :ivar errors: mistakes found so far; more are found on the way, and all are reported together.
    :ivar notes_use: whether to record in the store that what the definition names was needed.
    :ivar only_plan: nothing is to be changed.
    :ivar timeout: seconds for which the store's lock is waited for.
    """

    def __init__(self, module: str, parameters: Mapping[str, Any], definition: Optional[Definition] = None) -> None:
        """
        :param definition: what the parameters come to, where they are not those of a definition or one item of it.
        """
        controller = controller_facts(parameters)
        self.module: str = controller.get("module") or module
        self.controller_layers: Mapping[str, Mapping[str, Any]] = controller.get("layers") or {}
        self.notes_use = bool(controller.get("notes_use"))
        self.controller_images: Mapping[str, Mapping[str, Any]] = controller.get("images") or {}
        resolved = (*self.controller_layers, *self.controller_images)
        written = controller.get("definition", parameters)
        if controller.get("hidden"):
            # Imported only when needed: most definitions have no URL.
            from ansible_collections.strata.overlay.plugins.module_utils._common.redact import reveal

            written = reveal(written, controller["hidden"])
        self.definition, self.errors = (definition, []) if definition else normalise(module, written, resolved)
        self.only_plan = bool(controller.get("only_plan"))
        self.timeout = float(parameters.get("lock_timeout") or 0)
        self.store = open_store(self.definition.root)
        if any("source_digest" in facts for facts in self.controller_layers.values()):
            self.controller_layers = with_stored(self.controller_layers, self.definition, self.store)
        if controller.get("problems"):
            # Told by the controller, of the definition as it was written; what came here is only its outline.
            with self.store.reading(self.timeout):
                raise DefinitionError([*controller["problems"], *early_errors(self.store, controller)])

    def sent_origins(self) -> dict[str, Origin]:
        """The layers that the controller found, by their ``label``."""
        return {label: sent(facts) for label, facts in self.controller_layers.items()}

    def sent_images(self) -> dict[str, ImageOrigin]:
        """The images that the controller found, by their ``label``."""
        return self._images(self.errors)

    def lacking(self) -> list[str]:
        """What the controller found and did not send, and the store lacks: DiffIDs of contents, ids of configs.

        An image without a variant for this host is skipped here: that mistake is found later.
        """
        images = list(self._images([]).values())
        origins = [*self.sent_origins().values(), *(origin for image in images for origin in image.origins())]
        contents = [origin.diff_id for origin in origins if origin.awaited]
        contents = [diff_id for diff_id in contents if not self.store.has_content(diff_id)]
        return list(dict.fromkeys([*contents, *self._lacking_configs(images)]))

    def _lacking_configs(self, images: Sequence[ImageOrigin]) -> list[str]:
        if not images:
            return []
        sent_ones = {image_id for facts in self.controller_images.values() for image_id in facts["configs"]}
        ids = [image.image.image_id for image in images if image.image.image_id not in sent_ones]
        return [image_id for image_id in ids if not os.path.exists(config_file(self.store, image_id))]

    def _images(self, errors: list[str]) -> dict[str, ImageOrigin]:
        found: dict[str, ImageOrigin] = {}
        if not self.controller_images:
            return found
        # Imported only when needed, as all that is about images: many definitions have none.
        from ansible_collections.strata.overlay.plugins.module_utils._image.image import sent_image

        for spec in self.definition.images:
            if spec.label in self.controller_images:
                try:
                    found[spec.label] = sent_image(self.controller_images[spec.label], spec.platform)
                except StrataError as error:
                    errors.append(f"{spec.label}: {error}")
        return found
