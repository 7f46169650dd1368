# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.

"""Recognises files that are not tar archives by their first bytes, and advises what to do. Pure.

Source: file(1), its database "magic".
"""

from __future__ import annotations

_UNPACK = "unpack it into a directory and give that as 'dir'"
_COMPRESS = "decompress it, or compress it with gzip, bzip2, xz or zstd"

_KINDS = (
    # Only where a layer's source is no such archive: in an image, or compressed once more.
    (b"PK\x03\x04", "a zip archive or a Python wheel", "give it as it is as 'src' or 'url' of a layer"),
    (b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (b"!<arch>\ndebian-binary", "a Debian package", "unpack it by 'dpkg-deb --fsys-tarfile' and give that tar"),
    (b"!<arch>\n", "an ar archive", _UNPACK),
    (b"\xed\xab\xee\xdb", "an RPM package", "unpack it by 'rpm2archive' and give that tar"),
    (b"070701", "a cpio archive", "repack it as a tar"),
    (b"070707", "a cpio archive", "repack it as a tar"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"QFI\xfb", "a disk image of QEMU (qcow2)", "give a tar of the tree in it, as 'virt-tar-out' makes it"),
    (b"hsqs", "a squashfs image", "unpack it by 'unsquashfs' and give the directory as 'dir'"),
    (b"\x7fELF", "a program (ELF)", "put it into a directory and give that as 'dir', or give it in 'files'"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself", "run 'git lfs pull'"),
    (b"\x1f\x9d", "compressed by compress (.Z)", _COMPRESS),
    (b"\x04\x22\x4d\x18", "compressed by lz4", _COMPRESS),
    (b"\x02\x21\x4c\x18", "compressed by lz4 in its older form", _COMPRESS),
    (b"LZIP", "compressed by lzip", _COMPRESS),
    (b"\x5d\0", "compressed by lzma, the older form of xz", _COMPRESS),
    (b"\x89LZO", "compressed by lzop", _COMPRESS),
    (b"LRZI", "compressed by lrzip", _COMPRESS),
    (b"GRZipII", "compressed by grzip", _COMPRESS),
    (b"\x28\xb5\x2f\xfd", "compressed twice (zstd)", "decompress it once"),
    (b"\x1f\x8b", "compressed twice (gzip)", "decompress it once"),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head")
_LOGIN = "a server has answered with a page, for a login or an error; look at what lies at its address"


def not_a_tar(head: bytes) -> str:
    """A sentence about what is there, without a full stop; "" where these bytes do not say it.

    :param head: the first bytes, of what was compressed as a whole those beneath.
    """
    for magic, what, advice in _KINDS:
        if head.startswith(magic):
            return f"it is {what}; {advice}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_PAGES):
        return f"it is a page (HTML or XML); {_LOGIN}"
    if text.startswith((b"{", b"[")):
        return "it is JSON; give the archive itself, and an image in 'images'"
    return ""
