"""Runs suites as processes of their own and counts what they report."""

import os
import subprocess
import threading

from . import paths
from .suite import report

SUITE_SECONDS_MAX = int(os.environ.get("SUITE_SECONDS_MAX", 900))
# What a suite that is stopped has to put away what it made; a call of a client library may keep it for a minute.
ENDING_SECONDS_MAX = 90
# Of the standard error of a suite in which something failed; clients repeat themselves.
ERROR_LINES_MAX = 80


class Tally:
    """Counts results over all suites; prints one line at a time."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self._lock = threading.Lock()

    def line(self, line: str):
        """A line that a suite printed."""
        with self._lock:
            self.passed += line.startswith("ok ")
            self.failed += line.startswith("FAIL ")
            self.skipped += line.startswith("skip ")
            if line.startswith(("ok ", "FAIL ", "skip ", "note ")):
                print(line, flush=True)

    def check(self, name: str, why: str | None):
        """A result found by the caller itself."""
        with self._lock:
            self.passed += why is None
            self.failed += why is not None
            report(name, why)

    def end(self, what: str) -> int:
        """The last line, and the exit status."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{what}: {self.passed} passed, {self.failed} failed{skipped}", flush=True)
        return 1 if self.failed else 0


def run_suite(name: str, command: list[str], cwd: str, env: dict[str, str], tally: Tally):
    """One suite. Its standard error is shown only when something failed."""
    env = {**os.environ, "NODE_PATH": str(paths.DEPS / "node" / "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING": "1",
           "PYTHONPATH": str(paths.ROOT / "tests"), **env}
    process = subprocess.Popen(command, cwd=cwd, env=env, text=True, errors="replace", stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
    reader.start()
    watchdog = threading.Timer(SUITE_SECONDS_MAX, stop, [process])
    watchdog.start()
    ended = failed = False
    for line in process.stdout:
        ended = ended or line.strip() == f"end {name}"
        failed = failed or line.startswith("FAIL ")
        tally.line(line.rstrip("\n"))
    process.wait()
    watchdog.cancel()
    reader.join(2)
    if not ended:
        tally.check(f"{name}/whole", f"the suite ended early with status {process.returncode}")
    if (failed or not ended) and errors:
        print(f"--- standard error of {name}\n{''.join(errors[-ERROR_LINES_MAX:])}---", flush=True)


def stop(process: subprocess.Popen):
    """Ends a suite: it may put away what it made, such as mounts and devices, before it is killed."""
    process.terminate()
    try:
        process.wait(ENDING_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()


def choose(choices: list[str], known: list[str]) -> dict[str, list[str]]:
    """`SUITE[:TEST]` from the command line -> tests by suite; no tests means all of them."""
    chosen: dict[str, list[str]] = {}
    for choice in choices:
        suite, _, one_test = choice.partition(":")
        if suite not in known:
            raise SystemExit(f"no suite {suite}; there are {', '.join(known)}")
        chosen.setdefault(suite, []).extend([one_test] if one_test else [])
    return chosen
