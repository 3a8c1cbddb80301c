"""Real broker processes: Millrace, and Apache Kafka as the oracle, behind one small interface."""

import base64
import ctypes
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

from . import paths, protocol

# Millrace announces each shard on a port of its own above the first one when direct ports are on.
PORTS_IN_A_ROW = 9


def free_port() -> int:
    """A free port below the range from which the kernel takes the ports of outgoing connections, so that it is
    still free when a broker comes back after a kill."""
    for _ in range(200):
        port = random.randrange(15000, 30000)
        if all(_is_free(p) for p in range(port, port + PORTS_IN_A_ROW)):
            return port
    raise RuntimeError("no free port found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def die_with_parent():
    """What a new process does so that it does not outlive who started it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# Members of groups of the consumer protocol and of streams groups hear of changes by heartbeats, and are missed by their absence.
QUICK_CONSUMER_GROUPS = {f"group.{protocol}.{kind}{setting}": value for protocol in ["consumer", "streams"] for kind in ["min.", ""]
                         for setting, value in [("heartbeat.interval.ms", "500"), ("session.timeout.ms", "6000")]}


class Broker:
    """One broker process with its own directory. Use as a context manager: it leaves nothing behind."""

    name = ""
    start_seconds_max = 30
    # Exit status after SIGTERM.
    stopped_status = 0
    # The address that it listens on.
    host = "127.0.0.1"

    def __init__(self, overrides: dict[str, str] | None = None, keep: bool = False):
        self.overrides = {"group.initial.rebalance.delay.ms": "0", **QUICK_CONSUMER_GROUPS, **(overrides or {})}
        self.home = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-test-"))
        self.data = self.home / "data"
        self.log_path = self.home / "stderr.log"
        self.port = free_port()
        self.keep = keep
        self.process: subprocess.Popen | None = None

    # What a broker has to say about itself.

    def command(self) -> list[str]:
        raise NotImplementedError

    def prepare(self):
        self.data.mkdir(exist_ok=True)

    # Life.

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def spawn(self):
        """Starts the process without waiting for it to serve."""
        assert self.process is None or self.process.poll() is not None, "already running"
        self.prepare()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.home, preexec_fn=self.become)

    def become(self):
        """What the new process does before it is the broker."""
        die_with_parent()

    def start(self) -> "Broker":
        self.spawn()
        self.wait_ready()
        return self

    def wait_ready(self):
        """Waits until the broker answers ApiVersions: an open port alone says little."""
        deadline = time.monotonic() + self.start_seconds_max
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self.process.returncode}:\n{self.log_tail()}")
            try:
                with protocol.Connection(self.port, timeout=2, host=self.host) as connection:
                    connection.api_versions()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not answer after {self.start_seconds_max} s:\n{self.log_tail()}")

    def kill(self):
        """kill -9: what a power cut or the OOM killer does to the process."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM, and the exit status it led to."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not stop within {seconds} s of SIGTERM:\n{self.log_tail()}") from None

    def restart(self):
        self.kill()
        self.start()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def __enter__(self) -> "Broker":
        try:
            return self.start()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(self, kind, error, trace):
        if self.alive:
            self.kill()
        if error is not None:
            print(f"--- last lines of {self.name}'s log\n{self.log_tail()}\n---", file=sys.stderr)
        if self.keep:
            print(f"kept {self.home}", file=sys.stderr)
        else:
            shutil.rmtree(self.home, ignore_errors=True)


class Millrace(Broker):
    """The broker under test, started as in the README."""

    name = "millrace"

    def command(self) -> list[str]:
        settings = {"log.dirs": str(self.data), "listeners": f"PLAINTEXT://{self.address}", **self.overrides}
        return [paths.binary("millrace"), *(a for k, v in settings.items() for a in ("--override", f"{k}={v}"))]


def cluster_id(of: uuid.UUID) -> str:
    """An id that is Kafka's in form."""
    # The first byte keeps it from beginning with a dash, which the tool would take for an option.
    return base64.urlsafe_b64encode(b"M" + of.bytes[1:]).decode().rstrip("=")


class Kafka(Broker):
    """Apache Kafka as one combined node, each append flushed, as Millrace does."""

    name = "kafka"
    start_seconds_max = 90
    stopped_status = 143  # Java ends with 128 + 15 even after a clean stop.

    def __init__(self, overrides: dict[str, str] | None = None, keep: bool = False):
        super().__init__(overrides, keep)
        self.cluster_id = cluster_id(uuid.uuid4())

    def command(self) -> list[str]:
        return ["java", "-Xmx1G", "-Xms512M", "-server", "-XX:+UseG1GC", "-XX:TieredStopAtLevel=1",
                "-cp", paths.KAFKA_CLASSPATH, "kafka.Kafka", str(self.home / "server.properties")]

    def prepare(self):
        if self.data.exists():
            return
        controller = free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "5",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "log.flush.interval.messages": "1",
            **self.overrides,
        }
        properties = self.home / "server.properties"
        properties.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        subprocess.run(["java", "-cp", paths.KAFKA_CLASSPATH, "kafka.tools.StorageTool", "format",
                        "-t", self.cluster_id, "-c", str(properties)], check=True, stdout=subprocess.DEVNULL, timeout=60)


BROKERS: dict[str, type[Broker]] = {"millrace": Millrace, "kafka": Kafka}
