# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A commit while services run, on a machine that a real systemd boots: they are frozen or stopped, and come back."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.systemd_machine import Machine

BASE = inline("base", etc__os="base")
WRITING = "while :; do echo x >> /srv/web/log; sleep 0.005; done"
LARGE = 300_000_000


def define(box: Machine) -> None:
    """A stack with a service that writes into it all the time, and once more when it stops."""
    stack: dict[str, Any] = {"name": "web", "path": "/srv/web", "layers": ["base"], "writable": "persistent"}
    box.run(layers=[BASE], stacks=[stack])
    box.unit(
        "app.service",
        "[Service]",
        f"ExecStart=/bin/sh -c '{WRITING}'",
        "ExecStopPost=/bin/sh -c 'echo stopped > /srv/web/state'",
    )
    box.do("systemctl", "start", "app")
    made = box.run(stacks=[{"name": "web", "services": ["app"]}])
    assert "error" not in made, made
    assert box.active("app.service") == "active"


def commit(box: Machine, check: bool = False, **options: Any) -> dict[str, Any]:
    return box.run("commit", check=check, stack="web", name="kept", **options)


def frozen(box: Machine) -> str:
    return box.do("systemctl", "show", "--property=FreezerState", "--value", "app")


def goes_on(box: Machine) -> bool:
    """Whether the service writes."""
    before = box.read("/srv/web/log")
    for _attempt in range(100):
        time.sleep(0.05)
        if box.read("/srv/web/log") != before:
            return True
    return False


def test_commit_of_a_writing_service_is_refused_unless_it_is_frozen(box: Machine) -> None:
    define(box)
    box.do("dd", "if=/dev/urandom", "of=/srv/web/large", "bs=1M", "count=20")
    refused = commit(box)
    assert "changed while it was read" in refused["error"]
    pid = box.main_pid("app.service")
    done = commit(box, services="freeze")
    assert "error" not in done, done
    assert [step["text"] for step in done["plan"] if "services" in step["action"]] == [
        "freeze app.service",
        "thaw app.service",
    ]
    assert (frozen(box), box.main_pid("app.service")) == ("running", pid)
    assert goes_on(box)
    assert not box.exists("/srv/web/state")
    refused = commit(box, services="freeze", restack=True)
    assert "use services: stop" in refused["error"]


def test_stopped_service_starts_again_above_the_committed_layer(box: Machine) -> None:
    define(box)
    announced = commit(box, check=True, services="stop", restack=True)
    for _attempt in range(50):
        if "error" not in announced:
            break
        # Check mode stops nothing, so the service may write while it reads.
        assert "changed while it was read" in announced["error"]
        announced = commit(box, check=True, services="stop", restack=True)
    assert goes_on(box), "check mode touches nothing"
    done = commit(box, services="stop", restack=True)
    assert "error" not in done, done
    told = [step["action"] for step in done["plan"]]
    assert told == [step["action"] for step in announced["plan"]]
    assert told[0] == "stop_services"
    assert told[-1] == "start_services"
    assert box.active("app.service") == "active"
    assert goes_on(box)
    content = f"/var/lib/strata/content/sha256/{done['diff_id'][7:]}"
    assert box.read(f"{content}/state") == "stopped\n", "what it wrote when it stopped is in the layer"
    assert box.read("/srv/web/state") == "stopped\n"


def is_still(box: Machine, how: str) -> bool:
    return frozen(box) == "frozen" if how == "freeze" else box.active("app.service") == "inactive"


@pytest.mark.parametrize("how", ["freeze", "stop"])
def test_services_resume_after_the_commit_is_killed(box: Machine, how: str) -> None:
    define(box)
    box.do("dd", "if=/dev/zero", "of=/srv/web/large", "bs=1M", f"count={LARGE // 1_000_000}")
    killed = box.start("commit", stack="web", name="kept", services=how)
    for _attempt in range(500):
        if is_still(box, how):
            break
        time.sleep(0.01)
    else:
        pytest.fail("the service was never still")
    box.kill(killed)
    for _attempt in range(100):
        if not is_still(box, how):
            break
        time.sleep(0.05)
    assert goes_on(box)
    assert box.run(layers=[BASE])["changed"] is False
    done = commit(box, services=how)
    assert "error" not in done, done
    assert goes_on(box)
