"""What the machine itself gives, measured in the same run, and what it is."""

import json
import mmap
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from harness import paths

from .systems import BROKER_CORE, GENERATOR_CORE, KAFKA_JVM, KAFKA_VERSION

MIB = 1 << 20


def environment(directory: str, settings: dict) -> dict:
    """Everything a reader needs to judge the figures."""
    found = mount(directory)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "filesystem": found["FSTYPE"],
        "mount_options": found["OPTIONS"],
        "disk": disk_kind(found["SOURCE"]),
        "commit": said(["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--abbrev=12"]),
        "millrace": said([paths.binary("millrace"), "--version"]),
        "kafka": KAFKA_VERSION,
        "kafka_jvm": f"{said(['java', '-version'], stderr=True)}; {' '.join(KAFKA_JVM)}",
        "pinning": f"broker on core {BROKER_CORE}, generator on core {GENERATOR_CORE}, taskset from the start",
        "tls": False,
        "replication": 1,
        **settings,
    }


def cpu_model() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def mount(directory: str) -> dict:
    """Source, type and options of the filesystem under a directory."""
    columns = ["SOURCE", "FSTYPE", "OPTIONS"]
    line = said(["findmnt", "-n", "-o", ",".join(columns), "-T", directory])
    return dict(zip(columns, line.split(None, 2))) if len(line.split()) >= 3 else dict.fromkeys(columns, "?")


def disk_kind(source: str) -> str:
    name = pathlib.Path(source).name
    folder = pathlib.Path("/sys/class/block") / name
    if not folder.exists():
        return source
    queue = (folder / "queue") if (folder / "queue").exists() else (folder.resolve().parent / "queue")
    read = lambda key: (queue / key).read_text().strip() if (queue / key).exists() else "?"
    return f"{name}, rotational {read('rotational')}, write cache {read('write_cache')}, scheduler {read('scheduler')}"


def said(command: list[str], stderr: bool = False) -> str:
    """The first line that a program prints; a question mark if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return ((done.stderr if stderr else done.stdout).strip().splitlines() or ["?"])[0]


def limits(seconds: int) -> dict:
    """The marks' yardsticks. Each one that fails says so and leaves the others alone."""
    results = {}
    with tempfile.TemporaryDirectory(prefix="millrace-probe-") as folder:
        for name, probe in [("disk_sequential", lambda: sequential(folder, seconds)),
                            ("write_fdatasync_4k", lambda: write_fdatasync(folder, seconds)),
                            ("loopback_send", lambda: loopback(seconds))]:
            try:
                results[name] = probe()
            except Exception as failure:  # noqa: BLE001 - one probe must not end the run
                results[name] = {"failed": str(failure)[-300:]}
            print(f"  {name:24} {results[name]}", flush=True)
    return results


def sequential(folder: str, seconds: int) -> dict:
    """fio, O_DIRECT, 1 MiB blocks, 16 in flight: write a file, then read it."""
    if not shutil.which("fio"):
        raise RuntimeError("fio is not installed: perf/setup compare")
    result = {}
    for kind in ("write", "read"):
        command = ["fio", "--name=seq", f"--filename={folder}/fio", f"--rw={kind}", "--bs=1M", "--size=2G", "--direct=1",
                   "--ioengine=io_uring", "--iodepth=16", f"--runtime={seconds}", "--output-format=json"]
        if kind == "write":
            # The file must be whole for the reading: no time limit, then once more for the figure.
            subprocess.run([*command[:-2], "--output-format=json"], check=True, capture_output=True, timeout=120)
        done = subprocess.run([*command, "--time_based"], check=True, capture_output=True, text=True, timeout=120)
        job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
        result[f"{kind}_mb_per_s"] = round(job[kind]["bw_bytes"] / 1e6, 1)
    os.unlink(f"{folder}/fio")
    return result


def write_fdatasync(folder: str, seconds: int) -> dict:
    """4 KiB written with O_DIRECT over blocks that are there already, then fdatasync: what one durable write costs."""
    blocks, block = 4096, 4096
    path = f"{folder}/sync"
    with open(path, "wb") as file:
        file.write(bytes(blocks * block))
        os.fsync(file.fileno())
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT)
    page = mmap.mmap(-1, block)  # aligned, as O_DIRECT wants it
    taken, number, end = [], 0, time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            began = time.perf_counter_ns()
            os.pwrite(descriptor, page, number % blocks * block)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter_ns() - began)
            number += 1
    finally:
        os.close(descriptor)
    taken.sort()
    at = lambda quantile: round(taken[min(len(taken) - 1, int(len(taken) * quantile))] / 1e6, 4)
    return {"count": len(taken), "p50_ms": at(0.5), "p99_ms": at(0.99), "p99_9_ms": at(0.999)}


def loopback(seconds: int) -> dict:
    """One TCP connection on 127.0.0.1: 1 MiB sends on the broker's core, reads on the generator's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = os.fork()
        if receiver == 0:
            # A child that only reads until the end; it must never return into the caller.
            try:
                os.sched_setaffinity(0, {int(GENERATOR_CORE)})
                with socket.create_connection(server.getsockname()) as connection:
                    buffer = bytearray(MIB)
                    while connection.recv_into(buffer):
                        pass
            finally:
                os._exit(0)
        try:
            return send_for(server, seconds)
        finally:
            os.waitpid(receiver, 0)


def send_for(server: socket.socket, seconds: int) -> dict:
    result: dict = {}

    def send(connection: socket.socket) -> None:
        os.sched_setaffinity(threading.get_native_id(), {int(BROKER_CORE)})
        payload = bytes(MIB)
        began, cpu = time.monotonic(), time.thread_time()
        sent = 0
        while time.monotonic() < began + seconds:
            connection.sendall(payload)
            sent += len(payload)
        elapsed = time.monotonic() - began
        result.update(mb_per_s=round(sent / elapsed / 1e6, 1), sender_cpu_s_per_gb=round((time.thread_time() - cpu) / (sent / 1e9), 3))

    server.settimeout(10)
    connection, _ = server.accept()
    with connection:
        sender = threading.Thread(target=send, args=(connection,))
        sender.start()
        sender.join()
    return result
