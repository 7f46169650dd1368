# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roots of real engines, read without a trace."""

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.module_utils._rootkind import engine_of, read_engine_root
from ansible_collections.strata.overlay.plugins.module_utils._untouched import untouched
from ansible_collections.strata.overlay.tests.integration.docker import StoppedDocker
from ansible_collections.strata.overlay.tests.integration.podman import Podman


def test_docker(stopped_docker: StoppedDocker) -> None:
    root = str(stopped_docker.root)
    assert engine_of(root) == "docker"
    with untouched(root) as view:
        found = read_engine_root(root, view)
    assert found.damages == ()
    assert found.orphans == ()
    (image,) = [image for image in found.images if image.names == ("app:1",)]
    assert len(found.chain(image.top)) == 4
    (container,) = found.containers
    assert (container.name, container.image_id, container.parent) == ("held", image.image_id, image.top)
    assert len(container.layer_ids) == 2


def test_podman(stopped_podman: Podman) -> None:
    root = str(stopped_podman.root)
    assert engine_of(root) == "podman"
    with untouched(root) as view:
        found = read_engine_root(root, view)
    assert found.damages == ()
    assert found.orphans == ()
    (image,) = [image for image in found.images if image.names == ("localhost/app:1",)]
    assert len(found.chain(image.top)) == 3
    (container,) = found.containers
    assert (container.name, container.image_id, container.parent) == ("held", image.image_id, image.top)
    assert len(container.layer_ids) == 1
