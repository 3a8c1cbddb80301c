"""The brokers that are compared, each pinned to its cores from its first instruction on."""

import os
import pathlib
import socket
import subprocess
import time

from harness import broker, paths

from . import wire

BROKER_CORE, GENERATOR_CORE = "0", "1"
# What bin/kafka-server-start.sh and bin/kafka-run-class.sh of Kafka 4.4.0 give the JVM.
KAFKA_JVM = ["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
             "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]
KAFKA_VERSION = "4.4.0"
NEVER = str(2**63 - 1)
# As in perf/setup and perf/peer/nats/go.mod.
NATS_VERSION, NISSHI_VERSION = "2.15.2", "0.8.1"


class Pinned:
    """What both kinds have in common; mixed into a `broker.Broker`."""

    cores = BROKER_CORE

    def command(self) -> list[str]:
        return ["taskset", "-c", self.cores, *super().command()]

    def __enter__(self):
        # Unlike the tests' brokers it starts when the start is measured.
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    def seconds_to_first_ack(self) -> float:
        """Starts the process and says how long it took until a record was acknowledged."""
        began = time.monotonic()
        self.spawn()
        wire.make_ready(self.port, "first-ack", 1, self.start_seconds_max, lambda: self.alive)
        return time.monotonic() - began

    def rss_mib(self) -> float:
        """Resident memory now."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the broker has ended")

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, user and kernel."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def data_bytes(self) -> int:
        """What its directory occupies on the disk."""
        found = subprocess.run(["du", "-s", "-B1", str(self.data)], capture_output=True, text=True)
        return int(found.stdout.split()[0])

    def settle(self, seconds_max: float = 40) -> None:
        """Waits until what was deleted is gone, or it would go during the next measurement."""
        deadline = time.monotonic() + seconds_max
        while any(path.name.endswith("-delete") for path in self.data.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def files(self) -> list[pathlib.Path]:
        """All of them; they come and go while one looks."""
        return [pathlib.Path(folder) / name for folder, _, names in os.walk(self.data) for name in names]

    def evict(self) -> None:
        """Puts its files out of this machine's page cache: written back first, or they would stay."""
        os.sync()
        for path in self.files():
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


class Millrace(Pinned, broker.Millrace):
    """As in the README: durable, one shard on the broker's core."""

    start_seconds_max = 60

    def __init__(self):
        super().__init__({"millrace.shards": "1"})

    def evict(self) -> None:
        """Also out of its own memory, which no page cache has."""
        self.restart()
        super().evict()


class MillraceTwoCores(Pinned, broker.Millrace):
    """Two shards that share both cores with the generator."""

    cores = f"{BROKER_CORE},{GENERATOR_CORE}"

    def __init__(self):
        super().__init__({"millrace.shards": "2"})


class MillraceDirect(Pinned, broker.Millrace):
    """The same, and clients connect to the shard that has their partition."""

    cores = MillraceTwoCores.cores

    def __init__(self):
        super().__init__({"millrace.shards": "2", "millrace.direct.ports": "1"})


class Kafka(Pinned, broker.Kafka):
    """Apache Kafka as its scripts start it: acknowledges from the page cache."""

    start_seconds_max = 120
    flush_messages = NEVER

    def __init__(self):
        # The tests' Kafka flushes each append; a second's delay before files of deleted topics go makes room.
        super().__init__({"log.flush.interval.messages": self.flush_messages, "log.segment.delete.delay.ms": "1000"})

    def command(self) -> list[str]:
        return ["taskset", "-c", self.cores, "java", *KAFKA_JVM, "-cp", paths.KAFKA_CLASSPATH, "kafka.Kafka",
                str(self.home / "server.properties")]


class KafkaFsync(Kafka):
    """Apache Kafka that makes each append durable before it acknowledges, as Millrace does."""

    flush_messages = "1"


class NatsServer(broker.Broker):
    """NATS JetStream: another protocol, so it has a load generator of its own (perf/peer/nats)."""

    name = "nats"
    # Its default.
    sync = "2m"

    def command(self) -> list[str]:
        return [str(paths.DEPS / "bin" / "nats-server"), "-c", str(self.home / "nats.conf")]

    def prepare(self):
        super().prepare()
        (self.home / "nats.conf").write_text(
            f'listen: "{self.address}"\njetstream {{ store_dir: "{self.data}", sync_interval: {self.sync}, max_file_store: 40GB }}\n')

    def wait_ready(self):
        deadline = time.monotonic() + self.start_seconds_max
        while time.monotonic() < deadline and self.alive:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                    if connection.recv(5) == b"INFO ":
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"nats-server does not answer:\n{self.log_tail()}")


class Nats(Pinned, NatsServer):
    """As it comes: it acknowledges from the page cache."""


class NatsSync(Nats):
    """Each message is durable before it is acknowledged."""

    sync = "always"


class NisshiServer(broker.Broker):
    """nisshi (formerly tansu), a broker for Kafka's protocol whose storage is somebody else's."""

    name = "nisshi"
    engine = ""

    def command(self) -> list[str]:
        listener = f"tcp://{self.address}"
        return [str(paths.DEPS / "bin" / "nisshi"), "broker", "--listener-url", listener, "--advertised-listener-url", listener,
                "--storage-engine", self.engine]


class NisshiMemory(Pinned, NisshiServer):
    """Keeps everything in memory: nothing survives the process."""

    engine = "memory://nisshi/"


class NisshiSqlite(Pinned, NisshiServer):
    """SQLite in a file, with a write-ahead log and `synchronous=NORMAL`, as nisshi opens it: a commit goes to the page
    cache, and a checkpoint of the log to the disk."""

    # Relative to the directory in which the process starts.
    engine = "sqlite://data/nisshi.db"


# Those of the main table, in the order of a round. Kafka comes first: half of its limit is the rate at which all are compared.
MAIN = ["kafka", "millrace", "kafka-fsync"]
# The others need `perf/setup peers` and get few workloads: what they are, and the program that has to be there.
PEERS = {"nats": "nats-server", "nats-sync": "nats-server", "nisshi-memory": "nisshi", "nisshi-sqlite": "nisshi"}
SYSTEMS = {"millrace": Millrace, "kafka": Kafka, "kafka-fsync": KafkaFsync, "nats": Nats, "nats-sync": NatsSync,
           "nisshi-memory": NisshiMemory, "nisshi-sqlite": NisshiSqlite}
TITLES = {"millrace": "Millrace, durable", "kafka": f"Kafka {KAFKA_VERSION}, page cache",
          "kafka-fsync": f"Kafka {KAFKA_VERSION}, fsync", "nats": f"NATS {NATS_VERSION}, page cache",
          "nats-sync": f"NATS {NATS_VERSION}, fsync", "nisshi-memory": f"nisshi {NISSHI_VERSION}, memory",
          "nisshi-sqlite": f"nisshi {NISSHI_VERSION}, SQLite, page cache"}


def missing(system: str) -> bool:
    """Whether a system's program is not there."""
    return system in PEERS and not (paths.DEPS / "bin" / PEERS[system]).exists()
