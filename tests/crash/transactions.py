"""Transactions while nodes are killed: each is whole for those who read what is committed, or not there at all."""

import contextlib
import random
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from harness.broker import Millrace
from harness.load import QUIET
from harness.nodes import addresses, cluster, create, in_sync
from harness.suite import equal, eventually, main, test, unique

PARTITIONS = 3
RECORDS = 5
IMPATIENT = {"socket.timeout.ms": 3000, "request.timeout.ms": 2000}


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


def goes_on(writers: list[Writer], count: int = 20, seconds: float = 60):
    before = [writer.committed for writer in writers]
    eventually(lambda: all(writer.committed >= was + count for writer, was in zip(writers, before)), seconds, "committed transactions")


@test(seconds=240)
def one_node_is_killed_and_each_transaction_is_whole_or_not_there():
    with Millrace() as node:
        topic = unique("transactions")
        create(node, topic, PARTITIONS, 1)
        writers = [Writer(node.address, topic, seed) for seed in range(3)]
        for _ in range(4):
            goes_on(writers)
            time.sleep(random.random())
            node.kill()
            node.start()
        goes_on(writers)
        for writer in writers:
            writer.end()
        judge(node.address, topic, writers)


@test(seconds=300)
def each_node_of_three_is_killed_and_each_transaction_is_whole_or_not_there():
    with cluster() as nodes:
        topic, servers = unique("transactions"), addresses(nodes)
        create(nodes[0], topic, PARTITIONS, 3, **{"min_insync_replicas": "2"})
        writers = [Writer(servers, topic, seed) for seed in range(3)]
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


@test(seconds=240)
def all_nodes_are_killed_at_once_and_each_transaction_is_whole_or_not_there():
    with cluster() as nodes:
        topic, servers = unique("transactions"), addresses(nodes)
        create(nodes[0], topic, PARTITIONS, 3, **{"min_insync_replicas": "2"})
        writers = [Writer(servers, topic, seed) for seed in range(3)]
        for _ in range(3):
            goes_on(writers)
            for node in nodes:
                node.kill()
            for node in nodes:
                node.spawn()
            for node in nodes:
                node.wait_ready()
        goes_on(writers)
        for writer in writers:
            writer.end()
        judge(servers, topic, writers)


if __name__ == "__main__":
    main("transactions")
