# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from textwrap import indent

LIMITS = r"""
limits:
  description:
    - How much a layer's archive may be. One that goes beyond is refused while it is read, and nothing of it is kept;
      so an archive made to explode fills no disk.
  type: dict
  suboptions:
    entries:
      description:
        - Entries of the archive, and directories that are made because a name needs them. 2000000 unless given.
      type: int
    bytes:
      description:
        - Size of the uncompressed archive, with holes of sparse files, such as V(512m) or V(20g). 1 TiB unless given.
        - An image's archive that is compressed as a whole may not be larger either.
      type: str
    depth:
      description: Names between slashes that a path may have. 256 unless given.
      type: int
    memory:
      description:
        - Bytes of names that have to be kept in memory until the archive's end, such as V(128m), which is what holds
          unless given - those of directories, of whiteouts, and of hard links whose targets come later.
        - Of a zip archive, its directory too, with 500 bytes for each member.
      type: str
    reserve:
      description:
        - Bytes of the store's file system that stay free for all else that writes there, such as V(10g). V(0) keeps
          none. It is looked at while the layer is written, for what ordinary users have free.
        - Unless given, a twentieth of the file system stays free, at most 1 GiB, and a twentieth of its inodes, at most
          100000.
        - Of a stack that is a copy of its layers (C(driver=copy)), the smallest that one of them has been given holds.
      type: str
"""

_SOURCE = r"""
src:
  description:
    - A tar archive, plain or compressed with gzip, bzip2, xz or zstd, with OCI whiteouts (C(.wh.) names) or without.
    - Or a zip archive or a Python wheel, which the first bytes say. Its members become a tar in their order, the same
      on any machine, with owner root, modes and symbolic links as C(unzip) makes them, and times in UTC. Encrypted
      ones are refused. Under O(NAME.url) such an archive is kept in C(/var/tmp) while it is read.
    - Owners are taken by number. In POSIX access lists a user or group by name only, as C(tar --acls) writes them, is
      refused; C(tar --xattrs --xattrs-include='*') and C(bsdtar --acls) write numbers.
    - On the controller, looked for as M(ansible.builtin.copy) does
      and then beside the inventory, unless O(NAME.remote_src=true).
    - Exactly one of O(NAME.src), O(NAME.url), O(NAME.dir) and O(NAME.files) is given.
  type: path
url:
  description:
    - URL of such an archive. The host fetches it itself, and asks the server on later runs only whether it has changed.
    - It is unpacked while it arrives, three of them at a time at the most, and the archive itself is not kept.
    - Where the connection breaks, it goes on from there, if the server marks what it has by a strong C(ETag) or by
      C(Last-Modified).
    - Redirects are followed, but not from https to http, nor out of HTTP. Another scheme, host or port gets neither
      login nor headers.
    - A server that brings fewer than 300 kB in five minutes is given up.
    - With O(NAME.digest) and the content in the store already, nothing is asked.
    - A user and password in it, and values of its query, are neither shown nor kept. Messages, plans, records and lock
      files have V(https://example.org/app.tar.gz?sig=***); a lock file distinguishes URLs that differ in such a value
      by a slow digest of it.
  type: str
username:
  description:
    - User of O(NAME.url), together with O(NAME.password). Both are sent at once and to this server only, not to where
      it redirects.
  type: str
password:
  description: Password or token of that user. It is not kept on the host.
  type: str
headers:
  description:
    - Headers that are sent with a request for O(NAME.url), such as one with a token. Like the password they go to no
      other server and are not kept.
  type: dict
auth_file:
  description:
    - A file on the host with logins, as C(docker login) and C(podman login) write it, in which the server of
      O(NAME.url) is found by its name and port. Used when no user is given. With the playbook C(strata.overlay.lock), a
      file on the controller.
  type: path
dir:
  description:
    - A directory whose tree becomes the layer, on the controller unless O(NAME.remote_src=true).
    - Owners become root; permission bits are kept as they are, and so are times, see O(NAME.times). The same tree is
      the same layer on any machine at any time.
    - Names that begin with C(.wh.) are OCI whiteouts. Sockets are left out, with a warning that names them.
  type: path
files:
  description:
    - Files written here in the definition. The same files are the same layer on any machine at any time, whatever
      their times, see O(NAME.times).
    - A directory on the way that is not listed is made with mode C(0755) and owner root, and shows so in the stack.
  type: list
  elements: dict
  suboptions:
    path:
      description: Path below the layer's top.
      type: str
      required: true
    state:
      description:
        - V(absent) is a whiteout. It hides what layers below have at this path.
      type: str
      choices: [file, directory, link, absent]
      default: file
    content:
      description: Text of a file.
      type: str
    target:
      description: Where a link points to.
      type: str
    mode:
      description: Permission bits, octal and in quotes. Files are C(0644) and directories C(0755) unless given.
      type: raw
    owner:
      description: Numeric user id, or V(root), the default. Other names differ between hosts, and the layer must not.
      type: raw
    group:
      description: Numeric group id, or V(root), the default.
      type: raw
    opaque:
      description: Of a directory. What layers below have in it is hidden.
      type: bool
      default: false
strip_components:
  description:
    - So many components are taken off the front of every name in the archive or directory, as C(tar
      --strip-components) does, of the targets of hard links too. Names that have no more components are left out.
    - A component C(.) counts where the archive has it, as for tar. So V(1) makes C(./app/run) to C(app/run).
    - With any of O(NAME.strip_components), O(NAME.prefix), O(NAME.include) and O(NAME.exclude) the layer is one of its
      own, with a DiffID of its own, made once and known by its source and these options. For O(NAME.src),
      O(NAME.url) and O(NAME.dir).
    - Options that leave nothing at all, and whiteouts whose names are taken away, are refused.
  type: int
prefix:
  description:
    - All of it is put below this directory of the layer, as C(tar -C) does, after components are stripped. Directories
      that are made for it have mode C(0755) and owner root.
  type: str
include:
  description:
    - Patterns of what is taken. A pattern stands for the whole name in the archive, as it is before components are
      stripped, and for all that lies below it, like members that are named to C(tar --extract --wildcards).
    - C(*) and C(?) match slashes too; C([a-z]), C([!a-z]) and C(\) are as in the shell. C(./) in front says nothing.
    - A pattern that matches nothing is refused, and so is a hard link to a file that is not taken.
  type: list
  elements: str
exclude:
  description:
    - Patterns of what is not taken, also of what O(NAME.include) takes, as C(tar --exclude) has them. A pattern matches
      from any slash on, so V(*.pyc) matches at any depth; one that begins with a slash matches at the top only.
      What lies below is not taken either, and of O(NAME.dir) not even looked at.
    - One that matches nothing says nothing. A hard link to a file that is not taken is refused.
    - A whiteout is named by what it hides, or as it stands in the archive.
  type: list
  elements: str
remote_src:
  description: O(NAME.src) and O(NAME.dir) are paths on the host.
  type: bool
  default: false
times:
  description:
    - Times of modification in a layer that comes from O(NAME.dir) or O(NAME.files). They never count for whether the
      layer has changed; that goes by its source digest, the DiffID that it would have with fixed times.
    - V(keep) gives files of a directory the times that they have there, and files of the definition the time at which
      their content last changed. A file whose content changes never keeps both size and time.
      So compiled Python stays valid and no cache takes the new file for the old one.
    - V(fixed) gives all of them 1980-01-01, so the DiffID is the same everywhere. Python, web servers and browsers may
      then take a new file for the old one where both have the same size.
  type: str
  choices: [keep, fixed]
  default: keep
digest:
  description:
    - C(sha256:) and 64 hexadecimal digits. Either the DiffID (of the uncompressed tar, or of the layer itself where
      options such as O(NAME.exclude) make it another one) or the digest of the archive as it lies there, or the source
      digest of a directory or files; anything else fails before the host is changed.
  type: str
labels:
  description: Keys and values kept with the name.
  type: dict
"""

_NAMED = r"""
name:
  description: The layer's name. Stacks refer to it.
  type: str
  required: true
state:
  description:
    - V(absent) forgets the name. The content stays as long as anything uses it, and until the store is pruned.
  type: str
  choices: [present, absent]
  default: present
"""


def options(text: str, prefix: str, depth: int) -> str:
    """The options with references such as O(src) or O(layers[].src), indented to their place."""
    return indent(text.replace("NAME.", prefix), "  " * depth)


class ModuleDocFragment:
    # Annotated, since ansible-test takes a plain assignment for a literal and cannot read a computed one.
    DOCUMENTATION: str = "options:" + options(_NAMED + _SOURCE + LIMITS, "", 1)

    LIST: str = r"""
options:
  layers:
    description:
      - Layers, by name. Each is imported once, whatever the number of stacks that use it.
    type: list
    elements: dict
    default: []
    suboptions:""" + options(_NAMED + _SOURCE + LIMITS, "layers[].", 3)
