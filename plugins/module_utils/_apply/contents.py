# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Applies steps on contents, layers, images and names."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.strata.overlay.plugins.module_utils._apply.host import Batches
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of
from ansible_collections.strata.overlay.plugins.module_utils._plan.steps import (
    DropName,
    ImportContent,
    LinkLayer,
    SetName,
    StoreImage,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.last_use import chain_was_used
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord, dump
from ansible_collections.strata.overlay.plugins.module_utils._store.stage_layout import (
    stage_layer,
)
from ansible_collections.strata.overlay.plugins.module_utils._store.store import Store
from ansible_collections.strata.overlay.plugins.module_utils._store.transaction import transaction


class ContentApplier:
    """Publishes what a run has staged, and gives it names.

    :param staged: records of the contents in the workspace, by DiffID.
    """

    def __init__(self, store: Store, workspace: str, staged: Mapping[str, ContentRecord]) -> None:
        self._store = store
        self._workspace = workspace
        self._staged = staged

    def batches(self) -> Batches:
        """What does the steps of each kind."""
        return {
            ImportContent: self._import_contents,
            LinkLayer: self._link_layers,
            StoreImage: self._store_images,
            SetName: self._set_names,
            DropName: self._drop_names,
        }

    def _import_contents(self, steps: list[ImportContent]) -> None:
        with transaction(self._store, self._workspace) as new:
            for diff_id in dict.fromkeys(step.origin.diff_id for step in steps):
                # The record first: a record without its content means nothing, the other way round something is lost.
                new.write(self._store.content_file(diff_id), dump(self._staged[diff_id]))
                new.adopt(f"{self._workspace}/{hex_of(diff_id)}", self._store.content(diff_id))

    def _link_layers(self, steps: list[LinkLayer]) -> None:
        with transaction(self._store, self._workspace) as new:
            for step in steps:
                layer = step.layer
                # Of what has just been unpacked the size is known for certain.
                imported = self._staged.get(layer.diff_id)
                size = imported.size if imported else step.size
                stage_layer(self._store, new, layer, size, self._store.content(layer.diff_id))

    def _store_images(self, steps: list[StoreImage]) -> None:
        from ansible_collections.strata.overlay.plugins.module_utils._image.db_stage import (
            stage_config,
            stage_repositories,
        )

        with transaction(self._store, self._workspace) as new:
            for image in [step.origin.image for step in steps if step.needs_config]:
                stage_config(self._store, new, image.image_id, image.config)
            stage_repositories(self._store, new, {})

    def _set_names(self, steps: list[SetName]) -> None:
        with transaction(self._store, self._workspace) as new:
            for step in steps:
                if step.before is not None:
                    chain_was_used(self._store, step.before.diff_ids)
                new.write(self._store.name_file(step.record.name), dump(step.record))
            if any(step.record.image_id or (step.before and step.before.image_id) for step in steps):
                from ansible_collections.strata.overlay.plugins.module_utils._image.db_stage import stage_repositories

                stage_repositories(self._store, new, {step.record.name: step.record for step in steps})

    def _drop_names(self, steps: list[DropName]) -> None:
        if any(step.kind == "image" for step in steps):
            from ansible_collections.strata.overlay.plugins.module_utils._image.db_stage import stage_repositories

            # First the tags: one that has lost its name would be Docker's only.
            with transaction(self._store, self._workspace) as new:
                stage_repositories(self._store, new, {step.name: None for step in steps})
        for step in steps:
            record = self._store.name_record(step.name)
            if record is not None:
                chain_was_used(self._store, record.diff_ids)
            self._store.discard(self._store.name_file(step.name))
