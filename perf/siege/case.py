"""One case: a broker of its own on a core of its own, two honest clients at a rate, and a hostile process beside them."""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from harness import paths
from peer import wire
from peer.session import bench
from peer.systems import BROKER_CORE, GENERATOR_CORE, Millrace

from .attacks import Attack

HOSTILE = paths.ROOT / "perf" / "hostile"
# Requests per second of each honest client, and records per request.
RATE = 1000
PRODUCED, READ = "honest-produced", "honest-read"
HONEST = {
    "produce": (PRODUCED, ["--rate", str(RATE), "--batch-records", "1", "--record-bytes", "100", "--in-flight", "1000"]),
    "consume": (READ, ["--rate", str(RATE)]),
}
WARMUP_SECONDS, PREPARE_SECONDS_MAX, PATIENCE_SECONDS = 1, 60, 60
# No request of a core gets on during a turn.
LONG_TURN_MS = 2
# What is hostile may not take the core from the honest clients beside it. Nobody is put ahead: the kernel finishes a durable write
# in a worker of its own, on the core that the disk's interrupt comes to, and whoever is ahead of that worker holds the write up.
BEHIND = ["nice", "-n", "10"]


class Hostile:
    """The hostile process. Leaving the `with` stops it."""

    def __init__(self, attack: Attack, server: Millrace):
        command = [*BEHIND, "taskset", "-c", GENERATOR_CORE, sys.executable, str(HOSTILE), "--attack", attack.name, str(server.port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def prepared(self) -> None:
        if self.process.stdout.readline() != "prepared\n":
            raise RuntimeError(f"could not be prepared: {self.process.communicate()[1].strip()[-400:]}")

    def begin(self) -> None:
        self.process.stdin.write("begin\n")
        self.process.stdin.flush()

    def end(self) -> dict:
        """How often it did what it does."""
        self.process.send_signal(signal.SIGTERM)
        words, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        if self.process.returncode != 0:
            raise RuntimeError(f"the attack failed: {errors.strip()[-400:]}")
        return json.loads(words.splitlines()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def status_mib(pid: int, key: str) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the broker has ended")


def measure(attack: Attack, seconds: int) -> dict:
    """The honest clients' delays, and what it did to the broker."""
    with Millrace() as server:
        server.start()
        for topic in (PRODUCED, READ):
            wire.make_ready(server.port, topic, 1, 10)
        with Hostile(attack, server) as hostile, tempfile.TemporaryDirectory(prefix="millrace-hostile-") as folder:
            hostile.prepared()
            clients = {kind: honest(server, kind, seconds, pathlib.Path(folder)) for kind in HONEST}
            try:
                time.sleep(WARMUP_SECONDS)
                cpu = server.cpu_seconds()
                hostile.begin()
                turns = explained(server, seconds)
                cpu = server.cpu_seconds() - cpu
                rounds = hostile.end()
                delays = {kind: delay(client, pathlib.Path(folder) / kind) for kind, client in clients.items()}
            finally:
                for client in clients.values():
                    client.kill()
                    client.wait()
            return {"title": attack.title, **delays, **rounds, **turns, "broker_cores": cpu / seconds,
                    "rss_peak_mib": status_mib(server.pid, "VmHWM")}


def honest(server: Millrace, kind: str, seconds: int, folder: pathlib.Path) -> subprocess.Popen:
    topic, args = HONEST[kind]
    command = bench(server, kind, topic, args, seconds, WARMUP_SECONDS, folder / kind)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def explained(server: Millrace, seconds: int) -> dict:
    """The turns of the broker's core within so many seconds, as it saw them itself."""
    command = ["taskset", "-c", GENERATOR_CORE, paths.binary("millracectl"), "explain", "--bootstrap", server.address, "--json",
               "--seconds", str(seconds), "--slowest", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"millracectl explain: {done.stderr.strip()[-400:]}")
    turns = [(turn["ns"] / 1e6, turn["count"]) for turn in json.loads(done.stdout)["turns"]]
    return {"longest_turn_ms": max((ms for ms, _ in turns), default=0), "long_turns": sum(count for ms, count in turns if ms > LONG_TURN_MS)}


def delay(client: subprocess.Popen, report: pathlib.Path) -> dict:
    """Each request's delay, from when it was due."""
    _, words = client.communicate(timeout=PATIENCE_SECONDS)
    if not report.exists():
        raise RuntimeError(f"an honest client failed: {words.strip()[-400:]}")
    found = json.loads(report.read_text())
    latency = {key: round(found["latency"][key], 4) for key in ("p50_ms", "p99_ms", "p99_9_ms", "max_ms")}
    return {**latency, "kept_up": found["kept_up"], "good": client.returncode == 0}
