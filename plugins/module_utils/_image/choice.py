# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Chooses one image from an index by platform and digest, for layouts, archives and registries alike.

Pure but for the documents that it is given to read with. What descriptors are enough for is decided by descriptors; an
entry is opened when it is chosen, when it is a nested index without a platform, or when nothing but its config says its
platform. Source: OCI image-spec image-index.md: entries of unknown types are ignored, and the first that matches is
taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional, Protocol, Union

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.platform import Platform
from ansible_collections.strata.overlay.plugins.module_utils._image.host_platform import choose
from ansible_collections.strata.overlay.plugins.module_utils._image.manifest import Config, Descriptor, Index, Manifest

_MAX_DEPTH = 8
_MAX_DOCUMENTS = 1 << 25
"""Bytes of manifests and indexes that are read for one image; with indexes that list each other's entries, a few can
stand for more than anybody can read."""

_EACH = 1 << 12
"""What one of them counts for at least."""

_SHOWN = 3

Document = Union[Index, Manifest]


class Documents(Protocol):
    """Where manifests, indexes and configs are read from."""

    @property
    def what(self) -> str:
        """The archive or the image's place in a registry, for messages."""

    def document(self, entry: Descriptor) -> Document:
        """:raises StrataError: it is not there, or is not what its descriptor says."""

    def config(self, manifest: Manifest) -> Config:
        """:raises StrataError: it is not there, or is no image's config."""


class Chosen(NamedTuple):
    """An image, before any layer is looked at. ``path`` holds the digests that lead to it, its manifest's last."""

    manifest: Manifest
    config: Config
    path: tuple[str, ...]
    platform: Platform


class Unusable(NamedTuple):
    """What would have been an image, and why it is unusable. ``platform`` comes from its descriptor."""

    path: tuple[str, ...]
    platform: Platform
    reason: str


@dataclass(frozen=True)
class Candidate:
    """An entry that may be chosen.

    :ivar path: digests that lead to it, its own last.
    :ivar platform: as its descriptor says, else as its config does.
    :ivar stated: the descriptor says it.
    :ivar image_id: "" where nothing has been opened.
    """

    entry: Descriptor
    path: tuple[str, ...]
    platform: Platform
    stated: bool
    image_id: str = ""

    def is_pinned(self, digest: str) -> bool:
        """Whether a digest pins it; "" pins all."""
        return not digest or digest in self.path or digest == self.image_id


@dataclass
class Choosing:
    """The choice of an image from what descriptors list.

    :ivar before_opening: called with the entry that was chosen by its descriptor.
    """

    documents: Documents
    before_opening: Callable[[Descriptor], None] = lambda entry: None
    _opened: dict[str, Document] = field(default_factory=dict)
    _configs: dict[str, Config] = field(default_factory=dict)
    _left: int = _MAX_DOCUMENTS

    def choose(self, tops: Sequence[Descriptor], wanted: Optional[Platform], digest: str = "") -> Chosen:
        """The image for a platform.

        :param tops: entries of an index, or one descriptor; more than one are one image for several platforms.
        :param wanted: None for this host's own; then the only one there is fits too.
        :param digest: by which it is pinned, "" for any.
        :raises StrataError: there is none; what there is, or what is wrong with the one that was chosen.
        """
        above: tuple[str, ...] = ()
        stated: Optional[Platform] = None
        entries = tops
        while True:
            found, passed = self._pinned(entries, above, digest)
            candidate = found[self._best(found, wanted, passed)]
            if entries is tops:
                self._check_single(found, candidate)
            if candidate.stated:
                stated = candidate.platform
                self.before_opening(candidate.entry)
            document = self._open(candidate.entry, candidate.path)
            if isinstance(document, Manifest):
                config = self._config(document)
                return Chosen(document, config, candidate.path, stated or config.platform)
            entries, above = document.entries, candidate.path
            if digest in above:
                digest = ""

    def every(self, tops: Sequence[Descriptor], digest: str = "") -> list[Union[Chosen, Unusable]]:
        """The image for each platform, for those who choose later: the first of each that is listed.

        One that cannot be used spoils none of the others.
        """
        found, _passed = self._pinned(tops, (), digest)
        images: list[Union[Chosen, Unusable]] = []
        seen = set()
        waiting = [(candidate, candidate.platform if candidate.stated else None) for candidate in found[::-1]]
        while waiting:
            candidate, stated = waiting.pop()
            try:
                document = self._open(candidate.entry, candidate.path)
                if isinstance(document, Index):
                    below, _passed = self._candidates(document.entries, candidate.path)
                    waiting += [(each, each.platform if each.stated else stated) for each in below[::-1]]
                    continue
                config = self._config(document)
                image: Union[Chosen, Unusable] = Chosen(document, config, candidate.path, stated or config.platform)
            except _TooMuchError:
                raise
            except StrataError as error:
                image = Unusable(candidate.path, stated or candidate.platform, str(error))
            key = (image.path[0], image.platform.normal())
            if key not in seen:
                seen.add(key)
                images.append(image)
        return images

    def image_ids(self, tops: Sequence[Descriptor]) -> list[str]:
        """The ids of all images below that can be found, whatever is wrong with others."""
        ids: list[str] = []
        waiting: list[tuple[Descriptor, tuple[str, ...]]] = [(top, (top.digest,)) for top in tops]
        while waiting:
            entry, path = waiting.pop()
            try:
                document = self._open(entry, path)
            except _TooMuchError:
                raise
            except StrataError:
                continue
            if isinstance(document, Manifest):
                ids.append(document.config.digest)
            else:
                waiting += [(each, (*path, each.digest)) for each in _once(document.entries, [])]
        return ids

    def is_image(self, top: Descriptor) -> bool:
        """Whether anything below a descriptor may be an image."""
        try:
            return bool(self._candidates([top], ())[0])
        except StrataError:
            return True

    def _best(self, found: Sequence[Candidate], wanted: Optional[Platform], passed: Sequence[str]) -> int:
        try:
            return choose([each.platform for each in found], wanted, self.documents.what)
        except StrataError as error:
            raise StrataError(f"{error}{_passed_over(passed)}") from error

    def _check_single(self, found: Sequence[Candidate], best: Candidate) -> None:
        """Two images for one platform under one name, in an index.json that is nobody's order of preference."""
        same = {each.path[0]: each for each in found if each.platform.normal() == best.platform.normal()}
        if len(same) < 2:
            return
        ids = dict.fromkeys(each.image_id or self._image_id(each) for each in same.values())
        if len(ids) > 1:
            raise StrataError(
                f"{self.documents.what} has {len(ids)} images for platform {best.platform}; name one of them in the "
                f"option 'digest': {', '.join(ids)}"
            )

    def _image_id(self, candidate: Candidate) -> str:
        try:
            document = self._open(candidate.entry, candidate.path)
            return document.config.digest if isinstance(document, Manifest) else candidate.entry.digest
        except StrataError:
            return candidate.entry.digest

    def _pinned(
        self, entries: Sequence[Descriptor], above: tuple[str, ...], digest: str
    ) -> tuple[list[Candidate], list[str]]:
        """The candidates that a digest pins, and what was passed over. An image's id is in its manifest alone."""
        found, passed = self._candidates(entries, above)
        pinned = [each for each in found if each.is_pinned(digest)]
        if pinned:
            return pinned, passed
        everything, passed = self._candidates(entries, above, deep=True)
        pinned = [each for each in everything if each.is_pinned(digest)]
        if not pinned:
            there = dict.fromkeys(name for each in everything for name in (*each.path, each.image_id) if name)
            raise StrataError(
                f"option 'digest': expected {digest}, but {self.documents.what} has {', '.join(there)} (manifest and "
                "image id); correct it if the image is the one you mean"
            )
        return pinned, passed

    def _candidates(
        self, entries: Sequence[Descriptor], above: tuple[str, ...], deep: bool = False
    ) -> tuple[list[Candidate], list[str]]:
        """Everything below that may be chosen, and why others may not.

        :param deep: open those too whose descriptor says enough.
        """
        found: list[Candidate] = []
        passed: list[str] = []
        tops = _once(entries, passed)
        alone = len(tops) == 1
        waiting = [(entry, above, entry.platform) for entry in tops[::-1]]
        while waiting:
            entry, over, stated = waiting.pop()
            path = (*over, entry.digest)
            if entry.platform is not None and not deep:
                found.append(Candidate(entry, path, entry.platform, stated=True))
                continue
            try:
                document = self._open(entry, path)
                if isinstance(document, Index):
                    passed += document.passed
                    below = _once(document.entries, passed)
                    waiting += [(each, path, each.platform or stated) for each in below[::-1]]
                    continue
                config = self._config(document)
                found.append(Candidate(entry, path, stated or config.platform, stated is not None, config.image_id))
            except _TooMuchError:
                raise
            except StrataError as error:
                if alone and not over:
                    raise
                if entry.platform is not None:
                    found.append(Candidate(entry, path, entry.platform, stated=True))
                passed.append(str(error))
        if not found:
            raise StrataError(f"{self.documents.what} has no image{_passed_over(passed) or ': its index is empty'}")
        return found, passed

    def _open(self, entry: Descriptor, path: tuple[str, ...]) -> Document:
        self._check_bounds(entry, path)
        if entry.digest not in self._opened:
            self._opened[entry.digest] = self.documents.document(entry)
        return self._opened[entry.digest]

    def _config(self, manifest: Manifest) -> Config:
        digest = manifest.config.digest
        if digest not in self._configs:
            self._configs[digest] = self.documents.config(manifest)
        return self._configs[digest]

    def _check_bounds(self, entry: Descriptor, path: tuple[str, ...]) -> None:
        if len(path) > _MAX_DEPTH:
            raise _TooMuchError(f"{self.documents.what}: indexes lie in indexes more than {_MAX_DEPTH} deep")
        self._left -= max(_EACH, entry.size)
        if self._left < 0:
            raise _TooMuchError(f"{self.documents.what}: the indexes below {path[0]} list more than any image has")


class _TooMuchError(StrataError):
    """More than is read of anything: not the fault of one entry, so none is passed over for it."""


def _once(entries: Sequence[Descriptor], passed: list[str]) -> list[Descriptor]:
    """Each thing that may lead to an image once, whatever the number of its names."""
    for entry in entries:
        if not entry.may_be_image and not entry.is_attestation:
            passed.append(f"{entry.digest} is of type {entry.artifact_type or entry.media_type!r}")
    return list({entry.digest: entry for entry in reversed(entries) if entry.may_be_image}.values())[::-1]


def _passed_over(reasons: Sequence[str]) -> str:
    """What was passed over, in a few words; "" for nothing."""
    if not reasons:
        return ""
    shown = "; ".join(f"{reason:.300}" for reason in reasons[:_SHOWN])
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return f". Passed over: {shown}{more}"
