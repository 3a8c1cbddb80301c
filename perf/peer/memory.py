"""Resident memory of Millrace under much of everything: 10,000 partitions, 2,000 connections, small durable requests
spread over all of them. Flat means that the second half of the time adds nothing to the first."""

import subprocess
import threading
import time

from . import wire
from .session import PATIENCE_SECONDS, bench
from .systems import Millrace

PARTITIONS, CONNECTIONS, RATE = 10_000, 2000, 10_000
SAMPLES = 60


def memory(seconds: int) -> dict:
    """Resident MiB when idle and over time."""
    try:
        with Millrace() as server:
            server.start()
            wire.make_ready(server.port, "memory", PARTITIONS, PATIENCE_SECONDS)
            idle = server.rss_mib()
            samples = under_load(server, seconds)
        middle = len(samples) // 2
        return {"seconds": seconds, "partitions": PARTITIONS, "connections": CONNECTIONS, "requests_per_s": RATE, "rss_idle_mib": idle,
                "rss_mib": samples, "rss_max_mib": max(samples), "growth": max(samples[middle:]) / max(samples[:middle])}
    except Exception as failure:  # noqa: BLE001 - recorded
        return {"failed": str(failure)[-400:] or repr(failure)}


def under_load(server, seconds: int) -> list[float]:
    args = ["--partitions", str(PARTITIONS), "--connections", str(CONNECTIONS), "--record-bytes", "100", "--batch-records", "1",
            "--rate", str(RATE), "--in-flight", "5"]
    with subprocess.Popen(bench(server, "produce", "memory", args, seconds, 5), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as load:
        words: list[str] = []
        reader = threading.Thread(target=lambda: words.append(load.stdout.read()), daemon=True)
        reader.start()
        try:
            time.sleep(5)
            samples = []
            for _ in range(SAMPLES):
                time.sleep(seconds / SAMPLES)
                if load.poll() is not None:
                    break
                samples.append(server.rss_mib())
            status = load.wait(PATIENCE_SECONDS)
        finally:
            load.kill()
        reader.join(5)
    if status != 0 or len(samples) < 2:
        raise RuntimeError(f"the generator ended with status {status}: {''.join(words).strip()[-300:]}")
    return samples
