# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Judges contents and images: missing, changed, or unrecorded. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.strata.overlay.plugins.module_utils._check.judge_places import KEPT
from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Keep,
    RecordContent,
    WriteTags,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import StoreSnapshot
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256, hex_of

AGAIN = "the next run with the definition imports it again"


def find_contents(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """Everything about the trees in content/ and their records."""
    users = _users(snapshot)
    for name in sorted({*snapshot.contents, *snapshot.content_records, *(hex_of(diff_id) for diff_id in users)}):
        yield from _content(snapshot, name, users.get(SHA256 + name, []))
    for diff_id, changed in snapshot.changed.items():
        path = f"content/sha256/{hex_of(diff_id)}"
        if hex_of(diff_id) in snapshot.used_contents:
            advice = "it is mounted: unmount what uses it, then repair; or run on with what is there"
            yield Finding("content_changed", diff_id, changed.description, advice)
        else:
            advice = f"{KEPT}; {AGAIN}"
            yield Finding("content_changed", diff_id, changed.description, advice, Keep(path, changed.inode))


def _content(snapshot: StoreSnapshot, name: str, users: list[str]) -> Iterator[Finding]:
    diff_id, path = SHA256 + name, f"content/sha256/{name}"
    record = f"strata/contents/{name}.json"
    if snapshot.contents.get(name):
        if name not in snapshot.content_records:
            message = "the content is there, and its record is not"
            yield Finding("content_record_missing", diff_id, message, "write it anew", RecordContent(diff_id))
    elif name in snapshot.contents:
        message = f"{path} is no directory{_needed(users)}"
        yield Finding("content_missing", diff_id, message, f"{KEPT}; {AGAIN}", Keep(path))
    elif users:
        yield Finding("content_missing", diff_id, f"the content is not in the store{_needed(users)}", AGAIN)
    else:
        message = "a record of a content that is not in the store and that nothing needs"
        yield Finding("content_record_orphaned", diff_id, message, "delete the record", Discard((record,)))


def _needed(users: list[str]) -> str:
    return f"; it is needed by {', '.join(users)}" if users else ""


def _users(snapshot: StoreSnapshot) -> dict[str, list[str]]:
    """DiffID -> who needs it, in words."""
    users: dict[str, list[str]] = {}
    for name, record in snapshot.names.items():
        for diff_id in dict.fromkeys(record.diff_ids):
            users.setdefault(diff_id, []).append(f"name {name}")
    for name, stack in snapshot.stacks.items():
        needed = {diff_id: generation.number for generation in stack.history for diff_id in generation.diff_ids}
        needed.update(dict.fromkeys(stack.shown, stack.generation))
        for diff_id, number in needed.items():
            present = diff_id in (*stack.diff_ids, *stack.shown)
            message = f"stack {name}" if present else f"generation {number} of stack {name}"
            users.setdefault(diff_id, []).append(message)
    for name, change in snapshot.changes.items():
        for diff_id in dict.fromkeys(change.back):
            users.setdefault(diff_id, []).append(f"the change of stack {name} that is not done")
    return users


def find_images(snapshot: StoreSnapshot) -> Iterator[Finding]:
    """Everything about what Docker reads of images."""
    names: dict[str, list[str]] = {}
    for name, record in snapshot.names.items():
        if record.image_id:
            names.setdefault(record.image_id, []).append(name)
    for image_id, fault in sorted(snapshot.image_faults.items()):
        called = ", ".join(names.get(image_id, []))
        path = f"image/overlay2/imagedb/content/sha256/{hex_of(image_id)}"
        if fault == "missing":
            yield Finding("image_missing", image_id, f"the config of image {called} is not in the store", AGAIN)
        elif called:
            message = f"the config of image {called} is damaged"
            yield Finding("image_damaged", image_id, message, f"delete it; {AGAIN}", Discard((path,)))
        else:
            message = "the config of an image without a name is damaged"
            yield Finding("image_damaged", image_id, message, "delete it", Discard((path,)))
    if not snapshot.tags_are_right:
        message = "it does not say what the names of images say"
        yield Finding("tags_wrong", "image/overlay2/repositories.json", message, "write it anew", WriteTags())
