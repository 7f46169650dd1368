#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: commit
short_description: What has changed in a stack becomes a layer with a name
version_added: 0.1.0
description:
  - Makes a layer of all that a stack's writable layer holds, deleted files as whiteouts, and gives it a name, as
    C(docker commit) does. The layers below are not touched.
  - The layer is read while the stack is in use. Where anything in the writable layer changes meanwhile, nothing is kept
    and the task fails; O(services) keeps the stack's services still for so long.
  - The same changes make the same layer, to the byte. Owners, modes, times, attributes, devices and hard links are
    kept.
  - What no layer can hold is named in a warning. Sockets are left out. Files that C(chattr) has made immutable or
    append-only are in the layer, and are not so there.
  - Holes of sparse files stay holes and are not read. In the layer's archive they are zeros, as everywhere, so a hole
    takes the time that SHA-256 needs for as many bytes, some seconds for 8 GiB.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
  - strata.overlay._store
options:
  stack:
    description:
      - The stack's name. It may be mounted or not; a volatile one has changes only while it is mounted.
      - Not one with O(strata.overlay.stack#module:idmap), since owners in its writable layer are others than in its
        layers.
    type: str
    required: true
  name:
    description:
      - The layer's name. Where there is a layer of this name, the name moves to the new one.
    type: str
    required: true
  labels:
    description:
      - Facts to be kept with the name.
    type: dict
  services:
    description:
      - What becomes of the stack's O(strata.overlay.stack#module:services) while its writable layer is read.
      - V(run) lets them run. They have to be quiet by themselves, or the task fails.
      - V(freeze) halts them with C(systemctl freeze) and lets them go on afterwards. What they have in memory only is
        not in the layer.
      - V(stop) stops those that run and starts them afterwards.
      - They come back also when the run fails or is killed.
      - Check mode halts and stops nothing, so it may fail where a service writes while it reads.
    type: str
    choices: [run, freeze, stop]
    default: run
  restack:
    description:
      - Put the new layer on top of the stack's layers, and let the stack go on with an empty writable layer above it.
        It is a new generation of the stack, which is unmounted and mounted for it.
      - What changes between reading and unmounting makes the task fail, and the stack stay as it was. Services that
        write something when they stop need O(services=stop).
      - The old writable layer is set aside until M(strata.overlay.prune) removes it.
      - Needs a stack with C(writable=persistent). A definition of the stack elsewhere has to name the layer as well, or
        it will be taken away again.
    type: bool
    default: false
  lock_timeout:
    description:
      - Seconds to wait for the store's lock while another run on the same host changes it.
    type: int
    default: 300
seealso:
  - module: strata.overlay.stack
  - module: strata.overlay.stack_info
    description: With O(strata.overlay.stack_info#module:changes) it shows what a commit would include.
"""

EXAMPLES = r"""
- name: Keep what a build has left in its sandbox
  strata.overlay.commit:
    stack: sandbox
    name: "toolchain-{{ build_number }}"
    labels:
      pipeline: nightly

- name: A consistent copy of what an application has written, without stopping it
  strata.overlay.commit:
    stack: web
    name: web-data
    services: freeze

- name: Seal what has been set up by hand, and go on above it
  strata.overlay.commit:
    stack: web
    name: web-configured
    services: stop
    restack: true
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
        - The kind of step, one of V(import_content), V(link_layer), V(set_name), V(write_stack), V(set_aside),
          V(compare_upper), V(unmount), V(mount), V(stop_services), V(start_services), V(freeze_services),
          V(thaw_services).
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
      sample: import content 3f2a9c41d0be from the changes of stack web
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
diff_id:
  description: DiffID of the layer.
  returned: success
  type: str
  sample: sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3
diff_ids:
  description: DiffIDs of the stack's layers with the new one on top, bottom first.
  returned: success
  type: list
  elements: str
chain_id:
  description: ChainID of the new layer above those of the stack.
  returned: success
  type: str
stacks:
  description: The stack as it is afterwards, where O(restack=true) changed it.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      returned: always
    path:
      description: Where it is mounted.
      type: str
      returned: always
    state:
      description: V(mounted) or V(unmounted).
      type: str
      returned: always
    writable:
      description: V(persistent).
      type: str
      returned: always
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
      description: Number of the chain that it has now.
      type: int
      returned: always
    chain_id:
      description: ChainID of its uppermost layer.
      type: str
      returned: always
    gap_ms:
      description: Milliseconds in which nothing was mounted at the path.
      type: float
      returned: always
    held_by:
      description: Empty, since a stack that is in use is not restacked.
      type: list
      elements: dict
      returned: always
    health:
      description: Empty.
      type: str
      returned: always
    boot:
      description: What brings it back after a reboot.
      type: str
      returned: always
problems:
  description: Every mistake found in the options, one sentence each.
  returned: failure by mistakes in the options
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import commit_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._run.commit import run_commit

    run_commit(AnsibleModule(argument_spec=commit_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
