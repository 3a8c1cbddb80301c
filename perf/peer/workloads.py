"""What is run against each system, in this order, and which figure of it counts."""

import dataclasses

# 1 KiB records in batches of 64 KiB: 63 of them.
BATCHES = ["--record-bytes", "1K", "--batch-bytes", "64K", "--in-flight", "5"]
BULK = ["--connections", "4", *BATCHES]
MEDIUM = ["--partitions", "16", "--record-bytes", "1K", "--batch-bytes", "16K"]
SMALL = ["--partitions", "16", "--record-bytes", "100", "--batch-records", "1"]
# Enough requests on their way that the window never holds an open loop back.
OPEN = ["--in-flight", "64"]
# One rate for all systems, low enough for a Kafka that flushes each append.
BUSY_RATE = 1000
FANOUT = 8
FANOUT_RATE = 20_000  # records of 1 KiB per second
# Few requests on their way leave a system that answers late idle, many make one that answers early queue: bulk is
# measured with both, and each system's own best counts.
CONNECTIONS = (4, 16)
PACED = ["--connections", "4", *OPEN]
SEARCH_P99_MS = 20

THROUGHPUT, REQUESTS, LATENCY, READ = "mb_per_s", "requests_per_s", "latency_p99_ms", "fetch_mb_per_s"


@dataclasses.dataclass(frozen=True)
class Workload:
    """One load. `topic` is made for it and deleted after it unless `keep`. `share` sends at that share of the
    system's own limit, `equal` at half of what Kafka without fsync can do. `peers` says whether the systems beside
    Kafka get it, too; `slow` is what Kafka gets in the first round only, for the time it takes."""

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
    peers: bool = False
    slow: bool = False


def load(name: str, title: str, figure: str, *parts, **more) -> Workload:
    args = tuple(arg for part in parts for arg in (part if isinstance(part, list) else [part]))
    return Workload(name, title, figure, args, topic=more.pop("topic", name), **more)


def busy(partitions: int) -> Workload:
    return load(f"busy-{partitions}", f"one record per request, {BUSY_RATE:,}/s over {partitions:,} partitions", LATENCY,
                "--partitions", str(partitions), "--connections", "16", "--record-bytes", "100", "--batch-records", "1",
                "--rate", str(BUSY_RATE), OPEN, topic=wide(partitions), keep=partitions > 1, quick=partitions == 1, peers=partitions == 1,
                slow=partitions == 1000)


def wide(partitions: int) -> str:
    """The topic that all loads on so many partitions share, because Kafka takes 50 ms to make one."""
    return f"wide-{partitions}"


def alternatives(name: str) -> list[str]:
    """The workloads that measure one thing with different connections."""
    return [with_connections(name, connections) for connections in CONNECTIONS]


def with_connections(name: str, connections: int) -> str:
    return name if connections == CONNECTIONS[0] else f"{name}-c{connections}"


def bulk(partitions: int, connections: int, **more) -> Workload:
    name = with_connections(f"produce-{partitions}", connections)
    return load(name, f"produce, {partitions:,} partitions, {connections} connections", THROUGHPUT, "--partitions", str(partitions),
                "--connections", str(connections), BATCHES, **more)


# What is hottest comes late: by then a JIT compiler has seen the rest.
WORKLOADS = [
    load("small-1", "100 bytes per request, 1 connection", REQUESTS, SMALL, "--connections", "1", "--in-flight", "1", quick=False),
    load("small-64", "100 bytes per request, 64 connections", REQUESTS, SMALL, "--connections", "64", "--in-flight", "1", peers=True),
    load("small-512", "100 bytes per request, 512 connections", REQUESTS, SMALL, "--connections", "512", "--in-flight", "1", quick=False),
    load("produce-lz4", "produce, 16 partitions, lz4", "value_mb_per_s", "--partitions", "16", BULK, "--codec", "lz4",
         fsync_matters=False, quick=False),
    load("produce-zstd", "produce, 16 partitions, zstd", "value_mb_per_s", "--partitions", "16", BULK, "--codec", "zstd",
         fsync_matters=False, quick=False),
    bulk(1, 4, peers=True), bulk(1, 16, peers=True),
    load("paced-alone", "20 MB/s produced, nobody reads", LATENCY, "--partitions", "16", BULK, "--rate", str(FANOUT_RATE),
         topic="fan", keep=True, fsync_matters=False),
    load("paced-fanout", f"20 MB/s produced, {FANOUT} consumers read it", LATENCY, "--partitions", "16", BULK, "--rate", str(FANOUT_RATE),
         "--fanout", str(FANOUT), topic="fan", kind="mixed", keep=True, fsync_matters=False),
    load("fanout", f"1 producer as fast as it goes, {FANOUT} consumers", READ, "--partitions", "16", "--connections", "1",
         "--record-bytes", "1K", "--batch-bytes", "64K", "--in-flight", "2", "--fanout", str(FANOUT), topic="fan", kind="mixed",
         fsync_matters=False),
    load("tail", "4 connections produce, 1 consumer", READ, "--partitions", "16", BULK, "--consumer-connections", "4", kind="mixed",
         fsync_matters=False, quick=False, peers=True),
    load("search", f"most that is read within {SEARCH_P99_MS} ms (p99)", "highest_good_records_per_s", MEDIUM, PACED, "--p99-ms", str(SEARCH_P99_MS),
         "--precision", "0.1", kind="search", fsync_matters=False, quick=False, slow=True),
    *(load(with_connections("limit", connections), f"1 KiB in 16 KiB batches, {connections} connections, as fast as it goes", THROUGHPUT,
           MEDIUM, "--connections", str(connections), "--in-flight", "5", topic="paced", keep=True) for connections in CONNECTIONS),
    load("e2e-10", "from due to read at 10 % of its own limit", LATENCY, MEDIUM, PACED, topic="paced", kind="e2e", keep=True, share=0.1, quick=False),
    load("e2e-50", "from due to read at 50 % of its own limit", LATENCY, MEDIUM, PACED, topic="paced", kind="e2e", keep=True, share=0.5),
    load("e2e-80", "from due to read at 80 % of its own limit", LATENCY, MEDIUM, PACED, topic="paced", kind="e2e", keep=True, share=0.8, quick=False),
    load("e2e-equal", "from due to read at half of Kafka's limit", LATENCY, MEDIUM, PACED, topic="paced", kind="e2e", equal=True),
    load("verify", "every record accounted for", "records_acked", "--partitions", "16", "--idempotent", "--record-bytes", "1K",
         kind="verify", keep=True),
    busy(1), busy(100),
    bulk(100, 4, topic=wide(100), keep=True), bulk(100, 16, topic=wide(100)),
    busy(1000),
    bulk(1000, 4, topic=wide(1000), quick=False, slow=True),
    bulk(16, 16, topic="many", peers=True),
    # The last ones keep what was produced, for the replays and for the recovery.
    bulk(16, 4, topic="replay", keep=True, peers=True),
    load("replay-warm", "replay of what was just written", THROUGHPUT, "--connections", "4", "--mode", "replay",
         kind="consume", topic="replay", keep=True, fsync_matters=False),
    load("replay-cold", "replay of cold data", THROUGHPUT, "--connections", "4", "--mode", "replay", "--once",
         kind="consume", topic="replay", keep=True, cold=True, fsync_matters=False),
]
BY_NAME = {workload.name: workload for workload in WORKLOADS}
