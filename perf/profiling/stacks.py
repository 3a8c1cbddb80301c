"""perf's samples as folded stacks, and what can be read from them."""

import collections
import pathlib
import subprocess

from harness import paths

# cpu-clock works everywhere; a virtual machine often has no cycle counter. An odd rate does not beat with timers.
SAMPLES_PER_SECOND = 997
# Rust without frame pointers is unwound by its call frame tables, from a copy of the stack.
RECORD = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "--call-graph", "dwarf,16384"]


def record(pid: int, seconds: int, data: pathlib.Path) -> None:
    """Samples a process."""
    check(subprocess.run([*RECORD, "-p", str(pid), "-o", str(data), "--", "sleep", str(seconds)], capture_output=True, text=True))


def fold(data: pathlib.Path) -> str:
    """One line per stack: frames from the outermost on, joined by semicolons, and the number of samples."""
    script = subprocess.run(["perf", "script", "-i", str(data), "--no-inline"], capture_output=True, text=True, errors="replace")
    check(script)
    folded = subprocess.run([inferno("inferno-collapse-perf")], input=script.stdout, capture_output=True, text=True)
    check(folded)
    return folded.stdout


def draw(folded: str, title: str, out: pathlib.Path, unit: str = "ns of CPU time", *colors: str) -> None:
    """The flame graph."""
    drawn = subprocess.run([inferno("inferno-flamegraph"), "--title", title, "--hash", "--width", "1400", "--countname", unit, *colors], input=folded,
                           capture_output=True, text=True)
    check(drawn)
    out.write_text(drawn.stdout)


def top(folded: str, count: int) -> list[tuple[str, float, float]]:
    """The functions with most samples of their own: name, own share, share with callees."""
    own, inclusive, total = collections.Counter(), collections.Counter(), 0
    for line in folded.splitlines():
        stack, number = line.rsplit(" ", 1)
        frames, number = stack.split(";"), int(number)
        own[frames[-1]] += number
        for frame in set(frames):
            inclusive[frame] += number
        total += number
    return [(name, n / total, inclusive[name] / total) for name, n in own.most_common(count)]


def inferno(program: str) -> str:
    path = paths.DEPS / "bin" / program
    if not path.exists():
        raise SystemExit(f"{program} is missing: perf/setup profile")
    return str(path)


def check(done: subprocess.CompletedProcess) -> None:
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, done.args[:3]))}: {done.stderr.strip()[-600:]}\n"
                         "perf may need root or kernel.perf_event_paranoid=-1: see perf/README.md")
