"""NATS JetStream's turn in a round. It speaks no Kafka, so `nats-load` (perf/peer/nats) takes the place of
`millrace-bench`: a stream for each partition, a message for each record, as many messages on their way as the records of
all batches would be. What it prints has the names of our generator."""

import json
import pathlib
import subprocess
import time

from harness import paths

from .session import PATIENCE_SECONDS, Session
from .systems import GENERATOR_CORE
from .workloads import Workload

# Records of 1 KiB in a batch of 64 KiB.
RECORDS_OF_BATCH = {"64K": 63, "16K": 15}
BYTES = {"100": 100, "1K": 1024}


class JetStreamSession(Session):
    """See the module."""

    def start(self) -> dict:
        self.server.start()
        time.sleep(1)
        return {"rss_idle_mib": self.server.rss_mib()}

    def warm_up(self) -> dict:
        self.generate("produce", "warm", ["--partitions", "16", "--connections", "4", "--record-bytes", "1K", "--batch-bytes", "64K",
                                          "--in-flight", "5"], self.plan.warmup, 0)
        return {"seconds_asked": self.plan.warmup}

    def generate(self, kind: str, topic: str, args: list[str], seconds: int, warmup: int, observe=None) -> dict:
        command = ["taskset", "-c", GENERATOR_CORE, str(paths.DEPS / "bin" / "nats-load"), "-url", f"nats://{self.server.address}",
                   "-seconds", str(seconds), "-warmup", str(warmup), "-broker-pid", str(self.server.pid), *translated(kind, args)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + warmup + PATIENCE_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-400:] or f"exit status {done.returncode}")
        status = pathlib.Path(f"/proc/{self.server.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        return json.loads(done.stdout) | {"broker_rss_mib": self.server.rss_mib(), "broker_rss_peak_mib": peak / 1024}

    def clear(self, workload: Workload) -> None:
        """The generator deletes its streams itself."""


def translated(kind: str, args: list[str]) -> list[str]:
    """Arguments of `millrace-bench` as those of `nats-load`."""
    asked = dict(zip(args[::2], args[1::2]))
    records = int(asked["--batch-records"]) if "--batch-records" in asked else RECORDS_OF_BATCH[asked["--batch-bytes"]]
    result = ["-streams", asked["--partitions"], "-connections", asked["--connections"], "-bytes", str(BYTES[asked["--record-bytes"]]),
              "-in-flight", str(int(asked["--in-flight"]) * records)]
    if "--rate" in asked:
        result += ["-rate", asked["--rate"]]
    return result + (["-readers", "1"] if kind == "mixed" else [])
