#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prune
short_description: Remove from a store what nothing uses
version_added: 0.1.0
description:
  - Removes contents and layers that no name, no stack and no kept generation of a stack refers to, writable layers that
    stacks have left behind, and what runs left that were ended.
  - Nothing that a mount in any mount namespace of the host uses is removed.
  - Check mode lists exactly what a run would remove, with the bytes that each frees; together they are what the file
    system has more afterwards. Bytes that several things share are counted once.
  - What comes into use between the look and the removal is kept.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
  - strata.overlay._store
  - strata.overlay._prune
options:
  lock_timeout:
    description:
      - Seconds to wait for the store's lock while another run on the same host changes it.
    type: int
    default: 300
notes:
  - Processes that still use a tree which was detached with C(on_busy=detach) keep it open, but it is no mount any more;
    the generation that it was made from is kept as long as the stack's record has it.
seealso:
  - module: strata.overlay.apply
  - module: strata.overlay.store_info
"""

EXAMPLES = r"""
- name: See what nothing refers to, and how much room it takes
  strata.overlay.prune:
  check_mode: true
  register: garbage

- name: Remove it
  strata.overlay.prune:

- name: Remove it, and names that no stack has used for a week
  strata.overlay.prune:
    unused_for: 7d
    keep: ["debian-*", rescue]

- name: Keep the store below ten gigabytes
  strata.overlay.prune:
    max_bytes: 10g

- name: Remove what a pipeline has left behind
  strata.overlay.prune:
    labels:
      pipeline: nightly
    unused_for: 12h
"""

RETURN = r"""
keeper:
  description:
    - The process that keeps the namespaces of an ordinary user, in which the stacks are mounted; 0 where there is none
      yet.
  type: int
  returned: for a user who is not root
  sample: 4711
removed:
  description: What was removed, or in check mode would be.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(name), V(image) (its config), V(layer) (a link of a chain, without its content), V(content), V(upper) (a
          writable layer that a stack has left), V(source) (what is known of an archive, nothing of which is in the
          store) or V(leftover) (of a run that was ended).
      type: str
      returned: always
      sample: content
    id:
      description: The name, the ChainID, the DiffID, the directory's name, or the path in the store.
      type: str
      returned: always
    bytes:
      description: Bytes on disk that it frees.
      type: int
      returned: always
      sample: 53248
    text:
      description: The removal in words.
      type: str
      returned: always
      sample: delete content 3f2a9c41d0be, last used 2026-05-01
reclaimed_bytes:
  description: Bytes on disk that all of it frees.
  returned: success
  type: int
  sample: 1073152
notes:
  description:
    - What was kept because it could not be looked at, and whether O(max_bytes) could not be reached.
    - What could not be measured or deleted, with the reason; all else is. These are warnings too. Bytes that could not
      be deleted are no part of RV(reclaimed_bytes), and a later prune tries again.
  returned: success
  type: list
  elements: str
locked_ms:
  description: Milliseconds for which no other run could change the store, 0 in check mode.
  returned: success
  type: float
  sample: 7.1
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
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import prune_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._prune.run import run_prune

    run_prune(AnsibleModule(argument_spec=prune_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
