#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write a picture of a whole fleet as one HTML page and as JSON
version_added: 0.1.0
description:
  - Writes two files on the controller from what earlier tasks of the play have registered on each host. It runs on the
    controller alone, connects to no host, and changes none. The playbook C(strata.overlay.report) is these tasks.
  - Hosts without a result, out of reach or with a failed task are in the report as such.
  - What a host's last run moved, how long it took and its gap come from the variable that O(run) names, where
    M(strata.overlay.apply) has been registered in the same run of Ansible; else from the file O(json) as the report
    before has left it.
  - In check mode no file is written.
author:
  - strata.overlay contributors (@strata-overlay)
attributes:
  action:
    description: Is an action plugin that runs on the controller alone.
    support: full
  async:
    description: Can be run with C(async).
    support: none
extends_documentation_fragment:
  - strata.overlay._attributes.info_module
options:
  dest:
    description: File of the page. A relative path counts from the directory in which Ansible was started.
    type: str
    required: true
  json:
    description: File of the same as JSON.
    type: str
    required: true
  title:
    description: Title of the page.
    type: str
    default: Overlay fleet
  store:
    description: Variable in which each host's result of M(strata.overlay.store_info) is registered.
    type: str
    default: overlay_report_store
  plan:
    description: Variable in which the result of M(strata.overlay.plan) is registered on hosts with a definition.
    type: str
    default: overlay_report_plan
  run:
    description: Variable in which each host's result of M(strata.overlay.apply) is registered, where it had one.
    type: str
    default: overlay_result
seealso:
  - module: strata.overlay.store_info
  - module: strata.overlay.plan
"""

EXAMPLES = r"""
- name: Look at each store
  strata.overlay.store_info:
  register: overlay_report_store
  ignore_unreachable: true

- name: Write the report
  strata.overlay.report:
    dest: reports/overlay.html
    json: reports/overlay.json
  run_once: true
"""

RETURN = r"""
dest:
  description: Path of the page.
  returned: success
  type: str
json:
  description: Path of the JSON.
  returned: success
  type: str
attention:
  description: Hosts that are out of reach, have failed, have drifted or cannot be compared with their definition.
  returned: success
  type: list
  elements: str
summary:
  description: The numbers at the top of the report, as in the JSON.
  returned: success
  type: dict
"""
