# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""The module `image`: an import, or an export where `state` asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def run_image(module: AnsibleModule) -> NoReturn:
    """Bring the parameters of ``image`` about and end the module."""
    if module.params["state"] == "exported":
        from ansible_collections.strata.overlay.plugins.module_utils._export.export import run_export

        run_export(module)
    from ansible_collections.strata.overlay.plugins.module_utils._run.engine import run_module

    run_module(module, "image")
