# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: parts
short_description: One list of a definition from the variables that hold its parts
version_added: 0.1.0
author:
  - strata.overlay contributors (@strata-overlay)
description:
  - Gives the items of a variable such as C(overlay_stacks), followed by those of all variables whose names begin with
    it and two underscores, such as C(overlay_stacks__web), in the order of these names. So each group of an inventory
    can add its own layers and stacks.
  - An item of the same name in two of the variables is an error that names both.
options:
  _terms:
    description: The variable, one of V(overlay_layers), V(overlay_images) and V(overlay_stacks).
    required: true
  lock:
    description:
      - Path of a lock file, as the playbook C(strata.overlay.lock) writes it. Every source then has to be in it, and is
        pinned to the digest that it had when the file was written. Empty for none.
    type: string
    default: ""
"""

EXAMPLES = r"""
- name: See the stacks of this host, whichever groups they come from
  ansible.builtin.debug:
    msg: "{{ query('strata.overlay.parts', 'overlay_stacks') | map(attribute='name') }}"
"""

RETURN = r"""
_raw:
  description: The items.
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line
from ansible_collections.strata.overlay.plugins.plugin_utils._lockfile import (
    check_lock,
    lock_image,
    lock_layer,
    lock_stack,
)
from ansible_collections.strata.overlay.plugins.plugin_utils._parts import merge, part_names

_LOCKS = {"overlay_layers": lock_layer, "overlay_images": lock_image, "overlay_stacks": lock_stack}


class LookupModule(LookupBase):
    """The plugin."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """The items of all parts of the variables in ``terms``."""
        plugin: Any = self  # Ansible's own classes have no types
        plugin.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        path = str(plugin.get_option("lock") or "")
        found: list[Any] = []
        try:
            for base in terms:
                names = part_names(base, [str(name) for name in known])
                items = merge({name: plugin._templar.template(known[name]) for name in names})
                if path:
                    lock = check_lock(plugin._loader.load_from_file(path, cache="all"), path)
                    items = [_LOCKS[base](item, lock, path, str(known.get("inventory_dir") or "")) for item in items]
                found += items
        except (StrataError, KeyError) as error:
            raise AnsibleError(one_line(f"strata.overlay.parts: {error}")) from error
        return found
