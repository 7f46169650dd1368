# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Contents and images: what is missing, changed, or on record without being there. Pure."""

from __future__ import annotations

from typing import Dict, Iterator, List

from ansible_collections.strata.overlay.plugins.module_utils._check.judge_places import KEPT
from ansible_collections.strata.overlay.plugins.module_utils._check.model import (
    Discard,
    Finding,
    Keep,
    RecordContent,
    WriteTags,
)
from ansible_collections.strata.overlay.plugins.module_utils._check.snapshot import Picture
from ansible_collections.strata.overlay.plugins.module_utils._common.digests import SHA256, hex_of

AGAIN = "the next run with the definition imports it again"


def find_contents(picture: Picture) -> Iterator[Finding]:
    """Everything about the trees in content/ and their records."""
    users = _users(picture)
    for name in sorted({*picture.contents, *picture.content_records, *(hex_of(diff_id) for diff_id in users)}):
        yield from _content(picture, name, users.get(SHA256 + name, []))
    for diff_id, changed in picture.changed.items():
        path = f"content/sha256/{hex_of(diff_id)}"
        if hex_of(diff_id) in picture.used_contents:
            advice = "it is mounted: unmount what uses it, then repair; or run on with what is there"
            yield Finding("content_changed", diff_id, changed.words, advice)
        else:
            advice = f"{KEPT}; {AGAIN}"
            yield Finding("content_changed", diff_id, changed.words, advice, Keep(path, changed.inode))


def _content(picture: Picture, name: str, users: List[str]) -> Iterator[Finding]:
    diff_id, path = SHA256 + name, f"content/sha256/{name}"
    record = f"strata/contents/{name}.json"
    if picture.contents.get(name):
        if name not in picture.content_records:
            words = "the content is there, and its record is not"
            yield Finding("content_record_missing", diff_id, words, "write it anew", RecordContent(diff_id))
    elif name in picture.contents:
        words = f"{path} is no directory{_needed(users)}"
        yield Finding("content_missing", diff_id, words, f"{KEPT}; {AGAIN}", Keep(path))
    elif users:
        yield Finding("content_missing", diff_id, f"the content is not in the store{_needed(users)}", AGAIN)
    else:
        words = "a record of a content that is not in the store and that nothing needs"
        yield Finding("content_record_orphaned", diff_id, words, "delete the record", Discard((record,)))


def _needed(users: List[str]) -> str:
    return f"; it is needed by {', '.join(users)}" if users else ""


def _users(picture: Picture) -> Dict[str, List[str]]:
    """DiffID -> who needs it, in words."""
    users: Dict[str, List[str]] = {}
    for name, record in picture.names.items():
        for diff_id in dict.fromkeys(record.diff_ids):
            users.setdefault(diff_id, []).append(f"name {name}")
    for name, stack in picture.stacks.items():
        needed = {diff_id: generation.number for generation in stack.history for diff_id in generation.diff_ids}
        needed.update(dict.fromkeys(stack.shown, stack.generation))
        for diff_id, number in needed.items():
            present = diff_id in (*stack.diff_ids, *stack.shown)
            words = f"stack {name}" if present else f"generation {number} of stack {name}"
            users.setdefault(diff_id, []).append(words)
    for name, change in picture.changes.items():
        for diff_id in dict.fromkeys(change.back):
            users.setdefault(diff_id, []).append(f"the change of stack {name} that is not done")
    return users


def find_images(picture: Picture) -> Iterator[Finding]:
    """Everything about what Docker reads of images."""
    names: Dict[str, List[str]] = {}
    for name, record in picture.names.items():
        if record.image_id:
            names.setdefault(record.image_id, []).append(name)
    for image_id, fault in sorted(picture.image_faults.items()):
        called = ", ".join(names.get(image_id, []))
        path = f"image/overlay2/imagedb/content/sha256/{hex_of(image_id)}"
        if fault == "missing":
            yield Finding("image_missing", image_id, f"the config of image {called} is not in the store", AGAIN)
        elif called:
            words = f"the config of image {called} is damaged"
            yield Finding("image_damaged", image_id, words, f"delete it; {AGAIN}", Discard((path,)))
        else:
            words = "the config of an image without a name is damaged"
            yield Finding("image_damaged", image_id, words, "delete it", Discard((path,)))
    if not picture.tags_are_right:
        words = "it does not say what the names of images say"
        yield Finding("tags_wrong", "image/overlay2/repositories.json", words, "write it anew", WriteTags())
