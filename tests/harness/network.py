"""Machines of a cluster, and the network between them: each in a network namespace of its own, all on one bridge, which is in
a namespace that this process enters. It takes root. Nothing of it outlives the process. Without it: loopback addresses, and
a network to which nothing happens.

A way is shut by telling the sender a wrong hardware address of the receiver: what is sent is lost in silence, one way,
as in a broken switch, and every kernel can do it. A link is made slow by a queue (netem, or tbf where there is none).
"""

import contextlib
import ctypes
import os
import subprocess

from .mounts import called

CLIENTS = 0
NEW_NETWORK = 0x40000000
NET = "10.213.77"
NOWHERE = "02:4d:52:00:ff:ff"
# What a slow link is made of, the best first: what comes late and is lost at times, or as much as a poor line carries.
SLOW = [["netem", "delay", "60ms", "30ms", "loss", "1%", "rate", "4mbit"], ["tbf", "rate", "3mbit", "burst", "16kb", "latency", "400ms"]]

_libc = ctypes.CDLL(None, use_errno=True)


class Impossible(Exception):
    """The machine has no such network."""


def _called(*command: str) -> str:
    try:
        done = called(*command)
    except FileNotFoundError:
        raise Impossible(f"there is no `{command[0]}`") from None
    if done.returncode != 0:
        raise Impossible(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _checked(status: int, what: str):
    if status != 0:
        raise Impossible(f"{what}: {os.strerror(ctypes.get_errno())}")


def _apart():
    """A new process, with a namespace of its own, that ends with this one."""
    _libc.prctl(1, 9)
    if _libc.unshare(NEW_NETWORK) != 0:
        os._exit(1)


class Loopback:
    """Addresses of this machine alone."""

    why_no_cuts = "no network namespaces"
    why_not_slow = "no network namespaces"

    def host(self, number: int) -> str:
        return f"127.0.77.{number}"

    def enter(self, number: int):
        pass

    def mend(self):
        pass


class Namespaces:
    """So many machines, numbered from 1; 0 are the clients, who are in this process."""

    why_no_cuts: str | None = None

    def __init__(self, count: int, stack: contextlib.ExitStack):
        self.everybody = range(count + 1)
        self._holders: dict[int, subprocess.Popen] = {}
        self._doors: dict[int, int] = {}
        self._shut: set[tuple[int, int]] = set()
        self._slowed: set[int] = set()
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        stack.callback(os.close, home)
        _checked(_libc.unshare(NEW_NETWORK), "a network namespace")
        stack.callback(_libc.setns, home, NEW_NETWORK)
        _called("ip", "link", "add", "bridge", "address", self._mac(CLIENTS), "type", "bridge")
        _called("ip", "link", "set", "lo", "up")
        for number in range(1, count + 1):
            self._holders[number] = subprocess.Popen(["sleep", "infinity"], preexec_fn=_apart)
            stack.callback(self._let_go, number)
            namespace = f"/proc/{self._holders[number].pid}/ns/net"
            self._doors[number] = os.open(namespace, os.O_RDONLY)
            stack.callback(os.close, self._doors[number])
            _called("ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", "out", "address", self._mac(number), "netns",
                    str(self._holders[number].pid))
            _called("ip", "link", "set", f"node{number}", "master", "bridge", "up")
            self._ip(number, "link", "set", "lo", "up")
            self._ip(number, "addr", "add", f"{self.host(number)}/24", "dev", "out")
            self._ip(number, "link", "set", "out", "up")
        _called("ip", "addr", "add", f"{self.host(CLIENTS)}/24", "dev", "bridge")
        _called("ip", "link", "set", "bridge", "up")
        for sender in self.everybody:
            for receiver in self.everybody:
                if sender != receiver:
                    self._neighbour(sender, receiver, self._mac(receiver))
        self.why_not_slow = self._try_slow()

    def host(self, number: int) -> str:
        return f"{NET}.{number or 254}"

    def enter(self, number: int):
        """Puts the calling process, which is to be this node's, into its namespace."""
        if _libc.setns(self._doors[number], NEW_NETWORK) != 0:
            os._exit(1)

    def cut(self, sender: int, receiver: int):
        """What one sends to the other is lost from now on, until `mend`."""
        self._neighbour(sender, receiver, NOWHERE)
        self._shut.add((sender, receiver))

    def slow(self, number: int):
        """What this node sends and gets comes slowly, until `mend`."""
        self._slowed.add(number)
        self._called_in(number, "tc", "qdisc", "add", "dev", "out", "root", *self._slow)
        _called("tc", "qdisc", "add", "dev", f"node{number}", "root", *self._slow)

    def mend(self):
        """Everything is as it was."""
        for sender, receiver in self._shut:
            self._neighbour(sender, receiver, self._mac(receiver))
        self._shut.clear()
        for number in self._slowed:
            self._called_in(number, "tc", "qdisc", "del", "dev", "out", "root")
            _called("tc", "qdisc", "del", "dev", f"node{number}", "root")
        self._slowed.clear()

    @staticmethod
    def _mac(number: int) -> str:
        return f"02:4d:52:00:00:{number:02x}"

    def _neighbour(self, sender: int, receiver: int, mac: str):
        device = "bridge" if sender == CLIENTS else "out"
        self._ip(sender, "neigh", "replace", self.host(receiver), "lladdr", mac, "dev", device, "nud", "permanent")

    def _ip(self, number: int, *command: str):
        self._called_in(number, "ip", *command)

    def _called_in(self, number: int, *command: str):
        inside = [] if number == CLIENTS else ["nsenter", f"--net=/proc/{self._holders[number].pid}/ns/net"]
        _called(*inside, *command)

    def _try_slow(self) -> str | None:
        for self._slow in SLOW:
            try:
                self.slow(1)
                self.mend()
                return None
            except Impossible as error:
                why = str(error)
                self._slowed.clear()
        return why

    def _let_go(self, number: int):
        self._holders[number].kill()
        self._holders[number].wait()


@contextlib.contextmanager
def machines(count: int):
    """So many machines: in namespaces if they can be had."""
    with contextlib.ExitStack() as stack:
        try:
            network = Namespaces(count, stack)
        except Impossible as error:
            stack.close()
            network = Loopback()
            network.why_no_cuts = network.why_not_slow = str(error)
        yield network
