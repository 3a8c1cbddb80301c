"""One driver process: a client that is told what to do, line by line."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading

from harness import paths
from harness.broker import die_with_parent

# Whether each line and its answer is shown, on standard error.
trace = False
# A client may retry for as long as this before it gives up.
ANSWER_SECONDS_MAX = 100
ENDING_SECONDS_MAX = 10
# Of what a driver wrote on standard error, in characters.
SAID_MAX = 4000


class Unsupported(Exception):
    """The client has no such thing."""


class Refused(Exception):
    """What was asked for failed, and the client says so."""

    def __init__(self, code: int | None, text: str):
        super().__init__(f"error {code}: {text}" if code is not None else text)
        self.code = code


class Driver:
    """A running driver. Use as a context manager; each verb is a method: `driver.do("produce", topic=...)`."""

    def __init__(self, command: list[str], address: str):
        self.errors = tempfile.TemporaryFile("w+")
        env = {**os.environ, "BOOTSTRAP": address, "NODE_PATH": str(paths.DEPS / "node" / "node_modules"),
               "KAFKAJS_NO_PARTITIONER_WARNING": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, env=env, cwd=paths.ROOT / "tests" / "conformance", text=True, errors="replace",
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, preexec_fn=die_with_parent)
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def do(self, verb: str, **fields) -> dict:
        try:
            self.process.stdin.write(json.dumps({"do": verb, **fields}) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=ANSWER_SECONDS_MAX)
        except queue.Empty:
            self.process.kill()
            print(f"--- standard error of the driver\n{self.said()[-SAID_MAX:]}", file=sys.stderr)
            raise AssertionError(f"no answer to {verb} within {ANSWER_SECONDS_MAX} s") from None
        except OSError:
            line = ""
        if not line:
            raise AssertionError(f"the driver ended at {verb}: {self.said()[-400:]}")
        told = json.loads(line)
        if trace:
            print(f"{self.process.pid} {verb} {json.dumps(fields):.200} -> {line.rstrip():.200}", file=sys.stderr, flush=True)
        if "unsupported" in told:
            raise Unsupported(verb)
        if error := told.get("error"):
            raise Refused(error["code"], error["text"])
        return told

    def said(self) -> str:
        """What it wrote on standard error."""
        self.errors.seek(0)
        return self.errors.read()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *_):
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(ENDING_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()
