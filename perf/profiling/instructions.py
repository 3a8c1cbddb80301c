"""Instructions and allocations per request, by callgrind over `perf/micro.rs`: the pure path from request frame to
reply, the same figure on a busy machine as on a quiet one. The kernel, the ring and the executor are not in it, and
valgrind offers no AVX-512, so checksums and copies take other paths than on some machines."""

import pathlib
import re
import subprocess
import tempfile

from harness import paths

# kind, turns, requests that one flush makes durable together
CASES = [("small", 500, 1), ("small", 200, 64), ("bulk", 300, 1), ("bulk", 100, 8), ("fetch", 300, 1), ("fetch", 200, 8)]
TITLES = {"small": "produce, one record of 100 bytes", "bulk": "produce, 63 records of 1 KiB", "fetch": "fetch of those 63 at the end of the log"}
# Calls of these from Rust's side; `calls=` lines follow the called function's name.
ENTRIES = re.compile(r"^mi_(malloc|zalloc|realloc)_aligned$")


def micro() -> pathlib.Path:
    path = pathlib.Path(paths.binary("millrace")).parent / "examples" / "micro"
    if not path.exists():
        raise SystemExit(f"{path} is missing: cargo build --release --example micro")
    return path


def measure(kind: str, turns: int, per_turn: int) -> tuple[float, float]:
    """Instructions and allocations per request."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "callgrind"
        done = subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
                               "--toggle-collect=*measured_turn*", str(micro()), kind, str(turns), str(per_turn)],
                              capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise SystemExit(f"micro {kind} under callgrind: {done.stderr.strip()[-400:]}")
        requests = int(done.stdout.split()[0])
        text = out.read_text()
    total = int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1])
    return total / requests, allocations(text) / requests


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


def table() -> str:
    """As Markdown."""
    rows = ["| request | requests per flush | instructions per request | allocations per request |", "|---|---|---|---|"]
    for kind, turns, per_turn in CASES:
        instructions, allocated = measure(kind, turns, per_turn)
        rows.append(f"| {TITLES[kind]} | {per_turn} | {instructions:,.0f} | {allocated:.1f} |")
    return "\n".join(rows)
