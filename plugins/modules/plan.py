#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: What a definition would change on a host, and nothing else
version_added: 0.1.0
description:
  - Holds a definition against the host and returns the plan between them, as check mode of M(strata.overlay.apply)
    does.
  - Never changes anything. C(changed) says whether M(strata.overlay.apply) would.
  - The other modules ask the host by this one first, since it is small; on a host that is right it is all that runs.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
  - strata.overlay._attributes.ships
  - strata.overlay._store
  - strata.overlay._store.changes
  - strata.overlay._layer.list
  - strata.overlay._image.list
  - strata.overlay._stack.list
  - strata.overlay._prune.option
options:
  exclusive:
    description:
      - Plan to take down the stacks and forget the layer names of this store that the definition does not hold.
    type: bool
    default: false
  stage:
    description:
      - Only import and link the layers that the definition needs, and leave names, stacks, services and everything else
        as they are. A later run without it then has nothing slow to do.
      - What was staged is in use once a run without it follows; a M(strata.overlay.prune) before that removes it.
      - RV(stacks) is empty then.
    type: bool
    default: false
seealso:
  - module: strata.overlay.apply
"""

EXAMPLES = r"""
- name: Has the host drifted from its definition?
  strata.overlay.plan:
    layers: "{{ overlay_layers }}"
    stacks: "{{ overlay_stacks }}"
  register: drift
  failed_when: drift.changed
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
  description: What M(strata.overlay.apply) would do, in order. It is empty when the host is right.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description:
        - The kind of step, one of V(create_store), V(import_content), V(link_layer), V(copy_layers), V(set_name),
          V(drop_name), V(store_image), V(write_stack), V(set_aside), V(unmount), V(mount), V(switch), V(set_top),
          V(forget_stack), V(stop_services), V(start_services), V(check_health), V(write_unit), V(remove_unit),
          V(prune).
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
    health:
      description: What the health check said in this run, empty where it was not asked.
      type: str
      returned: always
      sample: "GET http://127.0.0.1:8080/healthz: right after 2 tries"
    boot:
      description:
        - What mounts it at boot. V(unit) is a systemd mount unit, V(fstab) a line of C(/etc/fstab), V(off) nothing, as
          it is defined. With V(no_helper) it is to be mounted at boot, but C(mount.strata) is not on the host, or the
          run is of a user who is not root.
      type: str
      returned: always
      sample: unit
    hidden:
      description:
        - Paths that the new layers change, and that stay as they were in the stack, since its persistent writable layer
          has them changed or deleted. At most 1000. Empty where its layers do not change.
        - In check mode known only of layers that the host has, as after a run with O(stage=true).
      type: list
      elements: str
      returned: always
      sample: [/etc/app.conf]
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
removed:
  description: What O(prune) removed, or in check mode would remove, as M(strata.overlay.prune) returns it.
  returned: when O(prune) is given
  type: list
  elements: dict
reclaimed_bytes:
  description: Bytes on disk that this frees.
  returned: when O(prune) is given
  type: int
notes:
  description:
    - What was kept because it could not be looked at, and whether O(prune.max_bytes) could not be reached.
    - What could not be measured or deleted, with the reason; all else is. These are warnings too.
  returned: when O(prune) is given
  type: list
  elements: str
missing:
  description: What the host lacks and the controller has, the DiffIDs of contents and the ids of images.
  returned: success
  type: list
  elements: str
"""

import gc

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    # A module that only looks ends before there is anything worth collecting: 70 of a run's 1,420 ms.
    gc.disable()
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import apply_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._run.inspect import run_plan

    run_plan(AnsibleModule(argument_spec=apply_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
