#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prune_program
short_description: A program on the host that prunes a store, for timers
version_added: 0.1.0
description:
  - Installs C(strata-prune), which does what M(strata.overlay.prune) does with the same options, without Ansible.
  - It consists of the very code of that module, and needs Python's standard library and nothing else. It is run by the
    Python that runs this module. Run this module again after each update of the collection.
  - Root runs it, so Python and the code may belong to nobody but root, and nobody else may write to them or to a
    directory on the way. Otherwise nothing is installed, and what is installed does not run.
  - It removes nothing before it is started. The role P(strata.overlay.host#role) starts it by a systemd timer, with
    C(overlay_prune_timer).
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
  - strata.overlay._store
  - strata.overlay._prune
options:
  state:
    description:
      - Whether the program is there.
    type: str
    choices: [present, absent]
    default: present
  lock_timeout:
    description:
      - Seconds to wait for the store's lock while another run on the same host changes it.
    type: int
    default: 300
seealso:
  - module: strata.overlay.prune
"""

EXAMPLES = r"""
- name: A program that removes what no stack has used for a week
  strata.overlay.prune_program:
    unused_for: 7d

- name: Remove the program
  strata.overlay.prune_program:
    state: absent
"""

RETURN = r"""
program:
  description: The program.
  returned: success
  type: str
  sample: /usr/local/sbin/strata-prune
library:
  description: The directory of its code, named after a digest of it.
  returned: success
  type: str
  sample: /usr/local/lib/strata-prune/59a1f2c07be4d813
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import prune_program_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._prune.install_program import run_prune_program

    run_prune_program(AnsibleModule(argument_spec=prune_program_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
