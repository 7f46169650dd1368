#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: store_info
short_description: What is in a host's store, how much room it takes, and what the host can do
version_added: 0.1.0
description:
  - Reads a store and changes nothing. A root without a store is reported as an empty one.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes.info_module
  - strata.overlay._attributes.action_group
  - strata.overlay._store
options:
  lock_timeout:
    description:
      - Seconds to wait while another run changes the store.
    type: int
    default: 300
seealso:
  - module: strata.overlay.apply
"""

EXAMPLES = r"""
- name: Look at the store
  strata.overlay.store_info:
  register: store

- name: Say which stacks are mounted
  ansible.builtin.debug:
    msg: "{{ store.stacks | selectattr('state', 'equalto', 'mounted') | map(attribute='path') }}"
"""

RETURN = r"""
exists:
  description: Whether there is a store at the root.
  returned: success
  type: bool
layers:
  description: Every layer, one for each link of each chain.
  returned: success
  type: list
  elements: dict
  contains:
    chain_id:
      description: Its ChainID.
      type: str
      returned: always
    diff_id:
      description: DiffID of its content.
      type: str
      returned: always
    parent:
      description: ChainID of the layer below, empty for a base layer.
      type: str
      returned: always
    size:
      description: Bytes of the regular files in its content.
      type: int
      returned: always
    names:
      description: Names that point at it.
      type: list
      elements: str
      returned: always
    stacks:
      description: Stacks that have it in their chain.
      type: list
      elements: str
      returned: always
names:
  description: Every name and what it points at.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      returned: always
    diff_ids:
      description: DiffIDs, bottom first.
      type: list
      elements: str
      returned: always
    labels:
      description: Its labels.
      type: dict
      returned: always
    source:
      description: Where its content came from when the name was set.
      type: str
      returned: always
stacks:
  description: Every stack on record.
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
      description: V(mounted) or V(unmounted), from the mount table.
      type: str
      returned: always
    writable:
      description: V(none), V(persistent) or V(volatile).
      type: str
      returned: always
    layers:
      description: Its layers as they were written, bottom first.
      type: list
      elements: str
      returned: always
    diff_ids:
      description: DiffIDs, bottom first.
      type: list
      elements: str
      returned: always
    chain_id:
      description: ChainID of its uppermost layer.
      type: str
      returned: always
    generation:
      description: Number of the chain that it has now.
      type: int
      returned: always
    generations:
      description: The chains that it has had and that are kept on record, newest first.
      type: list
      elements: dict
      returned: always
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
    writable_bytes:
      description: Bytes that its writable layer takes.
      type: int
      returned: always
usage:
  description: Bytes on disk, hard links and shared contents counted once.
  returned: success
  type: dict
  contains:
    content_bytes:
      description: All contents.
      type: int
      returned: always
    used_bytes:
      description: Contents in the present chain of a stack.
      type: int
      returned: always
    shared_bytes:
      description: Contents in the present chains of more than one stack.
      type: int
      returned: always
    reclaimable_bytes:
      description: Contents that no name, stack or kept generation refers to.
      type: int
      returned: always
    writable_bytes:
      description: Persistent writable layers.
      type: int
      returned: always
    total_bytes:
      description: The whole store.
      type: int
      returned: always
abilities:
  description: What the host's kernel can do, found by trying.
  returned: success
  type: dict
  contains:
    release:
      description: The kernel's release.
      type: str
      returned: always
    overlay:
      description: It has the overlay file system.
      type: bool
      returned: always
    lowerdir_append:
      description: Layers can be given to it one by one.
      type: bool
      returned: always
    userxattr:
      description: The module runs in a user namespace, and marks are kept in user attributes.
      type: bool
      returned: always
    page_size:
      description: Bytes of a page.
      type: int
      returned: always
    beneath:
      description: A mount can be put beneath another one, so that read-only and volatile stacks change without a gap.
      type: bool
      returned: always
    selinux:
      description: SELinux is in force, so that a stack can have a context.
      type: bool
      returned: always
    d_type:
      description: The store's file system tells what each entry of a directory is, as writable layers need it.
      type: bool
      returned: always
    xattrs:
      description: The store's file system has the attributes that whiteouts and opaque directories are marked with.
      type: bool
      returned: always
    native_diff:
      description: A writable layer holds the whole difference from the layers below.
      type: bool
      returned: always
    idmap:
      description: Owners of layers in the store can be mapped.
      type: bool
      returned: always
    project_quota:
      description: The size of persistent layers can be limited.
      type: bool
      returned: always
    max_layers:
      description: The most layers that one stack can have.
      type: int
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._argspec import store_info_module_spec
from ansible_collections.strata.overlay.plugins.module_utils._info import run_info


def main() -> None:
    run_info(AnsibleModule(argument_spec=store_info_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
