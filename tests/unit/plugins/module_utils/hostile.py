# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives made to break out, to lie, to explode, or broken: one table for the tests of every room and of the whole.

They aim at a canary: a directory beside the one that is unpacked into, at ``../canary`` and by its absolute path.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.strata.overlay.plugins.module_utils._archive.reader import END, Entry, header, padding
from ansible_collections.strata.overlay.tests.unit.plugins.module_utils.archives import (
    directory,
    hardlink,
    member,
    patched,
    pax,
    sparse,
    symlink,
)


@dataclass(frozen=True)
class Case:
    """One archive.

    :ivar reason: what the error has to say; "" where the archive is taken, because all it does is inside.
    :ivar tree: of one that is taken, what is there then: "dir", "opaque", "whiteout", "link", "device" or content.
    :ivar limits: the option ``limits``.
    """

    archive: bytes
    reason: str = ""
    tree: dict[str, str] = field(default_factory=dict)
    limits: dict[str, object] = field(default_factory=dict)


def small(name: bytes = b"name", content: bytes = b"") -> bytes:
    """A file without PAX records."""
    return header(Entry(name, "file", 0o644, size=len(content))) + content + padding(len(content))


DOTS = "'..' could lead out"
NO_DIRECTORY = "its path leads through something that is not a directory"
CUT = "the archive is cut short"
BLOCK = small(b"bad")
SPARSE_1_0 = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9"))


def long_name(name: bytes, flag: bytes) -> bytes:
    """GNU tar's entry of a long name (L) or link target (K)."""
    block = header(Entry(b"././@LongLink", "file", size=len(name) + 1))
    return patched(block, 156, flag) + name + b"\0" + padding(len(name) + 1)


def refused(reason: str, *entries: bytes) -> Case:
    """Whole archives with an entry that is refused."""
    return Case(b"".join(entries) + END, reason)


REFUSED = {
    "name out": refused(f"entry '../canary/new': .*{DOTS}", member(b"../canary/new", b"x")),
    "name out in the middle": refused(f"entry 'a/../../canary/new': .*{DOTS}", member(b"a/../../canary/new", b"x")),
    "name out and in again": refused(f"entry 'a/../b': .*{DOTS}", member(b"a/../b", b"x")),
    "absolute name with dots": refused(f"entry '/../../etc/x': .*{DOTS}", member(b"/../../etc/x", b"x")),
    "bare dots": refused(f"entry '..': .*{DOTS}", directory(b"..")),
    "directory out": refused(f"entry '../canary': .*{DOTS}", directory(b"../canary", 0o777)),
    "long name out": refused(f"entry '../canary/.*{DOTS}", long_name(b"../canary/" + b"n" * 150, b"L"), small()),
    "pax name out": refused(f"entry '../canary/new': .*{DOTS}", pax((b"path", b"../canary/new")), small()),
    "pax name out for all": refused(f"'../canary/x': .*{DOTS}", pax((b"path", b"../canary/x"), flag=b"g"), small()),
    "prefix out": refused(f"entry '../canary/new': .*{DOTS}", patched(small(b"new"), 345, b"../canary")),
    "sparse name out": refused(
        f"entry '../canary/new': .*{DOTS}",
        pax((b"GNU.sparse.name", b"../canary/new"), (b"GNU.sparse.size", b"1"), (b"GNU.sparse.map", b"0,1")),
        small(b"x", b"x"),
    ),
    "whiteout out": refused(f"entry '../canary/.wh.file': .*{DOTS}", member(b"../canary/.wh.file")),
    "opaque mark out": refused(f"entry '../canary/.wh..wh..opq': .*{DOTS}", member(b"../canary/.wh..wh..opq")),
    "no name": refused("entry '': its name is empty", patched(BLOCK, 0, b"\0" * 3)),
    "terminal escapes in a name": refused(r"'\\x1b\[2J\\n/../x': .*" + DOTS, member(b"\x1b[2J\n/../x", b"x")),
    "hard link out": refused(f"entry 'x': hard link to '../canary/file': .*{DOTS}", hardlink(b"x", b"../canary/file")),
    "long hard link out": refused(
        f"entry 'x': hard link to '../canary/.*{DOTS}",
        long_name(b"../canary/" + b"n" * 150, b"K"),
        hardlink(b"x", b"y"),
    ),
    "pax hard link out": refused(
        f"entry 'x': hard link to '../canary/file': .*{DOTS}",
        pax((b"linkpath", b"../canary/file")),
        header(Entry(b"x", "hardlink", target=b"y")),
    ),
    "hard link to the root": refused("entry 'x': hard link to '/': the root cannot", hardlink(b"x", b"/")),
    "hard link to a directory": refused(
        "entry 'x': hard link to 'd': that is a directory", directory(b"d"), hardlink(b"x", b"d")
    ),
    "hard link to nothing": refused("entry 'x': hard link to 'nothing': the layer has no", hardlink(b"x", b"nothing")),
    "hard links in a ring": refused(
        "entry 'x': hard link to 'y': the layer", hardlink(b"x", b"y"), hardlink(b"y", b"x")
    ),
    "hard link to a whiteout": refused(
        "entry 'y': hard link to '.wh.x': .*mark", member(b".wh.x"), hardlink(b"y", b".wh.x")
    ),
    "hard link without a target": refused("entry 'x': hard link to '': its name is empty", hardlink(b"x", b"")),
    "hard link in place of the top": refused("entry '/': the top of a layer", member(b"f"), hardlink(b"/", b"f")),
    "hard link below a file": refused(f"entry 'f/x': {NO_DIRECTORY}", member(b"f"), hardlink(b"f/x", b"f")),
    "hard link through a link that leads out": refused(
        "entry 'y': hard link to 'x/file': the layer has no such file",
        symlink(b"x", b"../canary"),
        hardlink(b"y", b"x/file"),
    ),
    "late hard link and entries below it": refused(
        "entry 'x': hard link to 'f', and the archive has entries below it",
        hardlink(b"x", b"f"),
        member(b"x/y", b"1"),
        member(b"f", b"1"),
    ),
    "write through a loop": refused(
        "entry 'x/f': .*loop of symbolic links", symlink(b"x", b"y"), symlink(b"y", b"x"), member(b"x/f", b"x")
    ),
    "write through a dangling link": refused(
        "entry 'x/f': .*whose target the layer does not have", symlink(b"x", b"nowhere"), member(b"x/f", b"x")
    ),
    "below a link to the canary": refused(
        "entry 'x/f': .*whose target the layer does not have", symlink(b"x", b"../canary"), member(b"x/f", b"x")
    ),
    "below a link to /proc": refused(
        "entry 'x/f': .*whose target the layer does not have", symlink(b"x", b"/proc/self/root"), member(b"x/f", b"x")
    ),
    "below a file": refused(f"entry 'f/g': {NO_DIRECTORY}", member(b"f", b"1"), member(b"f/g", b"x")),
    "below a device": refused(
        f"entry 'f/g': {NO_DIRECTORY}", member(b"f", kind="char", device=(1, 3)), member(b"f/g", b"x")
    ),
    "below a fifo": refused(f"entry 'f/g': {NO_DIRECTORY}", member(b"f", kind="fifo"), member(b"f/g", b"x")),
    "below a link to a file": refused(
        f"entry 'l/g': {NO_DIRECTORY}", member(b"f", b"1"), symlink(b"l", b"f"), member(b"l/g", b"x")
    ),
    "empty whiteout": refused("entry '.wh.': a whiteout has to name", member(b".wh.")),
    "whiteout of dot": refused("entry '.wh..': a whiteout has to name", member(b".wh..")),
    "whiteout of dots": refused("entry 'd/.wh...': a whiteout has to name", member(b"d/.wh...")),
    "empty whiteout with a slash": refused("entry '.wh./': a whiteout has to name", member(b".wh./")),
    "below a whiteout name": refused("entry '.wh.x/f': a whiteout is no directory", member(b".wh.x/f", b"x")),
    "below a whiteout of dots": refused("entry '.wh.../x': a whiteout is no directory", member(b".wh.../x", b"x")),
    "whiteout below a whiteout": refused("entry '.wh.x/.wh.y': a whiteout is no", member(b".wh.x/.wh.y")),
    "opaque on a link": refused(
        f"entry 'x/.wh..wh..opq': {NO_DIRECTORY}", directory(b"d"), symlink(b"x", b"d"), member(b"x/.wh..wh..opq")
    ),
    "opaque on a link out": refused(
        f"entry 'x/.wh..wh..opq': {NO_DIRECTORY}", symlink(b"x", b"../canary"), member(b"x/.wh..wh..opq")
    ),
    "opaque on a file": refused(
        f"entry 'x/.wh..wh..opq': {NO_DIRECTORY}", member(b"x", b"1"), member(b"x/.wh..wh..opq")
    ),
    "overlay's attribute": refused(
        "entry 'x': the attribute trusted.overlay.redirect is overlayfs's own",
        member(b"x", xattrs={"trusted.overlay.redirect": b"/etc"}),
    ),
    "overlay's user attribute": refused(
        "entry 'x': the attribute user.overlay.opaque is", directory(b"x", xattrs={"user.overlay.opaque": b"y"})
    ),
    "overlay's attribute as of libarchive": refused(
        "entry 'bad': the attribute trusted.overlay.opaque",
        pax((b"LIBARCHIVE.xattr.trusted%2Eoverlay.opaque", b"eQ")),
        BLOCK,
    ),
    "user attribute on a link": refused(
        "entry 'x': the attribute user.a cannot be set",
        member(b"x", kind="symlink", target=b"y", xattrs={"user.a": b"y"}),
    ),
    "attribute too large": refused(
        "entry 'x': the attribute 'user.a' has 65537", directory(b"x", xattrs={"user.a": b"x" * 65537})
    ),
    "attribute's name too long": refused("a name of 257 bytes", member(b"x", xattrs={"user." + "\u00e4" * 126: b"x"})),
    "access list of a name": refused(
        "entry 'bad': its access list names user 'alice'",
        pax((b"SCHILY.acl.access", b"user::rwx,user:alice:rwx,group::r,mask::r,other::r")),
        BLOCK,
    ),
    "file in place of the top": refused("entry '.': the top of a layer", member(b".", b"x")),
    "link in place of the top": refused("entry '.': the top of a layer", symlink(b".", b"/")),
    "device in place of the top": refused("entry '/': the top of a layer", member(b"/", kind="char", device=(1, 3))),
    "empty link": refused("entry 'x': a symbolic link to nothing", symlink(b"x", b"")),
    "link too long": refused("entry 'x': a symbolic link to .*4095", symlink(b"x", b"t" * 5000)),
    "name too long": refused("its name is too long", member(b"n" * 256)),
    "path too long": refused("its name is too long", member(b"n/" * 2048 + b"f")),
}

CONFINED = {
    "write through a link upward": Case(
        symlink(b"x", b"..") + member(b"x/canary/file/new", b"1") + END,
        tree={"canary": "dir", "canary/file": "dir", "canary/file/new": "1", "x": "link"},
    ),
    "write through an absolute link": Case(
        symlink(b"x", b"/") + member(b"x/canary/new", b"1") + END,
        tree={"canary": "dir", "canary/new": "1", "x": "link"},
    ),
    "write through dots in a link": Case(
        symlink(b"x", b"../" * 30) + member(b"x/canary/new", b"1") + END,
        tree={"canary": "dir", "canary/new": "1", "x": "link"},
    ),
    "write through two links": Case(
        symlink(b"a", b"/") + symlink(b"b", b"a/..") + member(b"b/canary/new", b"1") + END,
        tree={"a": "link", "b": "link", "canary": "dir", "canary/new": "1"},
    ),
    "hard link through a link": Case(
        symlink(b"x", b"/") + member(b"canary/file", b"1") + hardlink(b"y", b"x/canary/file") + END,
        tree={"canary": "dir", "canary/file": "1", "x": "link", "y": "1"},
    ),
    "whiteout through a link": Case(
        symlink(b"x", b"/") + member(b"x/canary/.wh.file") + END,
        tree={"canary": "dir", "canary/file": "whiteout", "x": "link"},
    ),
    "opaque through a link": Case(
        symlink(b"x", b"../..") + member(b"x/canary/.wh..wh..opq") + END,
        tree={"canary": "opaque", "x": "link"},
    ),
    "file over a link out": Case(symlink(b"x", b"../canary/file") + member(b"x", b"1") + END, tree={"x": "1"}),
    "directory over a link out": Case(
        symlink(b"x", b"../canary") + directory(b"x", 0o700) + member(b"x/f", b"1") + END,
        tree={"x": "dir", "x/f": "1"},
    ),
    "link out over a directory": Case(
        directory(b"x/y", 0o777, uid=1) + directory(b"x", 0o777, uid=1) + symlink(b"x", b"../canary") + END,
        tree={"x": "link"},
    ),
    "hard link to a link out": Case(
        symlink(b"x", b"../canary/file") + hardlink(b"y", b"x") + member(b"y", b"1") + END,
        tree={"x": "link", "y": "1"},
    ),
    "owner and mode through a hard link to a link out": Case(
        symlink(b"x", b"../canary/file") + member(b"y", kind="hardlink", target=b"x", mode=0o777, uid=1) + END,
        tree={"x": "link", "y": "link"},
    ),
    "late hard link to a link out": Case(
        hardlink(b"y", b"x") + symlink(b"x", b"../canary/file") + END, tree={"x": "link", "y": "link"}
    ),
    "owner of a link out": Case(
        member(b"x", kind="symlink", target=b"../canary/file", mode=0o777, uid=1, gid=1, mtime_ns=5) + END,
        tree={"x": "link"},
    ),
    "removal of a tree with links out": Case(
        symlink(b"t/x", b"../../canary") + directory(b"t/d") + member(b"t", b"1") + END, tree={"t": "1"}
    ),
    "whiteout of a link out": Case(symlink(b"x", b"../canary") + member(b".wh.x") + END, tree={"x": "link"}),
    "whiteout that is a directory": Case(directory(b".wh.x") + END, tree={"x": "whiteout"}),
    "whiteout that is a link out": Case(symlink(b".wh.x", b"../canary") + END, tree={"x": "whiteout"}),
    "whiteout with content": Case(member(b".wh.x", b"content") + END, tree={"x": "whiteout"}),
    "opaque mark at the top": Case(member(b".wh..wh..opq") + member(b"f", b"1") + END, tree={"f": "1"}),
    "leftovers of aufs": Case(
        directory(b".wh..wh.plnk") + member(b".wh..wh.plnk/1.2") + symlink(b".wh..wh.orph", b"/") + END
    ),
    "absolute name": Case(member(b"/etc/canary", b"1") + END, tree={"etc": "dir", "etc/canary": "1"}),
    "twins but for case": Case(
        member(b"File", b"1")
        + member(b"file", b"2")
        + directory(b"D")
        + symlink(b"d", b"../canary")
        + member(b"D/f", b"3")
        + END,
        tree={"D": "dir", "D/f": "3", "File": "1", "d": "link", "file": "2"},
    ),
    "twins but for Unicode's form": Case(
        member("\u00e9".encode(), b"1") + member("e\u0301".encode(), b"2") + END, tree={"\u00e9": "1", "e\u0301": "2"}
    ),
    "twins but for an invisible character": Case(
        member(b"x", b"1") + member("x\u200b".encode(), b"2") + END, tree={"x": "1", "x\u200b": "2"}
    ),
    "name that is no UTF-8": Case(member(b"\xff\xfe", b"1") + END, tree={"\udcff\udcfe": "1"}),
    "devices": Case(
        member(b"null", kind="char", device=(1, 3), mode=0o666) + member(b"disk", kind="block", device=(8, 0)) + END,
        tree={"disk": "device", "null": "device"},
    ),
    "file over a device": Case(
        member(b"x", kind="block", device=(7, 0), mode=0o666) + member(b"x", b"1") + END, tree={"x": "1"}
    ),
    "file over a fifo": Case(member(b"x", kind="fifo") + member(b"x", b"1") + END, tree={"x": "1"}),
    "hard link to a device, then a file": Case(
        member(b"x", kind="char", device=(1, 8)) + hardlink(b"y", b"x") + member(b"y", b"1") + END,
        tree={"x": "device", "y": "1"},
    ),
    "device that overlayfs takes for a whiteout": Case(
        member(b"x", kind="char", device=(0, 0)) + END, tree={"x": "whiteout"}
    ),
    "file with the sticky, setuid and setgid bits": Case(member(b"x", b"1", mode=0o7777) + END, tree={"x": "1"}),
    "directory with a size": Case(
        patched(header(Entry(b"d", "directory")), 124, b"77777777777\0") + END, tree={"d": "dir"}
    ),
    "link with a size": Case(
        patched(header(Entry(b"x", "symlink", target=b"../canary")), 124, b"77777777777\0") + END, tree={"x": "link"}
    ),
}


def mapped(size: bytes, extents: bytes) -> bytes:
    """An archive with a sparse file in PAX format 0.1 that stores nine bytes."""
    records = ((b"GNU.sparse.size", size), (b"GNU.sparse.map", extents))
    return pax(*records) + small(b"s", b"123456789") + END


DAMAGED = {
    "empty": Case(b"", f"{CUT}: it ends at byte 0"),
    "one byte": Case(b"x", f"{CUT}: it ends in the middle, at byte 1"),
    "noise": Case(bytes(range(256)) * 8, "no tar archive, or it is damaged: no valid header at byte 0"),
    "cut in a header": Case(small() + BLOCK[:200], f"{CUT}: .*at byte 712, in entry 'name' or right behind it"),
    "cut in a file": Case(header(Entry(b"f", "file", size=5000)) + b"x" * 600, f"{CUT}: .*at byte 1112, in entry 'f'"),
    "cut behind a file": Case(small(b"f", b"x"), f"{CUT}: it ends at byte 1024, in entry 'f' .*end-of-archive"),
    "cut in an extended header": Case(pax((b"path", b"p" * 600))[:700], f"{CUT}: .*at byte 700"),
    "wrong checksum": Case(
        small() + BLOCK[:148] + b"0000000\0" + BLOCK[156:] + END, "no valid header at byte 512, in entry 'name'"
    ),
    "checksum that is none": Case(BLOCK[:148] + b"checksum" + BLOCK[156:] + END, "no valid header at byte 0"),
    "flipped bit in a name": Case(b"c" + BLOCK[1:] + END, "no valid header at byte 0"),
    "lone zero block": Case(small() + bytes(512) + small() + END, "after the end-of-archive marker, from byte 1024 on"),
    "garbage after the end": Case(small() + END + b"x" * 512, "after the end-of-archive marker"),
    "garbage late after the end": Case(small() + END + bytes(4096) + b"x", "after the end-of-archive marker"),
    "a second archive after the end": Case(
        small() + END + member(b"../canary/new", b"x") + END, "after the end-of-arch"
    ),
    "negative size": Case(patched(BLOCK, 124, b"\xff" * 12) + END, "entry 'bad' at byte 0: a size of -1 bytes"),
    "huge size": Case(
        patched(BLOCK, 124, b"\x80\0\0\0\xff" + bytes(7)) + END, "entry 'bad' at byte 0: a size of 18374"
    ),
    "size beyond the end": Case(patched(BLOCK, 124, b"77777777777\0") + END, f"{CUT}: .*in entry 'bad'"),
    "pax size beyond the end": Case(pax((b"size", b"9999999999")) + BLOCK + END, f"{CUT}: .*in entry 'bad'"),
    "pax size of too many digits": Case(pax((b"size", b"9" * 30)) + BLOCK + END, "entry 'bad' .*not a decimal number"),
    "octal that is none": Case(
        patched(BLOCK, 108, b"00008\0\0\0") + END, "entry 'bad' at byte 0: b'00008' is not an octal"
    ),
    "owner that means unchanged": Case(
        patched(BLOCK, 108, b"\x80\0\0\0\xff\xff\xff\xff") + END, "'bad' .*owner 4294967295:0"
    ),
    "negative owner": Case(patched(BLOCK, 108, b"\xff" * 8) + END, "entry 'bad' at byte 0: owner -1:0 is out of range"),
    "rest of another volume": Case(
        patched(BLOCK, 156, b"M") + END, "entry 'bad' at byte 0: it is the rest of a file that begins in another volume"
    ),
    "device out of range": Case(
        patched(header(Entry(b"d", "char")), 329, b"7777777\0") + END, "entry 'd' .*device number"
    ),
    "negative device": Case(
        patched(header(Entry(b"d", "block")), 337, b"\xff" * 8) + END, "entry 'd' .*device number 0:-1"
    ),
    "pax without an entry": Case(pax((b"path", b"x")) + END, "ends where an entry was announced"),
    "pax record too long": Case(
        patched(header(Entry(b"p", "file", size=9)), 156, b"x") + b"99 path=x" + bytes(503) + BLOCK + END,
        "entry 'p' at byte 0: a record has a wrong length",
    ),
    "pax number that is none": Case(pax((b"uid", b"-1")) + BLOCK + END, "entry 'bad' .*b'-1' is not a decimal number"),
    "pax time that is none": Case(pax((b"mtime", b"noon")) + BLOCK + END, "entry 'bad' .*b'noon' is not a time"),
    "pax time out of range": Case(pax((b"mtime", b"9" * 19)) + BLOCK + END, "entry 'bad' .*not a time"),
    "pax header of a gigabyte": Case(
        patched(patched(BLOCK, 124, b"10000000000\0"), 156, b"x") + END, "an extended header of 1073741824 bytes"
    ),
    "negative pax header": Case(
        patched(patched(BLOCK, 124, b"\xff" * 12), 156, b"x") + END, "an extended header of -1"
    ),
    "long name of a gigabyte": Case(
        patched(patched(BLOCK, 124, b"10000000000\0"), 156, b"L") + END, "an extended header of 1073741824 bytes"
    ),
    "pax headers without end": Case(pax((b"comment", b"x" * (1 << 20))) * 17 + BLOCK + END, "not believable"),
    "attributes for all entries": Case(
        pax((b"SCHILY.xattr.user.a", b"x"), flag=b"g") + BLOCK + END, "attributes for all entries is refused"
    ),
    "attributes of libarchive for all entries": Case(
        pax((b"LIBARCHIVE.xattr.user.a", b"eA=="), flag=b"g") + BLOCK + END, "attributes for all entries is refused"
    ),
    "zero byte in a name": Case(pax((b"path", b"a\0b")) + BLOCK + END, "entry 'bad' .*a name holds a zero byte"),
    "zero byte in a target": Case(
        pax((b"linkpath", b"a\0b")) + header(Entry(b"x", "symlink", target=b"y")) + END,
        "entry 'x' .*a name holds a zero",
    ),
    "attribute without a name": Case(pax((b"SCHILY.xattr.", b"x")) + BLOCK + END, "entry 'bad' .*no valid name"),
    "attribute that is not base64": Case(
        pax((b"LIBARCHIVE.xattr.user.a", b"!")) + BLOCK + END, "entry 'bad' .*not base64"
    ),
    "sparse beyond its size": Case(mapped(b"5", b"0,9"), "entry 's' .*goes beyond its size"),
    "sparse overlapping": Case(mapped(b"9", b"0,5,4,4"), "entry 's' .*overlap or are out of order"),
    "sparse negative": Case(mapped(b"9", b"-5,9"), "entry 's' .*"),
    "sparse of other length": Case(mapped(b"9", b"0,5"), "entry 's' .*contradict each other"),
    "sparse directory": Case(
        pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,9")) + small(b"d/", b"123456789") + END,
        "entry 'd/' .*the map of a sparse file but is not one",
    ),
    "sparse directory of old GNU": Case(patched(small(b"d/"), 156, b"S") + END, "entry 'd/' .*but is not one"),
    "sparse link": Case(
        pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"")) + header(Entry(b"s", "symlink", target=b"t")) + END,
        "entry 's' .*but is not one",
    ),
    "sparse odd": Case(mapped(b"9", b"0,9,7"), "entry 's' .*odd number"),
    "sparse of unknown version": Case(
        pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")) + small() + END, "entry 'name' .*sparse format"
    ),
    "sparse 1.0 without its map": Case(SPARSE_1_0 + small(b"s", b"no number") + END, "entry 's' .*map does not end"),
    "sparse 1.0 of too many pieces": Case(
        SPARSE_1_0 + small(b"s", b"99999999\n" + bytes(503)) + END, "entry 's' .*more than 1048576 pieces"
    ),
}

BOMBS = {
    "an exbibyte in a sparse file": Case(sparse(b"s", 1 << 60) + END, "entry 's': .*'limits.bytes'"),
    "many sparse files": Case(
        b"".join(sparse(b"%d" % n, 1 << 38) for n in range(5)) + END, "entry '3': .*'limits.bytes'"
    ),
    "a file of more than is allowed": Case(
        member(b"f", bytes(3 << 20)) + END, "entry 'f': .*'limits.bytes'", limits={"bytes": "1m"}
    ),
    "zeros without end": Case(member(b"f", b"1") + END + bytes(3 << 20), "'limits.bytes'", limits={"bytes": "1m"}),
    "entries": Case(
        b"".join(member(b"%d" % n) for n in range(20)) + END, "'10': .*'limits.entries'", limits={"entries": 10}
    ),
    "whiteouts": Case(
        b"".join(member(b".wh.%d" % n) for n in range(20)) + END, "'.wh.10': .*'limits.entries'", limits={"entries": 10}
    ),
    "directories in names": Case(
        member(b"d/" * 200 + b"f") + END, "entry 'd/d/.*'limits.entries'", limits={"entries": 100}
    ),
    "depth": Case(member(b"d/" * 300 + b"f") + END, "entry 'd/d/.*'limits.depth'"),
    "links to links": Case(
        b"".join(symlink(b"%d" % n, b"%d/%d" % (n + 1, n + 1)) for n in range(50)) + member(b"0/f") + END,
        "entry '0/f': ",
    ),
}
