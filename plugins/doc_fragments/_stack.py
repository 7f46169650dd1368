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
