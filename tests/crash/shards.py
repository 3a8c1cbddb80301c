"""Several shards that wait for each other: more messages between them than their queues hold."""

import os
import pathlib

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from harness.broker import Millrace
from harness.load import QUIET, make_topic
from harness.protocol import Connection, batch, produce_frame, produced, record
from harness.suite import equal, main, test, unique

PARTITIONS = 8
# As many as one connection may have in progress, on so many connections that those of one shard for the other one are
# more than the mesh holds (`MESH_QUEUE_MAX`, 4096): a quarter of all.
IN_FLIGHT, CONNECTIONS, ROUNDS = 64, 400, 3


class OneCore(Millrace):
    """Two shards on one core, the second of which gets what the first one leaves."""

    def command(self) -> list[str]:
        return ["taskset", "-c", str(min(os.sched_getaffinity(0))), *super().command()]

    def starve(self, shard: str):
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == shard:
                return os.setpriority(os.PRIO_PROCESS, int(task.name), 19)
        raise AssertionError(f"no thread {shard}")


@test(seconds=180)
def a_starved_shard_loses_nothing_and_keeps_the_order():
    with OneCore({"millrace.shards": "2"}) as server:
        server.starve("shard-1")
        topic = unique("shards")
        make_topic(server.address, topic, PARTITIONS)
        connections = [Connection(server.port, timeout=60) for _ in range(CONNECTIONS)]
        acked: dict[tuple[int, int], tuple[int, int]] = {}
        for round_ in range(ROUNDS):
            numbers = range(round_ * IN_FLIGHT, (round_ + 1) * IN_FLIGHT)
            for who, connection in enumerate(connections):
                frames = [produce_frame(number, topic, who % PARTITIONS, batch(record(0, b"%d/%d" % (who, number)), 1)) for number in numbers]
                connection.send(b"".join(frames))
            for who, connection in enumerate(connections):
                last = -1
                for number in numbers:
                    correlation, error, offset = produced(connection.reply(), topic)
                    equal((correlation, error), (number, 0), f"correlation and error on connection {who}")
                    assert offset > last, f"connection {who}: offset {offset} after {last}"
                    last = offset
                    acked[who % PARTITIONS, offset] = who, number
        equal(len(acked), CONNECTIONS * IN_FLIGHT * ROUNDS, "records with an offset of their own")
        equal(read(server.address, topic, len(acked)), acked, "what is there")
        server.restart()
        equal(read(server.address, topic, len(acked)), acked, "what is there after a kill")
        for connection in connections:
            connection.socket.close()


def read(address: str, topic: str, count: int) -> dict[tuple[int, int], tuple[int, int]]:
    """(partition, offset) -> connection and number, of so many records."""
    source = Consumer({"bootstrap.servers": address, "group.id": "unused", "auto.offset.reset": "error", **QUIET})
    source.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    found = {}
    while len(found) < count:
        # It waits for as many as it is asked for.
        messages = source.consume(min(1000, count - len(found)), 20)
        assert messages, f"nothing more after {len(found)} of {count}"
        for message in messages:
            assert not message.error(), message.error()
            who, number = message.value().split(b"/")
            found[message.partition(), message.offset()] = int(who), int(number)
    source.close()
    return found


if __name__ == "__main__":
    main("shards")
