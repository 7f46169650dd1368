#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_info
short_description: Show a stack's state, its generations, its changes and who still uses an old tree
version_added: 0.1.0
description:
  - Reads the record of a stack and the mount table, and changes nothing.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes.info_module
  - strata.overlay._attributes.action_group
  - strata.overlay._store
options:
  name:
    description:
      - The stack's name.
    type: str
    required: true
  changes:
    description:
      - Return how the writable layer differs from the layers below it, as C(docker diff) does.
      - The stack may be mounted or not. Changes made while this runs may be missing from the result.
      - It takes time for every path in the writable layer, and for those that an emptied or replaced directory has
        lost, and none for the rest of the tree.
    type: bool
    default: false
  lock_timeout:
    description:
      - Seconds to wait while another run changes the store.
    type: int
    default: 300
seealso:
  - module: strata.overlay.stack
  - module: strata.overlay.store_info
"""

EXAMPLES = r"""
- name: Look at a stack
  strata.overlay.stack_info:
    name: web
  register: web

- name: What has been changed below /etc since the layers were made
  strata.overlay.stack_info:
    name: web
    changes: true
  register: found

- name: Show it
  ansible.builtin.debug:
    msg: "{{ found.changes | selectattr('path', 'match', '/etc/') | map(attribute='path') }}"

- name: Restart what still runs from an older generation
  ansible.builtin.debug:
    msg: "{{ web.held_by | map(attribute='command') | unique }}"
"""

RETURN = r"""
keeper:
  description:
    - The process that keeps the namespaces of an ordinary user, in which the stacks are mounted; 0 where there is none
      yet.
  type: int
  returned: for a user who is not root
  sample: 4711
name:
  description: The name.
  returned: success
  type: str
record:
  description: All that the store remembers of it.
  returned: success
  type: dict
path:
  description: Where it is mounted.
  returned: success
  type: str
mounted:
  description: Whether it is mounted, from the mount table.
  returned: success
  type: bool
drift:
  description: What is otherwise than the record says, in words; empty when nothing is.
  returned: success
  type: str
  sample: "it shows 2 layers of 3"
driver:
  description: What makes one tree of its layers, V(overlay), V(fuse-overlayfs) or V(copy).
  type: str
  returned: always
  sample: overlay
writable:
  description: V(none), V(persistent) or V(volatile).
  returned: success
  type: str
layers:
  description: Its layers as they were written, bottom first.
  returned: success
  type: list
  elements: str
diff_ids:
  description: DiffIDs, bottom first.
  returned: success
  type: list
  elements: str
chain_id:
  description: ChainID of its uppermost layer.
  returned: success
  type: str
generation:
  description: Number of the chain that it has now.
  returned: success
  type: int
generations:
  description: The chains that it has had and that are kept on record, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    number:
      description: Its number.
      type: int
      returned: always
    diff_ids:
      description: DiffIDs, bottom first.
      type: list
      elements: str
      returned: always
    layers:
      description: Its layers as they were written, bottom first.
      type: list
      elements: str
      returned: always
    time:
      description: Since when, ISO 8601 in UTC.
      type: str
      returned: always
    back_to:
      description: The generation that it brought back, 0 where a definition asked for it.
      type: int
      returned: always
changes:
  description:
    - Every path of the writable layer that is otherwise than in the layers below, each directory before what is in it.
    - A path counts as changed where its type, mode, owner, device, capabilities or, unless it is a directory, its size
      or time of modification differ. Other attributes alone make no change, as with C(docker diff).
    - A directory in which anything has changed is among them; what a deleted or replaced directory held is not.
    - Empty for a read-only stack, and for a volatile one that is not mounted.
  returned: when O(changes=true)
  type: list
  elements: dict
  contains:
    path:
      description: Path from the top of the stack, beginning with a slash. Bytes that are no UTF-8 are written C(\xNN).
      type: str
      returned: always
      sample: /etc/app.conf
    kind:
      description: V(A) added, V(C) changed, V(D) deleted.
      type: str
      returned: always
    size:
      description: Bytes of a regular file as it is now, 0 for everything else.
      type: int
      returned: always
hidden:
  description:
    - Paths that are otherwise in the present layers than in those of a generation that is kept, and that the stack does
      not show so, since its persistent writable layer has them changed or deleted. An upgrade has not reached them.
    - At most 1000 for each generation. One whose layers are not in the store any more is left out.
  returned: success
  type: list
  elements: str
  sample: [/etc/app.conf]
held_by:
  description:
    - Processes that still work in, or have open, a tree which was taken from the path while they used it.
    - A tree of a single read-only layer looks like the file system of the store and is not among them.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: Process id.
      type: int
      returned: always
    command:
      description: Its name.
      type: str
      returned: always
    holds:
      description: What it uses, as a path from the top of the old tree.
      type: str
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import stack_info_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._info.stack import run_stack_info

    run_stack_info(AnsibleModule(argument_spec=stack_info_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
