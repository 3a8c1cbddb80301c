"""One system's turn in one round: start it, load it, measure it, kill it. Nothing it starts outlives it, and what
fails is recorded under its name while the rest goes on."""

import dataclasses
import itertools
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

from harness import paths

from . import wire
from .systems import GENERATOR_CORE, MAIN, SYSTEMS
from .workloads import BULK, FANOUT_RATE, PACED, WORKLOADS, Workload, alternatives

# Beyond its own time, for connections and stragglers.
PATIENCE_SECONDS = 60
# For making each partition of a topic ready: 50 s for 1,000 with Kafka here.
TOUCH_SECONDS = 180
# How much Millrace's store gets before it is measured, so that it does not grow meanwhile; see growth.py. Enough for
# both loads that share a topic.
FILL_SECONDS = 8
# Runs of a search at most.
TRIALS_MAX = 16
# About what the generator takes until its clock starts.
CONNECTING_SECONDS = 0.2
# A workload that fills the disk would fail for a reason of the machine's.
FREE_BYTES_MIN = 12 << 30


@dataclasses.dataclass
class Plan:
    """How long, how much."""

    seconds: int
    warmup: int
    jvm_warmup: int
    quick: bool
    cold_bytes: int
    only: frozenset[str]
    # Of the round, from 0.
    number: int = 0
    # Records per second of `equal` workloads; known once Kafka's limit is.
    equal_rate: float | None = None

    def takes(self, workload: Workload, system: str) -> bool:
        if self.only and workload.name not in self.only:
            return False
        if system not in MAIN:
            return workload.peers
        if workload.slow and self.number > 0 and not self.only and system != "millrace":
            return False
        return bool(self.only) or ((workload.quick or not self.quick) and (workload.fsync_matters or system != "kafka-fsync"))


class Skip(Exception):
    """A reason why something cannot be measured."""


class Session:
    """See the module."""

    def __init__(self, system: str, plan: Plan, save):
        self.system, self.plan, self.save = system, plan, save
        # Called with the server when a load's measuring begins; for profilers. It has to end before the load does.
        self.observe = None
        self.results: dict[str, dict] = {}
        # What the verifier was told is durable.
        self.acks: pathlib.Path | None = None
        # Topics whose partitions are all ready.
        self.touched: set[str] = set()

    def run(self) -> None:
        try:
            with SYSTEMS[self.system]() as server:
                self.server = server
                self.attempt("start", self.start)
                if not server.alive:
                    return
                self.attempt("warm-up", self.warm_up)
                for workload in WORKLOADS:
                    if self.plan.takes(workload, self.system):
                        self.attempt(workload.name, lambda: self.measure(workload))
                        self.clear(workload)
                if self.system in MAIN and (not self.plan.only or "recovery" in self.plan.only):
                    self.attempt("recovery", self.recover)
        except Exception as failure:  # noqa: BLE001 - one system must not end the run
            self.results["session"] = {"failed": repr(failure)[-500:]}
            self.save()

    def attempt(self, name: str, work) -> None:
        began = time.monotonic()
        try:
            self.results[name] = work()
        except subprocess.TimeoutExpired as failure:
            self.results[name] = {"failed": f"still running after {failure.timeout:.0f} s"}
        except Exception as failure:  # noqa: BLE001 - recorded, and the next one may work
            log = "" if self.server.alive else f"; the broker has ended: {self.server.log_tail(5)}"
            self.results[name] = {"failed": (str(failure) or repr(failure))[-500:] + log[-500:]}
        took = self.results[name]["took_s"] = round(time.monotonic() - began, 1)
        print(f"  {self.system:12} {name:14} {took:5.1f} s  {brief(self.results[name])}", flush=True)
        self.save()

    # Moments.

    def start(self) -> dict:
        self.server.prepare()
        seconds = self.server.seconds_to_first_ack()
        time.sleep(1)
        return {"seconds_to_first_ack": seconds, "rss_idle_mib": self.server.rss_mib()}

    def recover(self) -> dict:
        """kill -9 under load, then the time until a record is acknowledged again."""
        load = subprocess.Popen(bench(self.server, "produce", "replay", ["--partitions", "16", *BULK], 60, 0),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            data = self.server.data_bytes()
            self.server.kill()
        finally:
            load.kill()
            load.wait()
        found = {"seconds_to_first_ack": self.server.seconds_to_first_ack(), "data_gb": data / 1e9}
        return found | (verified(self.server, "verify", self.acks) if self.acks else {})

    def warm_up(self) -> dict:
        """Single records first, because a JIT compiler counts calls and not bytes; then bulk, then reading at the end of
        the log, then reading what is there."""
        total = self.plan.jvm_warmup if "kafka" in self.system else self.plan.warmup
        topic = ["--partitions", "16"]
        if self.system == "millrace":
            self.generate("produce", "fill", [*topic, *BULK], FILL_SECONDS, 0)
            self.delete("fill")
        for kind, share, args in [("produce", 0.4, [*topic, "--connections", "64", "--batch-records", "1"]),
                                  ("produce", 0.2, [*topic, *BULK]),
                                  ("e2e", 0.2, [*topic, *PACED, "--record-bytes", "1K", "--rate", str(FANOUT_RATE)]),
                                  ("consume", 0.2, ["--connections", "4"])]:
            self.generate(kind, "warm", args, max(1, round(total * share)), 0)
        self.delete("warm")
        return {"seconds_asked": total}

    # Loads.

    def measure(self, workload: Workload) -> dict:
        if not self.server.alive:
            raise Skip("the broker has ended")
        if shutil.disk_usage(self.server.home).free < FREE_BYTES_MIN:
            raise Skip("less than 12 GiB are free on the disk")
        args = [*workload.args, *self.rate(workload)]
        if workload.kind == "verify":
            self.acks = pathlib.Path(self.server.home) / "acks"
            return verified(self.server, workload.topic, self.acks, args, self.plan.seconds)
        if workload.cold:
            return self.replay_cold(workload, args)
        return self.generate(workload.kind, workload.topic, args, self.plan.seconds, self.plan.warmup, self.observe)

    def rate(self, workload: Workload) -> list[str]:
        if workload.equal:
            if self.plan.equal_rate is None and self.system == "kafka":
                self.plan.equal_rate = self.share_of_limit(0.5)
            if self.plan.equal_rate is None:
                raise Skip("Kafka's limit is not known")
            return ["--rate", f"{self.plan.equal_rate:.0f}"]
        if workload.share is None:
            return []
        return ["--rate", f"{self.share_of_limit(workload.share):.0f}"]

    def share_of_limit(self, share: float) -> float:
        """Of the most it took with any number of connections."""
        limits = [self.results.get(name, {}).get("records_per_s") for name in alternatives("limit")]
        if not any(limits):
            raise Skip("its own limit is not known")
        return max(limit for limit in limits if limit) * share

    def replay_cold(self, workload: Workload, args: list[str]) -> dict:
        """Fills up to the size asked for, puts the files out of the page cache, reads everything once."""
        deadline = time.monotonic() + 600
        while self.server.data_bytes() < self.plan.cold_bytes and time.monotonic() < deadline:
            self.generate("produce", workload.topic, ["--partitions", "16", *BULK], 2, 0)
        self.server.evict()
        seconds = max(self.plan.seconds, 120 if self.plan.cold_bytes else 0)
        return self.generate("consume", workload.topic, args, seconds, 0, self.observe)

    def generate(self, kind: str, topic: str, args: list[str], seconds: int, warmup: int, observe=None) -> dict:
        if "--partitions" in args and topic not in self.touched:
            partitions = int(args[args.index("--partitions") + 1])
            wire.touch(self.server.port, topic, partitions, TOUCH_SECONDS)
            self.touched.add(topic)
        return run_bench(self.server, kind, topic, args, seconds, warmup, observe=observe)

    def clear(self, workload: Workload) -> None:
        """Makes room; a topic that cannot be deleted is the next workload's business, not the run's end."""
        if workload.keep or not self.server.alive:
            return
        try:
            self.delete(workload.topic)
            self.server.settle()
        except (OSError, RuntimeError) as failure:
            print(f"  {self.system}: {workload.topic} stays: {failure}", flush=True)


    def delete(self, topic: str) -> None:
        self.touched.discard(topic)
        wire.delete_topic(self.server.port, topic)


def bench(server, kind: str, topic: str, args: list[str], seconds: int, warmup: int, output=None, cores=GENERATOR_CORE) -> list[str]:
    command = [paths.binary("millrace-bench"), kind, "--bootstrap", server.address, "--topic", topic, *args,
               "--seconds", str(seconds), "--warmup", str(warmup), "--cores", cores, "--broker-pid", str(server.pid)]
    return command + (["--json", str(output)] if output else [])


def run_bench(server, kind: str, topic: str, args: list[str], seconds: int, warmup: int, cores=GENERATOR_CORE, observe=None) -> dict:
    """One run of the generator, and its report as one level of numbers; RuntimeError with its words if it failed."""
    with tempfile.NamedTemporaryFile(suffix=".json") as output:
        command = bench(server, kind, topic, args, seconds, warmup, output.name, cores)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                if observe:
                    time.sleep(warmup + CONNECTING_SECONDS)
                    observe(server)
                trials = TRIALS_MAX if kind == "search" else 1
                words, _ = process.communicate(timeout=(seconds + warmup) * trials + PATIENCE_SECONDS)
            finally:
                process.kill()
        if process.returncode != 0:
            raise RuntimeError(words.strip()[-400:] or f"exit status {process.returncode}")
        return flatten(json.load(open(output.name)), args)


def verified(server, topic: str, acks: pathlib.Path, args: list[str] | None = None, seconds: int = 0) -> dict:
    """The verifier's counts: of records it sends and reads back, or, without `args`, of what `acks` says was
    acknowledged earlier."""
    command = [paths.binary("millrace-bench"), "verify", "--bootstrap", server.address, "--topic", topic]
    command += [*args, "--seconds", str(seconds), "--acks", str(acks)] if args else ["--verify-against", str(acks)]
    with tempfile.NamedTemporaryFile(suffix=".json") as output:
        done = subprocess.run(["taskset", "-c", GENERATOR_CORE, *command, "--json", output.name], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + PATIENCE_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(done.stdout.strip()[-400:])
        return {key: value for key, value in json.load(open(output.name)).items() if isinstance(value, (int, float, str))}


def flatten(report: dict, args: list[str]) -> dict:
    """Numbers at one level: `latency` becomes `latency_p50_ms` and so on. Codecs are compared by what they carry."""
    flat: dict = {}
    for key, value in report.items():
        if isinstance(value, dict) and key.endswith("latency"):
            # One name for the time to the acknowledgement, whatever else a mode measures.
            flat |= {f"{key.removeprefix('ack_')}_{inner}": number for inner, number in value.items()}
        elif key == "warnings" and value:
            flat[key] = value
        elif isinstance(value, (int, float)):
            flat[key] = value
    seconds = report.get("timeline", {}).get("seconds", {})
    flat["requests_by_second"] = [sum(second["requests"] for second in together) for together in itertools.zip_longest(
        *seconds.values(), fillvalue={"requests": 0})]
    if "--record-bytes" in args and args[args.index("--record-bytes") + 1] == "1K":
        flat["value_mb_per_s"] = flat["records_per_s"] * 1024 / 1e6
    return flat


BRIEF = [("highest_good_records_per_s", "records/s within the bound"), ("records_acked", "records accounted for"), ("mb_per_s", "MB/s"),
         ("fetch_mb_per_s", "MB/s read"), ("requests_per_s", "requests/s"), ("latency_p50_ms", "ms p50"), ("latency_p99_ms", "p99"),
         ("e2e_latency_p50_ms", "e2e p50"), ("e2e_latency_p99_ms", "p99"), ("broker_cpu_s_per_gb", "CPU-s/GB"),
         ("seconds_to_first_ack", "s to the first ack"), ("rss_idle_mib", "MiB idle"), ("rss_max_mib", "MiB at most"),
         ("growth", "times from the first half to the second"), ("broker_rss_mib", "MiB")]


def brief(result: dict) -> str:
    if "failed" in result:
        return "FAILED: " + " ".join(result["failed"].split())
    return "  ".join(f"{result[key]:,.2f} {unit}" if result[key] < 100 else f"{result[key]:,.0f} {unit}"
                     for key, unit in BRIEF if isinstance(result.get(key), (int, float)))
