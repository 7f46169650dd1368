#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lock
short_description: Return the current digest of each source of a definition
version_added: 0.1.0
description:
  - Reads the sources of layers and images and returns their digests, in the form of a lock file. The playbook
    C(strata.overlay.lock) writes such a file, and the lookup P(strata.overlay.parts#lookup) pins a definition to it.
  - It runs on the controller. No host is connected to, but servers of URLs and registries are.
  - Files written in a definition are their own lock. What lies on hosts (C(remote_src)) cannot be locked.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes.controller_only
  - strata.overlay._attributes.action_group
  - strata.overlay._store
  - strata.overlay._layer.list
  - strata.overlay._image.list
  - strata.overlay._stack.list
options:
  lock_timeout:
    description: Has no effect here.
    type: int
    default: 300
seealso:
  - module: strata.overlay.validate
  - plugin: strata.overlay.parts
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Which digests do the sources have?
  strata.overlay.lock:
    layers: "{{ query('strata.overlay.parts', 'overlay_layers') }}"
    images: "{{ query('strata.overlay.parts', 'overlay_images') }}"
  register: locked
"""

RETURN = r"""
layers:
  description: DiffID of each layer's source, by the source as it is written.
  returned: success
  type: dict
  sample: {"app-1.4.tar.gz": "sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3"}
images:
  description: Digest of each image's manifest or index, else of its config, by the image's source as it is written.
  returned: success
  type: dict
  sample: {"registry.example.com/app:1.4": "sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3"}
problems:
  description: Every mistake that was found.
  returned: failure
  type: list
  elements: str
"""
