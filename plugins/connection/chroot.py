# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""See DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
name: chroot
short_description: Run tasks inside a mounted stack, on any host
version_added: 0.1.0
author:
  - strata.overlay contributors (@strata-overlay)
description:
  - Runs every command of a play inside a directory tree of a host, such as a stack that is mounted there, by
    C(chroot(8)). The host is reached as it always is, over SSH or any other connection. The playbook
    C(strata.overlay.build) builds layers with it.
  - Each command has namespaces of its own (C(unshare(1))) for mounts, processes, the host's name and IPC. They end with
    the command, and with them whatever it has left running or mounted, also when it is killed.
  - As with Docker's C(RUN), C(/proc/sys), C(/proc/sysrq-trigger) and C(/sys) are read-only, files that reveal the
    host's hardware and keys are masked, C(/dev) holds C(null), C(zero), C(full), C(random), C(urandom), C(tty),
    terminals and a C(/dev/shm) of its own, and C(/run) is I(run_directory). Capabilities that reach the kernel of the
    whole host, such as setting its clock, loading modules and changing its firewall, are dropped.
  - The network is the host's. This keeps a build from changing its host by accident. It is no sandbox for hostile code.
  - Tasks are root in the tree. The tree needs what Ansible needs of any host, for most modules Python.
options:
  path:
    description: The tree's top directory on the host.
    type: path
    required: true
    vars:
      - name: ansible_strata_chroot_path
  run_directory:
    description:
      - A directory of the host that the tree sees as its C(/run), so that what is put there, Ansible's own temporary
        files before all, is not in the tree. It must exist.
    type: path
    required: true
    vars:
      - name: ansible_strata_chroot_run
  through:
    description:
      - How the host is reached, as the variables that an inventory has for it, such as C(ansible_host). Without
        C(ansible_connection) it is SSH.
    type: dict
    default: {ansible_connection: local}
    vars:
      - name: ansible_strata_chroot_through
  sudo:
    description: The user who logs in is not root and becomes root by C(sudo -n).
    type: bool
    default: false
    vars:
      - name: ansible_strata_chroot_sudo
  remote_user:
    description: Who runs tasks in the tree. Always root; become another one by C(become_method=su).
    type: str
    default: root
    vars:
      - name: ansible_strata_chroot_user
requirements:
  - C(unshare), C(setpriv) and C(mount) of util-linux on the host
notes:
  - A task with C(delegate_to) goes where it is delegated to, as ever, and not into the tree.
seealso:
  - module: strata.overlay.commit
"""

EXAMPLES = r"""
- name: Set something up in the stack "sandbox", which is mounted on this machine
  hosts: localhost
  gather_facts: false
  tasks:
    - name: A host that is the inside of the stack
      ansible.builtin.add_host:
        name: inside
        ansible_connection: strata.overlay.chroot
        ansible_strata_chroot_path: /srv/sandbox
        ansible_strata_chroot_run: /run/sandbox
        ansible_python_interpreter: /usr/bin/python3
        ansible_remote_tmp: /run/ansible

    - name: A file in it
      ansible.builtin.copy:
        content: hello
        dest: /etc/greeting
        mode: "0644"
      delegate_to: inside
"""

import copy
import os
import shlex
from typing import Any

from ansible.errors import AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from ansible_collections.strata.overlay.plugins.module_utils._common.readable import one_line

ENTER = r"""
set -eu
tree=$1 run=$2 command=$3
fail() {
    echo "strata.overlay.chroot: $1" >&2
    exit 125
}
command -v setpriv >/dev/null || fail "this host has no setpriv, which belongs to util-linux; install it"
for place in proc dev sys run; do
    [ -d "$tree/$place" ] && ! [ -L "$tree/$place" ] ||
        fail "$tree/$place is no directory, so nothing can run in there"
done

mount -t proc -o nosuid,nodev,noexec proc "$tree/proc"
for place in bus fs irq sys sysrq-trigger; do
    [ ! -e "$tree/proc/$place" ] ||
        mount -o bind,ro,nosuid,nodev,noexec "$tree/proc/$place" "$tree/proc/$place"
done

if ! mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$tree/sys" 2>/dev/null; then
    # In a user namespace without a network of its own. What lies below comes with it, so all of it is made read-only.
    mount --rbind /sys "$tree/sys"
    while read -r id parent device root place rest; do
        place=$(printf '%bx' "$place") # octal escapes; the x keeps a newline at its end
        place=${place%x}
        case $place in "$tree/sys" | "$tree/sys/"*) mount -o remount,bind,ro,nosuid,nodev,noexec "$place" ;; esac
    done </proc/self/mountinfo
fi

mount -t tmpfs -o nosuid,noexec,mode=755,size=64k tmpfs "$tree/dev"
(
    cd "$tree/dev"
    umask 022
    for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
        name=${device%% *}
        # In a user namespace nobody makes devices. The host's, read-only, takes writes and keeps its mode and owner.
        mknod -m 666 "$name" c ${device#* } 2>/dev/null || {
            : >"$name"
            mount -o bind,ro "/dev/$name" "$name"
        }
    done
    mkdir pts shm mqueue
    mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620 devpts pts
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs shm
    mount -t mqueue -o nosuid,nodev,noexec mqueue mqueue 2>/dev/null || rmdir mqueue # not every kernel has them
    ln -s pts/ptmx ptmx
    ln -s /proc/self/fd fd
    ln -s fd/0 stdin
    ln -s fd/1 stdout
    ln -s fd/2 stderr
)
for place in proc/acpi proc/asound proc/interrupts proc/kcore proc/keys proc/latency_stats proc/sched_debug proc/scsi \
    proc/timer_list proc/timer_stats sys/devices/virtual/powercap sys/firmware; do
    if [ -d "$tree/$place" ]; then
        mount -t tmpfs -o ro,nosuid,nodev,noexec,size=4k tmpfs "$tree/$place"
    elif [ -e "$tree/$place" ]; then
        mount -o bind,ro "$tree/dev/null" "$tree/$place"
    fi
done

mount --bind "$run" "$tree/run"
for name in http_proxy https_proxy ftp_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    eval "value=\${$name-}"
    [ -z "$value" ] || set -- "$@" "$name=$value"
done
shift 3
exec setpriv --inh-caps=-all --bounding-set="-all,+audit_write,+chown,+dac_override,+dac_read_search,+fowner,+fsetid,\
+ipc_lock,+ipc_owner,+kill,+lease,+linux_immutable,+mknod,+net_bind_service,+net_raw,+setfcap,+setgid,+setpcap,+setuid,\
+sys_admin,+sys_chroot,+sys_nice,+sys_ptrace,+sys_resource" \
    env -i "$@" HOME=/root USER=root LOGNAME=root LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$tree" /bin/sh -c "$command"
"""
"""Run in namespaces of its own. Nothing of it is seen outside them, and nothing outlives them.

What is read-only, masked and in ``/dev`` is what Docker has for ``RUN`` (moby ``oci/defaults.go``). The capabilities
kept are Docker's, and those that act on the tree and on the build's own namespaces, so that a build may mount; those
that reach the kernel of the whole host (its clock, modules, firewall, log) are gone.
"""

NAMESPACES = "unshare --mount --propagation private --uts --ipc --pid --fork --kill-child"


def entering(path: str, run_directory: str, command: str, sudo: bool) -> str:
    """The shell command for the host that runs a shell command in a tree of it."""
    words = [*NAMESPACES.split(), "/bin/sh", "-c", ENTER, "strata", path, run_directory, command]
    return shlex.join([*(["sudo", "-n"] if sudo else []), *words])


class Connection(ConnectionBase):
    """The plugin."""

    transport = "strata.overlay.chroot"
    has_pipelining = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inner: Any = None

    def _connect(self) -> Connection:
        if self._inner is None:
            through = dict(self._option("through"))
            name = str(through.get("ansible_connection") or "ssh")
            context = copy.copy(self._play_context)
            context.remote_addr = through.get("ansible_host") or through.get("inventory_hostname")
            self._inner = connection_loader.get(name, context)
            if self._inner is None:
                raise AnsibleError(f"strata.overlay.chroot: option 'through': no connection plugin is called {name}")
            self._inner.set_options(var_options=through)
        self._connected = True
        return self

    def _option(self, name: str) -> Any:
        plugin: Any = self  # Ansible's own classes have no types
        return plugin.get_option(name)

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a shell command in the tree: its exit code, output and errors."""
        self._connect()
        command = entering(self._option("path"), self._option("run_directory"), cmd, self._option("sudo"))
        answer: tuple[int, bytes, bytes] = self._inner.exec_command(command, in_data=in_data, sudoable=False)
        return answer

    def put_file(self, in_path: str, out_path: str) -> None:
        """Write a file in the tree."""
        if not os.path.exists(in_path):
            raise AnsibleFileNotFound(f"there is no file {in_path} on the controller")
        with open(in_path, "rb") as stream:
            self._checked(f"cat > {shlex.quote(out_path)}", stream.read(), f"write {out_path}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Read a file in the tree."""
        content = self._checked(f"cat < {shlex.quote(in_path)}", None, f"read {in_path}")
        with open(out_path, "wb") as stream:
            stream.write(content)

    def _checked(self, command: str, data: bytes | None, what: str) -> bytes:
        code, output, errors = self.exec_command(command, in_data=data)
        if code != 0:
            raise AnsibleError(one_line(f"cannot {what} in {self._option('path')}: {to_text(errors).strip()}"))
        return output

    def close(self) -> None:
        """Close the connection to the host."""
        if self._inner is not None:
            self._inner.close()
        self._inner = None
        self._connected = False
