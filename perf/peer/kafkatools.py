"""Kafka's own performance tools against each system: numbers from programs that are not ours. On two cores the tools
themselves are the limit (a JVM that builds each record), so they compare what a Java client sees, not what a broker
can do."""

import re
import subprocess

from harness import paths

from .systems import GENERATOR_CORE, SYSTEMS

TOPIC = "tools"
RECORD_BYTES = 1024


def against(system: str, quick: bool) -> dict:
    """All three tools, against a broker of their own."""
    records, trips = (100_000, 500) if quick else (400_000, 2000)
    results: dict = {}
    try:
        with SYSTEMS[system]() as server:
            server.start()
            for name, tool in [("ProducerPerformance", lambda: producer(server.address, records)),
                               ("ConsumerPerformance", lambda: consumer(server.address, records)),
                               ("EndToEndLatency", lambda: end_to_end(server.address, trips))]:
                try:
                    results[name] = tool()
                except Exception as failure:  # noqa: BLE001 - recorded, and the next tool may work
                    results[name] = {"failed": str(failure)[-400:]}
                print(f"  {system:12} {name:20} {results[name]}", flush=True)
    except Exception as failure:  # noqa: BLE001 - recorded
        results["session"] = {"failed": str(failure)[-400:]}
    return results


def run(tool: str, *args: str) -> str:
    done = subprocess.run(["taskset", "-c", GENERATOR_CORE, "java", "-Xmx512M", "-cp", paths.KAFKA_CLASSPATH,
                           f"org.apache.kafka.tools.{tool}", *args],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"exit status {done.returncode}: {done.stdout.strip()[-300:]}")
    return done.stdout


def producer(address: str, records: int) -> dict:
    text = run("ProducerPerformance", "--bootstrap-server", address, "--topic", TOPIC, "--num-records", str(records),
               "--record-size", str(RECORD_BYTES), "--throughput", "-1",
               "--command-property", "acks=all", "batch.size=65536", "linger.ms=5")
    # The last line sums up: 400000 records sent, ... records/sec (... MB/sec), ... ms avg latency, ... 99th, ...
    last = next(line for line in reversed(text.splitlines()) if "99.9th" in line)
    found = re.search(r"\(([\d.]+) MB/sec\).*?([\d.]+) ms avg latency.* (\d+) ms 50th, .* (\d+) ms 99th", last)
    mib, average, p50, p99 = found.groups()
    return {"mb_per_s": float(mib) * 1.048576, "latency_avg_ms": float(average), "latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}


def consumer(address: str, records: int) -> dict:
    text = run("ConsumerPerformance", "--bootstrap-server", address, "--topic", TOPIC, "--num-records", str(records))
    lines = [[field.strip() for field in line.split(",")] for line in text.splitlines() if line.count(",") >= 9]
    header, row = lines[0], lines[-1]
    values = dict(zip(header, row))
    return {"mb_per_s": float(values["MB.sec"]) * 1.048576, "fetch_mb_per_s": float(values["fetch.MB.sec"]) * 1.048576}


def end_to_end(address: str, trips: int) -> dict:
    text = run("EndToEndLatency", address, "e2e", str(trips), "all", str(RECORD_BYTES))
    # "Percentiles: 50th = 1, 99th = 2, 99.9th = 5", and per thousand trips "1000<tab>milliseconds": whole ones.
    found = re.search(r"50th = ([\d.]+), 99th = ([\d.]+), 99\.9th = ([\d.]+)", text)
    average = re.search(r"Avg latency: ([\d.]+) ms", text)
    return {"p50_ms": float(found[1]), "p99_ms": float(found[2]), "p99_9_ms": float(found[3]), "avg_ms": float(average[1])}
