"""Devices, filesystems and control groups that are made for a test, which takes root and a machine that has them."""

import contextlib
import os
import pathlib
import subprocess
import tempfile

from harness.suite import Skipped

BYTES = 256 << 20


@contextlib.contextmanager
def loop_device(fill: bytes = b""):
    """A block device of that many bytes, which begins with `fill`."""
    with tempfile.TemporaryDirectory(prefix="millrace-loop-") as home:
        image = pathlib.Path(home) / "image"
        with open(image, "wb") as file:
            file.truncate(BYTES)
            file.write(fill)
        made = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", str(image)], capture_output=True, text=True)
        if made.returncode != 0:
            raise Skipped(f"losetup: {made.stderr.strip()}")
        device = made.stdout.strip()
        try:
            yield device
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)


def run(*command: str):
    """A command that needs rights; without them the test cannot be had."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Skipped(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(*arguments: str):
    """A directory on a filesystem of its own."""
    with tempfile.TemporaryDirectory(prefix="millrace-mount-") as place:
        run("mount", *arguments, place)
        try:
            yield pathlib.Path(place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


class MemoryGroup:
    """A control group whose processes have so much memory together."""

    def __init__(self, place: pathlib.Path, bytes_max: int):
        self.place = place
        # Version 2 if there is no such file; swap would be as good as memory.
        old = (place / "memory.limit_in_bytes").exists()
        (place / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(bytes_max))
        for name in ("memory.memsw.limit_in_bytes",) if old else ("memory.swap.max",):
            if (place / name).exists():
                (place / name).write_text(str(bytes_max if old else 0))

    def join(self):
        """Puts this process into it."""
        (self.place / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def memory_group(bytes_max: int):
    """A control group below the one of this process."""
    groups = dict(line.split(":", 2)[1:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
    root = pathlib.Path("/sys/fs/cgroup/memory" if "memory" in groups else "/sys/fs/cgroup")
    place = root / groups.get("memory", groups.get("", "/")).lstrip("/") / f"millrace-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError as error:
        raise Skipped(f"no control group: {error}") from None
    try:
        try:
            group = MemoryGroup(place, bytes_max)
        except OSError as error:
            raise Skipped(f"no limit of memory in a control group: {error}") from None
        yield group
    finally:
        place.rmdir()
