"""A file of results: medians over the rounds, their spread, and ratios between systems."""

import dataclasses
import json
import pathlib
import statistics

from .systems import TITLES
from .workloads import alternatives

# Findings of the verifier that have a column of their own, and its other ones.
LOST, AGAIN = ("lost", "vanished", "records_lost"), ("duplicate", "disorder", "backwards", "records_again_or_out_of_order")
WRONG = ("misplaced", "changed", "damaged", "hole", "phantom", "rejected")


@dataclasses.dataclass(frozen=True)
class Figure:
    """The median over the rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(values: list[float]) -> "Figure | None":
        return Figure(statistics.median(values), min(values), max(values), len(values)) if values else None

    def over(self, other: "Figure | None") -> "Figure | None":
        """The ratio: of the medians, and as far apart as the rounds can make it."""
        if other is None or min(other.low, other.median) <= 0:
            return None
        return Figure(self.median / other.median, self.low / other.high, self.high / other.low, min(self.count, other.count))


class Results:
    """See the module."""

    def __init__(self, path: pathlib.Path):
        self.report = json.loads(path.read_text())
        self.environment = self.report["environment"]

    def values(self, system: str, workload: str, key: str) -> list[float]:
        """One number per round in which the workload did not fail."""
        found = (turn.get(system, {}).get(workload, {}).get(key) for turn in self.report["rounds"])
        return [value for value in found if isinstance(value, (int, float))]

    def figure(self, system: str, workload: str, key: str) -> Figure | None:
        return Figure.of(self.values(system, workload, key))

    def best(self, system: str, workload: str, key: str, more: bool = True) -> Figure | None:
        """The best of all numbers of connections with which a workload was measured."""
        found = [figure for name in alternatives(workload) if (figure := self.figure(system, name, key))]
        return (max if more else min)(found, key=lambda figure: figure.median, default=None)

    def accounted(self, system: str) -> tuple[int, int, int, int]:
        """Records that were acknowledged and looked for, and of them lost, again or out of order, otherwise wrong."""
        runs = [run for turn in self.report["rounds"] for run in turn.get(system, {}).values()]
        total = lambda *keys: sum(int(run.get(key, 0)) for run in runs for key in keys)
        return total("records_acked_in_all", "records_acked"), total(*LOST), total(*AGAIN), total(*WRONG)

    def failure(self, system: str, workload: str) -> str | None:
        """Why it failed, in the last round in which it did."""
        found = [turn.get(system, {}).get(workload, {}).get("failed") for turn in self.report["rounds"]]
        return next((why for why in reversed(found) if why), None)

    def machine(self, probe: str, key: str) -> Figure | None:
        value = self.report["machine"].get(probe, {}).get(key)
        return Figure.of([value] if value else [])

    def extra(self, kind: str, *keys: str) -> Figure | None:
        """A figure of what is measured beside the rounds."""
        values = []
        for value in self.report.get(kind, []):
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            values.append(value)
        return Figure.of([value for value in values if isinstance(value, (int, float))])

    def memory(self, key: str) -> Figure | None:
        value = self.report.get("memory", {}).get(key)
        return Figure.of([value] if value else [])

    def tool(self, system: str, tool: str, key: str) -> Figure | None:
        found = [turn.get(system, {}).get(tool, {}).get(key) for turn in self.report["tools"]]
        return Figure.of([value for value in found if value is not None])

    def systems(self) -> list[str]:
        """Those that were measured, Millrace first."""
        seen = {system for turn in self.report["rounds"] for system in turn}
        return [system for system in TITLES if system in seen]

    def reading_cpu(self, system: str) -> Figure | None:
        """Broker CPU-seconds per GB that consumers at the end of the log got: what eight of them add to the same
        producer, round by round."""
        values = []
        for turn in self.report["rounds"]:
            alone, with_readers = (turn.get(system, {}).get(name, {}) for name in ("paced-alone", "paced-fanout"))
            if "broker_cores" in alone and with_readers.get("fetch_mb_per_s"):
                more = with_readers["broker_cores"] - alone["broker_cores"]
                values.append(more / (with_readers["fetch_mb_per_s"] / 1e3))
        return Figure.of(values)


def number(value: float) -> str:
    """Three digits are enough for a ratio between machines that are never the same."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def shown(figure: Figure | None) -> str:
    """Median and spread."""
    if figure is None:
        return "-"
    if figure.count < 2:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.low)} to {number(figure.high)})"
