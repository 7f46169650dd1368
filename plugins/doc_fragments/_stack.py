# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from textwrap import indent

_STACK = r"""
name:
  description: The stack's name.
  type: str
  required: true
path:
  description:
    - Where the stack is mounted. Absolute, not V(/), neither in the store nor in another stack's path, and without a
      symbolic link on the way that someone other than root could change. It is made when it is missing.
    - Every directory on the way has to belong to root, or to the user where the module is not run by root, and nobody
      else may write to it, since others could lead the mount elsewhere. In a sticky directory, such as V(/tmp), what
      is on the way has to belong to root. The mount point itself may belong to anyone elsewhere. C(mount.strata) holds
      to the same.
    - Left out for a stack that the store knows, it stays as it is.
  type: path
layers:
  description:
    - Bottom first, each over the one before. Either the name of a layer, from the definition or in the store
      already, or a
      layer written in place, with the options of a layer but without a state.
    - Left out for a stack that the store knows, they stay as they are. So do C(writable), C(size), C(generations),
      C(mount_options), C(propagation), C(context), C(idmap), C(owner), C(group) and C(mode), where they are left out
      too.
  type: list
  elements: raw
writable:
  description:
    - V(none) is read-only, and what a new stack is when this is left out.
    - V(persistent) takes changes in a writable layer of its own, which stays when the layers below change. It may be in
      one mount only, so a change of layers unmounts it and mounts it again, and the gap is returned.
    - V(volatile) takes changes in memory. They are gone when the stack is unmounted or its layers change.
    - Read-only and volatile stacks change without a gap on Linux 6.5 and later. Processes that use the old tree then
      keep it until they close it, whatever C(on_busy) says, and are returned.
  type: str
  choices: [none, persistent, volatile]
size:
  description:
    - The most that the writable layer may hold, such as V(512m) or V(2g).
    - A volatile layer may hold half the memory when this is not given.
    - For a persistent layer the store must lie on ext4 or xfs with project quota; elsewhere it is refused.
  type: str
driver:
  description:
    - What makes one tree of the layers.
    - V(overlay) is the kernel's overlay file system.
    - V(fuse-overlayfs) is the program of this name, which has to be on the host, for kernels that have no overlay or do
      not let an ordinary user mount one. It is slower. A process for each stack serves the tree; where it ends, the
      next run mounts the stack again. C(context) and C(idmap) need V(overlay).
    - V(copy) is a tree in the store into which all layers are copied, which takes room and time for each chain anew. It
      shares its blocks with the layers where the file system can (Btrfs, XFS with reflink). It needs nothing of the
      kernel. A persistent stack has a copy of its own, into which is written. What is written there is no layer of
      itself, so other layers cannot come below it without C(on_change=reset), and it can neither be committed nor
      limited in size. There are no volatile copies.
    - V(auto) is the first of these three that the host has and that works where the store lies, which is found by
      trying before anything is imported; it is what a new stack has when this is left out. A persistent layer stays
      with the driver that it was written with. The result has the driver and the reason.
    - Where the store itself lies on an overlay, as in most containers, V(overlay) can have no persistent layer, and no
      layer that deletes files of others can be imported. On a file system without d_type (xfs made with C(-n ftype=0),
      ext4 with C(-O ^filetype)) it would list what is deleted and is refused. One read-only layer alone needs no
      driver.
  type: str
  choices: [auto, overlay, fuse-overlayfs, copy]
on_change:
  description:
    - What becomes of a persistent layer when the layers below it change.
    - V(keep) puts it over the new ones.
    - V(reset) begins with an empty one. The old one, where it holds anything, is set aside in the store until it is
      pruned.
  type: str
  choices: [keep, reset]
  default: keep
mount_options:
  description:
    - Flags of the mount, of V(nosuid), V(nodev), V(dev), V(noexec), V(nosymfollow), V(noatime), V(nodiratime),
      V(relatime) and V(strictatime).
    - Every stack has V(nodev) unless V(dev) is given, and of V(nosuid), V(noexec) and V(nosymfollow) those that are
      given, whatever its layers, its driver, and the flags of the file system of the store. So say here what a
      hardened C(/var) has, if stacks are to have it too. In a user namespace the kernel keeps the flags of that file
      system for a stack that is one directory (one read-only layer, or V(copy)).
    - A stack that is one directory has times of access as the file system of the store, unless one is given.
    - What an earlier release has mounted gets V(nodev) when it is mounted next.
  type: list
  elements: str
propagation:
  description:
    - How mounts inside the stack are seen in other mount namespaces. As the kernel gives it when left out, which is
      like that of the file system around it.
  type: str
  choices: [private, slave, shared, unbindable]
context:
  description:
    - SELinux label that all files of the stack show, such as V(system_u:object_r:container_file_t:s0).
    - Needs SELinux to be in force, and more than a single read-only layer.
  type: str
idmap:
  description:
    - Shows layers with other owners than they have, as for a container with a user namespace. Two keys, C(uid) and
      C(gid), each as C(first:host:count), so C(0:100000:65536) for both shows files of root as those of user 100000.
    - Files in the writable layer keep the owners that they are written with. Needs Linux 5.19.
  type: dict
owner:
  description:
    - Numeric owner of the stack's top directory, or V(root).
    - Needs a writable layer, as C(group) and C(mode); a read-only stack shows the top of its uppermost layer.
  type: raw
group:
  description:
    - Numeric group of the stack's top directory, or V(root).
  type: raw
mode:
  description:
    - Mode of the stack's top directory, octal and in quotes, such as V("0750").
  type: raw
cover:
  description:
    - Mount over a directory that is not empty, or over another file system, and hide what is there.
  type: bool
  default: false
on_busy:
  description:
    - What to do when the mounted tree has to go and processes use it.
    - V(fail) changes nothing and names them. A read-only or volatile stack can change under processes, so for it only
      mounts inside the tree are in the way.
    - V(detach) takes the tree from the path; those processes keep the old one until they close it. A writable layer
      that the stack gives up with it is set aside, also an empty one, and kept until it is pruned.
    - V(detach) is refused where a persistent layer has to be mounted again, since one layer in two mounts is undefined
      and processes of the old tree could not write any more. Name what uses the stack in C(services), so that it is
      stopped meanwhile, or begin with a new writable layer (C(on_change=reset)).
    - Whatever is said here, a persistent layer is neither mounted again nor given up while another mount uses it, such
      as a bind mount of the tree or one in a container; the message names it. Mounts that go together with the unmount
      are not in the way. Where such a mount stays, only V(detach) with C(state=unmounted) leaves it alone.
  type: str
  choices: [fail, detach]
  default: fail
generations:
  description:
    - How many of the chains that the stack has had are kept on record, the present one among them. 3 for a new stack.
  type: int
services:
  description:
    - Units of systemd that use the tree, each a name such as V(app.service), or a dictionary of C(name) and C(action).
      A name without a suffix is a service.
    - Where the tree has to go away for a change, they are stopped before it, the last one first, and started after it,
      the first one first. After a switch without a gap they are restarted. With C(action=reload) a unit is never
      stopped for a change, and reloaded after it.
    - Only units that were running are started again. When nothing was mounted before, enabled units are started too,
      as a boot would do. When the stack is unmounted, they are stopped and stay so.
    - Nothing is touched when the stack does not change. A unit that the host does not have is an error, reported
      before anything changes. On a host without systemd the option is a mistake too.
    - For a stack that is named without its layers, they stay as they are on record.
  type: list
  elements: raw
health:
  description:
    - How to see, after a change and when the services run, that what uses the stack works. Exactly one of
      C(url), C(tcp) and C(command).
    - When it does not, the stack goes back to the generation before, its services with it, health is checked again, and
      the run fails saying all of this. A stack that was not mounted before is unmounted again.
    - It is not checked when the stack does not change. The store stays locked until health is known. It is not on
      record, so it is given with each task that may change the stack.
  type: dict
  suboptions:
    url:
      description:
        - An address that is asked for by GET, from the host.
        - Redirects are followed, unless one is among C(status), and not from https to http. Another scheme, host or
          port gets no C(headers).
      type: str
    tcp:
      description: A port of the host, or C(host:port), that takes a connection.
      type: str
    command:
      description:
        - A program with its arguments that ends with 0, as a list, or as a string that is split without a shell.
      type: raw
    status:
      description: The HTTP status that is right, or a list of them. V(200) when not given.
      type: raw
    headers:
      description: Headers of the request.
      type: dict
    validate_certs:
      description: Whether the server's certificate has to be right. V(true) when not given.
      type: bool
    timeout:
      description: Seconds that one try may take.
      type: int
      default: 5
    retries:
      description: How many times it is tried again.
      type: int
      default: 10
    delay:
      description: Seconds between two tries.
      type: int
      default: 1
boot:
  description:
    - Mount the stack again when the host boots, before its services. For this the helper C(mount.strata) has to be
      on the host; the role P(strata.overlay.host#role) or the module M(strata.overlay.mount_helper) brings it. Without
      it nothing is written, and the result says so.
    - Where systemd is the init system, that is a mount unit, which the services require; elsewhere it is a line
      of C(/etc/fstab).
    - V(true) when not given. For a stack that is named without its layers, it stays as it is on record.
  type: bool
generation:
  description:
    - Go back to a chain that the stack had. V(previous), or the number of a generation on record.
    - The chain comes back as a new generation. V(previous) is the one before the last that a definition asked for, so
      asking for it twice is the same as once.
    - Give no C(layers) with it. A definition that names the layers is the truth - when it is applied again, unchanged,
      the stack goes forward again.
  type: str
state:
  description:
    - V(unmounted) keeps the stack and its writable layer but takes it from the path.
    - V(absent) unmounts and forgets it. A writable layer that holds anything is set aside in the store, not deleted.
  type: str
  choices: [mounted, unmounted, absent]
  default: mounted
"""


class ModuleDocFragment:
    # Annotated, since ansible-test takes a plain assignment for a literal and cannot read a computed one.
    DOCUMENTATION: str = "options:" + indent(_STACK, "  ")

    LIST: str = r"""
options:
  stacks:
    description:
      - Stacks, each a chain of layers mounted at a path.
    type: list
    elements: dict
    default: []
    suboptions:""" + indent(_STACK, "      ")
