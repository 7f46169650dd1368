# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.plugin_utils._shipping import ShippingAction


class ActionModule(ShippingAction):
    """Ship what the host lacks, then run the module ``image``."""

    module = "image"
