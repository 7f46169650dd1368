#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: store_check
short_description: Find what is wrong in a store, and repair it
version_added: 0.1.0
description:
  - Compares everything in a store with its records, in both directions, and with what is mounted.
  - With O(repair) it makes anew what follows from records, deletes rests that hold nothing, and moves everything else
    that is in the way to C(strata/lost/) in the store, from where nothing is ever deleted. What is lost and comes from
    a definition, such as a content, is imported again by the next run of M(strata.overlay.apply).
  - The root of a Docker daemon (storage driver overlay2) or of Podman (overlay) is checked too, without a single write.
  - C(docs/recovery.md) of this collection explains each kind of finding and what to do about it.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
  - strata.overlay._store
options:
  repair:
    description:
      - Mend what can be mended. It is refused for the root of an engine.
    type: bool
    default: false
  deep:
    description:
      - Read every file of every content and compare the tree with the digest that its import has recorded.
    type: bool
    default: false
  lock_timeout:
    description:
      - Seconds to wait for the store's lock while another run on the same host changes it.
    type: int
    default: 300
seealso:
  - module: strata.overlay.apply
  - module: strata.overlay.prune
  - module: strata.overlay.store_info
"""

EXAMPLES = r"""
- name: Say what is wrong
  strata.overlay.store_check:
  register: store

- name: Stop where something is wrong that mounts depend on
  ansible.builtin.assert:
    that: store.findings | selectattr('severity', 'eq', 'error') | length == 0

- name: Show what repair would do
  strata.overlay.store_check:
    repair: true
  check_mode: true
  diff: true

- name: Repair, having read every file of every layer
  strata.overlay.store_check:
    repair: true
    deep: true

- name: Find what Docker has lost sight of
  strata.overlay.store_check:
    root: /var/lib/docker
"""

RETURN = r"""
keeper:
  description:
    - The process that keeps the namespaces of an ordinary user, in which the stacks are mounted; 0 where there is none
      yet.
  type: int
  returned: for a user who is not root
  sample: 4711
findings:
  description: What is wrong, or with O(repair) was; empty when all is well.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: What kind of thing it is, one of those in C(docs/recovery.md).
      type: str
      returned: always
      sample: short_link_missing
    severity:
      description:
        - V(error) where something is lost or mounts wrongly, V(warning) where room is wasted or only other programs
          that read the store are misled, V(notice) for what the next change sweeps by itself.
      type: str
      returned: always
      sample: error
    object:
      description: A path relative to the root, a ChainID, a DiffID, an image's id, or a stack.
      type: str
      returned: always
      sample: sha256:267c5fd16af60e52927fabf0a36a31f3b5a2069347f7f00c7bd7f93f6ebc01f4
    message:
      description: What is wrong, in words.
      type: str
      returned: always
      sample: its short link overlay2/l/B27Q5YVLC3ZV4SMTNPW3VQ7KXE is missing
    repair:
      description: What O(repair) does about it, or what has to be done where it can do nothing.
      type: str
      returned: always
      sample: make its files anew from its chain
    repairable:
      description: Whether O(repair) can mend it, and with O(repair) whether it did.
      type: bool
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
    from ansible_collections.strata.overlay.plugins.module_utils._check.run import run_check
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import store_check_module_spec

    run_check(AnsibleModule(argument_spec=store_check_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
