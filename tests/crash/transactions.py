"""Transactions while nodes are killed: each is whole for those who read what is committed, or not there at all. librdkafka's are of
before version 2 (KIP-890), Java's of version 2."""

import contextlib
import random
import subprocess
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from harness import paths
from harness.broker import Millrace
from harness.load import QUIET
from harness.nodes import addresses, cluster, create, in_sync, restart_together
from harness.suite import equal, eventually, main, test, unique

PARTITIONS = 3
RECORDS = 5
# With the default librdkafka 2.16 forgets all brokers when none is left, but not that one of them is the coordinator of a group: then it
# waits in send_offsets_to_transaction for ever.
IMPATIENT = {"socket.timeout.ms": 3000, "request.timeout.ms": 2000, "metadata.recovery.strategy": "none"}


class Writer:
    """A transactional producer that commits and aborts by chance, and makes itself anew where it cannot go on. What it was told of each
    transaction it remembers."""

    def __init__(self, servers: str, topic: str, seed: int):
        self.servers, self.topic, self.id = servers, topic, unique("writer")
        self.chance, self.ends = random.Random(seed), threading.Event()
        self.told: dict[str, bool | None] = {}
        self.committed = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _producer(self) -> Producer:
        config = {"bootstrap.servers": self.servers, "transactional.id": self.id, "transaction.timeout.ms": 8000, **IMPATIENT, **QUIET}
        while True:
            producer = Producer(config)
            with contextlib.suppress(KafkaException):
                producer.init_transactions(20)
                return producer
            assert not self.ends.is_set(), "no producer is let begin"

    def _run(self):
        producer, number = self._producer(), 0
        while not self.ends.is_set():
            name, commits = f"{self.id}/{number}", self.chance.random() < 0.7
            number += 1
            self.told[name] = None
            try:
                producer.begin_transaction()
                for record in range(RECORDS):
                    producer.produce(self.topic, f"{name}/{record}", partition=(number + record) % PARTITIONS)
                if commits:
                    producer.commit_transaction(20)
                else:
                    producer.abort_transaction(20)
                self.told[name] = commits
                self.committed += commits
            except KafkaException as error:
                # Whether it was committed is not known, unless it says that it can only be aborted, and that is done.
                if error.args[0].txn_requires_abort():
                    with contextlib.suppress(KafkaException):
                        producer.abort_transaction(20)
                        self.told[name] = False
                        continue
                producer = self._producer()

    def end(self):
        self.ends.set()
        self.thread.join(120)
        assert not self.thread.is_alive(), "a writer does not end"


def committed(servers: str, topic: str) -> dict[str, int]:
    """How many records of each transaction are read by who reads what is committed, up to where nothing is open."""
    source = Consumer({"bootstrap.servers": servers, "group.id": unique("reader"), "isolation.level": "read_committed",
                       "enable.partition.eof": True, "enable.auto.commit": False, **IMPATIENT, **QUIET})
    source.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    found, ended, deadline = {}, set(), time.monotonic() + 60
    while len(ended) < PARTITIONS and time.monotonic() < deadline:
        message = source.poll(0.5)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            continue
        name = message.value().decode().rsplit("/", 1)[0]
        found[name] = found.get(name, 0) + 1
    source.close()
    equal(len(ended), PARTITIONS, "partitions read to their end")
    return found


def judge(servers: str, topic: str, writers: list[Writer]):
    told = {name: outcome for writer in writers for name, outcome in writer.told.items()}
    # What nobody ends is aborted when it has taken too long.
    time.sleep(10)
    found = committed(servers, topic)
    halves = {name: count for name, count in found.items() if count != RECORDS}
    equal(halves, {}, "transactions of which a part is there, or more than all")
    lost = [name for name, outcome in told.items() if outcome and name not in found]
    equal(lost, [], "transactions that are lost")
    undead = [name for name, outcome in told.items() if outcome is False and name in found]
    equal(undead, [], "transactions that were aborted and are there")
    assert set(found) <= set(told), "transactions of nobody"


class Copier:
    """Copies a topic to another one, the offsets of each batch in the transaction of its records. Where it cannot go on it begins anew at
    what is committed, as a process would that was started again."""

    def __init__(self, servers: str, source: str, copy: str):
        self.servers, self.source, self.copy = servers, source, copy
        self.id, self.committed, self.ends = unique("copier"), 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _begin(self) -> tuple[Producer, Consumer]:
        producer = Producer({"bootstrap.servers": self.servers, "transactional.id": self.id, "transaction.timeout.ms": 8000, **IMPATIENT, **QUIET})
        producer.init_transactions(20)
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.id, "isolation.level": "read_committed",
                             "enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 6000, **IMPATIENT, **QUIET})
        consumer.subscribe([self.source])
        return producer, consumer

    def _run(self):
        while not self.ends.is_set():
            consumer = None
            try:
                producer, consumer = self._begin()
                while not self.ends.is_set():
                    self._copy(producer, consumer)
            except KafkaException:
                pass
            finally:
                if consumer:
                    consumer.close()

    def _copy(self, producer: Producer, consumer: Consumer):
        records = [record for record in consumer.consume(20, 0.5) if not record.error()]
        if not records:
            return
        producer.begin_transaction()
        for record in records:
            producer.produce(self.copy, record.value(), partition=record.partition())
        producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 20)
        producer.commit_transaction(20)
        self.committed += 1

    def end(self):
        self.ends.set()
        self.thread.join(120)
        assert not self.thread.is_alive(), "the copier does not end"


class JavaWorker:
    """The same in Java, by transactions of version 2: a writer, or a copier."""

    def __init__(self, *command: str):
        self.told: dict[str, bool | None] = {}
        self.committed, self.anew = 0, []
        config = paths.ROOT / "tests" / "clients" / "java"
        self.process = subprocess.Popen(
            ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={config / 'log4j2.properties'}",
             "-cp", paths.KAFKA_CLASSPATH, str(config / "TransactionWorker.java"), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    @classmethod
    def writer(cls, servers: str, topic: str, seed: int) -> "JavaWorker":
        return cls("write", servers, topic, unique("java"), str(PARTITIONS), str(RECORDS), str(seed))

    @classmethod
    def copier(cls, servers: str, source: str, copy: str) -> "JavaWorker":
        return cls("copy", servers, source, copy, unique("java-copier"))

    def _listen(self):
        for line in self.process.stdout:
            what, name = line.rstrip("\n").split(" ", 1)
            if what == "anew":
                self.anew.append(name)
                continue
            self.told[name] = {"committed": True, "aborted": False}.get(what)
            self.committed += what == "committed"

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(120)
        finally:
            self.process.kill()
        self.thread.join(10)


def fill(servers: str, topic: str, numbers: range):
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, **QUIET})
    for number in numbers:
        producer.produce(topic, str(number), partition=number % PARTITIONS)
    equal(producer.flush(60), 0, "records left unsent")


def is_copied(servers: str, copy: str, count: int) -> bool:
    found = committed(servers, copy)
    twice = {name: times for name, times in found.items() if times != 1}
    equal(twice, {}, "records that were copied more than once")
    return len(found) == count


def copies(servers: str, nodes: list, replicas: int, each: int = 1500, copier_of=Copier):
    """Each of these nodes is killed, and once more, while a topic is copied that gets more records each time."""
    source, copy = unique("source"), unique("copy")
    config = {"min_insync_replicas": "2"} if replicas > 1 else {}
    for topic in (source, copy):
        create(nodes[0], topic, PARTITIONS, replicas, **config)
    copier, count, everywhere = copier_of(servers, source, copy), 0, set(range(1, replicas + 1))
    for killed in nodes * 2:
        before = copier.committed
        fill(servers, source, range(count, count + each))
        count += each
        eventually(lambda: copier.committed > before + 2, 60, "copied batches")
        time.sleep(random.random() / 2)
        killed.kill()
        killed.start()
        if replicas > 1:
            for topic in (source, copy):
                eventually(lambda: all(isr == everywhere for _, isr in in_sync(nodes[0], topic)), 40, "all replicas in sync")
    # However slow the machine is: as long as it goes on, it comes to an end.
    while not is_copied(servers, copy, count):
        before = copier.committed
        eventually(lambda: copier.committed > before or is_copied(servers, copy, count), 60, "more of the copy")
        time.sleep(0.5)
    copier.end()
    assert is_copied(servers, copy, count), "it is no more and no less"


def goes_on(writers: list[Writer], count: int = 20, seconds: float = 60):
    before = [writer.committed for writer in writers]
    eventually(lambda: all(writer.committed >= was + count for writer, was in zip(writers, before)), seconds, "committed transactions")


def one_node_is_killed(writer_of):
    with Millrace() as node:
        topic = unique("transactions")
        create(node, topic, PARTITIONS, 1)
        writers = [writer_of(node.address, topic, seed) for seed in range(3)]
        for _ in range(4):
            goes_on(writers)
            time.sleep(random.random())
            node.kill()
            node.start()
        goes_on(writers)
        for writer in writers:
            writer.end()
        judge(node.address, topic, writers)


@test(seconds=240)
def one_node_is_killed_and_each_transaction_is_whole_or_not_there():
    one_node_is_killed(Writer)


@test(seconds=240)
def one_node_is_killed_and_each_transaction_of_version_2_is_whole_or_not_there():
    one_node_is_killed(JavaWorker.writer)


def each_node_of_three_is_killed(*writers_of):
    with cluster() as nodes:
        topic, servers = unique("transactions"), addresses(nodes)
        create(nodes[0], topic, PARTITIONS, 3, **{"min_insync_replicas": "2"})
        writers = [writer_of(servers, topic, seed) for seed, writer_of in enumerate(writers_of)]
        for killed in nodes * 2:
            goes_on(writers)
            time.sleep(random.random())
            killed.kill()
            goes_on(writers)
            killed.start()
            eventually(lambda: all(isr == {1, 2, 3} for _, isr in in_sync(nodes[0], topic)), 40, "all replicas in sync")
        goes_on(writers)
        for writer in writers:
            writer.end()
        judge(servers, topic, writers)


@test(seconds=300)
def each_node_of_three_is_killed_and_each_transaction_is_whole_or_not_there():
    each_node_of_three_is_killed(Writer, Writer, Writer)


@test(seconds=300)
def each_node_of_three_is_killed_and_transactions_of_both_versions_are_whole_or_not_there():
    each_node_of_three_is_killed(JavaWorker.writer, Writer, JavaWorker.writer)


@test(seconds=400)
def each_node_of_three_is_killed_and_a_copy_has_each_record_once():
    with cluster() as nodes:
        copies(addresses(nodes), nodes, 3)


@test(seconds=400)
def each_node_of_three_is_killed_and_a_copy_in_version_2_has_each_record_once():
    with cluster() as nodes:
        copies(addresses(nodes), nodes, 3, copier_of=JavaWorker.copier)


@test(seconds=240)
def all_nodes_are_killed_at_once_and_each_transaction_is_whole_or_not_there():
    with cluster() as nodes:
        topic, servers = unique("transactions"), addresses(nodes)
        create(nodes[0], topic, PARTITIONS, 3, **{"min_insync_replicas": "2"})
        writers = [Writer(servers, topic, seed) for seed in range(3)]
        for _ in range(3):
            goes_on(writers)
            restart_together(nodes)
        goes_on(writers)
        for writer in writers:
            writer.end()
        judge(servers, topic, writers)


@test(seconds=300)
def a_topic_is_copied_exactly_once_while_its_node_is_killed():
    with Millrace() as node:
        copies(node.address, [node] * 2, 1)


if __name__ == "__main__":
    main("transactions")
