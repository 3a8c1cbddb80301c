"""Devices and filesystems that are made for a test, which takes root and a machine that has them."""

import contextlib
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
