# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""What the module files have in common: errors become failures that name what to do."""

from __future__ import annotations

import typing as t

from ansible_collections.strata.overlay.plugins.module_utils._errors import DefinitionError, StrataError, UnhealthyError

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def guarded(module: AnsibleModule, work: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    """What the work returns; an error that it raises ends the module."""
    try:
        return work()
    except DefinitionError as error:
        module.fail_json(msg=str(error), problems=error.problems)
    except UnhealthyError as error:
        # The run did change the host, though all of it may be as it was before.
        module.fail_json(msg=str(error), changed=True, unhealthy=error.name)
    except StrataError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        module.fail_json(
            msg=f"The host refused: {error.strerror or error}{at}. Nothing half-made is visible; run again."
        )
