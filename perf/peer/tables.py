"""The comparison as Markdown: every figure from the file of results, none by hand."""

from . import marks
from .results import Results, number, shown
from .systems import TITLES
from .workloads import BUSY_RATE, FANOUT

MB, REQUESTS, CPU = "mb_per_s", "requests_per_s", "broker_cpu_s_per_gb"

# title, workload, figure, whether more is better
ROWS = [
    ("produce, 1 partition, MB/s", "produce-1", MB, True),
    ("produce, 16 partitions, MB/s", "produce-16", MB, True),
    ("produce, 100 partitions of a new topic, MB/s", "produce-100", MB, True),
    ("produce, 1,000 partitions of a new topic, MB/s", "produce-1000", MB, True),
    ("produce, 16 partitions, lz4, MB/s of values", "produce-lz4", "value_mb_per_s", True),
    ("produce, 16 partitions, zstd, MB/s of values", "produce-zstd", "value_mb_per_s", True),
    ("100-byte requests/s, 1 connection", "small-1", REQUESTS, True),
    ("100-byte requests/s, 64 connections", "small-64", REQUESTS, True),
    ("100-byte requests/s, 512 connections", "small-512", REQUESTS, True),
    ("4 connections produce, 1 consumer, MB/s read", "tail", "fetch_mb_per_s", True),
    (f"1 producer, {FANOUT} consumers, MB/s read", "fanout", "fetch_mb_per_s", True),
    ("replay of what was just written, MB/s", "replay-warm", MB, True),
    ("replay of cold data, MB/s", "replay-cold", MB, True),
    *((f"end-to-end at half of Kafka's limit, {name}, ms", "e2e-equal", f"e2e_latency_{key}_ms", False)
      for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p99_9"))),
    ("acknowledgement at half of Kafka's limit, p99, ms", "e2e-equal", "latency_p99_ms", False),
    *((f"end-to-end at {share} % of its own limit, p99, ms", f"e2e-{share}", "e2e_latency_p99_ms", False) for share in (10, 50, 80)),
    *((f"{BUSY_RATE:,} requests/s over {partitions:,} partitions of a new topic, p50, ms", f"busy-{partitions}", "latency_p50_ms", False)
      for partitions in (1, 100, 1000)),
    ("broker CPU-seconds per GB produced, 16 partitions", "produce-16", CPU, False),
    ("resident memory, idle, MiB", "start", "rss_idle_mib", False),
    ("resident memory at its peak under all this, MiB", "produce-16", "broker_rss_peak_mib", False),
    ("start of an empty broker to the first acknowledgement, s", "start", "seconds_to_first_ack", False),
    ("kill -9 under load to the first acknowledgement, s", "recovery", "seconds_to_first_ack", False),
]
TOOLS = [
    ("ProducerPerformance, MB/s", "ProducerPerformance", "mb_per_s", True),
    ("ConsumerPerformance, MB/s fetched", "ConsumerPerformance", "fetch_mb_per_s", True),
    ("EndToEndLatency, average, ms", "EndToEndLatency", "avg_ms", False),
    ("EndToEndLatency, p99, whole ms", "EndToEndLatency", "p99_ms", False),
]


def comparison(results: Results) -> str:
    """Workloads by systems, with the ratio to the Kafka that does not flush."""
    systems = results.systems()
    rows = []
    for title, workload, key, more in ROWS:
        cells = {system: cell(results, system, workload, key) for system in systems}
        if any(text != "-" for text in cells.values()):
            rows.append(row(title, cells, results.figure("millrace", workload, key), results.figure("kafka", workload, key), more))
    reading = {system: results.reading_cpu(system) for system in systems}
    if any(reading.values()):
        rows.append(row("broker CPU-seconds per GB read on the tail", {s: shown(f) for s, f in reading.items()},
                        reading.get("millrace"), reading.get("kafka"), False))
    for title, tool, key, more in TOOLS:
        found = {system: results.tool(system, tool, key) for system in systems}
        if any(found.values()):
            rows.append(row(f"Kafka's {title}", {s: shown(f) for s, f in found.items()}, found.get("millrace"), found.get("kafka"), more))
    head = "| | " + " | ".join(TITLES[system] for system in systems) + " | times better |"
    return "\n".join([head, "|---" * (len(systems) + 2) + "|", *rows]) + "\n"


def cell(results: Results, system: str, workload: str, key: str) -> str:
    figure = results.figure(system, workload, key)
    if figure is None and results.failure(system, workload):
        return "failed"
    return shown(figure)


def row(title: str, cells: dict[str, str], ours, theirs, more_is_better: bool) -> str:
    """The last column is above 1 where Millrace is better, and set in bold where it is not."""
    ratio = (ours.over(theirs) if more_is_better else theirs.over(ours)) if ours and theirs else None
    text = "-" if ratio is None else number(ratio.median) if ratio.median >= 1 else f"**{number(ratio.median)}**"
    return f"| {title} | " + " | ".join(cells.values()) + f" | {text} |"


def environment(results: Results) -> str:
    """What the figures depend on, as one paragraph."""
    e, probes = results.environment, results.report["machine"]
    rounds, finished = len(results.report["rounds"]), results.report["finished"]
    text = (
        f"{e['date']}, {rounds} round{'s' * (rounds != 1)}{'' if finished else ' (not finished)'} of {e['seconds']} s per workload after "
        f"{e['warmup']} s of warm-up (and {e['jvm_warmup']} s once for the JVM), medians and in brackets the lowest and highest. {e['cpu']}, "
        f"{e['cores']} cores, {e['memory_gib']} GiB; Linux {e['kernel']}; {e['filesystem']} ({e['mount_options']}) on {e['disk']}. {e['millrace']} at commit "
        f"{e['commit']}; Kafka {e['kafka']} on {e['kafka_jvm']}. {e['pinning']}; no TLS, one replica, `acks=all`, batches made beforehand. ")
    disk, sync, loop = (probes.get(name, {}) for name in ("disk_sequential", "write_fdatasync_4k", "loopback_send"))
    said = []
    if "write_mb_per_s" in disk:
        said.append(f"the disk writes {number(disk['write_mb_per_s'])} and reads {number(disk['read_mb_per_s'])} MB/s (fio, O_DIRECT, sequential)")
    if "p50_ms" in sync:
        said.append(f"a 4 KiB write and fdatasync takes {sync['p50_ms']:.3f} ms (p50), {sync['p99_ms']:.3f} ms (p99)")
    if "mb_per_s" in loop:
        said.append(f"a loopback connection carries {number(loop['mb_per_s'])} MB/s")
    return text + ("In the same run " + "; ".join(said) + ".\n" if said else "\n")


def page(results: Results, pictures: list[str]) -> str:
    """What stands in the README between its markers."""
    drawn = "\n".join(f"![{name.rsplit('-', 1)[-1].split('.')[0]}](perf/results/{name})\n" for name in pictures)
    failed = sum(bool(results.failure(system, workload)) for system in results.systems() for workload in workloads_of(results, system))
    note = f"\n{failed} measurements failed in at least one round; the file of results says why.\n" if failed else ""
    return f"{environment(results)}\n{comparison(results)}{note}\n{drawn}\nThe marks that were set for this work:\n\n{marks.table(results)}"


def workloads_of(results: Results, system: str) -> set[str]:
    return {workload for turn in results.report["rounds"] for workload in turn.get(system, {})}
