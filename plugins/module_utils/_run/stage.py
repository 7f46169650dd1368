# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Unpacks missing contents into the run's workspace and verifies them. Needs no lock, publishes nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any, Callable, Optional

from ansible_collections.strata.overlay.plugins.module_utils._archive.limits import Limits
from ansible_collections.strata.overlay.plugins.module_utils._common.clock import now
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import hex_of, short
from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError, advice
from ansible_collections.strata.overlay.plugins.module_utils._definition.layer import Source
from ansible_collections.strata.overlay.plugins.module_utils._layer.left_out import LeftOut
from ansible_collections.strata.overlay.plugins.module_utils._layer.unpack import Unpacked, unpack, writer_apart
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.workers import (
    Count,
    Job,
    Report,
    is_worth_forking,
    leave_cores,
    run_jobs,
)
from ansible_collections.strata.overlay.plugins.module_utils._source.origin import Opener, Origin, describe
from ansible_collections.strata.overlay.plugins.module_utils._source.source import Read, SourceDigest, Unread, open_tar
from ansible_collections.strata.overlay.plugins.module_utils._store.records import ContentRecord

if TYPE_CHECKING:
    from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob


def stage_contents(
    workspace: str,
    origins: Iterable[Origin],
    abilities: Abilities,
    staged: Optional[Mapping[str, ContentRecord]] = None,
    *,
    report: Optional[Report] = None,
    content: Callable[[str], str] = str,
    meanwhile: Optional[Callable[[], object]] = None,
    warnings: Optional[list[str]] = None,
) -> dict[str, ContentRecord]:
    """Unpack the content of each origin to ``workspace/<hex>``, with its digest checked. Needs no lock.

    Contents are unpacked side by side, each whole or not at all.

    :param staged: what lies in the workspace already.
    :param report: called with the progress, at most twice a second.
    :param content: where the store has a content; copies are made of what lies there or in the workspace.
    :param meanwhile: as for ``run_jobs``.
    :param warnings: is added to where something of an archive is left out.
    :returns: the record of each by DiffID, those of ``staged`` too.
    """
    found = dict(staged or {})
    needed: dict[str, Origin] = {}
    for origin in origins:
        if origin.diff_id not in found:
            needed.setdefault(origin.diff_id, origin)
    read = [origin for origin in needed.values() if not origin.chain]
    idle = leave_cores(len(read))
    jobs = [_job(_tree(workspace, origin.diff_id), origin, abilities.userxattr, idle) for origin in read]
    copies = [origin for origin in needed.values() if origin.chain]
    for origin, result in zip(read, run_jobs(jobs, report, meanwhile=meanwhile)):
        unpacked = Unpacked(*result)
        found[origin.diff_id] = content_record(unpacked, origin.description, origin.source_digest)
        if warnings is not None:
            warnings += [f"{origin.label or origin.description}: {message}" for message in unpacked.left_out]
    if copies:
        # Imported only when needed: nearly all hosts have the overlay file system.
        from ansible_collections.strata.overlay.plugins.module_utils._source.flatten import copy_job

        places = {diff_id: _tree(workspace, diff_id) for diff_id in found}
        chains = [[places.get(diff_id) or content(diff_id) for diff_id in origin.chain] for origin in copies]
        jobs = [copy_job(_tree(workspace, origin.diff_id), trees, origin) for origin, trees in zip(copies, chains)]
        for origin, result in zip(copies, run_jobs(jobs, report)):
            found[origin.diff_id] = content_record(Unpacked(*result), origin.description)
    return found


def stage_unread(
    workspace: str,
    unread: Sequence[Unread],
    abilities: Abilities,
    report: Optional[Report] = None,
    meanwhile: Optional[Callable[[], object]] = None,
) -> list[tuple[Unpacked, Mapping[str, str]]]:
    """Unpack sources of which nobody knows yet what they are, so that learning it and unpacking take one reading.

    :param report, meanwhile: as for ``run_jobs``.
    :returns: what each turned out to be, with further facts of its source; ``workspace/<hex>`` is its tree.
    :raises StrataError: one of them is not usable.
    """
    trees = [f"{workspace}/unread-{number}" for number in range(len(unread))]
    idle = leave_cores(len(unread))
    jobs = [_unread_job(tree, item, abilities.userxattr, idle) for tree, item in zip(trees, unread)]
    results = [(Unpacked(*unpacked), facts) for unpacked, facts in run_jobs(jobs, report, meanwhile=meanwhile)]
    for tree, (unpacked, _told) in zip(trees, results):
        if not os.path.isdir(_tree(workspace, unpacked.diff_id)):  # two sources may hold the same
            os.rename(tree, _tree(workspace, unpacked.diff_id))
    return results


def content_record(unpacked: Unpacked, message: str, source_digest: str = "") -> ContentRecord:
    """What the store remembers of a content that was unpacked a moment ago."""
    facts = unpacked.diff_id, unpacked.size, unpacked.entries
    return ContentRecord(*facts, message, now(), unpacked.allocated, unpacked.digest, source_digest)


def _tree(workspace: str, diff_id: str) -> str:
    return f"{workspace}/{hex_of(diff_id)}"


def _job(tree: str, origin: Origin, userxattr: bool, idle: bool) -> Job:
    named = f"content {short(origin.diff_id)} from {origin.description}"
    if origin.label:
        named = f"{origin.label}: {named}"
    size, effort = _extent(origin.source, origin.opener, origin.blob, origin.size)
    apart = idle and is_worth_forking(size, origin.remote)

    def work(count: Count) -> tuple[Any, ...]:
        # Whoever found the DiffID out was as strict as the source asks for; an image's config is held against it here.
        tar = open_tar(origin.source._replace(pinned=True), origin.opener, count)
        unpacked = _unpack(tree, tar, origin.source.limits, userxattr, named, apart=apart, pinned=True)
        if unpacked.diff_id != origin.diff_id:
            raise _other_content(origin, unpacked.diff_id)
        return astuple(unpacked)

    return Job(_label(origin.label, origin.description), work, size, origin.remote, effort)


def _other_content(origin: Origin, found: str) -> StrataError:
    label = f"{origin.label}: " if origin.label else ""
    if origin.declared:
        return StrataError(
            f"{label}{origin.description} has DiffID {found}, but the image's config says {origin.diff_id}. The image "
            "is damaged or not what it claims to be; nothing of it was kept. Save or push it anew where it was built, "
            "and pin what you expect by the option 'digest'."
        )
    return StrataError(
        f"{label}{origin.description} changed while it was read: it had DiffID {origin.diff_id} and now has {found}. "
        "Nothing of it was kept; run again."
    )


def _unread_job(tree: str, item: Unread, userxattr: bool, idle: bool) -> Job:
    source = item.description or describe(item.source)
    message = f"{item.label or 'a layer'} from {source}"
    size, effort = _extent(item.source, item.opener)
    download = item.source.kind == "url"
    apart = idle and is_worth_forking(size, download)

    def work(count: Count) -> tuple[Any, ...]:
        state, left_out = SourceDigest(item.source), LeftOut()
        tar = open_tar(item.source, item.opener, count, state, left_out)
        unpacked = _unpack(tree, tar, item.source.limits, userxattr, message, apart=apart, pinned=item.source.pinned)
        warnings = (*left_out.warnings(), *unpacked.left_out)
        if item.diff_id and item.diff_id != unpacked.diff_id:
            raise StrataError(f"Cannot unpack {message}: it changed on its way here; nothing of it was kept, run again")
        if item.before:
            # Imported only when needed: most layers are archives, and have times of their own.
            from ansible_collections.strata.overlay.plugins.module_utils._source.file_times import settle_times

            unpacked = settle_times(tree, unpacked, item.before, item.inline, userxattr, item.source.limits)
        source_digest = item.source_digest or str(state)
        facts = {**item.facts(), **({"source_digest": source_digest} if source_digest else {})}
        return astuple(replace(unpacked, left_out=warnings)), facts

    return Job(_label(item.label, source), work, size, download, effort)


def _label(label: str, source: str) -> str:
    """What an operator sees in progress lines: the layer by its name, and its source."""
    return f"{label} ({source})" if label else source


def _extent(
    source: Source, opener: Optional[Opener], blob: Optional[Blob] = None, otherwise: int = 0
) -> tuple[int, int]:
    """A job's size and effort.

    :param blob: the archive, where it is known to lie in a file.
    :param otherwise: the size of what does not lie on this host.
    """
    # Loaded when they are needed: most runs unpack nothing.
    from ansible_collections.strata.overlay.plugins.module_utils._archive.slice import Blob
    from ansible_collections.strata.overlay.plugins.module_utils._run.effort import effort

    if blob is None and opener is None and source.kind == "src":
        with contextlib.suppress(OSError):
            blob = Blob(source.location, 0, os.stat(source.location).st_size)
    return (blob.size or otherwise, effort(blob)) if blob else (otherwise, 0)


def _unpack(
    tree: str,
    tar: AbstractContextManager[Read],
    limits: Limits,
    userxattr: bool,
    message: str,
    *,
    apart: bool,
    pinned: bool,
) -> Unpacked:
    os.mkdir(tree, 0o700)
    try:
        beside = writer_apart(tree, userxattr, limits) if apart else contextlib.nullcontext()
        with beside as relay, tar as read:  # which is opened by this and not before
            return unpack(read, tree, userxattr, limits, relay, pinned=pinned)
    except OSError as error:
        raise StrataError(
            f"Cannot unpack {message}: {error.strerror or error}"
            f"{' at ' + repr(error.filename) if isinstance(error.filename, (str, bytes)) else ''}. Nothing of it was "
            f"kept. {advice(error)}".rstrip()
        ) from error
    except StrataError as error:
        raise StrataError(f"Cannot unpack {message}: {error}") from error
