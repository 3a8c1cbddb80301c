"""What `offcpu` found as a table and as folded stacks."""

import collections

from .offcpu import IDLE, WORKERS, Wait

SHOWN = {WORKERS: "io-wq workers, all"}


def table(waits: list[Wait], seconds: float, traced: bool = True) -> str:
    """Per thread and reason: how long together and, if each wait was traced, how often and how long at a time."""
    rows: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for wait in waits:
        rows[wait.thread, wait.what].append(wait.seconds)
    out = ["| thread | waited | times a second | seconds per second | mean, us | p99, us | longest, us |", "|---|---|---|---|---|---|---|"]
    if not traced:
        out = ["| thread | waited | seconds per second |", "|---|---|---|"]
    for (thread, what), times in sorted(rows.items(), key=lambda row: (row[0][0] == WORKERS, row[0][0], -sum(row[1]))):
        if not traced:
            out.append(f"| {SHOWN.get(thread, thread)} | {what} | {sum(times) / seconds:.3f} |")
            continue
        times.sort()
        mean, p99, longest = (1e6 * n for n in (sum(times) / len(times), times[len(times) * 99 // 100], times[-1]))
        out.append(f"| {SHOWN.get(thread, thread)} | {what} | {len(times) / seconds:,.0f} | {sum(times) / seconds:.3f} | "
                   f"{mean:,.0f} | {p99:,.0f} | {longest:,.0f} |")
    return "\n".join(out)


def fold(waits: list[Wait]) -> str:
    """Folded stacks, in microseconds. Workers without work are left out: they would be most of the picture."""
    stacks: collections.Counter[str] = collections.Counter()
    for wait in waits:
        if (wait.thread, wait.what) != (WORKERS, IDLE):
            stacks[";".join([SHOWN.get(wait.thread, wait.thread), wait.what, *wait.stack])] += wait.seconds * 1e6
    return "".join(f"{stack} {round(micros)}\n" for stack, micros in stacks.items() if round(micros))
