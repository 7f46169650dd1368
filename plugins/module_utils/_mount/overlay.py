# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection: not for use outside strata.overlay.
"""Mounts a stack by the kernel's overlayfs: lower by lower if the kernel can, else by one page of options.

For fuse-overlayfs see `_mount/fuse`.

Source: Linux Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from ansible_collections.strata.overlay.plugins.module_utils._common.errors import StrataError
from ansible_collections.strata.overlay.plugins.module_utils._definition.mount_options import PROPAGATION
from ansible_collections.strata.overlay.plugins.module_utils._linux import mount_flags, syscalls
from ansible_collections.strata.overlay.plugins.module_utils._linux.abilities import Abilities
from ansible_collections.strata.overlay.plugins.module_utils._linux.files import HANDLE_BY_LINK
from ansible_collections.strata.overlay.plugins.module_utils._linux.mountapi import FsContext, Tree, clone_mount
from ansible_collections.strata.overlay.plugins.module_utils._mount.request import MountRequest


def _features_off(userxattr: bool) -> Sequence[str]:
    """Features that make the kernel remember things which turn wrong when layers change offline (overlayfs.rst).

    With userxattr redirects are off already, and the kernel refuses to be told so: it reads "off" as "follow", which it
    does not allow there.
    """
    return ("index", "metacopy") if userxattr else ("index", "metacopy", "redirect_dir")


@contextlib.contextmanager
def _working_directory(path: str) -> Iterator[None]:
    before = os.open(".", HANDLE_BY_LINK)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def option_text(request: MountRequest, userxattr: bool) -> str:
    """The options of mount(2), every name relative to the store's home."""
    options = [f"{key}=off" for key in _features_off(userxattr)]
    if userxattr:
        options.append("userxattr")
    options.append("lowerdir=" + ":".join(request.relative(lower) for lower in request.lowers))
    if request.upper:
        options.append("upperdir=" + (request.short_upper or request.relative(request.upper)))
        options.append("workdir=" + request.relative(request.work))
    if request.style.context:
        options.append(f'context="{request.style.context}"')
    return ",".join(options)


def mount_at(request: MountRequest, target: str, abilities: Abilities) -> None:
    """Mount on top of what is at a path, which has no links on the way.

    OSError carries the kernel's own message, and the file name it was about where there is one.
    """
    if request.style.idmapped:
        with build(request, target, abilities) as tree:
            tree.attach(target)
    elif request.is_bind:
        _bind(request, target)
    elif request.served:
        from ansible_collections.strata.overlay.plugins.module_utils._mount.fuse import mount_fuse

        mount_fuse(request, target)
    elif abilities.lowerdir_append:
        with _overlay_tree(request, abilities.userxattr) as tree:
            tree.attach(target)
    else:
        _mount_by_page(request, target, abilities.userxattr)


def _mount_by_page(request: MountRequest, target: str, userxattr: bool) -> None:
    with _working_directory(request.home):
        syscalls.mount(request.style.source, target, "overlay", request.ms_flags(), option_text(request, userxattr))


def build(request: MountRequest, scratch: str, abilities: Abilities) -> Tree:
    """The same as a tree that hangs nowhere yet. The kernel must be one that can put a mount beneath another.

    :param scratch: an empty directory; a kernel that takes all options in one page (Linux 6.5 to 6.7) can only mount
        somewhere.
    """
    if request.is_bind:
        return _bind_tree(request)
    if request.served:
        # Imported only when needed: on hosts whose kernel has no overlay.
        from ansible_collections.strata.overlay.plugins.module_utils._mount.fuse import fuse_tree

        return fuse_tree(request)
    if request.style.idmapped:
        # Imported only when needed: few stacks are mapped.
        from ansible_collections.strata.overlay.plugins.module_utils._linux.idmap import with_mapped

        style = request.style
        directories = [os.path.realpath(os.path.join(request.home, lower)) for lower in request.lowers]
        return with_mapped(directories, style.idmap_uid, style.idmap_gid, lambda: _overlay(request, scratch, abilities))
    return _overlay(request, scratch, abilities)


def _overlay(request: MountRequest, scratch: str, abilities: Abilities) -> Tree:
    if abilities.lowerdir_append:
        return _overlay_tree(request, abilities.userxattr)
    _mount_by_page(request, scratch, abilities.userxattr)
    try:
        return clone_mount(scratch)
    finally:
        syscalls.umount(scratch, syscalls.MNT_DETACH)


def _bind_tree(request: MountRequest) -> Tree:
    """One directory, and private: or what is mounted in the stack would be mounted in the content too."""
    directory = os.path.join(request.home, request.bound)
    if request.style.idmapped:
        from ansible_collections.strata.overlay.plugins.module_utils._linux.idmap import mapped_clone, user_namespace

        with user_namespace(request.style.idmap_uid, request.style.idmap_gid) as namespace:
            tree = mapped_clone(directory, namespace)
    else:
        tree = clone_mount(directory)
    try:
        tree.set(0 if request.upper else mount_flags.ATTR_RDONLY, propagation=mount_flags.MS_PRIVATE)
        with contextlib.suppress(PermissionError):  # a user namespace may not take away what it was given
            tree.set(clear=request.style.not_inherited())
        with _reporting_times(request):
            tree.set(request.style.attributes(), clear=request.style.cleared())
    except (OSError, StrataError):
        os.close(tree.fd)
        raise
    return tree


@contextlib.contextmanager
def _reporting_times(request: MountRequest) -> Iterator[None]:
    """Which option it is that the kernel refuses.

    One directory is shown by a mount of the file system that it lies on, and its times of access are locked where that
    was mounted with other rights (mount_namespaces(7)).
    """
    try:
        yield
    except PermissionError as error:
        times = request.style.times
        if not times or not syscalls.in_user_namespace():
            raise
        raise StrataError(
            f"option 'mount_options': a user namespace cannot change when the file system below {request.home} notes "
            f"times of access. Leave out {' and '.join(times)}, or run as root (become: true)"
        ) from error


def _overlay_tree(request: MountRequest, userxattr: bool) -> Tree:
    with _working_directory(request.home), FsContext("overlay") as context:
        context.set("source", request.style.source)
        for key in _features_off(userxattr):
            context.set(key, "off")
        if userxattr:
            context.flag("userxattr")
        for lower in request.lowers:
            context.set("lowerdir+", lower)
        if request.upper:
            context.set("upperdir", request.upper)
            context.set("workdir", request.work)
        if request.style.context:
            context.set("context", request.style.context)
        return context.tree(request.attributes())


def _bind(request: MountRequest, target: str) -> None:
    """Show one directory as it is (overlayfs refuses a single lower), by mount(2)."""
    syscalls.mount(os.path.join(request.home, request.bound), target, None, mount_flags.MS_BIND)
    flags = mount_flags.MS_REMOUNT | mount_flags.MS_BIND | request.ms_flags()
    try:
        syscalls.mount("", target, None, mount_flags.MS_PRIVATE)
        try:
            syscalls.mount("", target, None, flags)
        except PermissionError:
            # A user namespace may not drop the flags of the mount it binds from: say again those that are set.
            inherited = (mount_flags.MS_NOSUID, mount_flags.MS_NODEV, mount_flags.MS_NOEXEC)
            flags |= sum(flag for flag in inherited if os.statvfs(target).f_flag & flag)
            with _reporting_times(request):
                syscalls.mount("", target, None, flags)
    except (OSError, StrataError):
        syscalls.umount(target, syscalls.MNT_DETACH)
        raise


def propagate(target: str, propagation: str) -> None:
    """Set how mounts in the stack are seen elsewhere; the mount at the path must be the only one of the stack's there.

    A mount on a shared one becomes shared itself, so this comes after the mount and after an old one has gone.
    """
    if propagation:
        syscalls.mount("", target, None, PROPAGATION[propagation])
