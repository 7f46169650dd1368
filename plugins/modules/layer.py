#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: layer
short_description: One named layer in a host's store
version_added: 0.1.0
description:
  - Imports a layer from an archive, a URL, a directory or files written in place, and gives it a name; or forgets
    the name.
  - The same content is stored once, whatever the number of its names.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
  - strata.overlay._attributes.ships
  - strata.overlay._store
  - strata.overlay._store.changes
  - strata.overlay._layer
seealso:
  - module: strata.overlay.apply
  - module: strata.overlay.stack
"""

EXAMPLES = r"""
- name: Import an archive from the controller
  strata.overlay.layer:
    name: base
    src: debian-12.tar.zst

- name: Let the host fetch an archive itself
  strata.overlay.layer:
    name: app
    url: https://example.org/app-1.4.tar.gz
    digest: sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3

- name: A directory that lies on the host
  strata.overlay.layer:
    name: tools
    dir: /opt/build/tools
    remote_src: true

- name: Hide a directory of the layers below and put one file into it
  strata.overlay.layer:
    name: site
    files:
      - path: etc/app.d
        state: directory
        opaque: true
      - path: etc/app.d/site.conf
        content: |
          listen = 8080
        mode: "0640"

- name: Forget a name
  strata.overlay.layer:
    name: base
    state: absent
"""

RETURN = r"""
keeper:
  description:
    - The process that keeps the namespaces of an ordinary user, in which the stacks are mounted; 0 where there is none
      yet.
  type: int
  returned: for a user who is not root
  sample: 4711
plan:
  description: What was done, or in check mode would be done, in order.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description:
        - The kind of step, one of V(create_store), V(import_content), V(link_layer), V(set_name), V(drop_name),
          V(store_image), V(write_stack), V(set_aside), V(unmount), V(mount), V(switch), V(set_top), V(forget_stack).
      type: str
      returned: always
      sample: import_content
    object:
      description: What it is done to.
      type: str
      returned: always
      sample: stack web
    text:
      description: The step in words.
      type: str
      returned: always
      sample: import content 3f2a9c41d0be from app-2.tar.gz
    bytes:
      description: Bytes of file contents that it writes.
      type: int
      returned: always
      sample: 48211
bytes:
  description: Bytes of file contents that the whole plan writes.
  returned: success
  type: int
  sample: 48211
seconds:
  description: How long it took, seen from the controller, transfers and all.
  returned: success
  type: float
  sample: 2.4
problems:
  description: Every mistake found in the definition, one sentence each.
  returned: failure by mistakes in the definition
  type: list
  elements: str
diff_ids:
  description: DiffIDs of all layers that the definition names, each once.
  returned: success
  type: list
  elements: str
  sample: ["sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3"]
layers:
  description: The DiffIDs that each named layer of the definition stands for, bottom first, by name.
  returned: success
  type: dict
  sample: {"base": ["sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3"]}
images:
  description: The images that the definition names, by name.
  returned: success
  type: dict
  contains:
    image_id:
      description: The image's id, the digest of its config.
      type: str
      returned: always
    manifest_digest:
      description: Digest of its manifest, empty for an archive without one, as older ones of Docker are.
      type: str
      returned: always
    diff_ids:
      description: DiffIDs of its layers, bottom first.
      type: list
      elements: str
      returned: always
chain_id:
  description: ChainID of the layer alone, which is its DiffID.
  returned: success, when O(state=present)
  type: str
  sample: sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3
stacks:
  description: Stacks that are mounted or unmounted by the definition.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      returned: always
      sample: web
    path:
      description: Where it is mounted.
      type: str
      returned: always
      sample: /srv/web
    state:
      description: V(mounted) or V(unmounted).
      type: str
      returned: always
      sample: mounted
    writable:
      description: V(none), V(persistent) or V(volatile).
      type: str
      returned: always
      sample: none
    driver:
      description: What makes one tree of its layers, V(overlay), V(fuse-overlayfs) or V(copy).
      type: str
      returned: always
      sample: overlay
    driver_reason:
      description: Why it is this driver.
      type: str
      returned: always
      sample: the kernel has it
    generation:
      description: Number of the chain that it has now, counted from 1.
      type: int
      returned: always
      sample: 2
    chain_id:
      description: ChainID of its uppermost layer.
      type: str
      returned: always
    gap_ms:
      description: Milliseconds in which nothing was mounted at the path during this run, where something was before.
      type: float
      returned: always
      sample: 3.1
    held_by:
      description: Processes and mounts that still use a tree which was detached.
      type: list
      elements: dict
      returned: always
      contains:
        pid:
          description: Process id, 0 for a mount.
          type: int
          returned: always
        command:
          description: Its name.
          type: str
          returned: always
        holds:
          description: A path that it uses.
          type: str
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import layer_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._run.engine import run_module

    run_module(AnsibleModule(argument_spec=layer_module_spec(), supports_check_mode=True), "layer")


if __name__ == "__main__":
    main()
