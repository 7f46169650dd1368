#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: validate
short_description: Find every mistake in a definition without a connection to its host
version_added: 0.1.0
description:
  - Checks a definition as M(strata.overlay.apply) does, as far as that can be done on the controller. No host is
    connected to, so hosts that are down or do not exist yet can be validated too.
  - Archives, directories and images on the controller are read, and held against O(layers[].digest). What was read
    once is remembered, so that a second run is quick.
  - What only a host can say is not found here, such as a directory that is in the way.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes.controller_only
  - strata.overlay._attributes.action_group
  - strata.overlay._store
  - strata.overlay._layer.list
  - strata.overlay._image.list
  - strata.overlay._stack.list
  - strata.overlay._prune.option
options:
  lock_timeout:
    description: Has no effect here.
    type: int
    default: 300
  exclusive:
    description: Has no effect here.
    type: bool
    default: false
  stage:
    description: Has no effect here.
    type: bool
    default: false
seealso:
  - module: strata.overlay.apply
  - module: strata.overlay.plan
"""

EXAMPLES = r"""
- name: Find every mistake before any host is touched
  strata.overlay.validate:
    layers: "{{ query('strata.overlay.parts', 'overlay_layers') }}"
    images: "{{ query('strata.overlay.parts', 'overlay_images') }}"
    stacks: "{{ query('strata.overlay.parts', 'overlay_stacks') }}"
"""

RETURN = r"""
problems:
  description: Every mistake that was found.
  returned: failure
  type: list
  elements: str
  sample: ["stack web: option 'path': 'srv/web' must be absolute"]
layers:
  description: Names of the layers and images that the definition has.
  returned: success
  type: list
  elements: str
  sample: [base, app]
stacks:
  description: Names of the stacks that it has.
  returned: success
  type: list
  elements: str
  sample: [web]
assumed:
  description: Layers that stacks name and the definition does not have, so that they have to be on the host already.
  returned: success
  type: list
  elements: str
  sample: []
"""
