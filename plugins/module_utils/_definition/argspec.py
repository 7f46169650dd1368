# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Options of every module, defined once for modules, action plugins and validation."""

from __future__ import annotations

from typing import Any

from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import PROPAGATION

Spec = dict[str, Any]

DEFAULT_ROOT = "/var/lib/strata"


def _file_spec() -> Spec:
    return {
        "path": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
        "content": {"type": "str"},
        "target": {"type": "str"},
        "mode": {"type": "raw"},
        "owner": {"type": "raw"},
        "group": {"type": "raw"},
        "opaque": {"type": "bool", "default": False},
    }


def _source_spec() -> Spec:
    return {
        "src": {"type": "path"},
        "url": {"type": "str"},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "headers": {"type": "dict", "no_log": True},
        "auth_file": {"type": "path"},
        "dir": {"type": "path"},
        "files": {"type": "list", "elements": "dict", "options": _file_spec()},
        "remote_src": {"type": "bool", "default": False},
        "strip_components": {"type": "int"},
        "prefix": {"type": "str"},
        "include": {"type": "list", "elements": "str"},
        "exclude": {"type": "list", "elements": "str"},
        "times": {"type": "str", "choices": ["keep", "fixed"], "default": "keep"},
        "digest": {"type": "str"},
        "labels": {"type": "dict"},
        "limits": {"type": "dict", "options": _limits_spec()},
    }


def _limits_spec() -> Spec:
    # Their defaults are in `_archive/limits`: here they would be sent with every layer.
    return {
        "entries": {"type": "int"},
        "bytes": {"type": "str"},
        "depth": {"type": "int"},
        "memory": {"type": "str"},
        "reserve": {"type": "str"},
    }


def layer_spec() -> Spec:
    """One item of ``layers``, and what the module ``layer`` takes."""
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        **_source_spec(),
    }


def layer_in_place_spec() -> Spec:
    """A layer written in a stack's ``layers`` in place of a name."""
    return {"name": {"type": "str"}, **_source_spec()}


def health_spec() -> Spec:
    """The options of ``health``."""
    return {
        "url": {"type": "str"},
        "tcp": {"type": "str"},
        "command": {"type": "raw"},
        "status": {"type": "raw"},
        "headers": {"type": "dict", "no_log": True},
        "validate_certs": {"type": "bool"},
        "timeout": {"type": "int", "default": 5},
        "retries": {"type": "int", "default": 10},
        "delay": {"type": "int", "default": 1},
    }


def stack_spec() -> Spec:
    """One item of ``stacks``, and what the module ``stack`` takes."""
    return {
        "name": {"type": "str", "required": True},
        "path": {"type": "path"},
        "layers": {"type": "list", "elements": "raw"},
        # What has no default here has one in `_definition/stack`: a stack that the store knows keeps what is left out.
        "writable": {"type": "str", "choices": ["none", "persistent", "volatile"]},
        "size": {"type": "str"},
        "driver": {"type": "str", "choices": ["auto", "overlay", "fuse-overlayfs", "copy"]},
        "on_change": {"type": "str", "choices": ["keep", "reset"], "default": "keep"},
        "mount_options": {"type": "list", "elements": "str"},
        "propagation": {"type": "str", "choices": list(PROPAGATION)},
        "context": {"type": "str"},
        "idmap": {"type": "dict"},
        "owner": {"type": "raw"},
        "group": {"type": "raw"},
        "mode": {"type": "raw"},
        "cover": {"type": "bool", "default": False},
        "on_busy": {"type": "str", "choices": ["fail", "detach"], "default": "fail"},
        "services": {"type": "list", "elements": "raw"},
        "health": {"type": "dict", "options": health_spec()},
        "boot": {"type": "bool"},
        "generations": {"type": "int"},
        "generation": {"type": "str"},
        "state": {"type": "str", "choices": ["mounted", "unmounted", "absent"], "default": "mounted"},
    }


def _access_spec() -> Spec:
    return {
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "auth_file": {"type": "path"},
        "ca_path": {"type": "path"},
        "ca": {"type": "str"},
        "validate_certs": {"type": "bool", "default": True},
        "mirrors": {"type": "list", "elements": "str", "default": []},
    }


def image_spec() -> Spec:
    """One item of ``images``, and what the module ``image`` takes."""
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "src": {"type": "path"},
        "reference": {"type": "str"},
        "remote_src": {"type": "bool", "default": False},
        "registry": {"type": "str"},
        "platform": {"type": "str"},
        "digest": {"type": "str"},
        "labels": {"type": "dict"},
        "limits": {"type": "dict", "options": _limits_spec()},
        **_access_spec(),
    }


def _root_spec() -> Spec:
    return {"root": {"type": "path", "default": DEFAULT_ROOT}}


def _lock_spec() -> Spec:
    return {"lock_timeout": {"type": "int", "default": 300}}


def _change_spec() -> Spec:
    # _controller is what the action plugin found out on the controller; see plugin_utils/_shipping.py.
    return {**_root_spec(), **_lock_spec(), "_controller": {"type": "str", "no_log": True}}


def apply_module_spec() -> Spec:
    """Options of ``strata.overlay.apply``."""
    return {
        **_change_spec(),
        "layers": {"type": "list", "elements": "dict", "options": layer_spec(), "default": []},
        "images": {"type": "list", "elements": "dict", "options": image_spec(), "default": []},
        "stacks": {"type": "list", "elements": "dict", "options": stack_spec(), "default": []},
        "prune": {"type": "dict", "options": prune_spec()},
        "exclusive": {"type": "bool", "default": False},
        "stage": {"type": "bool", "default": False},
    }


def layer_module_spec() -> Spec:
    """Options of ``strata.overlay.layer``."""
    return {**_change_spec(), **layer_spec()}


def image_module_spec() -> Spec:
    """Options of ``strata.overlay.image``; those of an export are no part of a definition's images."""
    state: Spec = {"type": "str", "choices": ["present", "absent", "exported"], "default": "present"}
    return {**_change_spec(), **image_spec(), **_export_spec(), "state": state}


def _export_spec() -> Spec:
    # No defaults: these options are refused with another state.
    return {
        "stack": {"type": "str"},
        "changes": {"type": "bool"},
        "dest": {"type": "path"},
        "format": {"type": "str", "choices": ["docker", "oci"]},
        "config": {"type": "dict"},
    }


def stack_module_spec() -> Spec:
    """Options of ``strata.overlay.stack``."""
    return {**_change_spec(), **stack_spec()}


def store_info_module_spec() -> Spec:
    """Options of ``strata.overlay.store_info``."""
    return {**_root_spec(), **_lock_spec(), "size": {"type": "bool", "default": True}}


def store_check_module_spec() -> Spec:
    """Options of ``strata.overlay.store_check``."""
    switches: Spec = {"repair": {"type": "bool", "default": False}, "deep": {"type": "bool", "default": False}}
    return {**_root_spec(), **_lock_spec(), **switches}


def prune_spec() -> Spec:
    """What ``prune`` of a definition takes, and the module ``prune``."""
    return {
        "unused_for": {"type": "str"},
        "labels": {"type": "dict"},
        "keep": {"type": "list", "elements": "str"},
        "max_bytes": {"type": "str"},
    }


def prune_module_spec() -> Spec:
    """Options of ``strata.overlay.prune``."""
    return {**_root_spec(), **_lock_spec(), **prune_spec()}


def mount_helper_module_spec() -> Spec:
    """Options of ``strata.overlay.mount_helper``."""
    return {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}


def prune_program_module_spec() -> Spec:
    """Options of ``strata.overlay.prune_program``."""
    return {**mount_helper_module_spec(), **prune_module_spec()}


def stack_info_module_spec() -> Spec:
    """Options of ``strata.overlay.stack_info``."""
    own: Spec = {"name": {"type": "str", "required": True}, "changes": {"type": "bool", "default": False}}
    return {**_root_spec(), **_lock_spec(), **own}


def commit_module_spec() -> Spec:
    """Options of ``strata.overlay.commit``."""
    own: Spec = {
        "stack": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "labels": {"type": "dict"},
        "services": {"type": "str", "choices": ["run", "freeze", "stop"], "default": "run"},
        "restack": {"type": "bool", "default": False},
    }
    return {**_root_spec(), **_lock_spec(), **own}


def module_spec(module: str) -> Spec:
    """The options of one module by its short name."""
    return {
        "apply": apply_module_spec,
        "plan": apply_module_spec,
        "layer": layer_module_spec,
        "image": image_module_spec,
        "stack": stack_module_spec,
    }[module]()
