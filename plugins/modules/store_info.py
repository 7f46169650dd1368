#!/usr/bin/python
# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: store_info
short_description: Show what is in a host's store, its disk use, and what the host supports
version_added: 0.1.0
description:
  - Reads a store and changes nothing. A root without a store is reported as an empty one.
  - Reads the root of a Docker daemon (storage driver overlay2) or of Podman (driver overlay) too, without one byte
    written and where the host allows it without a time of access changed, and says which directories no record knows.
author:
  - strata.overlay contributors (@strata-overlay)
extends_documentation_fragment:
  - strata.overlay._attributes.info_module
  - strata.overlay._attributes.action_group
  - strata.overlay._store
options:
  lock_timeout:
    description:
      - Seconds to wait while another run changes the store.
    type: int
    default: 300
  size:
    description:
      - Measure directories. Contents of a store need no measuring, since their size is on record; writable layers do,
        and everything in a root of Docker or Podman does.
    type: bool
    default: true
seealso:
  - module: strata.overlay.apply
"""

EXAMPLES = r"""
- name: Look at the store
  strata.overlay.store_info:
  register: store

- name: Find out where the disk of a Docker host went
  strata.overlay.store_info:
    root: /var/lib/docker
  register: docker

- name: Name the directories that no record knows
  ansible.builtin.debug:
    msg: "{{ docker.usage.orphaned_bytes }} bytes in {{ docker.orphans | map(attribute='path') }}"

- name: Say which stacks are mounted
  ansible.builtin.debug:
    msg: "{{ store.stacks | selectattr('state', 'equalto', 'mounted') | map(attribute='path') }}"
"""

RETURN = r"""
keeper:
  description:
    - The process that keeps the namespaces of an ordinary user, in which the stacks are mounted; 0 where there is none
      yet.
  type: int
  returned: for a user who is not root
  sample: 4711
exists:
  description: Whether there is a store, or a root of an engine, at the root.
  returned: success
  type: bool
engine:
  description: Whose root it is, V(strata), V(docker) or V(podman).
  returned: success
  type: str
layers:
  description: Every layer, one for each link of each chain.
  returned: success
  type: list
  elements: dict
  contains:
    chain_id:
      description: Its ChainID.
      type: str
      returned: always
    diff_id:
      description: DiffID of its content.
      type: str
      returned: always
    source_digest:
      description:
        - What the same content has on every host, whatever the times of its files. DiffID that it would have with fixed
          times where it was a directory or files of a definition, else its DiffID.
      type: str
      returned: for a store
    parent:
      description: ChainID of the layer below, empty for a base layer.
      type: str
      returned: always
    size:
      description: Bytes of the regular files in its content.
      type: int
      returned: always
    names:
      description: Names that point at it.
      type: list
      elements: str
      returned: always
    stacks:
      description: Stacks that have it in their chain.
      type: list
      elements: str
      returned: for a store
    layer_id:
      description: Its directory in C(overlay2/) or C(overlay/).
      type: str
      returned: for a root of an engine
    bytes:
      description: Bytes on disk of its directory, none with O(size=false).
      type: int
      returned: for a root of an engine
    containers:
      description: Containers that have it below them.
      type: list
      elements: str
      returned: for a root of an engine
images:
  description: Every image on record.
  returned: success
  type: list
  elements: dict
  contains:
    image_id:
      description: Its id.
      type: str
      returned: always
    names:
      description: Its names with their tags.
      type: list
      elements: str
      returned: always
    layers:
      description: How many layers it has.
      type: int
      returned: for a root of an engine
    bytes:
      description: Bytes on disk of its layers.
      type: int
      returned: for a root of an engine
    unique_bytes:
      description: Bytes on disk of the layers that no other image has.
      type: int
      returned: for a root of an engine
    containers:
      description: Containers made from it.
      type: list
      elements: str
      returned: for a root of an engine
    platform:
      description: What it runs on, such as V(linux/amd64).
      type: str
      returned: for a store
    diff_ids:
      description: DiffIDs of its layers, bottom first.
      type: list
      elements: str
      returned: for a store
    chain_id:
      description: ChainID of its uppermost layer.
      type: str
      returned: for a store
containers:
  description: Every container on record.
  returned: for a root of an engine
  type: list
  elements: dict
  contains:
    container_id:
      description: Its id.
      type: str
      returned: always
    name:
      description: Its name.
      type: str
      returned: always
    image_id:
      description: The image it was made from.
      type: str
      returned: always
    writable_bytes:
      description: Bytes on disk of its writable layer.
      type: int
      returned: always
orphans:
  description: Directories that no record knows.
  returned: for a root of an engine
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(layer), V(leftover) of something that was interrupted, or V(build_cache) for one that BuildKit's database
          speaks of and that may be in use.
      type: str
      returned: always
    path:
      description: Path in the root.
      type: str
      returned: always
    bytes:
      description: Bytes on disk.
      type: int
      returned: always
unmeasured:
  description:
    - What could not be measured, in words with the path and the reason; all else is counted. These are warnings too.
  returned: success
  type: list
  elements: str
damages:
  description:
    - Records that cannot be read, and those that are not read because they are no regular files, are reached by a
      symbolic link or are too large; also chains of more layers than can be mounted.
  returned: for a root of an engine
  type: list
  elements: dict
  contains:
    path:
      description: Path in the root.
      type: str
      returned: always
    text:
      description: What is wrong with it.
      type: str
      returned: always
names:
  description: Every name and what it points at.
  returned: for a store
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      returned: always
    diff_ids:
      description: DiffIDs, bottom first.
      type: list
      elements: str
      returned: always
    labels:
      description: Its labels.
      type: dict
      returned: always
    source:
      description: Where its content came from when the name was set.
      type: str
      returned: always
    image_id:
      description: Id of the image that it names, empty for a layer.
      type: str
      returned: always
    manifest_digest:
      description: Digest of the manifest by which the image first came, empty where it had none.
      type: str
      returned: always
    bytes:
      description: Bytes on disk of its contents.
      type: int
      returned: always
    unique_bytes:
      description: Bytes on disk of the contents that no other name, stack or kept generation needs.
      type: int
      returned: always
mounts:
  description: Every mount of the store that the module's mount namespace has, on record or not.
  returned: for a store
  type: list
  elements: dict
  contains:
    path:
      description: Where it is mounted.
      type: str
      returned: always
    stack:
      description: The stack whose path this is, empty for none.
      type: str
      returned: always
    type:
      description: V(overlay), V(fuse-overlayfs) or V(bind).
      type: str
      returned: always
    read_only:
      description: Whether it is mounted read-only.
      type: bool
      returned: always
    layers:
      description: How many layers it shows.
      type: int
      returned: always
stacks:
  description: Every stack on record.
  returned: for a store
  type: list
  elements: dict
  contains:
    name:
      description: The name.
      type: str
      returned: always
    path:
      description: Where it is mounted.
      type: str
      returned: always
    state:
      description: V(mounted) or V(unmounted), from the mount table.
      type: str
      returned: always
    drift:
      description: How what is mounted differs from the stack's record, in words; empty where it does not.
      type: str
      returned: always
    driver:
      description: What makes one tree of its layers, V(overlay), V(fuse-overlayfs) or V(copy).
      type: str
      returned: always
      sample: overlay
    writable:
      description: V(none), V(persistent) or V(volatile).
      type: str
      returned: always
    layers:
      description: Its layers as they were written, bottom first.
      type: list
      elements: str
      returned: always
    diff_ids:
      description: DiffIDs, bottom first.
      type: list
      elements: str
      returned: always
    chain_id:
      description: ChainID of its uppermost layer.
      type: str
      returned: always
    source_chain_id:
      description: The same made of source digests. Hosts with the same layers have the same, whatever their times.
      type: str
      returned: always
    generation:
      description: Number of the chain that it has now.
      type: int
      returned: always
    generations:
      description: The chains that it has had and that are kept on record, newest first.
      type: list
      elements: dict
      returned: always
      contains:
        number:
          description: Its number.
          type: int
          returned: always
        diff_ids:
          description: DiffIDs, bottom first.
          type: list
          elements: str
          returned: always
        layers:
          description: Its layers as they were written, bottom first.
          type: list
          elements: str
          returned: always
        time:
          description: Since when, ISO 8601 in UTC.
          type: str
          returned: always
        back_to:
          description: The generation that it brought back, 0 where a definition asked for it.
          type: int
          returned: always
    writable_bytes:
      description: Bytes that its writable layer takes.
      type: int
      returned: always
usage:
  description:
    - Bytes on disk, hard links and shared contents counted once. Those not measured with O(size=false) are none.
  returned: success
  type: dict
  contains:
    content_bytes:
      description: All contents, or all layers of images.
      type: int
      returned: always
    used_bytes:
      description: Contents in the present chain of a stack, or layers below a container.
      type: int
      returned: always
    shared_bytes:
      description: Contents in the present chains of more than one stack, or layers of more than one image.
      type: int
      returned: always
    reclaimable_bytes:
      description: Contents that no name, stack or kept generation refers to, or layers that no container needs.
      type: int
      returned: always
    writable_bytes:
      description: Persistent writable layers, or those of containers.
      type: int
      returned: always
    total_bytes:
      description: The whole root.
      type: int
      returned: always
    orphaned_bytes:
      description: Directories that no record knows.
      type: int
      returned: for a root of an engine
    build_cache_bytes:
      description: Directories that only BuildKit's database speaks of.
      type: int
      returned: for a root of an engine
abilities:
  description: What the host's kernel can do, found by trying.
  returned: success
  type: dict
  contains:
    release:
      description: The kernel's release.
      type: str
      returned: always
    overlay:
      description: It has the overlay file system, and the user of the module may mount it.
      type: bool
      returned: always
    fuse_overlayfs:
      description: The program fuse-overlayfs is there, and C(/dev/fuse) can be used.
      type: bool
      returned: always
    lowerdir_append:
      description: Layers can be given to it one by one.
      type: bool
      returned: always
    userxattr:
      description: The module runs in a user namespace, and marks are kept in user attributes.
      type: bool
      returned: always
    page_size:
      description: Bytes of a page.
      type: int
      returned: always
    beneath:
      description: A mount can be put beneath another one, so that read-only and volatile stacks change without a gap.
      type: bool
      returned: always
    selinux:
      description: SELinux is in force, so that a stack can have a context.
      type: bool
      returned: always
    d_type:
      description: The store's file system supports d_type, which writable layers need.
      type: bool
      returned: always
    faults:
      description:
        - Why some kinds of stacks cannot be had where the store lies, and what to do about each; empty where all can.
        - Such are a file system without d_type, a store on an overlay (as in a container), and a process that may not
          mount. O(strata.overlay.apply#module:stacks[].driver=auto) goes by the same.
      type: list
      elements: str
      returned: always
    xattrs:
      description: The store's file system has the attributes that whiteouts and opaque directories are marked with.
      type: bool
      returned: always
    native_diff:
      description: A writable layer holds the whole difference from the layers below.
      type: bool
      returned: always
    idmap:
      description: Owners of layers in the store can be mapped.
      type: bool
      returned: always
    project_quota:
      description: The size of persistent layers can be limited.
      type: bool
      returned: always
    max_layers:
      description: The most layers that one stack can have.
      type: int
      returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.strata.overlay.plugins.module_utils._quickimport import compile_once


def main() -> None:
    compile_once()
    from ansible_collections.strata.overlay.plugins.module_utils._definition.argspec import store_info_module_spec
    from ansible_collections.strata.overlay.plugins.module_utils._info.store import run_info

    run_info(AnsibleModule(argument_spec=store_info_module_spec(), supports_check_mode=True))


if __name__ == "__main__":
    main()
