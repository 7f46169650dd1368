# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: builds
short_description: Which layers have to be built by roles, and which are there already
version_added: 0.1.0
author:
  - strata.overlay contributors (@strata-overlay)
description:
  - Checks the builds of the playbook C(strata.overlay.build), finds their roles on the controller, and returns
    the key that the layer of each must have. The key is a digest of all that goes into the layer, which is the chain
    below it, all files of its roles and of those that they depend on by C(meta/main.yml), and its variables.
  - Roles are looked for in collections where their name has two dots, else in C(roles) beside the inventory and beside
    the playbook, then in the C(roles_path) of Ansible's configuration. A path is a role too; a relative one begins at
    the inventory's directory.
options:
  _terms:
    description:
      - Builds as C(overlay_builds) has them, dictionaries with C(name), C(layers) and C(roles), and optionally C(vars),
        C(clean) and C(writable).
    required: true
  names:
    description: What the build host's store has, as RV(strata.overlay.store_info#module:names) returns it.
    type: list
    elements: dict
    required: true
  below:
    description:
      - What M(strata.overlay.apply) in check mode has returned for the layers and images that builds may name. The
        store need not have them yet, or may have older ones.
    type: dict
    default: {}
  directory:
    description: Where on the build host throw-away stacks are mounted.
    type: string
    default: /run/strata-build
  files:
    description: Files that only the build sees, as the option O(strata.overlay.layer#module:files).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: What does the store have?
  strata.overlay.store_info:
    size: false
  register: store

- name: What would be built?
  ansible.builtin.debug:
    msg: "{{ query('strata.overlay.builds', *overlay_builds, names=store.names) | rejectattr('current') }}"
  vars:
    overlay_builds:
      - name: nginx
        layers: [debian]
        roles: [nginx]
"""

RETURN = r"""
_raw:
  description:
    - For each build its C(name), C(layers), C(roles) as paths or names in collections, C(vars), C(clean), C(writable),
      C(key), and whether the layer is C(current), which it is when the store has it with this key; also the C(host)
      that its roles run on, the C(directory) of its own, the throw-away C(stack), and C(gone), which takes that down,
      both as the option O(strata.overlay.apply#module:stacks).
  type: list
  elements: dict
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.utils.collection_loader._collection_finder import _get_collection_role_path
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import readable
from ansible_collections.strata.overlay.plugins.plugin_utils._builds import Place, names_of, plan_builds
from ansible_collections.strata.overlay.plugins.plugin_utils._roledigest import RoleFinder


class LookupModule(LookupBase):
    """The plugin."""

    def run(self, terms: list[Any], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """One result for each build in ``terms``."""
        plugin: Any = self  # Ansible's own classes have no types
        plugin.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        beside = [Path(str(known[name])) for name in ("inventory_dir", "playbook_dir") if known.get(name)]
        places = [place / "roles" for place in beside] + [Path(path) for path in constants.DEFAULT_ROLES_PATH]
        finder = RoleFinder(beside, places, _in_collection, plugin._loader.load_from_file)
        place = Place(plugin.get_option("directory"), tuple(plugin.get_option("files")))
        try:
            names = names_of(plugin.get_option("names"), plugin.get_option("below"))
            return [build.facts(place) for build in plan_builds(terms, names, finder)]
        except StrataError as error:
            raise AnsibleError(readable(str(error))) from error


def _in_collection(name: str) -> str:
    """The path of a role in a collection, "" where there is none."""
    found = _get_collection_role_path(name)
    return str(found[1]) if found else ""
