#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mount_helper
short_description: The program that lets mount(8) and systemd mount stacks, at boot above all
version_added: 0.1.0
description:
  - Installs C(mount.strata), so that C(mount -t strata web /srv/web), lines of type C(strata) in C(/etc/fstab) and
    systemd mount units of this type mount a stack as the store's record says.
  - It consists of the very code with which the modules of this collection mount, and needs Python's standard library
    and nothing else. It is run by the Python that runs this module.
  - Root runs it, so Python and the code may belong to nobody but root, and nobody else may write to them or to a
    directory on the way. Otherwise nothing is installed, and what is installed does not run.
  - While it is there, stacks with O(strata.overlay.stack#module:boot=true) get a mount unit, or a line of C(/etc/fstab)
    where systemd is not the init system. Run this module before M(strata.overlay.apply), and again after each update of
    the collection. The role P(strata.overlay.host#role) does both.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
options:
  state:
    description:
      - With V(absent), units and lines that need the helper go with the next run of M(strata.overlay.apply).
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: strata.overlay.apply
  - module: strata.overlay.stack
"""

EXAMPLES = r"""
- name: Let stacks come back after a reboot
  strata.overlay.mount_helper:

- name: Remove the helper
  strata.overlay.mount_helper:
    state: absent
"""

RETURN = r"""
program:
  description: The program that mount(8) runs.
  returned: success
  type: str
  sample: /usr/sbin/mount.strata
library:
  description: The directory of its code, named after a digest of it.
  returned: success
  type: str
  sample: /usr/local/lib/strata/59a1f2c07be4d813
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._boot.programs import run_helper
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import mount_helper_module_spec

    run_helper(AnsibleModule(argument_spec=mount_helper_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
