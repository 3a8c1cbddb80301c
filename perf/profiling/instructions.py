"""Instructions and allocations per request, by callgrind over `perf/micro.rs`: the pure path from request frame to
reply, the same figure on a busy machine as on a quiet one. The kernel, the ring and the executor are not in it, and
valgrind offers no AVX-512, so checksums and copies take other paths than on some machines."""

import pathlib
import re
import subprocess
import tempfile

from harness import paths

# kind, turns, requests that one flush makes durable together
CASES = [("small", 300, 1), ("small", 40, 64), ("bulk", 150, 1), ("bulk", 30, 8), ("fetch", 150, 1), ("fetch", 40, 8)]
TITLES = {"small": "produce, one record of 100 bytes", "bulk": "produce, 63 records of 1 KiB", "fetch": "fetch of those 63 at the end of the log"}
# What Rust calls for memory.
ENTRIES = re.compile(r"^mi_(malloc|zalloc|realloc)_aligned$")


def micro() -> pathlib.Path:
    path = pathlib.Path(paths.binary("millrace")).parent / "examples" / "micro"
    if not path.exists():
        raise SystemExit(f"{path} is missing: cargo build --release --example micro")
    return path


def measure(kind: str, turns: int, per_turn: int) -> tuple[int, int]:
    """Instructions of the measured turns, and allocations of all turns: callgrind counts calls whether it collects
    or not."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "callgrind"
        done = subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
                               "--toggle-collect=*measured_turn*", str(micro()), kind, str(turns), str(per_turn)],
                              capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise SystemExit(f"micro {kind} under callgrind: {done.stderr.strip()[-400:]}")
        text = out.read_text()
    return int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1]), allocations(text)


def allocated(kind: str, turns: int, per_turn: int) -> float:
    """Allocations per request: what twice the turns add, so that neither start nor warm-up are in it."""
    once, twice = (measure(kind, n, per_turn)[1] for n in (turns, 2 * turns))
    return (twice - once) / (turns * per_turn)


def allocations(text: str) -> int:
    """Calls of the allocator's entries. Callgrind writes a name once and its number afterwards."""
    names: dict[str, str] = {}
    count, called = 0, ""
    for line in text.splitlines():
        if line.startswith(("fn=", "cfn=")):
            number, name = re.match(r"c?fn=\((\d+)\)\s*(.*)", line).groups()
            if name:
                names[number] = name
            if line.startswith("cfn="):
                called = names.get(number, "")
        elif line.startswith("calls=") and ENTRIES.match(called):
            count += int(line[6:].split()[0])
    return count


def print_table() -> None:
    """As Markdown, row by row: valgrind takes its time."""
    print("| request | requests per flush | instructions per request | allocations per request |\n|---|---|---|---|", flush=True)
    for kind, turns, per_turn in CASES:
        instructions, _ = measure(kind, turns, per_turn)
        memory = allocated(kind, turns, per_turn)
        if kind == "fetch":
            # Each of its turns first writes what is then read, out of callgrind's sight but not of its call counts.
            memory -= allocated("bulk", turns, per_turn)
        print(f"| {TITLES[kind]} | {per_turn} | {instructions / (turns * per_turn):,.0f} | {memory:.1f} |", flush=True)
