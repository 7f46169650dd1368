# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a fleet: by its playbook over hosts with stores of their own, and its page in a real Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.strata.overlay.plugins.plugin_utils._fleet import HostReport, fleet
from ansible_collections.strata.overlay.plugins.plugin_utils._page import page
from ansible_collections.strata.overlay.tests.integration.chromium import Browser, chromium
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host, free_port, snapshot, unmount_all
from ansible_collections.strata.overlay.tests.integration.report_data import store, told

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
HOSTS = ("one", "two", "three")


def inventory(top: Path, **more: dict[str, Any]) -> str:
    """Three hosts over the local connection, each with a store and paths of its own."""
    base = {"name": "base", "files": [{"path": "etc/os", "content": "base"}]}
    app = {"name": "app", "files": [{"path": "etc/app", "content": "1"}]}
    hosts: dict[str, Any] = {
        name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "overlay_root": str(top / name / "store"),
            "overlay_layers": [base, app],
            "overlay_stacks": [{"name": "web", "path": str(top / name / "web"), "layers": ["base", "app"]}],
        }
        for name in HOSTS
    }
    return yaml.safe_dump({"all": {"hosts": {**hosts, **more}}})


@pytest.fixture
def fleet_of_three(host: Host, ansible: Ansible) -> Ansible:
    (ansible.directory / "inventory.yml").write_text(inventory(host.top))
    done = ansible.call("ansible-playbook", "-i", "inventory.yml", str(PLAYBOOKS / "site.yml"))
    assert done.returncode == 0, done.stdout
    return ansible


def report(ansible: Ansible, *flags: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """A run of the playbook, and the JSON that it has written."""
    done = ansible.call("ansible-playbook", "-i", "inventory.yml", str(PLAYBOOKS / "report.yml"), *flags)
    path = ansible.directory / "strata-report.json"
    return done, json.loads(path.read_text()) if path.exists() else {}


def states(model: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["state"] for entry in model["hosts"]}


def test_report_shows_each_host_and_the_unreachable_and_changes_nothing(host: Host, fleet_of_three: Ansible) -> None:
    away = {"ansible_host": "127.0.0.1", "ansible_port": free_port(), "ansible_ssh_common_args": "-F /dev/null"}
    (fleet_of_three.directory / "inventory.yml").write_text(inventory(host.top, away=away))
    unmount_all(host.top / "two")
    before = [entry for name in HOSTS for entry in snapshot(host.top / name)]
    done, model = report(fleet_of_three, "-vvv")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert [entry for name in HOSTS for entry in snapshot(host.top / name)] == before, "a look changed something"
    assert re.findall(r"changed=(\d+)", done.stdout.split("PLAY RECAP")[1]) == ["0"] * 4
    assert len(re.findall(r"<(?:one|two|three)> EXEC .*python\S* \S+/AnsiballZ_\w+\.py", done.stdout)) == 6
    assert states(model) == {"away": "unreachable", "two": "drift", "one": "ok", "three": "ok"}
    by_name = {entry["name"]: entry for entry in model["hosts"]}
    assert by_name["two"]["stacks"][0]["drift"] == "it is not mounted"
    assert [step["action"] for step in by_name["two"]["plan"]["steps"]] == ["mount"]
    assert by_name["one"]["stacks"][0]["generation"] == 1
    assert by_name["one"]["usage"]["total_bytes"] > 0
    assert sorted((layer["names"], layer["hosts"]) for layer in model["layers"]) == [(["app"], 3), (["base"], 3)]
    shown = (fleet_of_three.directory / "strata-report.html").read_text()
    assert all(name in shown for name in ("away", "one", "two", "three", "it is not mounted"))


def test_check_mode_writes_no_report_and_an_earlier_run_is_remembered(host: Host, fleet_of_three: Ansible) -> None:
    done, model = report(fleet_of_three, "--check")
    assert done.returncode == 0, done.stdout
    assert model == {}
    assert not (fleet_of_three.directory / "strata-report.html").exists()
    layers = [
        {"name": "base", "files": [{"path": "x", "content": "12345"}]},
        {"name": "app", "files": [{"path": "y", "content": ""}]},
    ]
    playbooks = [str(PLAYBOOKS / name) for name in ("site.yml", "report.yml")]
    changed = json.dumps({"overlay_layers": layers})
    both = fleet_of_three.call("ansible-playbook", "-i", "inventory.yml", *playbooks, "-e", changed)
    assert both.returncode == 0, both.stdout
    first = json.loads((fleet_of_three.directory / "strata-report.json").read_text())
    runs = {entry["name"]: entry["run"] for entry in first["hosts"]}
    assert all(run["changed"] and run["seconds"] > 0 and run["bytes"] >= 5 for run in runs.values()), runs
    assert [stack["name"] for stack in runs["one"]["stacks"]] == ["web"]
    (fleet_of_three.directory / "strata-report.html").unlink()
    _done, again = report(fleet_of_three)
    assert {entry["name"]: entry["run"] for entry in again["hosts"]} == runs
    assert set(states(again).values()) == {"drift"}, "the definition of the inventory is another one again"


def test_unreadable_store_is_failed_and_wrong_definition_is_unknown(host: Host, fleet_of_three: Ansible) -> None:
    path = fleet_of_three.directory / "inventory.yml"
    definition = yaml.safe_load(path.read_text())
    definition["all"]["hosts"]["three"]["overlay_stacks"][0]["layers"] = ["nothing"]
    path.write_text(yaml.safe_dump(definition))
    record = next((host.top / "one/store/strata").rglob("web.json"))
    record.write_text("{")
    done, model = report(fleet_of_three)
    assert done.returncode == 0, done.stdout
    assert states(model) == {"one": "failed", "three": "unknown", "two": "ok"}
    assert str(record) in model["hosts"][0]["message"]
    done, model = report(fleet_of_three, "-e", "overlay_lock=/nonexistent/lock.yml")
    assert done.returncode == 0, done.stdout
    assert states(model) == {"one": "failed", "three": "unknown", "two": "unknown"}


def test_definition_split_into_parts_is_no_drift(host: Host, ansible: Ansible) -> None:
    definition = yaml.safe_load(inventory(host.top))
    for variables in definition["all"]["hosts"].values():
        variables["overlay_stacks__web"] = variables.pop("overlay_stacks")
        variables["overlay_exclusive"] = True
    (ansible.directory / "inventory.yml").write_text(yaml.safe_dump(definition))
    done = ansible.call("ansible-playbook", "-i", "inventory.yml", str(PLAYBOOKS / "site.yml"))
    assert done.returncode == 0, done.stdout
    done, model = report(ansible)
    assert states(model) == dict.fromkeys(HOSTS, "ok")
    assert all(entry["plan"]["known"] for entry in model["hosts"])


# The page in a browser.

EVIL = "<script>document.title='taken'</script><img src=x onerror=console.error(1)>&\"'"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip("needs the Debian package chromium")
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as one:
        yield one


def written(path: Path, hosts: list[HostReport]) -> Path:
    path.write_text("".join(page(fleet(hosts, "2026-11-24T10:00:00Z", "Overlay fleet"))))
    return path


LOOK = Path(__file__).with_name("look.js").read_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("count", [3, 500])
def test_page_fits_the_window_and_shows_every_host_worst_first(
    browser: Browser, tmp_path: Path, count: int, width: int, dark: bool
) -> None:
    browser.complaints.clear()
    hosts = told(count)
    browser.window(width, dark=dark)
    browser.open(written(tmp_path / "report.html", hosts))
    assert browser.value("document.documentElement.scrollWidth") <= width
    texts, overlaps = browser.value(LOOK + "overlaps()")
    assert texts > 50
    assert overlaps == []
    assert browser.value(LOOK + "contrasts()") == {}
    assert (browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 26)") == dark
    assert browser.value("document.querySelectorAll('.host').length") == count
    assert browser.value("document.querySelectorAll('.grid a').length") == count
    headline = browser.value("document.querySelector('.headline').innerText")
    wrong = {3: 2, 500: 28}[count]
    assert headline.startswith(f"{wrong} hosts need attention")
    first = browser.value("document.querySelector('.host .name').innerText")
    assert first == "web-003.rack3.example.com", "what is worst stands first"
    assert browser.complaints == []


def test_details_of_hosts_unfold_without_overlap(browser: Browser, tmp_path: Path) -> None:
    browser.complaints.clear()
    browser.window(390)
    browser.open(written(tmp_path / "report.html", told(12)))
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.value("document.documentElement.scrollWidth") <= 390
    assert browser.value(LOOK + "overlaps()")[1] == []
    browser.value("document.querySelectorAll('details').forEach(d => d.open = false)")
    browser.value("document.querySelector('.grid a:last-child').click()")
    assert browser.value("document.querySelector('.body:target').closest('details').open"), "a cell leads to its host"
    assert browser.complaints == []


def test_page_of_500_hosts_prints_on_at_most_80_pages(browser: Browser, tmp_path: Path) -> None:
    browser.window(1440, dark=True)
    browser.open(written(tmp_path / "report.html", told(500)))
    paper = browser.printed()
    assert paper.startswith(b"%PDF-")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper))
    assert 3 <= pages <= 80


def test_hostile_names_from_hosts_are_shown_as_plain_text(browser: Browser, tmp_path: Path) -> None:
    browser.complaints.clear()
    hostile = json.loads(json.dumps(store(1)).replace("web", "W").replace("debian-12", "D"))
    for entry in hostile["stacks"]:
        entry.update(name=EVIL, path=EVIL, drift=EVIL, layers=[EVIL], chain_id=EVIL, state=EVIL, writable=EVIL)
    hostile["layers"] = [{**layer, "diff_id": EVIL} for layer in hostile["layers"]]
    hostile["names"] = [{"name": EVIL, "diff_ids": [EVIL]}]
    hostile["abilities"] = {"release": EVIL}
    plan = {"plan": [{"action": EVIL, "object": EVIL, "text": EVIL}]}
    run = {"failed": True, "msg": EVIL, "stacks": [{"name": EVIL, "health": EVIL, "gap_ms": 2}]}
    path = tmp_path / "report.html"
    path.write_text("".join(page(fleet([HostReport(EVIL, hostile, plan, run), *told(3)], EVIL, EVIL))))
    browser.window(390)
    browser.open(path)
    assert browser.value("document.querySelectorAll('script, img, iframe, object').length") == 0
    assert browser.value("document.title").startswith("<script>")
    assert browser.value("document.documentElement.scrollWidth") <= 390
    assert browser.complaints == []
