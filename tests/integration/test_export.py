# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Chains of the store as archives, layouts and in registries: what others make of them, and what comes back."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._export import export as export_module
from ansible_collections.strata.overlay.plugins.module_utils._export.export import export
from ansible_collections.strata.overlay.plugins.module_utils._export.image import digest_image
from ansible_collections.strata.overlay.plugins.module_utils._run.commit import commit
from ansible_collections.strata.overlay.tests.integration.docker import missing_programs, running_docker, write_base
from ansible_collections.strata.overlay.tests.integration.host import Ansible, Host
from ansible_collections.strata.overlay.tests.integration.images import simple_layout, skopeo, tar_of
from ansible_collections.strata.overlay.tests.integration.layers import inline
from ansible_collections.strata.overlay.tests.integration.module_process import call_module
from ansible_collections.strata.overlay.tests.integration.podman import Podman
from ansible_collections.strata.overlay.tests.integration.registry import (
    PASSWORD,
    USER,
    Authority,
    Registry,
    TokenServer,
    running_registry,
)
from ansible_collections.strata.overlay.tests.integration.test_changes import three_layers
from ansible_collections.strata.overlay.tests.integration.test_commit import change_much
from ansible_collections.strata.overlay.tests.integration.trees import assert_same, tree_of

NAME = "team/web:1.0"


def export_of(host: Host, check: bool = False, **options: Any) -> dict[str, Any]:
    """The work of the module ``image`` with ``state: exported`` in this process."""
    return export({"root": str(host.root), "name": NAME, "state": "exported", **options}, check)


def four_steps(host: Host, **options: Any) -> dict[str, Any]:
    announced = export_of(host, check=True, **options)
    done = export_of(host, **options)
    assert announced["changed"]
    assert announced == done
    for check in (False, True):
        again = export_of(host, check=check, **options)
        assert (again["changed"], again["plan"]) == (False, [])
        assert again["manifest_digest"] == done["manifest_digest"]
    return done


def changed_stack(host: Host) -> Path:
    """A stack ``web`` of three layers with many changes: its path."""
    three_layers(host)
    top = Path(host.path("web"))
    change_much(top)
    return top


def shown(host: Host, source: dict[str, Any]) -> Path:
    """An image imported into a store of its own, and mounted: its path."""
    other = Host(host.top / "other")
    other.run("image", name="back", **source)
    other.run(stacks=[{"name": "back", "path": other.path("back"), "layers": ["back"]}])
    return Path(other.path("back"))


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_exported_stack_is_imported_with_the_same_chain(host: Host, form: str) -> None:
    top = changed_stack(host)
    dest = host.top / "out" / form
    done = four_steps(host, stack="web", changes=True, dest=str(dest), format=form)
    assert_same(tree_of(shown(host, {"src": str(dest), "remote_src": True})), tree_of(top))
    other = Host(host.top / "other")
    assert other.store.stacks()["back"].diff_ids == tuple(done["diff_ids"])
    # What was packed here once is packed to the same bytes for ever.
    again = export({"root": str(other.root), "name": "back", "state": "exported", "dest": str(dest) + "-2"}, False)
    assert again["faithful"]
    assert again["chain_id"] == done["chain_id"]
    assert again["image_id"] == done["image_id"]


def test_committed_layer_keeps_its_identity_when_exported(host: Host) -> None:
    changed_stack(host)
    kept = commit({"root": str(host.root), "stack": "web", "name": "kept"}, False)
    done = export_of(host, name="kept", dest=str(host.top / "kept.tar"))
    assert (done["diff_ids"], done["faithful"]) == ([kept["diff_id"]], True)


def test_only_missing_blobs_are_written_to_a_layout(host: Host) -> None:
    changed_stack(host)
    dest = host.top / "layout"
    first = export_of(host, stack="web", dest=str(dest), format="oci")
    times = {path.name: path.stat().st_mtime_ns for path in (dest / "blobs/sha256").iterdir()}
    second = export_of(host, stack="web", changes=True, dest=str(dest), format="oci", reference="web:changed")
    assert [step["action"] for step in second["plan"]] == ["write_blob", "write_blob", "write_blob", "write_index"]
    assert second["plan"][0]["object"] == second["diff_ids"][-1]
    assert {name: (dest / "blobs/sha256" / name).stat().st_mtime_ns for name in times} == times
    index = json.loads((dest / "index.json").read_bytes())
    assert [entry["digest"] for entry in index["manifests"]] == [first["manifest_digest"], second["manifest_digest"]]
    blob = dest / "blobs/sha256" / second["diff_ids"][0][7:]
    blob.write_bytes(blob.read_bytes()[:-1])
    mended = export_of(host, stack="web", dest=str(dest), format="oci")
    assert [step["object"] for step in mended["plan"]] == [second["diff_ids"][0]]
    for tag in ("1.0", "changed"):
        skopeo(f"oci:{dest}:{tag}", f"dir:{host.top}/{tag}")


def test_config_of_the_image_is_exported_with_it(host: Host) -> None:
    layout = simple_layout(host.top / "layout", {"etc/os": "base"}, {"etc/app": "one"})
    host.run("image", name="app:1", src=str(layout.directory), remote_src=True)
    first = export_of(host, name="app:1", dest=str(host.top / "app.tar"), config={"Cmd": ["/run"]})
    stack = {"name": "web", "path": host.path("web"), "layers": ["app:1", "site"], "writable": "persistent"}
    host.run(layers=[inline("site", etc__site="site")], stacks=[stack])
    second = export_of(host, name="web:1", stack="web", dest=str(host.top / "web.tar"))
    for image, cmd in ((first, ["/run"]), (second, None)):
        archive = "app.tar" if image is first else "web.tar"
        told = subprocess.run(
            ["skopeo", "inspect", "--config", f"docker-archive:{host.top}/{archive}"], capture_output=True, check=True
        )
        config = json.loads(told.stdout)
        assert config["config"]["Labels"] == {"label": ""}
        assert config["config"].get("Cmd") == cmd
        assert config["rootfs"]["diff_ids"] == image["diff_ids"]
        assert len(config["history"]) == len(image["diff_ids"])


def test_docker_runs_and_podman_loads_an_exported_image(host: Host) -> None:
    if missing_programs() or shutil.which("podman") is None:
        pytest.skip(f"needs podman, {', '.join(missing_programs())}: scripts/setup --packages installs them")
    write_base(host.top / "base")
    stack = {"name": "web", "path": host.path("web"), "layers": ["base"], "writable": "persistent"}
    host.run(layers=[{"name": "base", "dir": str(host.top / "base"), "remote_src": True}], stacks=[stack])
    top = Path(host.path("web"))
    (top / "srv/old").unlink()
    (top / "srv/new").write_text("new\n")
    archive, layout = host.top / "web.tar", host.top / "layout"
    run = {"Cmd": ["/bin/busybox", "cat", "/srv/new"]}
    done = export_of(host, stack="web", changes=True, dest=str(archive), config=run)
    export_of(host, stack="web", changes=True, dest=str(layout), format="oci", config=run)
    (host.top / "docker").mkdir()
    with running_docker(host.top / "docker/root", host.top / "docker/log") as docker:
        assert "Loaded image: team/web:1.0" in docker.call("load", "--input", str(archive))
        assert docker.call("inspect", "--format", "{{.Id}}", NAME).strip() == done["image_id"]
        assert docker.call("run", "--rm", "--network", "none", NAME) == "new\n"
        assert docker.call("run", "--rm", "--network", "none", NAME, "/bin/busybox", "ls", "/srv") == "new\n"
    # Podman takes no longer path for this one.
    with tempfile.TemporaryDirectory(dir="/tmp") as state:
        podman = Podman(host.top / "podman", Path(state))
        assert "team/web:1.0" in podman.call("load", "--input", str(archive))
        # Of a directory it makes an image's name, which must not have capital letters.
        assert podman.call("load", "--input", str(tar_of(layout, host.top / "layout.tar")))
    skopeo(f"docker-archive:{archive}", f"dir:{host.top}/copied")


def pushed(registry: Registry) -> list[str]:
    """What was sent since the last question: ``blob``, and manifests by tag."""
    text = registry.log.read_text()
    new, registry.read = text[registry.read :], len(text)
    found = re.findall(r'"PUT /v2/team/web/(blobs/uploads|manifests/[^ ]+)', new)
    return ["blob" if what.startswith("blobs") else what for what in found]


def test_push_sends_only_what_the_registry_lacks(host: Host, tmp_path: Path) -> None:
    top = changed_stack(host)
    with running_registry(tmp_path / "registry") as registry:
        options = {"stack": "web", "registry": registry.host}
        first = four_steps(host, **options)
        assert [step["action"] for step in first["plan"]] == ["push_blob"] * 4 + ["push_manifest"]
        assert pushed(registry) == ["blob"] * 4 + ["manifests/1.0"]
        second = four_steps(host, **options, changes=True, reference="team/web:2.0")
        assert pushed(registry) == ["blob"] * 2 + ["manifests/2.0"]
        assert second["diff_ids"][:-1] == first["diff_ids"]
        back = shown(host, {"registry": f"{registry.host}/team/web:2.0"})
        assert_same(tree_of(back), tree_of(top))
        skopeo("--src-tls-verify=false", f"docker://{registry.host}/team/web:1.0", f"dir:{tmp_path}/copied")


def test_push_with_tls_and_tokens_succeeds_with_the_right_password(host: Host, tmp_path: Path) -> None:
    changed_stack(host)
    authority = Authority.make(tmp_path / "authority")
    with (
        TokenServer(authority).running() as tokens,
        running_registry(tmp_path / "registry", tls=authority.tls, auth=tokens.auth) as registry,
    ):
        options: dict[str, Any] = {"stack": "web", "registry": registry.host, "ca_path": str(authority.ca)}
        with pytest.raises(StrataError, match="401") as refused:
            export_of(host, **options, username=USER, password="wrong-password")
        assert "wrong-password" not in str(refused.value)
        four_steps(host, **options, username=USER, password=PASSWORD)
        assert any("push" in scope for query in tokens.asked for scope in query["scope"])


def test_push_to_an_unreachable_registry_is_reported(host: Host) -> None:
    changed_stack(host)
    with pytest.raises(StrataError, match="cannot speak to 127.0.0.1:1"):
        export_of(host, stack="web", registry="127.0.0.1:1")


def test_export_of_a_changing_stack_keeps_the_earlier_archive(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    top = changed_stack(host)
    dest = host.top / "web.tar"
    export_of(host, stack="web", changes=True, dest=str(dest))
    before = dest.read_bytes()
    (top / "more").write_text("more")

    def digest_and_write(*arguments: Any) -> Any:
        image = digest_image(*arguments)
        (top / "late").write_text("late")
        return image

    with monkeypatch.context() as patch:
        patch.setattr(f"{export_module.__name__}.digest_image", digest_and_write)
        with pytest.raises(StrataError, match="changed while it was exported"):
            export_of(host, stack="web", changes=True, dest=str(dest))
    assert dest.read_bytes() == before
    assert not [name for name in os.listdir(host.top) if name.startswith(".web.tar")]


def test_export_is_readable_by_root_only_and_removes_stale_leftovers(host: Host) -> None:
    changed_stack(host)
    out = host.top / "out"
    out.mkdir()
    left, living = out / ".web.tar.export-00000000", out / ".web.tar.export-11111111"
    left.write_text("half")
    with living.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        export_of(host, stack="web", changes=True, dest=str(out / "web.tar"))
    assert sorted(os.listdir(out)) == [living.name, "web.tar"]
    assert stat.S_IMODE((out / "web.tar").stat().st_mode) == 0o600


def test_export_of_changes_without_a_writable_layer_is_refused(host: Host) -> None:
    stacks = [
        {"name": "web", "path": host.path("web"), "layers": ["base"]},
        {"name": "job", "path": host.path("job"), "layers": ["base"], "writable": "volatile", "state": "unmounted"},
    ]
    host.run(layers=[inline("base", etc__os="base")], stacks=stacks)
    for stack, words in (("web", "is read-only, so it has none"), ("job", "is volatile and not mounted")):
        with pytest.raises(StrataError, match=f"image {NAME}: option 'changes': stack {stack} {words}"):
            export_of(host, stack=stack, changes=True, dest=str(host.top / "out.tar"))


def test_errors_in_export_options_are_reported_together(host: Host) -> None:
    three_layers(host)
    with pytest.raises(StrataError) as told:
        export_of(host, src="/x.tar", changes=True, format="oci", registry="r.example.com@sha256:1", name="Web")
    text = str(told.value)
    for words in (
        "option 'src' is of no use with state: exported",
        "option 'format' is of no use with registry",
        "option 'changes' needs 'stack'",
        "'Web' is no name that an image can have elsewhere",
    ):
        assert words in text
    with pytest.raises(StrataError, match="exactly one of dest and registry"):
        export_of(host)
    with pytest.raises(StrataError, match="has no such name; did you mean 'layer"):
        export_of(host, name="layer", dest="/tmp/x")


def test_export_through_ansible_changes_once_as_announced(host: Host, ansible: Ansible) -> None:
    three_layers(host)
    options = {"root": str(host.root), "name": "web:1", "state": "exported", "stack": "web"}
    options["dest"] = str(host.top / "web.tar")
    announced = call_module("image", options, check=True)
    assert not os.path.exists(options["dest"])
    done = ansible.module("image", options)
    assert announced["changed"]
    assert done["changed"]
    assert done["image_id"] == announced["image_id"]
    assert not call_module("image", options)["changed"]
    refused = call_module("image", {**options, "state": "present"})
    assert "dest" in refused["msg"]
