"""What is run against each system, in this order, and which figure of it counts."""

import dataclasses

# 1 KiB records in batches of 64 KiB: 63 of them.
BULK = ["--connections", "4", "--record-bytes", "1K", "--batch-bytes", "64K", "--in-flight", "5"]
MEDIUM = ["--partitions", "16", "--connections", "4", "--record-bytes", "1K", "--batch-bytes", "16K"]
SMALL = ["--partitions", "16", "--record-bytes", "100", "--batch-records", "1"]
# Enough requests on their way that the window never holds an open loop back.
OPEN = ["--in-flight", "64"]
# One rate for all systems, low enough for a Kafka that flushes each append.
BUSY_RATE = 1000
FANOUT = 8
FANOUT_RATE = 20_000  # records of 1 KiB per second

THROUGHPUT, REQUESTS, LATENCY, READ = "mb_per_s", "requests_per_s", "latency_p99_ms", "fetch_mb_per_s"


@dataclasses.dataclass(frozen=True)
class Workload:
    """One load. `topic` is made for it and deleted after it unless `keep`. `share` sends at that share of the
    system's own limit, `equal` at half of what Kafka without fsync can do."""

    name: str
    title: str
    figure: str
    args: tuple = ()
    kind: str = "produce"
    topic: str = ""
    keep: bool = False
    share: float | None = None
    equal: bool = False
    cold: bool = False
    # Whether Kafka's flushing makes a difference worth its time.
    fsync_matters: bool = True
    quick: bool = True


def load(name: str, title: str, figure: str, *parts, **more) -> Workload:
    args = tuple(arg for part in parts for arg in (part if isinstance(part, list) else [part]))
    return Workload(name, title, figure, args, topic=more.pop("topic", name), **more)


def busy(partitions: int) -> Workload:
    return load(f"busy-{partitions}", f"one record per request, {BUSY_RATE:,}/s over {partitions:,} partitions", LATENCY,
                "--partitions", str(partitions), "--connections", "16", "--record-bytes", "100", "--batch-records", "1",
                "--rate", str(BUSY_RATE), OPEN, quick=partitions != 100)


# What is hottest comes late: by then a JIT compiler has seen the rest.
WORKLOADS = [
    load("small-1", "100 bytes per request, 1 connection", REQUESTS, SMALL, "--connections", "1", "--in-flight", "1", quick=False),
    load("small-64", "100 bytes per request, 64 connections", REQUESTS, SMALL, "--connections", "64", "--in-flight", "1"),
    load("small-512", "100 bytes per request, 512 connections", REQUESTS, SMALL, "--connections", "512", "--in-flight", "1", quick=False),
    load("produce-lz4", "produce, 16 partitions, lz4", "value_mb_per_s", "--partitions", "16", BULK, "--codec", "lz4",
         fsync_matters=False, quick=False),
    load("produce-zstd", "produce, 16 partitions, zstd", "value_mb_per_s", "--partitions", "16", BULK, "--codec", "zstd",
         fsync_matters=False, quick=False),
    load("produce-1", "produce, 1 partition", THROUGHPUT, "--partitions", "1", BULK),
    load("produce-100", "produce, 100 partitions", THROUGHPUT, "--partitions", "100", BULK),
    load("produce-1000", "produce, 1,000 partitions", THROUGHPUT, "--partitions", "1000", BULK, quick=False),
    load("paced-alone", "20 MB/s produced, nobody reads", LATENCY, "--partitions", "16", BULK, "--rate", str(FANOUT_RATE),
         topic="fan", keep=True, fsync_matters=False),
    load("paced-fanout", f"20 MB/s produced, {FANOUT} consumers read it", LATENCY, "--partitions", "16", BULK, "--rate", str(FANOUT_RATE),
         "--fanout", str(FANOUT), topic="fan", kind="mixed", keep=True, fsync_matters=False),
    load("fanout", f"1 producer as fast as it goes, {FANOUT} consumers", READ, "--partitions", "16", "--connections", "1",
         "--record-bytes", "1K", "--batch-bytes", "64K", "--in-flight", "2", "--fanout", str(FANOUT), topic="fan", kind="mixed",
         fsync_matters=False),
    load("tail", "4 connections produce, 1 consumer", READ, "--partitions", "16", BULK, "--consumer-connections", "4", kind="mixed",
         fsync_matters=False, quick=False),
    load("limit", "1 KiB in 16 KiB batches, as fast as it goes", THROUGHPUT, MEDIUM, "--in-flight", "5", topic="paced", keep=True),
    load("e2e-10", "from due to read at 10 % of its own limit", LATENCY, MEDIUM, OPEN, topic="paced", kind="e2e", keep=True, share=0.1, quick=False),
    load("e2e-50", "from due to read at 50 % of its own limit", LATENCY, MEDIUM, OPEN, topic="paced", kind="e2e", keep=True, share=0.5),
    load("e2e-80", "from due to read at 80 % of its own limit", LATENCY, MEDIUM, OPEN, topic="paced", kind="e2e", keep=True, share=0.8, quick=False),
    load("e2e-equal", "from due to read at half of Kafka's limit", LATENCY, MEDIUM, OPEN, topic="paced", kind="e2e", equal=True),
    busy(1), busy(100), busy(1000),
    # The last ones keep what was produced, for the replays and for the recovery.
    load("produce-16", "produce, 16 partitions", THROUGHPUT, "--partitions", "16", BULK, topic="replay", keep=True),
    load("replay-warm", "replay of what was just written", THROUGHPUT, "--connections", "4", "--mode", "replay",
         kind="consume", topic="replay", keep=True, fsync_matters=False),
    load("replay-cold", "replay of cold data", THROUGHPUT, "--connections", "4", "--mode", "replay", "--once",
         kind="consume", topic="replay", keep=True, cold=True, fsync_matters=False),
]
BY_NAME = {workload.name: workload for workload in WORKLOADS}
