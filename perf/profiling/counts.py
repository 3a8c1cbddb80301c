"""What one request costs in calls and waiting, seen from outside: syscalls, context switches, allocations, and how long
threads ran, waited for a core and slept."""

import collections
import os
import pathlib
import re
import subprocess

from harness import paths

# perf trace prints its summary per thread; these are its columns.
CALL = re.compile(r"^\s+(\w+)\s+(\d+)\s+\d+\s+([\d.]+)\s+[\d.]+\s+[\d.]+\s+[\d.]+")
# Where Rust code asks for memory; what mimalloc does inside itself does not count.
ALLOCATORS = ("mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned")


def syscalls(pid: int, seconds: int) -> dict[str, tuple[int, float]]:
    """Calls and milliseconds spent in each, all threads together. Tracing slows the process: divide by the requests of
    the same run."""
    done = subprocess.run(["perf", "trace", "-s", "-p", str(pid), "--", "sleep", str(seconds)], capture_output=True, text=True)
    calls: dict[str, list] = collections.defaultdict(lambda: [0, 0.0])
    for line in (done.stdout + done.stderr).splitlines():
        if found := CALL.match(line):
            name, count, milliseconds = found.groups()
            calls[name][0] += int(count)
            calls[name][1] += float(milliseconds)
    if not calls:
        raise SystemExit(f"perf trace saw nothing: {done.stderr.strip()[-300:]}")
    return {name: (count, ms) for name, (count, ms) in calls.items()}


def counted(pid: int, seconds: int, events: list[str]) -> dict[str, int]:
    """perf stat over all threads of a process."""
    command = ["perf", "stat", "-x", ",", "-e", ",".join(events), "-p", str(pid), "--", "sleep", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = {}
    for line in done.stderr.splitlines():
        fields = line.split(",")
        if len(fields) > 3 and fields[0].isdigit():
            found[fields[2]] = int(fields[0])
    if not found:
        raise SystemExit(f"perf stat: {done.stderr.strip()[-300:]}")
    return found


def threads(pid: int) -> dict[int, tuple[str, float, float, int]]:
    """Per thread: name, seconds on a core, seconds runnable but waiting for one, and how often it was put on one."""
    found = {}
    for folder in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            ran, waited, slices = map(int, (folder / "schedstat").read_text().split())
            found[int(folder.name)] = ((folder / "comm").read_text().strip(), ran / 1e9, waited / 1e9, slices)
        except OSError:
            continue  # A worker thread of the kernel's ring that has just ended.
    return found


def difference(before: dict, after: dict) -> list[tuple[str, float, float, int]]:
    """What each thread did in between; threads that did nothing are left out."""
    rows = []
    for thread, (name, ran, waited, slices) in after.items():
        _, ran_before, waited_before, slices_before = before.get(thread, (name, 0.0, 0.0, 0))
        if slices > slices_before:
            rows.append((name, ran - ran_before, waited - waited_before, slices - slices_before))
    return sorted(rows, key=lambda row: -row[1])


class AllocationProbes:
    """Probes on the allocator's entries in the broker's binary, removed at the end. Needs root."""

    def __enter__(self) -> "AllocationProbes":
        binary = paths.binary("millrace")
        self.group = f"millrace_alloc_{os.getpid()}"
        for name in ALLOCATORS:
            done = subprocess.run(["perf", "probe", "-q", "-x", binary, "--add", f"{self.group}:{name}={name}"], capture_output=True, text=True)
            if done.returncode != 0:
                self.__exit__()
                raise SystemExit(f"perf probe {name}: {done.stderr.strip()[-300:]}")
        return self

    def __exit__(self, *_) -> None:
        subprocess.run(["perf", "probe", "-q", "--del", f"{self.group}:*"], capture_output=True)

    def count(self, pid: int, seconds: int) -> int:
        return sum(counted(pid, seconds, [f"{self.group}:{name}" for name in ALLOCATORS]).values())
