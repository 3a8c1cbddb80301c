"""Devices, filesystems and control groups that are made for a test, which takes root and a machine that has them."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from .suite import Skipped

BYTES = 256 << 20
# How long a control group may still have processes that were killed.
EMPTY_SECONDS_MAX = 20


def called(*command: str) -> subprocess.CompletedProcess:
    """A command, also of those that are not in the path of a plain user."""
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def run(*command: str) -> str:
    """What a command says that needs rights, or may not be there; without it the test cannot be had."""
    try:
        done = called(*command)
    except OSError as error:
        raise Skipped(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise Skipped(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _undone(undo, *arguments):
    """Calls `undo` at the end. If that fails too, what failed before it is what is told."""
    try:
        yield
    except BaseException:
        try:
            undo(*arguments)
        except Exception as error:
            print(f"left behind: {error}", file=sys.stderr)
        raise
    undo(*arguments)


def _must(*command: str):
    done = called(*command)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def loop_device(fill: bytes = b""):
    """A block device of that many bytes, which begins with `fill`."""
    with tempfile.TemporaryDirectory(prefix="millrace-loop-") as home:
        image = pathlib.Path(home) / "image"
        with open(image, "wb") as file:
            file.truncate(BYTES)
            file.write(fill)
        device = run("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
        with _undone(_must, "losetup", "--detach", device):
            yield device


@contextlib.contextmanager
def mounted(*arguments: str):
    """A directory on a filesystem of its own."""
    with tempfile.TemporaryDirectory(prefix="millrace-mount-") as place:
        run("mount", *arguments, place)
        with _undone(_must, "umount", "--lazy", place):
            yield pathlib.Path(place)


@contextlib.contextmanager
def ext4(mib: int):
    """A directory on an ext4 of this size, in a file."""
    with tempfile.TemporaryDirectory(prefix="millrace-image-") as home:
        image = pathlib.Path(home) / "image"
        with open(image, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, mib << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        with mounted("-o", "loop", str(image)) as place:
            yield place


class MemoryGroup:
    """A control group whose processes have so much memory together."""

    def __init__(self, place: pathlib.Path, bytes_max: int):
        self.place, self.bytes_max = place, bytes_max
        # Version 2 if there is no such file; swap would be as good as memory.
        self.old = (place / "memory.limit_in_bytes").exists()
        (place / ("memory.limit_in_bytes" if self.old else "memory.max")).write_text(str(bytes_max))
        for name in ("memory.memsw.limit_in_bytes",) if self.old else ("memory.swap.max",):
            if (place / name).exists():
                (place / name).write_text(str(bytes_max if self.old else 0))

    def join(self):
        """Puts this process into it."""
        (self.place / "cgroup.procs").write_text(str(os.getpid()))

    def left_bytes(self) -> int:
        """What its processes may still take: the page cache gives way."""
        used = int((self.place / ("memory.usage_in_bytes" if self.old else "memory.current")).read_text())
        stat = dict(line.split() for line in (self.place / "memory.stat").read_text().splitlines())
        cached = sum(int(stat[("total_" if self.old else "") + name]) for name in ("inactive_file", "active_file"))
        return self.bytes_max - max(used - cached, 0)

    def remove(self):
        """Ends what is still in it: a group with processes stays."""
        deadline = time.monotonic() + EMPTY_SECONDS_MAX
        while True:
            for process in (self.place / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            try:
                return self.place.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)


def _group_above() -> pathlib.Path:
    """The control group in which one with a limit of memory can be made."""
    groups = dict(line.split(":", 2)[1:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
    if "memory" in groups:
        return pathlib.Path("/sys/fs/cgroup/memory") / groups["memory"].lstrip("/")
    root = pathlib.Path("/sys/fs/cgroup")
    own = root / groups.get("", "/").lstrip("/")
    # In version 2 a group that has processes, as our own has, gives those in it no memory of their own.
    for group in (own, *own.parents):
        control = group / "cgroup.subtree_control"
        if group.is_relative_to(root) and control.exists() and "memory" in control.read_text().split():
            return group
    raise Skipped("no control group gives those in it a limit of memory")


@contextlib.contextmanager
def memory_group(bytes_max: int):
    """A control group that has so much memory, and that a process of ours can join."""
    place = _group_above() / f"millrace-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError as error:
        raise Skipped(f"no control group: {error}") from None
    try:
        group = MemoryGroup(place, bytes_max)
    except OSError as error:
        place.rmdir()
        raise Skipped(f"no limit of memory in a control group: {error}") from None
    with _undone(group.remove):
        try:
            subprocess.run([sys.executable, "-c", ""], preexec_fn=group.join, check=True)
        except subprocess.SubprocessError as error:
            raise Skipped(f"no process of ours in a control group: {error}") from None
        yield group
