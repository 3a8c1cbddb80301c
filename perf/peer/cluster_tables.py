"""What `perf/cluster` has measured, as Markdown."""

import statistics

from .systems import TITLES
from .workloads import CONNECTIONS

LOADS = [
    *((f"produce, 64 KiB batches, {count} connections, MB/s", f"produce-c{count}", "mb_per_s") for count in CONNECTIONS),
    ("produce, 16 KiB batches, 16 connections, MB/s", "limit", "mb_per_s"),
    *((f"nodes' CPU-seconds per GB produced, {count} connections", f"produce-c{count}", "broker_cpu_s_per_gb") for count in CONNECTIONS),
    (f"bytes over the loopback per byte produced, {CONNECTIONS[-1]} connections", f"produce-c{CONNECTIONS[-1]}", "loopback_per_byte"),
    *((f"acknowledgement at half of Kafka's limit, {name}, ms", "equal", f"latency_{key}_ms") for name, key in (("p50", "p50"), ("p99", "p99"))),
    *((f"end-to-end at half of Kafka's limit, {name}, ms", "equal", f"e2e_latency_{key}_ms") for name, key in (("p50", "p50"), ("p99", "p99"))),
    ("resident memory of all nodes after the loads, MiB", "equal", "rss_mib"),
]
GAPS = [("kill -9", "kill"), ("SIGSTOP for 5 s", "stop"), ("SIGTERM and start", "restart")]


def cell(values: list[float]) -> str:
    """The median, and how far the rounds are apart."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    form = (lambda value: f"{value:,.0f}") if middle >= 100 else (lambda value: f"{value:.2f}")
    return form(middle) if len(values) == 1 else f"{form(middle)} ({form(low)}-{form(high)})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(report: dict) -> str:
    """Loads, then gaps; both with what the machine is."""
    rounds, environment = report["rounds"], report["environment"]
    systems = [system for system in TITLES if any(system in turn for turn in rounds)]

    def values(system: str, load: str, key: str) -> list[float]:
        found = (turn.get(system, {}).get(load, {}).get(key) for turn in rounds)
        return [value for value in found if isinstance(value, (int, float))]

    def ratios(load: str, key: str) -> list[str]:
        ours = values("millrace", load, key)
        theirs = [values(system, load, key) for system in systems if system != "millrace"]
        return [f"{statistics.median(ours) / statistics.median(found):.2f}" if ours and found and statistics.median(found) else "-" for found in theirs]

    others = [TITLES[system] for system in systems if system != "millrace"]
    loads = [[title, *(cell(values(system, load, key)) for system in systems), *ratios(load, key)] for title, load, key in LOADS]
    gaps = [[title, *(listed(rounds[0].get(system, {}).get(deed, {})) for system in systems)] for title, deed in GAPS]
    rate = environment.get("equal_rate_records_per_s")
    acked = [f"{TITLES[system]}: {turn[system]['accounted']['records_acked']:,}" for turn in rounds for system in systems
             if "records_acked" in turn.get(system, {}).get("accounted", {})]
    return "\n\n".join([
        f"{environment['date']}, {environment['commit']}, kernel {environment['kernel']}, {environment['cores']} cores ({environment['cpu']}), "
        f"{environment['memory_gib']} GiB, {environment['filesystem']}. {environment['nodes']} nodes on one core, the load on the other one; 1 KiB "
        f"records, 16 partitions, {environment['replication']} replicas, min.insync.replicas=2, acks=all, no TLS; {len(rounds)} rounds of "
        f"{environment['seconds']} s a load after 2 s" + (f"; half of Kafka's limit: {rate:,.0f} records/s." if rate else "."),
        table(["", *(TITLES[system] for system in systems), *(f"Millrace / {name}" for name in others)], loads),
        "Longest time without an acknowledgement, s, each node in turn: of the whole system / of the worst partition. One idempotent producer, "
        "6 partitions, 8,000 records/s; a killed node is away for "
        f"{environment['away']} s. Acknowledged, and found again once and in order: {'; '.join(acked) or 'not looked for'}.",
        table(["", *(TITLES[system] for system in systems)], gaps),
    ])


def listed(found: dict) -> str:
    """The gaps of one deed, in order."""
    if "whole" not in found:
        return "failed" if "failed" in found else "-"
    return ", ".join(f"{whole:.2f} / {one:.2f}" for whole, one in zip(found["whole"], found["worst_partition"]))
