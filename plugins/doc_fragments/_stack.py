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
    - Left out for a stack that the store knows, it stays as it is.
  type: path
layers:
  description:
    - Bottom first, each over the one before. Either the name of a layer, from the definition or in the store
      already, or a
      layer written in place, with the options of a layer but without a state.
    - Left out for a stack that the store knows, they stay as they are.
  type: list
  elements: raw
writable:
  description:
    - V(none) is read-only.
    - V(persistent) takes changes in a writable layer of its own, which stays when the layers below change.
    - V(volatile) takes changes in memory. They are gone when the stack is unmounted or its layers change.
  type: str
  choices: [none, persistent, volatile]
  default: none
size:
  description:
    - The most that a volatile layer may hold, such as V(512m) or V(2g). Half the memory when not given.
  type: str
cover:
  description:
    - Mount over a directory that is not empty, or over another file system, and hide what is there.
  type: bool
  default: false
on_busy:
  description:
    - What to do when the mounted tree has to go and processes use it.
    - V(fail) changes nothing and names them.
    - V(detach) takes the tree from the path; those processes keep the old one until they close it.
  type: str
  choices: [fail, detach]
  default: fail
generations:
  description: How many of the chains that the stack has had are kept on record, the present one among them.
  type: int
  default: 3
services:
  description:
    - Units of systemd that use the tree, each a name such as V(app.service), or a dictionary of C(name) and C(action).
      A name without a suffix is a service.
    - Where the tree has to go away for a change, they are stopped before it, the last one first, and started after it,
      the first one first. After a switch without a gap they are restarted. With C(action=reload) a unit is never
      stopped for a change, and reloaded after it.
    - Only units that were running are started again. When nothing was mounted before, enabled units are started too,
      as a boot would do. When the stack is unmounted, they are stopped and stay so.
    - Nothing is touched when the stack does not change. A unit that the host does not have is a mistake, told before
      anything changes. On a host without systemd the option is a mistake too.
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
      description: An address that is asked for by GET, from the host.
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
