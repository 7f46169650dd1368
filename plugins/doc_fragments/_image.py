# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.strata.overlay.plugins.doc_fragments._layer import LIMITS, options

_IMAGE = r"""
name:
  description:
    - The name that points at the whole image. A stack's C(layers) may hold it like a layer's name.
    - A name that Docker could have, such as V(debian:12), is the image's tag in C(repositories.json) too, with
      V(:latest) where it has none.
  type: str
  required: true
state:
  description:
    - V(absent) forgets the name. The image stays as long as anything uses it, and until the store is pruned.
  type: str
  choices: [present, absent]
  default: present
src:
  description:
    - An archive made by C(docker save), C(podman save), C(skopeo copy) or a builder, or an OCI image layout, as a
      directory or a tar. Archive and layers may be compressed.
    - On the controller, looked for as M(ansible.builtin.copy) does
      and then beside the inventory, unless O(NAME.remote_src=true). Only the layers
      that the host lacks are sent, as they lie in the archive.
    - Exactly one of O(NAME.src) and O(NAME.registry) is given.
  type: path
reference:
  description:
    - Which of several images in an archive, by its tag or its C(org.opencontainers.image.ref.name).
  type: str
remote_src:
  description: O(NAME.src) is a path on the host.
  type: bool
  default: false
registry:
  description:
    - An image in a registry, such as V(registry.example.com:5000/team/app:1.4), also with C(@sha256:) and a digest. Or
      the registry's host alone, with its port where it has one; then O(NAME.name) is the repository and tag.
    - Each host pulls from it itself, and only the layers that it lacks. On later runs it asks only for the manifest,
      with O(NAME.digest) and the image in the store not even that.
    - A login is given to the registry, and to the server of tokens that it names, which needs TLS as well unless
      V(http://) stands before the registry. Whoever the registry redirects to gets none.
  type: str
platform:
  description:
    - C(os/architecture) or C(os/architecture/variant), such as V(linux/arm64/v8), of an image that comes for several.
      The host's own when not given; where there is only one image, that one. Of several for one platform in an
      index the first is taken.
  type: str
digest:
  description:
    - C(sha256:) and 64 hexadecimal digits, either of the image's manifest (or of the index that lists it) or the
      image's id, which is the digest of its config. Anything else fails before the host is changed.
  type: str
labels:
  description: Keys and values kept with the name.
  type: dict
username:
  description: User of the registry, together with O(NAME.password).
  type: str
password:
  description: Password or token of that user. It is not kept on the host.
  type: str
auth_file:
  description:
    - A file on the host with logins, as C(docker login) and C(podman login) write it. Used when no user is given.
  type: path
ca_path:
  description: A file on the host with the certificates of the authorities that may vouch for the registry.
  type: path
ca:
  description:
    - The same certificates as text in PEM form, so that they need not lie on the host, such as
      V({{ lookup('file', 'ca.pem') }}). Not together with O(NAME.ca_path).
  type: str
validate_certs:
  description: Whether the registry's certificate is checked.
  type: bool
  default: true
mirrors:
  description: Registries that are asked first, in this order, such as V(mirror.example.com:5000).
  type: list
  elements: str
  default: []
"""


class ModuleDocFragment:
    # Annotated, since ansible-test takes a plain assignment for a literal and cannot read a computed one.
    DOCUMENTATION: str = "options:" + options(_IMAGE + LIMITS, "", 1)

    LIST: str = r"""
options:
  images:
    description:
      - Images, by name. Names are shared with O(layers); each may be used once.
    type: list
    elements: dict
    default: []
    suboptions:""" + options(_IMAGE + LIMITS, "images[].", 3)
