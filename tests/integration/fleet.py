# Copyright: (c) 2026, strata.overlay contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet on one machine: hosts with namespaces, /etc, store and sshd of their own, on a network that nobody else sees.

Each host is a process tree with its own mount, network, process and host-name namespace; ending its first process ends
it with all its mounts, as a power cut does, and it may be started again with what it had on disk. It is reached over
real SSH by a user without rights, who has sudo.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.strata.overlay.tests.integration.host import Ansible
from ansible_collections.strata.overlay.tests.integration.privileges import need_full_root

COUNT = 12
"""Hosts of the fleet that tests have."""

NETWORK = "10.77.0"
USER = "deploy"
PROGRAMS = {"/usr/sbin/sshd": "openssh-server", "/usr/bin/sudo": "sudo", "/sbin/ip": "iproute2"}

_PATIENCE = 60.0

# The first process of a host. $1 is its directory, $2 its address, $3 the directory of the keys.
_INIT = r"""
set -eu
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/etc-work" /etc
mount -t tmpfs tmpfs /run
mount --bind "$1/srv" /srv
mkdir -p /run/sshd
cp "$3/user.pub" /run/authorized_keys
grep -q '^deploy:' /etc/passwd || {
    echo 'deploy:x:2001:2001::/srv/home:/bin/sh' >>/etc/passwd
    echo 'deploy:x:2001:' >>/etc/group
    echo 'deploy:*:19000:0:99999:7:::' >>/etc/shadow
    mkdir -p /etc/sudoers.d
    echo 'deploy ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy
    chmod 0440 /etc/sudoers.d/deploy
    rm -f /etc/resolv.conf
}
hostname "$(basename "$1")"
echo "127.0.0.1 $(basename "$1") localhost" >/etc/hosts
ip link set lo up
while ! ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$2/24" dev eth0
ip link set eth0 up
python3 "$3/site.py" &
exec /usr/sbin/sshd -D -e -f /dev/null -o "ListenAddress=$2" -o "HostKey=$3/host" \
    -o AuthorizedKeysFile=/run/authorized_keys -o StrictModes=no -o PidFile=none -o UsePAM=no \
    -o "Subsystem=sftp internal-sftp" -o MaxStartups=100
"""

# Everything that runs have made on a host. What they mount lies below /srv, and the store too.
_CLEAN = r"""
set -eu
cut -d' ' -f5 /proc/self/mountinfo | grep '^/srv/' | sort -r | while read -r path; do
    printf '%b' "$path" | xargs -0 umount --lazy
done
find /srv -mindepth 1 -maxdepth 1 ! -name home -exec rm -rf --one-file-system {} +
rm -rf /srv/home/.ansible
! cut -d' ' -f5 /proc/self/mountinfo | grep '^/srv/'
"""

# What a host serves from its stack, and how it says whether it works: a release can be bad on one host only.
_SITE = r"""
import http.server
import socket

class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            release = open("/srv/web/release").read().strip()
        except OSError:
            release = ""
        bad = not release or release == "bad on " + socket.gethostname()
        self.send_response(503 if bad else 200)
        self.end_headers()
        self.wfile.write(release.encode())

    def log_message(self, *_arguments):
        pass

http.server.ThreadingHTTPServer(("", 8080), Site).serve_forever()
"""

# Asks every host for its site over and over, until its input ends; then it writes what each has said, in order.
_CLIENTS = r"""
import json, sys, threading, time, urllib.error, urllib.request

said, asked, over = {}, 0, threading.Event()

def ask(name, address):
    global asked
    while not over.wait(0.05):
        try:
            with urllib.request.urlopen("http://%s:8080/" % address, timeout=30) as answer:
                heard = "%d %s" % (answer.status, answer.read().decode())
        except OSError as error:
            heard = repr(error)
        asked += 1
        if said.setdefault(name, [])[-1:] != [heard]:
            said[name].append(heard)

threads = [threading.Thread(target=ask, args=pair) for pair in json.loads(sys.argv[1]).items()]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
print(json.dumps([said, asked]))
"""


@dataclass
class Clients:
    """What clients of the hosts have heard.

    :ivar said: each host's answers, one for as often as it said the same.
    :ivar asked: how often they have asked, all together.
    """

    said: dict[str, list[str]] = field(default_factory=dict)
    asked: int = 0


@dataclass
class FleetHost:
    """One host.

    :ivar init: process id of the first process in it, 0 while it is down.
    """

    name: str
    address: str
    top: Path
    init: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def link(self) -> str:
        """Its cable's other end."""
        return f"v{self.address.rpartition('.')[2]}"

    def file(self, path: str) -> Path:
        """A path of the host, seen from here as the host sees it."""
        return Path(f"/proc/{self.init}/root{path}")

    @property
    def enter(self) -> tuple[str, ...]:
        """The command that runs another one there, as root."""
        return ("nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--uts", "--")

    def run(self, *command: str) -> str:
        """What root says there."""
        done = subprocess.run([*self.enter, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@dataclass
class Fleet:
    """All hosts, and the controller's place on their network.

    :ivar router: process id of the process that holds the network.
    """

    top: Path
    ansible: Ansible
    router: int
    hosts: list[FleetHost] = field(default_factory=list)

    @property
    def enter(self) -> tuple[str, ...]:
        """The command that runs another one at the controller's place."""
        return ("nsenter", f"--net=/proc/{self.router}/ns/net", "--")

    def start(self, host: FleetHost) -> None:
        """Boot a host and wait for its sshd."""
        for name in ("etc", "etc-work", "srv/home"):
            (host.top / name).mkdir(parents=True, exist_ok=True)
        os.chown(host.top / "srv/home", 2001, 2001)
        flags = [
            "--mount",
            "--net",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
        ]
        with open(host.top / "log", "ab") as log:
            host.process = subprocess.Popen(
                ["unshare", *flags, "sh", "-c", _INIT, "init", str(host.top), host.address, str(self.top / "keys")],
                stdout=log,
                stderr=log,
            )
        host.init = _child_of(host.process)
        # The same hardware address after each boot: nobody on the network has to learn a new one.
        mac = f"02:00:00:00:00:{int(host.address.rpartition('.')[2]):02x}"
        peer = ["name", "eth0", "address", mac, "netns", str(host.init)]
        self._network("ip", "link", "add", host.link, "type", "veth", "peer", *peer)
        self._network("ip", "link", "set", host.link, "master", "bridge", "up")
        limit = time.monotonic() + _PATIENCE
        while b"Server listening" not in (host.top / "log").read_bytes().split(b"--boot--")[-1]:
            assert host.process.poll() is None, (host.top / "log").read_text()
            assert time.monotonic() < limit, (host.top / "log").read_text()
            time.sleep(0.1)

    def kill(self, host: FleetHost) -> None:
        """Cut its power: every process of it is gone, and its mounts with them."""
        if host.process is not None:
            host.process.send_signal(signal.SIGKILL)  # --kill-child: its first process goes too, and with that all
            host.process.wait()
            # The kernel takes it away too, with the namespace of its other end, now or in a moment.
            with contextlib.suppress(subprocess.CalledProcessError):
                self._network("ip", "link", "delete", host.link)
            with open(host.top / "log", "ab") as log:
                log.write(b"--boot--")
        host.init, host.process = 0, None

    def clean(self) -> None:
        """Hosts as they have booted, but for what lies in /etc."""
        cleaning = [subprocess.Popen([*host.enter, "sh", "-c", _CLEAN]) for host in self.hosts]
        assert [one.wait() for one in cleaning] == [0] * len(cleaning)

    def play(self, playbook: str, *flags: str, variables: dict[str, Any] | None = None) -> Played:
        """A playbook of the collection, or a file, over all hosts."""
        return Played(self.call("ansible-playbook", playbook, "-e", json.dumps(variables or {}), *flags))

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program of Ansible, on the fleet's network."""
        return self.ansible.call(*self.enter, *command)

    def write_inventory(self, variables: dict[str, Any]) -> None:
        """Hosts with variables for all of them."""
        options = [
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            # A host whose power is cut says nothing more: without this its connection is waited for.
            "-o ConnectTimeout=5 -o ServerAliveInterval=2 -o ServerAliveCountMax=2",
            f"-o ControlMaster=auto -o ControlPersist=120s -o ControlPath={self.top}/c/%h",
        ]
        common = {
            "ansible_user": USER,
            "ansible_become": True,
            "ansible_ssh_private_key_file": str(self.top / "keys/user"),
            "ansible_ssh_common_args": " ".join(options),
            "ansible_python_interpreter": "/usr/bin/python3",
            "overlay_root": "/srv/strata",
            **variables,
        }
        hosts = {host.name: {"ansible_host": host.address} for host in self.hosts}
        text = json.dumps({"all": {"hosts": hosts, "vars": common}})
        (self.ansible.directory / "inventory.yml").write_text(text)

    def sent(self) -> dict[str, int]:
        """Bytes that have come to each host over its cable since it was plugged in, headers and all."""
        said = json.loads(self._network("ip", "-json", "-statistics", "link", "show"))
        links = {link["ifname"]: int(link["stats64"]["tx"]["bytes"]) for link in said}
        return {host.name: links[host.link] for host in self.hosts}

    @contextlib.contextmanager
    def clients(self) -> Iterator[Clients]:
        """A client of each host, at the controller's place; they know what they have heard once the block has ended."""
        found = Clients()
        addresses = json.dumps({host.name: host.address for host in self.hosts})
        command = [*self.enter, sys.executable, "-c", _CLIENTS, addresses]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
            try:
                yield found
            finally:
                output, _none = asking.communicate()
        found.said, found.asked = json.loads(output)

    @contextlib.contextmanager
    def another(self, name: str, last: int) -> Iterator[FleetHost]:
        """One more host on the network, which is not in the inventory.

        :param last: number of its address.
        """
        host = FleetHost(name, f"{NETWORK}.{last}", self.top / "hosts" / name)
        try:
            self.start(host)
            yield host
        finally:
            self.kill(host)

    def _network(self, *command: str) -> str:
        return subprocess.run([*self.enter, *command], check=True, stdout=subprocess.PIPE, text=True).stdout


class Played:
    """What ansible-playbook said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.text = done.stdout + done.stderr
        self.output = done.stdout

    def counts(self, word: str) -> dict[str, int]:
        """A number of the recap, such as ``changed``, by host."""
        found: dict[str, int] = {}
        for line in self.output.partition("PLAY RECAP")[2].splitlines()[1:]:
            name, colon, numbers = line.partition(":")
            if colon:
                found[name.strip()] = int(dict(pair.split("=") for pair in numbers.split()).get(word, 0))
        return found

    def check(self) -> Played:
        """It has succeeded."""
        assert self.code == 0, self.text
        return self


def _child_of(process: subprocess.Popen[bytes]) -> int:
    """The one process that ``unshare --fork`` has started."""
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            return int(children[0])
        assert process.poll() is None, "unshare has failed"
        time.sleep(0.02)
    pytest.fail("unshare has started nothing")


def skip_without(programs: Sequence[str] = tuple(PROGRAMS)) -> None:
    """Skip, with the package that is missing."""
    missing = [PROGRAMS[program] for program in programs if not os.path.exists(program)]
    if missing:
        pytest.skip(f"the Debian packages {', '.join(missing)} are missing")
    need_full_root("runs neither sshd nor sudo")


@contextlib.contextmanager
def running_fleet(top: Path, ansible: Ansible, count: int) -> Iterator[Fleet]:
    """So many hosts, h1 and on; all gone at the end."""
    skip_without()
    for name in ("keys", "c", "hosts"):
        (top / name).mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", top / "keys" / name], check=True)
    (top / "keys/site.py").write_text(_SITE)
    top.chmod(0o755)
    with (
        subprocess.Popen(["unshare", "--net", "--kill-child", "--fork", "sleep", "infinity"]) as network,
        contextlib.ExitStack() as at_the_end,
    ):
        at_the_end.callback(network.kill)  # whatever else fails: else it would be waited for for ever
        fleet = Fleet(top, ansible, _child_of(network))
        try:
            for command in (
                "ip link set lo up",
                # An address of its own: else it is that of one of its ports, and changes as they come and go.
                "ip link add bridge address 02:00:00:00:00:01 type bridge",
                f"ip address add {NETWORK}.1/24 dev bridge",
                "ip link set bridge up",
            ):
                fleet._network(*command.split())
            for number in range(1, count + 1):
                name = f"h{number}"
                fleet.hosts.append(FleetHost(name, f"{NETWORK}.{10 + number}", top / "hosts" / name))
            ansible.environment["ANSIBLE_INVENTORY"] = str(ansible.directory / "inventory.yml")
            ansible.environment["ANSIBLE_FORKS"] = str(count)
            fleet.write_inventory({})
            for host in fleet.hosts:
                fleet.start(host)
            yield fleet
        finally:
            for host in fleet.hosts:
                fleet.call("ssh", "-O", "exit", "-o", f"ControlPath={top}/c/{host.address}", host.address)
                fleet.kill(host)
            shutil.rmtree(top / "hosts", ignore_errors=True)
