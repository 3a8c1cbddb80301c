"""The log and the signals of a broker: what it says at a start, settings read again at SIGHUP, and what clients and
whoever reads the log may do to it."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

from harness import paths, protocol
from harness.broker import Millrace
from harness.load import make_topic
from harness.nodes import cluster, create, in_sync
from harness.suite import Skipped, equal, eventually, main, test, unique

HUP = signal.SIGHUP


class Configured(Millrace):
    """A broker with its settings in a file."""

    def __init__(self, settings: dict[str, str] | None = None):
        super().__init__()
        self.file = self.home / "server.properties"
        self.write({"millrace.shards": "2", "log.dirs": str(self.data), "listeners": f"PLAINTEXT://{self.address}",
                    "group.initial.rebalance.delay.ms": "0", **(settings or {})})

    def write(self, settings: dict[str, str]):
        self.settings = settings
        self.file.write_text("# of a test\n" + "".join(f"{k}={v}\n" for k, v in settings.items()))

    def line_of(self, key: str) -> str:
        return f"{self.file}:{2 + list(self.settings).index(key)}: {key}"

    def command(self) -> list[str]:
        return [paths.binary("millrace"), "--config", str(self.file)]

    def said(self) -> str:
        return self.log_path.read_text(errors="replace")

    def says(self, text: str, times: int = 1):
        eventually(lambda: self.said().count(text) >= times, 20, f"the log says {text!r}")

    def hup(self, text: str, times: int = 1):
        self.process.send_signal(HUP)
        self.says(text, times)


def produce(server: Configured, topic: str, size: int):
    """What a client hears of one record."""
    errors = []
    producer = Producer({"bootstrap.servers": server.address, "message.max.bytes": 10_000_000, "retries": 0})
    producer.produce(topic, b"x" * size, on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    return errors[0].name() if errors[0] else None


def effective(server: Configured, topic: str, key: str) -> str:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": server.address})
    return admin.describe_configs([resource])[resource].result(20)[key].value


@test
def a_start_says_what_it_is_and_how_it_is_set():
    with Configured({"node.id": "7", "num.partitions": "3", "num.io.threads": "9", "num.network.threads": "3"}) as server:
        server.says("ready: ")
        said = server.said()
        version = subprocess.run([paths.binary("millrace"), "--version"], capture_output=True, text=True, timeout=30).stdout.split(None, 1)[1].strip()
        for text in [f"millrace {version}: node 7, 2 cores, data in {server.data}", "shards are on cores ",
                     f"not default: {server.line_of('num.partitions')}: 1 -> 3", f"not default: {server.line_of('node.id')}: 1 -> 7",
                     f"clients of PLAINTEXT are told to connect to {server.address}", f"listening on {server.address}",
                     f"{server.line_of('num.io.threads')} changes nothing here"]:
            assert text in said, f"{text!r} is not in {said}"
        assert re.search(r"cluster [\w-]{22}: node 7", said), said
        assert "not default: " not in said.replace("not default: /", "", said.count("not default: /")), "only what is in the file"


@test
def a_directory_in_memory_is_warned_of_by_its_line():
    if not os.path.ismount("/dev/shm") or "tmpfs" not in subprocess.run(["stat", "-f", "-c", "%T", "/dev/shm"], capture_output=True, text=True).stdout:
        raise Skipped("/dev/shm is no tmpfs")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        with Configured({"log.dirs": directory}) as server:
            assert f" WARN {server.line_of('log.dirs')}: {directory} is in memory (tmpfs)" in server.said(), server.said()


@test
def a_setting_that_is_wrong_is_named_with_its_line():
    server = Configured({"num.partitions": "0", "log.retention.hour": "5", "millrace.log.format": "json"})
    server.spawn()
    equal(server.process.wait(20), 78, "exit status")
    lines = [json.loads(line) for line in server.said().splitlines()]
    problems = [line["message"] for line in lines if line["level"] == "ERROR"]
    assert problems[0].startswith(f"{server.file}:6: num.partitions=0 is not allowed"), problems
    assert problems[1].startswith(f"{server.file}:7: unknown setting log.retention.hour: did you mean"), problems
    server.__exit__(None, None, None)


@test(seconds=120)
def sighup_applies_what_may_change_and_says_what_waits():
    with Configured({"message.max.bytes": "2000000"}) as server:
        topic = unique("log-hup")
        make_topic(server.address, topic, 2)
        equal(produce(server, topic, 500_000), None, "before")
        server.write({**server.settings, "message.max.bytes": "100000", "log.retention.ms": "77777777", "num.partitions": "5",
                      "num.io.threads": "9"})
        server.hup("takes effect at the next start")
        for text in [f"SIGHUP: {server.line_of('message.max.bytes')}: 2000000 -> 100000",
                     f"SIGHUP: {server.line_of('log.retention.ms')}: not set -> 77777777",
                     f"SIGHUP: {server.line_of('num.partitions')}: 1 -> 5: takes effect at the next start",
                     f"{server.line_of('num.io.threads')} changes nothing here"]:
            server.says(text)
        eventually(lambda: produce(server, topic, 500_000) == "MSG_SIZE_TOO_LARGE", 20, "the smaller bound")
        equal(effective(server, topic, "retention.ms"), "77777777", "of a topic that was there")
        server.hup("SIGHUP: " + server.line_of("num.partitions"), 2)
        # Back to what it was, and to the default where the line is gone.
        server.write({k: v for k, v in server.settings.items() if k not in ["message.max.bytes", "log.retention.ms", "num.partitions"]})
        server.hup("SIGHUP: log.retention.ms (default): 77777777 -> not set")
        eventually(lambda: produce(server, topic, 500_000) is None, 20, "the default bound")
        equal(effective(server, topic, "retention.ms"), str(7 * 24 * 3_600_000), "the default")
        server.hup("SIGHUP: no setting is different")
        equal(server.stop(20), 0, "exit status")


@test(seconds=120)
def a_file_that_cannot_be_used_changes_nothing():
    with Configured({"message.max.bytes": "100000"}) as server:
        good = dict(server.settings)
        stays = "SIGHUP: the settings stay as they are"
        server.write({**good, "message.max.bytes": "5000000", "num.partition": "5"})
        server.hup(stays)
        assert f"SIGHUP: {server.file}:" in server.said() and "did you mean num.partitions?" in server.said(), server.said()
        server.file.write_bytes(b"message.max.bytes=5000000\n\xff\xfe")
        server.hup(stays, 2)
        server.file.unlink()
        server.hup(stays, 3)
        # It would be waited for: whoever opens a pipe waits for somebody who writes.
        os.mkfifo(server.file)
        server.hup(stays, 4)
        assert "it is no file" in server.said(), server.said()
        server.file.unlink()
        server.file.mkdir()
        server.hup(stays, 5)
        server.file.rmdir()
        topic = unique("log-bad")
        make_topic(server.address, topic, 1)
        equal(produce(server, topic, 500_000), "MSG_SIZE_TOO_LARGE", "the old bound")
        server.write({**good, "message.max.bytes": "5000000"})
        server.hup("100000 -> 5000000")
        eventually(lambda: produce(server, topic, 500_000) is None, 20, "the new bound")


@test(seconds=120)
def the_level_changes_while_it_runs():
    with Configured({"millrace.log.level": "warn"}) as server:
        assert " INFO " not in server.said(), server.said()

        def touch():
            with protocol.Connection(server.port) as connection:
                connection.api_versions()
        server.write({**server.settings, "millrace.log.level": "debug"})
        server.process.send_signal(HUP)
        eventually(lambda: (touch(), " DEBUG connection ended" in server.said())[1], 20, "debug")
        server.write({**server.settings, "millrace.log.level": "error"})
        server.hup("debug -> error")
        time.sleep(0.5)
        before = server.said()
        for _ in range(20):
            touch()
        equal(server.stop(20), 0, "exit status")
        equal(server.said()[len(before):], "", "what it still says")


@test(seconds=120)
def a_storm_of_signals_does_no_harm():
    with Configured() as server:
        strays = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM, signal.SIGQUIT, signal.SIGIO, signal.SIGPROF,
                  signal.SIGVTALRM, signal.SIGPWR, signal.SIGWINCH, signal.SIGURG, signal.SIGCHLD]
        for round_number in range(300):
            server.process.send_signal(HUP)
            server.process.send_signal(strays[round_number % len(strays)])
        topic = unique("log-storm")
        make_topic(server.address, topic, 1)
        equal(produce(server, topic, 1000), None, "it serves")
        equal(server.stop(20), 0, "exit status")
        assert server.said().count("\n") < 200, server.said()


@test(seconds=180)
def nobody_who_does_not_read_the_log_holds_the_broker():
    """Whoever reads standard error has stopped to: no request may wait for a line, and no end."""
    server = Configured({"millrace.log.level": "trace"})
    try:
        server.prepare()
        reader, writer = os.pipe()
        server.process = subprocess.Popen(server.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer,
                                          preexec_fn=server.become)
        os.close(writer)
        server.wait_ready()
        # Each is a line, and far more than the pipe and the lines that wait have room for.
        for _ in range(12_000):
            with socket.create_connection(("127.0.0.1", server.port)):
                pass
        topic = unique("log-blocked")
        make_topic(server.address, topic, 2)
        equal(produce(server, topic, 1000), None, "it serves")
        # Now it is read again: the lines that were left out are counted.
        os.set_blocking(reader, False)
        text = b""

        def more() -> bool:
            nonlocal text
            try:
                text += os.read(reader, 1 << 20)
            except BlockingIOError:
                pass
            return b"log lines dropped" in text
        eventually(more, 30, "what was left out is said")
        # And once more nobody reads.
        for _ in range(12_000):
            with socket.create_connection(("127.0.0.1", server.port)):
                pass
        equal(server.stop(60), 0, "exit status")
        os.close(reader)
        # One that is gone altogether.
        reader, writer = os.pipe()
        server.process = subprocess.Popen(server.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer,
                                          preexec_fn=server.become)
        os.close(writer)
        os.close(reader)
        server.wait_ready()
        equal(produce(server, topic, 1000), None, "it serves")
        equal(server.stop(60), 0, "exit status")
    finally:
        server.__exit__(None, None, None)


@test(seconds=120)
def nothing_that_a_client_chose_makes_a_line():
    """In client ids and names of groups anything may stand."""
    evil = 'x\n2026-01-01T00:00:00.000000Z ERROR the disk is on fire\r\x1b[2J\x1b]0;owned\x07\u2028","level":"ERROR","a":"'
    for form in ["text", "json"]:
        with Configured({"millrace.log.format": form, "millrace.log.level": "trace"}) as server:
            topic = unique("log-evil")
            make_topic(server.address, topic, 1)
            consumer = Consumer({"bootstrap.servers": server.address, "group.id": evil, "client.id": evil, "auto.offset.reset": "earliest"})
            consumer.subscribe([topic])
            produce(server, topic, 10)
            eventually(lambda: consumer.poll(0.5), 30, "a record")
            consumer.close()
            # What is no request at all is spoken of as well.
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(protocol.frame(999, 0, 1, client=evil.encode()))
                connection.recv(100)
            equal(server.stop(20), 0, "exit status")
            said = server.log_path.read_bytes().decode()
            assert "the disk is on fire" in said, "it is spoken of at all"
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", said), "controls"
            for line in said.removesuffix("\n").split("\n"):
                if form == "json":
                    told = json.loads(line)
                    equal(list(told)[:4], ["time", "level", "target", "message"], line)
                    assert told["level"] != "ERROR", line
                else:
                    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z +(INFO|WARN|DEBUG|TRACE) ", line), line


@test(seconds=120)
def topics_settings_and_groups_have_a_life_in_it():
    with Configured() as server:
        topic, group = unique("log-life"), unique("log-group")
        admin = AdminClient({"bootstrap.servers": server.address})
        admin.create_topics([NewTopic(topic, 3, 1, config={"retention.ms": "99"})])[topic].result(20)
        server.says(f"INFO topic {topic} is created: 3 partitions, 1 replicas, id ")
        assert re.search(rf"topic {topic} is created: .*, retention.ms=99\n", server.said()), server.said()
        admin.create_partitions([NewPartitions(topic, 5)])[topic].result(20)
        server.says(f"INFO topic {topic} has 5 partitions, 3 before")
        for resource, whose in [(ConfigResource(ConfigResource.Type.TOPIC, topic), f"topic {topic}"),
                                (ConfigResource(ConfigResource.Type.BROKER, "1"), "node 1")]:
            key = "retention.ms" if whose.startswith("topic") else "log.retention.ms"
            for value, operation, shown in [("123456", AlterConfigOpType.SET, f"{key}=123456"),
                                            (None, AlterConfigOpType.DELETE, f"{key} is what it is by default")]:
                resource = ConfigResource(resource.restype, resource.name)
                resource.add_incremental_config(ConfigEntry(key, value, incremental_operation=operation))
                admin.incremental_alter_configs([resource])[resource].result(20)
                server.says(f"INFO settings of {whose}: {shown}")
        for protocol_name, texts in [("classic", ["rebalances after generation 0", "is stable in generation 1 with 1 members", "has no members any more"]),
                                     ("consumer", ["assigns in epoch", "has no members any more"])]:
            of = f"{group}-{protocol_name}"
            consumer = Consumer({"bootstrap.servers": server.address, "group.id": of, "group.protocol": protocol_name})
            consumer.subscribe([topic])
            eventually(lambda: (consumer.poll(0.2), consumer.assignment())[1], 30, "an assignment")
            consumer.close()
            for text in texts:
                server.says(f"INFO group {of} {text}")
            admin.delete_consumer_groups([of])[of].result(20)
            server.says(f"INFO group {of} is deleted")
        admin.delete_topics([topic])[topic].result(20)
        server.says(f"INFO topic {topic} is deleted")
        # What is there already at a start is no news.
        before = len(server.said())
        server.restart()
        assert "is created" not in server.said()[before:], server.said()[before:]


@test(seconds=120)
def many_topics_do_not_fill_it():
    with Configured() as server:
        admin = AdminClient({"bootstrap.servers": server.address})
        names = [unique("log-many") for _ in range(300)]
        for made in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
            made.result(30)
        # Lines are written by a thread of its own.
        eventually(lambda: server.said().count("is created") >= 100, 20, "lines")
        time.sleep(1)
        equal(server.said().count("is created"), 100, "lines")


@test(seconds=180)
def leaders_are_told_of():
    with cluster() as nodes:
        topic = unique("log-leads")
        create(nodes[0], topic, 3, 3, min_insync_replicas="2")
        eventually(lambda: all(isr == {1, 2, 3} for _, isr in in_sync(nodes[1], topic)), 30, "all in sync")
        led = [leader for leader, _ in in_sync(nodes[1], topic)].index(1)
        nodes[0].kill()
        for node in nodes[1:]:
            eventually(lambda: re.search(rf"{topic}-{led}: node [23] leads, in epoch \d+", node.log_path.read_text()), 30, "an election")


if __name__ == "__main__":
    main("log")
