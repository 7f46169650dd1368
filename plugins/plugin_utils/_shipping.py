# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""On the controller: digest the layers that lie here, ask the host what it lacks, ship that, run the module.

One module execution where nothing is to change, else two and one transfer for each missing content.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line
from ansible_collections.strata.overlay.plugins.module_utils._definition.definition import Definition, normalise, wrap
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import LayerSpec, Source
from ansible_collections.strata.overlay.plugins.module_utils._definition.selection import PART_OPTIONS
from ansible_collections.strata.overlay.plugins.module_utils._source.digest_cache import (
    DigestCache,
    Digested,
    remembered,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import describe
from ansible_collections.strata.overlay.plugins.module_utils._store.lock import locked

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
    from ansible_collections.strata.overlay.plugins.plugin_utils._images import LocalImage
    from ansible_collections.strata.overlay.plugins.plugin_utils._progress import Progress

# What says where a layer or image comes from. Which platform of an image it is to be is for the host to say.
_SOURCE_OPTIONS = ("src", "dir", "files", "remote_src", "times", "digest", "reference", *PART_OPTIONS)
_LONGEST_DIGESTING = 24 * 3600


@dataclass(frozen=True)
class _Local:
    """A layer whose bytes are on the controller."""

    layer: LayerSpec
    source: Source
    found: Digested

    def facts(self, path: str) -> dict[str, str]:
        """What the module is told of it.

        :param path: of its archive on the host, "" while it has not been sent.
        """
        packed = {"source_digest": self.found.source_digest, "inline": "yes" if self.source.files else ""}
        return {
            **self.found.facts(),
            "words": describe(self.layer.source),
            "path": path,
            **(packed if self.found.source_digest else {}),
        }


@dataclass(frozen=True)
class _Here:
    """All layers and images whose bytes are on the controller, by their ``label``."""

    layers: dict[str, _Local]
    images: dict[str, LocalImage]

    def __contains__(self, label: str) -> bool:
        return label in self.layers or label in self.images

    def warnings(self) -> list[str]:
        """What is no part of layers though it is in their sources."""
        return [f"{label}: {message}" for label, layer in self.layers.items() for message in layer.found.left_out]

    def controller_facts(self, places: Mapping[str, Blob]) -> dict[str, Any]:
        """What the module is told of them.

        :param places: what the host has been sent, by DiffID; nothing when it is only asked what it lacks.
        """
        paths = {diff_id: place.path for diff_id, place in places.items()}
        return {
            "layers": {label: layer.facts(paths.get(layer.found.diff_id, "")) for label, layer in self.layers.items()},
            "images": {label: image.facts(places) for label, image in self.images.items()},
        }


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Looking for reference cycles in all that Ansible has loaded, and in the syntax trees of the modules it packs,
    would take a fifth of a run that changes nothing (300 of 1,720 ms of processor time). It ends with the task.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # what is there now is not looked through any more
        if collects:
            gc.enable()


class ShippingAction(ActionBase):
    """What the action plugins of all modules that take layers have in common; they say only which module it is."""

    module = ""
    # Most runs send nothing: no temporary directory is made on the host before something is to lie in it.
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        begun = time.monotonic()
        with _collector_paused():
            result: dict[str, Any] = super().run(tmp, task_vars)
            self._variables = task_vars or {}
            definition, errors = normalise(self.module, self._task.args)
            local = _Here(self._digest_all(definition, errors), self._read_images(definition, errors))
            if errors:
                return {**result, **self._report(definition, errors)}
            result.update(self._converge(definition, local))
            warnings = local.warnings()
            if warnings:
                # The module may have met the same when it unpacked them.
                warnings += [message for message in result.get("warnings") or [] if message not in warnings]
                result["warnings"] = warnings
        return {**result, "seconds": round(time.monotonic() - begun, 3)}

    def _converge(self, definition: Definition, local: _Here) -> dict[str, Any]:
        """Ask the host for its plan; where it is not empty, ship what it needs and let the module do it."""
        missing: list[str] = []
        # What only the host can read is read by the whole module; then it makes the plan too. So it does for a prune,
        # which has to look at all of the store.
        whole = (
            any(layer.source.on_host for layer in definition.sources())
            or any(image.on_host and not image.absent for image in definition.images)
            or definition.prune is not None
        )
        if not whole or self.module == "plan":
            reply = self._ask(whole, local)
            missing = reply.pop("missing", [])
            if reply.get("failed") or not reply["changed"] or self._task.check_mode or self.module == "plan":
                return {**reply, "missing": missing} if self.module == "plan" and not reply.get("failed") else reply
        places: dict[str, Blob] = {}
        while True:  # until the host lacks nothing: what it has lost meanwhile, it tells in its turn
            if missing:
                try:
                    sent = self._ship([each for each in missing if each not in places], local)
                except (StrataError, OSError) as error:
                    return {"failed": True, "msg": one_line(f"Cannot send what the host lacks: {error}")}
                if not sent:
                    return {"failed": True, "msg": "The host lost layers while they were being sent to it; run again."}
                places.update(sent)
            reply = self._execute(local, places)
            missing = reply.pop("missing", [])
            if not missing:
                return reply

    # What lies on the controller.

    def _digest_all(self, definition: Definition, errors: list[str]) -> dict[str, _Local]:
        """Every layer on the controller by its ``label``; what is wrong with one goes to ``errors``."""
        cache = DigestCache(_cache_directory(), keep=True)
        found: dict[str, _Local] = {}
        for layer in definition.sources():
            if layer.source.kind and not layer.source.on_host:
                try:
                    source = self._find(layer.read_from, cache)
                    digested = self._digest_once(source, cache)
                    _check_digest(layer._replace(source=source), digested)
                    found[layer.label] = _Local(layer, source, digested)
                except StrataError as error:
                    text = str(error)
                    errors.append(text if text.startswith(layer.label) else f"{layer.label}: {text}")
                except (OSError, AnsibleError) as error:
                    errors.append(
                        f"{layer.label}: option '{layer.source.kind}': cannot read {layer.source.location}: "
                        f"{_reason(error)}"
                    )
        return found

    def _digest_once(self, source: Source, cache: DigestCache) -> Digested:
        """Digest a source; of many hosts that are served at once only the first one reads it."""
        known = remembered(source, cache)
        if known:
            return known
        # Loaded when something has to be read: Ansible compiles its plugins anew in every run.
        from ansible_collections.strata.overlay.plugins.module_utils._source.source import read_source

        os.makedirs(_cache_directory(), 0o700, exist_ok=True)
        with (
            self._progress().shown(lambda: f"reading {describe(source)} for its digest"),
            locked(os.path.join(_cache_directory(), "lock"), exclusive=True, timeout=_LONGEST_DIGESTING),
        ):
            found = read_source(source, cache)
            cache.flush()
        return found

    def _find(self, source: Source, cache: DigestCache) -> Source:
        if source.kind != "files":
            return source._replace(location=self._found(source.location))
        if not source.keeps_times:
            return source
        from ansible_collections.strata.overlay.plugins.plugin_utils._inlinetimes import with_times

        return with_times(source, cache, _cache_directory(), _LONGEST_DIGESTING)

    def _found(self, location: str) -> str:
        """Where a path on the controller leads: as Ansible searches, and then from the directory of the inventory, for
        beside the playbooks of a collection a user has no files.
        """
        if os.path.isabs(location) and os.path.exists(location):
            return location  # what the search would find, and there may be hundreds
        try:
            return str(self._find_needle("files", location))
        except AnsibleError:
            beside = os.path.join(str(self._variables.get("inventory_dir") or ""), location)
            if os.path.isabs(beside) and os.path.exists(beside):
                return beside
            raise

    def _read_images(self, definition: Definition, errors: list[str]) -> dict[str, LocalImage]:
        """Every image on the controller by its ``label``; what is wrong with one goes to ``errors``."""
        cache = DigestCache(_cache_directory(), keep=True)
        found: dict[str, LocalImage] = {}
        for spec in definition.images:
            if spec.kind == "src" and not spec.on_host:
                # Loaded when it is needed: Ansible compiles its plugins anew in every run.
                from ansible_collections.strata.overlay.plugins.plugin_utils._images import read_local_image

                try:
                    path = self._found(spec.location)
                    found[spec.label] = read_local_image(spec, path, cache, _cache_directory())
                except StrataError as error:
                    errors.append(f"{spec.label}: {error}")
                except (OSError, AnsibleError) as error:
                    errors.append(f"{spec.label}: option 'src': cannot read {spec.location}: {_reason(error)}")
        return found

    # What goes to the host.

    def _execute(self, local: _Here, places: Mapping[str, Blob]) -> dict[str, Any]:
        """Run the module itself.

        :param places: where the archives that the host has been sent lie there, by DiffID.
        """
        progress = self._progress()
        controller_facts = {**local.controller_facts(places), "progress": progress.token}
        sent = _without_sources(self.module, self._task.args, local)
        with progress.of_module():
            return self._run_module(self.module, sent, controller_facts)

    def _progress(self) -> Progress:
        """Lines about this host. Only for what may take long: a run that changes nothing does not even load it."""
        from ansible_collections.strata.overlay.plugins.plugin_utils import _progress

        wanted = self._templar.template(self._variables.get(_progress.VARIABLE, "auto"))
        host = self._variables.get("inventory_hostname") or self._play_context.remote_addr
        return _progress.Progress(str(host), self._connection, _progress.interval(wanted))

    def _ask(self, whole: bool, local: _Here) -> dict[str, Any]:
        """The host's plan, by the small module that can only look, or by the whole one where that does not do."""
        controller_facts = {
            **local.controller_facts({}),
            "module": self.module,
            # A run that finds nothing to change has needed the layers all the same.
            "notes_use": self.module != "plan" and not self._task.check_mode,
        }
        sent = wrap(self.module, _without_sources(self.module, self._task.args, local))
        if whole:
            return {"missing": [], **self._run_module("apply", sent, {**controller_facts, "only_plan": True})}
        of_run: dict[str, Any] = {key: value for key, value in sent.items() if key in ("root", "lock_timeout")}
        return self._run_module("plan", of_run, {**controller_facts, "definition": sent})

    def _report(self, definition: Definition, errors: list[str]) -> dict[str, Any]:
        """Let the host add the mistakes that only it can see; it changes nothing, since there are problems already."""
        outline = [
            {
                "name": stack.name,
                "path": stack.path,
                "cover": stack.cover,
                "layers": [name for name in stack.layers if isinstance(name, str)],
            }
            for stack in definition.stacks
            if stack.state == "mounted"
        ]
        defined = [item.name for item in definition.named() if not item.absent]
        controller_facts = {"problems": errors, "stacks": outline, "defined": defined}
        return self._run_module("plan", {"root": definition.root}, controller_facts)

    def _run_module(self, module: str, arguments: dict[str, Any], controller_facts: dict[str, Any]) -> dict[str, Any]:
        # Loaded by the run that Ansible packs modules for anyway.
        from ansible_collections.strata.overlay.plugins.module_utils._common.redact import hide

        plain, hidden = hide(arguments)
        reply: dict[str, Any] = self._execute_module(
            module_name=f"strata.overlay.{module}",
            # What Ansible's templates make of values is of types of its own; all of them can be written as text.
            module_args={**plain, "_controller": json.dumps({**controller_facts, "hidden": hidden}, default=str)},
            task_vars=self._variables,
        )
        return reply

    def _ship(self, missing: list[str], local: _Here) -> dict[str, Blob]:
        """Send each missing content once; where it lies on the host by DiffID."""
        found = self._locate(missing, local)
        if not found or (self._connection.transport == "local" and not self._is_become_unprivileged()):
            return found  # the module reads them where they lie
        from ansible_collections.strata.overlay.plugins.plugin_utils._images import as_file, sent_name

        # The one that is there, if the first execution made one: Ansible removes only the last that it made.
        directory = self._connection._shell.tmpdir or self._make_tmp_path()
        sent: dict[str, Blob] = {}
        progress = self._progress()
        for number, (diff_id, blob) in enumerate(found.items(), 1):
            message = f"sending layer {number} of {len(found)}"
            path = self._connection._shell.join_path(directory, sent_name(diff_id, blob))
            with as_file(blob) as file, progress.of_transfer(message, path, os.path.getsize(file)):
                self._transfer_file(file, path)
            sent[diff_id] = replace(blob, path=path, offset=0, keeper=None)
        self._fixup_perms2((directory, *(blob.path for blob in sent.values())))
        return sent

    def _locate(self, missing: list[str], local: _Here) -> dict[str, Blob]:
        """Where the contents that the host lacks lie here; those of layers before those of images."""
        from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob

        by_diff_id = {here.found.diff_id: here for here in local.layers.values()}
        found: dict[str, Blob] = {}
        for diff_id in missing:
            if diff_id in by_diff_id:
                path = self._as_file(by_diff_id[diff_id])
                found[diff_id] = Blob(path, 0, os.path.getsize(path))
        for image in local.images.values():
            found.update(image.locate(set(missing) - set(found)))
        return found

    def _as_file(self, here: _Local) -> str:
        """The layer's archive; what is no archive, or is a part of one, is packed into a temporary one, gone with the
        process.
        """
        if here.source.kind == "src" and not here.source.selection:
            return here.source.location
        from ansible_collections.strata.overlay.plugins.module_utils._source.source import open_tar

        descriptor, path = tempfile.mkstemp(dir=constants.DEFAULT_LOCAL_TMP, suffix=".tar.gz")
        with (
            os.fdopen(descriptor, "wb") as stream,
            gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed,
            open_tar(here.source) as read,
        ):
            while chunk := read(1 << 20):
                packed.write(chunk)
        return path


def _check_digest(layer: LayerSpec, found: Digested) -> None:
    if layer.digest and layer.digest not in (found.diff_id, found.source_digest):
        from ansible_collections.strata.overlay.plugins.module_utils._source.source import check_digest

        check_digest(layer, found)


def _reason(error: Exception) -> Any:
    return getattr(error, "strerror", None) or getattr(error, "message", None) or error


def _cache_directory() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "strata.overlay", "digests")


def _without_sources(module: str, arguments: dict[str, Any], local: _Here) -> dict[str, Any]:
    """The task's arguments with the sources that the controller has resolved left out: their bytes go as files."""
    if module in ("layer", "image"):
        return _stripped(arguments, f"{module} {arguments['name']}", local)
    sent = {key: value for key, value in arguments.items() if key not in ("layers", "images")}
    if module == "stack":
        return {**sent, **_stack_without_sources(arguments, local)}
    if arguments.get("layers") is not None:
        sent["layers"] = [_stripped(item, f"layer {item['name']}", local) for item in arguments["layers"]]
    if arguments.get("images") is not None:
        sent["images"] = [_stripped(item, f"image {item['name']}", local) for item in arguments["images"]]
    if arguments.get("stacks") is not None:
        sent["stacks"] = [{**stack, **_stack_without_sources(stack, local)} for stack in arguments["stacks"]]
    return sent


def _stack_without_sources(stack: dict[str, Any], local: _Here) -> dict[str, Any]:
    if stack.get("layers") is None:
        return {}
    layers = [
        item if isinstance(item, str) else _stripped(item, f"stack {stack['name']}: layer {number}", local)
        for number, item in enumerate(stack["layers"], 1)
    ]
    return {"layers": layers}


def _stripped(item: dict[str, Any], label: str, local: _Here) -> dict[str, Any]:
    if label not in local:
        return item
    return {key: value for key, value in item.items() if key not in _SOURCE_OPTIONS}
