#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: An OCI or Docker image in a host's store, or out of it
version_added: 0.1.0
description:
  - Imports the layers of an image from an archive, an OCI layout or a registry, and gives the image a name; or forgets
    the name. A stack mounts the image by that name.
  - Only layers that the host lacks travel, and each is stored once, whatever the number of images that have it.
  - The image is stored as Docker stores it, with its config, so Docker can run containers from a copy of the store.
  - With O(state=exported), brings an image, a layer or a stack of the store to an archive, an OCI layout or a registry,
    where C(docker load), C(podman load), C(skopeo copy) and C(docker pull) take it.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes
  - strata.overlay._attributes.action_group
  - strata.overlay._attributes.ships
  - strata.overlay._store
  - strata.overlay._store.changes
  - strata.overlay._image
options:
  state:
    description:
      - V(absent) forgets the name. The image stays as long as anything uses it, and until the store is pruned.
      - V(exported) brings what the name, or O(stack), stands for to O(dest) or O(registry), and changes nothing in the
        store. Nothing is written that is there already.
      - Layers are packed anew from their trees, without compression. A layer that M(strata.overlay.commit) made,
        or that was exported once before, keeps its DiffID; one from somebody else's archive gets another one, with the
        same tree. RV(faithful) is true when all of them kept it.
    type: str
    choices: [present, absent, exported]
    default: present
  stack:
    description:
      - The stack whose layers are exported, in place of those of O(name); O(name) is then what the image is called.
      - The config of the image that the stack begins with goes along, where it begins with one.
      - Only with O(state=exported), as are all options that follow.
    type: str
  changes:
    description:
      - Export the stack's writable layer too, as the uppermost one. Where it changes meanwhile the task fails;
        M(strata.overlay.commit) first makes a layer of it that does not change.
    type: bool
  dest:
    description:
      - A path on the host; an archive or layout there is replaced as a whole or not at all. Only root may read it,
        since a tree has files that not everybody may read.
      - Exactly one of O(dest) and O(registry) is given.
    type: path
  format:
    description:
      - V(docker) is a tar for C(docker load), V(oci) a directory with an OCI image layout, in which other images may
        lie already. V(docker) when not given.
    type: str
    choices: [docker, oci]
  config:
    description:
      - Parts of the image's config that are to be otherwise, by the names that the OCI image specification has for
        them, such as C(Cmd), C(Env) and C(WorkingDir).
    type: dict
seealso:
  - module: strata.overlay.apply
  - module: strata.overlay.stack
"""

EXAMPLES = r"""
- name: Import what docker save has written, from the controller
  strata.overlay.image:
    name: app:1.4
    src: app-1.4.tar

- name: One image of several in an OCI layout on the host, for another platform than the host's
  strata.overlay.image:
    name: tools
    src: /srv/images/tools
    remote_src: true
    reference: stable
    platform: linux/arm64

- name: Let the host pull from a registry
  strata.overlay.image:
    name: team/app
    registry: registry.example.com:5000/team/app:1.4
    username: "{{ registry_user }}"
    password: "{{ registry_password }}"

- name: Mount the image
  strata.overlay.stack:
    name: app
    path: /srv/app
    layers: ["app:1.4"]

- name: Give a stack with all its changes to whoever has Docker
  strata.overlay.image:
    name: team/web:hotfix
    state: exported
    stack: web
    changes: true
    dest: /srv/exports/web.tar
    config:
      Cmd: [/usr/sbin/nginx, -g, "daemon off;"]

- name: Push an image to a registry, only the layers that it lacks
  strata.overlay.image:
    name: team/app:1.4
    state: exported
    registry: registry.example.com:5000
    username: "{{ registry_user }}"
    password: "{{ registry_password }}"

- name: Forget a name
  strata.overlay.image:
    name: tools
    state: absent
"""

RETURN = r"""
keeper:
  description:
    - The process that keeps the namespaces of an ordinary user, in which the stacks are mounted; 0 where there is none
      yet.
  type: int
  returned: for a user who is not root
  sample: 4711
plan:
  description: What was done, or in check mode would be done, in order.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description:
        - The kind of step, one of V(create_store), V(import_content), V(link_layer), V(set_name), V(drop_name),
          V(store_image), V(write_stack), V(set_aside), V(unmount), V(mount), V(forget_stack).
        - Of an export, one of V(write_archive), V(write_blob), V(write_index), V(push_blob), V(push_manifest).
      type: str
      returned: always
      sample: import_content
    object:
      description: What it is done to.
      type: str
      returned: always
      sample: stack web
    text:
      description: The step in words.
      type: str
      returned: always
      sample: import content 3f2a9c41d0be from app-2.tar.gz
    bytes:
      description: Bytes of file contents that it writes.
      type: int
      returned: always
      sample: 48211
bytes:
  description: Bytes of file contents that the whole plan writes.
  returned: success
  type: int
  sample: 48211
seconds:
  description: How long it took, seen from the controller, transfers and all.
  returned: success
  type: float
  sample: 2.4
problems:
  description: Every mistake found in the definition, one sentence each.
  returned: failure by mistakes in the definition
  type: list
  elements: str
diff_ids:
  description: DiffIDs of all layers that the definition names, each once; of an export, of what went out, bottom first.
  returned: success
  type: list
  elements: str
  sample: ["sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3"]
layers:
  description: The DiffIDs that each named layer of the definition stands for, bottom first, by name.
  returned: success, unless O(state=exported)
  type: dict
  sample: {"base": ["sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3"]}
images:
  description: The images that the definition names, by name.
  returned: success, unless O(state=exported)
  type: dict
  contains:
    image_id:
      description: The image's id, the digest of its config.
      type: str
      returned: always
    manifest_digest:
      description: Digest of its manifest, empty for an archive without one, as older ones of Docker are.
      type: str
      returned: always
    diff_ids:
      description: DiffIDs of its layers, bottom first.
      type: list
      elements: str
      returned: always
image_id:
  description: Id of the image where it went, the digest of its config.
  returned: success, when O(state=exported)
  type: str
manifest_digest:
  description: Digest of its manifest, which an OCI layout and a registry know it by.
  returned: success, when O(state=exported)
  type: str
faithful:
  description: Whether every layer went with the DiffID that it has in the store.
  returned: success, when O(state=exported)
  type: bool
chain_id:
  description: ChainID of the image's uppermost layer; of an export, of what went out.
  returned: success, unless O(state=absent)
  type: str
  sample: sha256:589f0d58b9053a4ff7329b8fdb4f9dd120e29354c086ad0b3b10733f6cfd6de3
stacks:
  description: Stacks that are mounted or unmounted by the definition.
  returned: success, unless O(state=exported)
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      returned: always
      sample: web
    path:
      description: Where it is mounted.
      type: str
      returned: always
      sample: /srv/web
    state:
      description: V(mounted) or V(unmounted).
      type: str
      returned: always
      sample: mounted
    writable:
      description: V(none), V(persistent) or V(volatile).
      type: str
      returned: always
      sample: none
    driver:
      description: What makes one tree of its layers, V(overlay), V(fuse-overlayfs) or V(copy).
      type: str
      returned: always
      sample: overlay
    driver_reason:
      description: Why it is this driver.
      type: str
      returned: always
      sample: the kernel has it
    generation:
      description: Number of the chain that it has now, counted from 1.
      type: int
      returned: always
      sample: 2
    chain_id:
      description: ChainID of its uppermost layer.
      type: str
      returned: always
    gap_ms:
      description: Milliseconds in which nothing was mounted at the path during this run, where something was before.
      type: float
      returned: always
      sample: 3.1
    held_by:
      description: Processes and mounts that still use a tree which was detached.
      type: list
      elements: dict
      returned: always
      contains:
        pid:
          description: Process id, 0 for a mount.
          type: int
          returned: always
        command:
          description: Its name.
          type: str
          returned: always
        holds:
          description: A path that it uses.
          type: str
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import image_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._run.image import run_image

    run_image(AnsibleModule(argument_spec=image_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
