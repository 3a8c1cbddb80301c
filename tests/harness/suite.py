"""A suite: functions marked @test in one script, each reported as `ok NAME`, `FAIL NAME: why` or `skip NAME: why`.

The functions take no arguments; `BOOTSTRAP` is the broker. A test is stopped after its seconds, so that nothing hangs.
"""

import os
import random
import re
import signal
import string
import sys
import time
import traceback

BOOTSTRAP = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")
# Which broker that is, of those that tests/clients/run starts.
BROKER = os.environ.get("BROKER", "millrace")
_tests = []


class TookTooLong(BaseException):
    """Not an Exception, so that no retry loop under test swallows it."""


class Stopped(BaseException):
    """The whole suite is to end, and to leave nothing behind."""


class Skipped(Exception):
    """The machine lacks what the test needs. It is counted and said, so that nobody takes it for passed."""


def test(function=None, *, seconds=60):
    """Marks a test. Runs in the order of the file."""
    def mark(marked):
        _tests.append((marked, seconds))
        return marked
    return mark(function) if function else mark


def unique(prefix: str) -> str:
    """A topic or group name that no other test uses."""
    return f"{prefix}-{''.join(random.choices(string.ascii_lowercase + string.digits, k=8))}"


def eventually(condition, seconds: float = 15, what: str = "condition"):
    """Waits until `condition()` is true and returns what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def equal(got, wanted, what: str = ""):
    """An assertion that shows both sides, shortened."""
    if got != wanted:
        raise AssertionError(f"{what + ': ' if what else ''}got {got!r:.300}, wanted {wanted!r:.300}")


def report(name: str, why: str | None, seconds: float | None = None):
    """One result line, as the driver of all stages reads it."""
    took = f" ({seconds:.1f} s)" if seconds is not None else ""
    if why is None:
        print(f"ok {name}{took}", flush=True)
    else:
        print(f"FAIL {name}: {' '.join(why.split())[:600]}{took}", flush=True)


def report_skipped(name: str, why: str):
    """The line for a test that could not be run."""
    print(f"skip {name}: {' '.join(why.split())[:600]}", flush=True)


def _run_one(function, seconds) -> str | None:
    def ring(*_):
        raise TookTooLong(f"not done within {seconds} s")
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        function()
        return None
    except Skipped:
        raise
    except (Exception, TookTooLong) as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


def _stop(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


def main(suite: str, at_end=lambda: None):
    """Runs the tests whose name contains one of the arguments, or all of them, until SIGTERM; then `at_end`."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        status = _run_all(suite, sys.argv[1:])
    except Stopped:
        status = 128 + signal.SIGTERM
    at_end()
    # Client libraries keep threads of their own alive; all there is to say has been said.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run_all(suite: str, wanted: list[str]) -> int:
    failed = 0
    for function, seconds in _tests:
        name = f"{suite}/{function.__name__}"
        if wanted and not any(re.search(w, name) for w in wanted):
            continue
        began = time.monotonic()
        try:
            why = _run_one(function, seconds)
        except Skipped as skipped:
            report_skipped(name, str(skipped))
            continue
        failed += why is not None
        report(name, why, time.monotonic() - began)
    print(f"end {suite}", flush=True)
    return 1 if failed else 0
