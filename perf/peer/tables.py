"""The comparison as Markdown: every figure from the file of results, none by hand."""

import dataclasses

from . import marks
from .results import Figure, Results, number, shown
from .systems import MAIN, TITLES
from .workloads import BUSY_RATE, CONNECTIONS, FANOUT, SEARCH_P99_MS, alternatives, with_connections

MB, REQUESTS, CPU, FETCH, E2E, ACK = ("mb_per_s", "requests_per_s", "broker_cpu_s_per_gb", "fetch_mb_per_s", "e2e_latency",
                                      "latency")
FEW, MANY = CONNECTIONS


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of one workload; `best` takes each system's own best of all numbers of connections."""

    title: str
    workload: str
    key: str
    more: bool = True
    best: bool = False

    def figure(self, results: Results, system: str) -> Figure | None:
        if self.best:
            return results.best(system, self.workload, self.key, self.more)
        return results.figure(system, self.workload, self.key)

    def cell(self, results: Results, system: str) -> str:
        figure = self.figure(results, system)
        names = alternatives(self.workload) if self.best else [self.workload]
        if figure is None and any(results.failure(system, name) for name in names):
            return "failed"
        return shown(figure)


def produced(partitions: int) -> list[Row]:
    title, name = f"produce, {partitions} partition{'s' * (partitions > 1)}", f"produce-{partitions}"
    return [*(Row(f"{title}, {count} connections, MB/s", with_connections(name, count), MB) for count in CONNECTIONS),
            Row(f"{title}, own best, MB/s", name, MB, best=True)]


THROUGHPUT = [
    *produced(1), *produced(16), *produced(100),
    Row(f"produce, 1,000 partitions, {FEW} connections, MB/s", "produce-1000", MB),
    Row("produce, 16 partitions, lz4, MB/s of values", "produce-lz4", "value_mb_per_s"),
    Row("produce, 16 partitions, zstd, MB/s of values", "produce-zstd", "value_mb_per_s"),
    *(Row(f"100-byte requests/s, {count} connection{'s' * (count > 1)}", f"small-{count}", REQUESTS) for count in (1, 64, 512)),
    Row("16 KiB batches, own best (the limit below), MB/s", "limit", MB, best=True),
    Row(f"most records/s read within {SEARCH_P99_MS} ms (p99)", "search", "highest_good_records_per_s"),
    Row(f"{FEW} connections produce, 1 consumer, MB/s read", "tail", FETCH),
    Row(f"1 producer, {FANOUT} consumers, MB/s read", "fanout", FETCH),
    Row("replay of what was just written, MB/s", "replay-warm", MB),
    Row("replay of cold data, MB/s", "replay-cold", MB),
]
LATENCY = [
    *(Row(f"end-to-end at half of Kafka's limit, {name}, ms", "e2e-equal", f"{E2E}_{key}_ms", False)
      for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p99_9"))),
    Row("acknowledgement at half of Kafka's limit, p99, ms", "e2e-equal", f"{ACK}_p99_ms", False),
    *(Row(f"end-to-end at {share} % of its own limit, p99, ms", f"e2e-{share}", f"{E2E}_p99_ms", False) for share in (10, 50, 80)),
    *(Row(f"acknowledgement, 20 MB/s in 64 KiB batches, {readers}, {key}, ms", workload, f"{ACK}_{key}_ms", False)
      for workload, readers in (("paced-alone", "nobody reads"), ("paced-fanout", "8 consumers")) for key in ("p50", "p99")),
    *(Row(f"acknowledgement, {BUSY_RATE:,} requests/s over {partitions:,} partition{'s' * (partitions > 1)}, {key}, ms", f"busy-{partitions}",
          f"{ACK}_{key}_ms", False) for partitions in (1, 100, 1000) for key in ("p50", "p99")),
]
COST = [
    *(Row(f"broker CPU-seconds per GB produced, 16 partitions, {count} connections", with_connections("produce-16", count), CPU, False)
      for count in CONNECTIONS),
    Row("broker CPU-seconds per GB produced, 16 partitions, own best", "produce-16", CPU, False, best=True),
    Row("resident memory, idle, MiB", "start", "rss_idle_mib", False),
    Row("resident memory at its peak under all this, MiB", "produce-16", "broker_rss_peak_mib", False),
    Row("start of an empty broker to the first acknowledgement, s", "start", "seconds_to_first_ack", False),
    Row("kill -9 under load to the first acknowledgement, s", "recovery", "seconds_to_first_ack", False),
]
TOOLS = [
    Row("ProducerPerformance, MB/s", "ProducerPerformance", "mb_per_s"),
    Row("ConsumerPerformance, MB/s fetched", "ConsumerPerformance", "fetch_mb_per_s"),
    Row("EndToEndLatency, average, ms", "EndToEndLatency", "avg_ms", False),
    Row("EndToEndLatency, p99, whole ms", "EndToEndLatency", "p99_ms", False),
]
# What the README shows, as a table and, the first five, as a picture: the two rows that Kafka wins among them.
SUMMARY = [
    Row("produce, 16 partitions, MB/s", "produce-16", MB, best=True),
    Row("100-byte requests/s, 64 connections", "small-64", REQUESTS),
    Row(f"1 producer, {FANOUT} consumers, MB/s read", "fanout", FETCH),
    Row("replay of what was just written, MB/s", "replay-warm", MB),
    Row("end-to-end at 10 % of its own limit, p99, ms", "e2e-10", f"{E2E}_p99_ms", False),
    Row(f"acknowledgement, {BUSY_RATE:,} requests/s, p50, ms", "busy-1", f"{ACK}_p50_ms", False),
    Row(f"acknowledgement, {BUSY_RATE:,} requests/s, p99, ms", "busy-1", f"{ACK}_p99_ms", False),
    Row("replay of cold data, MB/s", "replay-cold", MB),
    Row("broker CPU-seconds per GB produced", "produce-16", CPU, False, best=True),
    Row("resident memory, idle, MiB", "start", "rss_idle_mib", False),
    Row("kill -9 under load to the first acknowledgement, s", "recovery", "seconds_to_first_ack", False),
]
PICTURED = SUMMARY[:5]
# What all systems get. No spread here: so many columns would not be read.
OTHERS = [
    Row("produce, 1 partition, own best, MB/s", "produce-1", MB, best=True),
    Row("produce, 16 partitions, own best, MB/s", "produce-16", MB, best=True),
    Row("broker CPU-seconds per GB of that, own best", "produce-16", CPU, False, best=True),
    Row("100-byte requests/s, 64 connections", "small-64", REQUESTS),
    Row(f"{FEW} connections produce, 1 consumer, MB/s read", "tail", FETCH),
    *(Row(f"acknowledgement, {BUSY_RATE:,} requests/s, {key}, ms", "busy-1", f"{ACK}_{key}_ms", False) for key in ("p50", "p99")),
    Row("resident memory, idle, MiB", "start", "rss_idle_mib", False),
    Row("resident memory at its peak, MiB", "produce-16", "broker_rss_peak_mib", False),
]


def grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def against_kafka(results: Results, rows: list[Row], more_rows: list[tuple[str, dict, bool]] = ()) -> str:
    """Rows by the systems of the main comparison, with the ratio to the Kafka that does not flush."""
    systems = [system for system in results.systems() if system in MAIN]
    lines = []
    for row in rows:
        cells = [row.cell(results, system) for system in systems]
        if any(text != "-" for text in cells):
            lines.append([row.title, *cells, better(row.figure(results, "millrace"), row.figure(results, "kafka"), row.more)])
    for title, figures, more in more_rows:
        if any(figures.values()):
            lines.append([title, *(shown(figures.get(system)) for system in systems), better(figures.get("millrace"), figures.get("kafka"), more)])
    return grid(["", *(TITLES[system] for system in systems), "times better"], lines) if lines else ""


def better(ours: Figure | None, theirs: Figure | None, more_is_better: bool) -> str:
    """Above 1 where Millrace is better, and set in bold where it is not."""
    ratio = (ours.over(theirs) if more_is_better else theirs.over(ours)) if ours and theirs else None
    if ratio is None:
        return "-"
    return number(ratio.median) if ratio.median >= 1 else f"**{number(ratio.median)}**"


def others(results: Results) -> str:
    """All systems by what all of them get; nothing if only those of the main comparison were measured."""
    systems = results.systems()
    if all(system in MAIN for system in systems):
        return ""
    lines = []
    for row in OTHERS:
        figures = [row.figure(results, system) for system in systems]
        lines.append([row.title, *(number(figure.median) if figure else row.cell(results, system) for figure, system in zip(figures, systems))])
    return grid(["", *(TITLES[system] for system in systems)], lines)


def others_notes(results: Results) -> str:
    """What is different about those that were measured, and which were not there."""
    systems, missing = results.systems(), results.report.get("not_installed", [])
    notes = "".join(note for kind, note in (("nats", NATS_NOTE), ("nisshi", NISSHI_NOTE)) if any(system.startswith(kind) for system in systems))
    return notes + (f"- Not installed for this run: {', '.join(TITLES[system] for system in missing)}.\n" if missing else "") + "\n"


def alone(results: Results) -> str:
    """What only Millrace has: a store that grows or has its size, and two cores with and without direct ports."""
    lines = []
    for state, title in (("growing", "a new store that grows"), ("grown", "a store that has its size (filled, then all deleted)")):
        if figure := results.extra("growth", state, MB):
            lines.append([f"produce, 16 partitions, {FEW} connections: {title}", f"{shown(figure)} MB/s, {shown(results.extra('growth', state, CPU))} CPU-s/GB"])
    for run, ratio, title in (("two", "ratio", "clients connect anywhere"), ("two_direct", "ratio_direct", "direct ports")):
        if figure := results.extra("scaling", ratio):
            lines.append([f"two broker cores against one, by work per CPU-second: {title}",
                          f"{shown(figure)} times; {shown(results.extra('scaling', run, MB))} MB/s beside the generator on the same two cores"])
    return grid(["", "Millrace"], lines) if lines else ""


def verdicts(results: Results) -> str:
    """What was read back and accounted for, by system."""
    lines = [[TITLES[system], *(f"{count:,}" for count in results.accounted(system))] for system in results.systems()]
    return grid(["", "acknowledged and accounted for", "lost", "again or out of order", "otherwise wrong"], lines)


def environment(results: Results) -> str:
    """What the figures depend on, as a list."""
    e, probes = results.environment, results.report["machine"]
    rounds, finished = len(results.report["rounds"]), results.report["finished"]
    points = [
        f"{e['date']}, {results.report['minutes']:.0f} minutes: {rounds} round{'s' * (rounds != 1)}{'' if finished else ' (not finished)'} of {e['seconds']} s "
        f"per workload after {e['warmup']} s of warm-up (and {e['jvm_warmup']} s once for the JVM); medians, in brackets the lowest and highest.",
        f"{e['cpu']}, {e['cores']} cores, {e['memory_gib']} GiB; Linux {e['kernel']}; {e['filesystem']} ({e['mount_options']}) on {e['disk']}.",
        f"{e['pinning']}; no TLS, one replica, `acks=all`, batches made beforehand. {e['millrace']} at commit {e['commit']}.",
        f"Kafka {e['kafka']} on {e['kafka_jvm']}.",
    ]
    disk, sync, loop = (probes.get(name, {}) for name in ("disk_sequential", "write_fdatasync_4k", "loopback_send"))
    said = []
    if "write_mb_per_s" in disk:
        said.append(f"the disk writes {number(disk['write_mb_per_s'])} and reads {number(disk['read_mb_per_s'])} MB/s (fio, O_DIRECT, sequential)")
    if "p50_ms" in sync:
        said.append(f"a 4 KiB write and fdatasync takes {sync['p50_ms']:.3f} ms (p50), {sync['p99_ms']:.3f} ms (p99)")
    if "mb_per_s" in loop:
        said.append(f"a loopback connection carries {number(loop['mb_per_s'])} MB/s")
    if said:
        points.append(f"In the same run {'; '.join(said)}.")
    return "".join(f"- {point[0].upper()}{point[1:]}\n" for point in points)


def summary(results: Results) -> str:
    """What stands in the README between its markers: medians of a few figures, and what they were measured on."""
    systems, e = [system for system in results.systems() if system in MAIN], results.environment
    lines = []
    for row in SUMMARY:
        figures = [row.figure(results, system) for system in systems]
        if any(figures):
            cells = (number(figure.median) if figure else row.cell(results, system) for figure, system in zip(figures, systems))
            lines.append([row.title, *cells, better(row.figure(results, "millrace"), row.figure(results, "kafka"), row.more)])
    rounds = len(results.report["rounds"])
    return (grid(["", *(TITLES[system] for system in systems), "times better"], lines)
            + f"\n{e['date']}, {e['cpu']}, {e['cores']} cores, broker and generator on a core each; no TLS, one replica, `acks=all`, bulk as 1 KiB\n"
            f"records in 64 KiB batches; medians of {rounds} rounds of {e['seconds']} s; {e['millrace']} at commit {e['commit']}.\n")


def page(results: Results, pictures: list[str]) -> str:
    """What stands in perf/RESULTS.md between its markers."""
    reading = {system: results.reading_cpu(system) for system in MAIN}
    tools = [(f"Kafka's {row.title}", {system: results.tool(system, row.workload, row.key) for system in MAIN}, row.more) for row in TOOLS]
    sections = [
        ("Throughput", against_kafka(results, THROUGHPUT), THROUGHPUT_NOTES),
        ("Latency", against_kafka(results, LATENCY), LATENCY_NOTES),
        ("CPU, memory, starts", against_kafka(results, COST, [("broker CPU-seconds per GB read on the tail", reading, False)]), ""),
        ("Kafka's own tools", against_kafka(results, [], tools), TOOLS_NOTES),
        ("Beside other systems", others(results), others_notes(results)),
        ("Millrace by itself", alone(results), ALONE_NOTES),
        ("Was it all there?", verdicts(results), VERDICT_NOTES),
    ]
    drawn = "\n".join(f"![{name.rsplit('-', 1)[-1].split('.')[0]}](results/{name})\n" for name in pictures)
    body = "".join(f"**{title}**\n\n{table}\n{notes}" for title, table, notes in sections if table)
    return f"{environment(results)}\n{failures(results)}{body}{drawn}\n**The marks that were set for this work**\n\n{marks.table(results)}"


def failures(results: Results) -> str:
    failed = sum(bool(results.failure(system, workload)) for system in results.systems() for workload in workloads_of(results, system))
    return f"{failed} measurements failed in at least one round; the file of results says why.\n\n" if failed else ""


def workloads_of(results: Results, system: str) -> set[str]:
    return {workload for turn in results.report["rounds"] for workload in turn.get(system, {})}


THROUGHPUT_NOTES = f"""- Bulk is 1 KiB records in 64 KiB batches, 5 in flight per connection. A durable system with few requests on their way waits for the disk, so both {FEW} and {MANY}
  connections are measured; "own best" takes for each system what suits it.
- Every partition has taken a few kilobytes before it is measured: Kafka makes a partition's files only then, 50 ms each.
- Replays: Kafka reads the page cache, Millrace the disk. "Cold" was dropped from this machine's cache; what lies below it may still have it.

"""
LATENCY_NOTES = """- From when a record was due, in open loop, at rates that are shares of the limit above (each system's own best).
- The limit is found in closed loop and without a reader. Kafka does not keep up with half of that when each record is read as well, so those rows show a queue that
  grows. What it does keep up with is "most records/s read within 20 ms", and the rows of one rate for all below.

"""
TOOLS_NOTES = """- On one core the tool's JVM is the limit more than the broker.

"""
NATS_NOTE = """- NATS speaks its own protocol, so a generator of its own (perf/peer/nats) loads it: a stream per partition, a message per record, as many on their way as the batches hold.
  It has no batches: each message is acknowledged, and with fsync (`sync_interval: always`) written and flushed, by itself.
"""
NISSHI_NOTE = """- nisshi speaks Kafka's protocol and gets our generator. In memory nothing survives the process; SQLite runs with `synchronous=NORMAL`, which leaves commits in the page cache.
"""
ALONE_NOTES = """- All figures above are of a store that has its size. Two cores share with the generator, hence work per CPU-second; 2 is perfect.

"""
VERDICT_NOTES = """- Runs that read back what they wrote (end-to-end, tail, fan-out, search), and the verifier: idempotent producers, everything read twice, and what it had been promised read
  once more after the kill -9. For NATS the streams' own counts.

"""
