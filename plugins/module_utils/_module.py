# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""How modules end: results, and errors as failures with advice."""

from __future__ import annotations

import gc
import os
import typing as t

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import (
    DefinitionError,
    StrataError,
    UnhealthyError,
    advice,
    error_text,
)
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line, readable

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def guarded(
    module: AnsibleModule, work: t.Callable[[], dict[str, t.Any]], changes: bool = False, keep: bool = False
) -> dict[str, t.Any]:
    """What the work returns; an error that it raises ends the module. No name on a host can make either unreadable.

    An ordinary user works in namespaces of the user's own, see `_linux/userns`.

    :param changes: it wants to change the store.
    :param keep: it may leave mounts, so namespaces have to stay where they are the user's.
    """
    try:
        own = _enter_own(module, changes, keep) if os.geteuid() != 0 and module.params.get("root") else {}
        found: dict[str, t.Any] = readable({**work(), **own})
        return found
    except DefinitionError as error:
        module.fail_json(msg=readable(str(error)), problems=readable(error.errors))
    except UnhealthyError as error:
        # The run did change the host, though all of it may be as it was before.
        module.fail_json(msg=readable(str(error)), changed=True, unhealthy=readable(error.name))
    except StrataError as error:
        module.fail_json(msg=readable(str(error)))
    except OSError as error:
        store = f" to change the store {module.params['root']}" if module.params.get("root") else ""
        message = f"The host refused{store}: {error_text(error)}. Nothing half-made is visible."
        module.fail_json(msg=readable(f"{message} {advice(error) or 'Run again.'}"))


def _enter_own(module: AnsibleModule, changes: bool, keep: bool) -> dict[str, t.Any]:
    # Imported only when needed: most runs are root's.
    from ansible_collections.strata.overlay.plugins.module_utils._linux.userns import enter_own, refuse_foreign

    if changes:
        refuse_foreign(module.params["root"])
    return {"keeper": enter_own(module.params["root"], keep)}


def exit_module(module: AnsibleModule, result: dict[str, t.Any]) -> t.NoReturn:
    """End a module with a result, in which ``diff`` is shown to those who ask for it and ``warnings`` are texts."""
    for message in result.pop("warnings", ()):
        module.warn(one_line(message))
    if not module._diff:
        result.pop("diff", None)
    # Without this AnsibleModule returns the whole definition, filled up with defaults and controller facts.
    shown = {
        key: value
        for key, value in module.params.items()
        if not isinstance(value, (dict, list)) and not module.argument_spec.get(key, {}).get("no_log")
    }
    # Python looks for reference cycles in all that is loaded before it ends: a tenth of a short module's time.
    gc.freeze()
    module.exit_json(invocation={"module_args": shown}, **result)
