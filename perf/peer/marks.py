"""The marks of the speed work, each a ratio between two figures of one run: what was asked, what was measured."""

import dataclasses

from .results import Figure, Results, number

KAFKA, FSYNC = "kafka", "kafka-fsync"
CPU = "broker_cpu_s_per_gb"
NAMES = {KAFKA: "Kafka from the page cache", FSYNC: "Kafka with fsync"}


@dataclasses.dataclass(frozen=True)
class Mark:
    """`ratio` is to be at least, or at most, `bound`."""

    measure: str
    bound: float
    at_least: bool
    ratio: Figure | None
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        if self.ratio is None:
            return None
        return self.ratio.median >= self.bound if self.at_least else self.ratio.median <= self.bound

    def text(self, value: float) -> str:
        if self.unit == "%":
            return f"{value * 100:.0f} %"
        return f"{number(value)}x" if self.unit == "x" else f"{number(value)} {self.unit}"

    def row(self) -> str:
        sign = ">=" if self.at_least else "<="
        measured = "not measured"
        if self.ratio is not None:
            measured = self.text(self.ratio.median)
            if self.ratio.count > 1:
                measured += f" ({self.text(self.ratio.low)} to {self.text(self.ratio.high)})"
        met = {True: "met", False: "**missed**", None: "-"}[self.met]
        return f"| {self.measure} | {sign} {self.text(self.bound)} | {measured} | {met} |"


def marks(results: Results) -> list[Mark]:
    """All of them."""
    ours = lambda workload, key: results.best("millrace", workload, key, key != CPU)

    def against(system: str, workload: str, key: str) -> Figure | None:
        """Each with its own best number of connections."""
        own = ours(workload, key)
        return own and own.over(results.best(system, workload, key, key != CPU))

    def share(own: Figure | None, of: Figure | None) -> Figure | None:
        return own and own.over(of)

    found = []
    for partitions in (1, 16, 100):
        for system, bound in ((KAFKA, 5), (FSYNC, 10)):
            found.append(Mark(f"produce MB/s, {partitions} partition{'s' * (partitions > 1)}, against {NAMES[system]}", bound, True,
                              against(system, f"produce-{partitions}", "mb_per_s")))
    written = results.machine("disk_sequential", "write_mb_per_s")
    for partitions in (1, 16, 100):
        found.append(Mark(f"the same with {partitions}, against what the disk writes", 0.5, True,
                          share(ours(f"produce-{partitions}", "mb_per_s"), written), "%"))
    for system, bound in ((KAFKA, 5), (FSYNC, 20)):
        found.append(Mark(f"single-record requests/s, 64 connections, against {NAMES[system]}", bound, True,
                          against(system, "small-64", "requests_per_s")))
    found.append(Mark("broker CPU-seconds per GB produced, 16 partitions, against Kafka's", 1 / 6, False,
                      against(KAFKA, "produce-16", CPU)))
    reading = results.reading_cpu("millrace")
    found.append(Mark("broker CPU-seconds per GB fetched on the tail, against Kafka's", 1 / 2, False,
                      share(reading, results.reading_cpu(KAFKA))))
    found.append(Mark("fetch MB/s on the tail, 8 consumers, against a loopback send", 0.6, True,
                      share(ours("fanout", "fetch_mb_per_s"), results.machine("loopback_send", "mb_per_s")), "%"))
    found.append(Mark("cold replay MB/s, against what the disk reads", 0.7, True,
                      share(ours("replay-cold", "mb_per_s"), results.machine("disk_sequential", "read_mb_per_s")), "%"))
    for percentile, bound in (("p50", 1 / 2), ("p99", 1 / 5)):
        found.append(Mark(f"end-to-end {percentile} at half of Kafka's limit, against {NAMES[KAFKA]}", bound, False,
                          against(KAFKA, "e2e-equal", f"e2e_latency_{percentile}_ms")))
    found.append(Mark("p99 of a durable acknowledgement at that rate, against the median 4 KiB write + fdatasync", 3, False,
                      share(ours("e2e-equal", "latency_p99_ms"), results.machine("write_fdatasync_4k", "p50_ms"))))
    found.append(Mark("p50 of an acknowledgement, 1,000 busy partitions against 1", 2, False,
                      share(ours("busy-1000", "latency_p50_ms"), ours("busy-1", "latency_p50_ms"))))
    for key, how in (("ratio", ""), ("ratio_direct", ", direct ports")):
        found.append(Mark(f"work per CPU-second of two broker cores against one{how}", 1.7, True, results.extra("scaling", key)))
    seconds = results.report.get("memory", {}).get("seconds", 0)
    crowd = f"10,000 partitions, 2,000 connections, {seconds} s"
    found.append(Mark(f"resident memory, {crowd}", 300, False, results.memory("rss_max_mib"), "MiB"))
    found.append(Mark(f"its growth from the first half to the second, {crowd}", 1.05, False, results.memory("growth")))
    return found


def table(results: Results) -> str:
    """As Markdown."""
    return "\n".join(["| Measure | Mark | Measured | |", "|---|---|---|---|", *(mark.row() for mark in marks(results))]) + "\n"
