# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Exports a chain to an archive, an OCI layout or a registry: `state: exported` of the module `image`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ansible_collections.strata.overlay.plugins.module_utils._common.digests import chain_ids
from ansible_collections.strata.overlay.plugins.module_utils._definition.export import ExportSpec, read_export
from ansible_collections.strata.overlay.plugins.module_utils._definition.reference import parse_reference
from ansible_collections.strata.overlay.plugins.module_utils._export.image import ExportImage, digest_image, find_chain
from ansible_collections.strata.overlay.plugins.module_utils._export.write import Destination, DockerArchive, OciLayout
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import sha256
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import existing_above
from ansible_collections.strata.overlay.plugins.module_utils._module import exit_module, guarded
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import DigestCache
from ansible_collections.strata.overlay.plugins.module_utils._store.store import open_store

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def export(parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result. DefinitionError lists every mistake in the options."""
    spec = read_export(parameters)
    store = open_store(spec.root)
    with store.reading(spec.timeout):
        chain = find_chain(store, spec)
    # Packing takes long, and nobody has to wait for it: what a name or a stack stands for is not pruned.
    cache = DigestCache(store.sources, keep=not check_mode)
    image = digest_image(chain, spec.config, cache)
    cache.flush()
    destination = _destination(spec, image)
    before = destination.before()
    steps = destination.plan()
    if steps and not check_mode:
        destination.write()
    manifest = sha256(image.manifest())
    after = image.image_id if spec.dest and spec.form == "docker" else manifest
    place = spec.dest or spec.registry
    warnings = [f"{spec.label}: {message}" for layer in image.layers for message in layer.left_out]
    return {
        "changed": bool(steps),
        "plan": [step.result() for step in steps],
        "bytes": sum(step.bytes for step in steps),
        "image_id": image.image_id,
        "manifest_digest": manifest,
        "diff_ids": list(image.diff_ids),
        "chain_id": chain_ids(image.diff_ids)[-1],
        "faithful": image.is_faithful,
        "diff": {
            "before": {place: {spec.tag: before}} if before else {},
            "after": {place: {spec.tag: after}},
        },
        **({"warnings": warnings} if warnings else {}),
    }


def _destination(spec: ExportSpec, image: ExportImage) -> Destination:
    if spec.registry:
        # Imported only when needed: most exports go to files.
        from ansible_collections.strata.overlay.plugins.module_utils._export.push import RegistryDestination
        from ansible_collections.strata.overlay.plugins.module_utils._registry.client import Access

        given = spec.access
        access = Access(
            given.username, given.password, given.auth_file, given.ca_path, given.validate_certs, ca=given.ca
        )
        return RegistryDestination(image, parse_reference(spec.registry, spec.tag), access)
    if spec.form == "oci":
        return OciLayout(image, spec.dest, spec.tag)
    return DockerArchive(image, spec.dest, spec.tag, existing_above(os.path.dirname(spec.dest)))


def run_export(module: AnsibleModule) -> NoReturn:
    """Export by a module's parameters and end the module."""
    exit_module(module, guarded(module, lambda: export(module.params, module.check_mode), changes=True))
