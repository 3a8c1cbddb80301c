"""`millracectl` as a process."""

import json
import subprocess

from . import paths
from .suite import equal


def said(address: str, *args: str, status: int = 0, stdin: str = "") -> str:
    """What it says; of a failure, why."""
    command = [paths.binary("millracectl"), "--bootstrap", address, "--timeout", "20", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    equal(done.returncode, status, f"{' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout if status == 0 else done.stderr


def answer(address: str, *args: str, stdin: str = "") -> dict:
    """The one document that it says."""
    lines = said(address, *args, "--json", stdin=stdin).splitlines()
    equal(len(lines), 1, f"documents of {' '.join(args)}")
    return json.loads(lines[0])
