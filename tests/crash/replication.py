"""Partitions with replicas on several nodes: killed one after the other, all at once, paused, stopped in turn, left alone, far behind, rotten."""

import re
import shutil
import signal
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from harness.load import QUIET, Load, patiently, read_all, value_of
from harness.nodes import Observer, addresses, admin, brokers, cluster, create, in_sync, restart_together, start_together
from harness.store import store_files
from harness.suite import equal, eventually, main, test, unique

ALL = {1, 2, 3}
PARTITIONS = 6


# A client waits a minute for a node that says nothing; meanwhile what is for it fills the client's memory.
IMPATIENT = {"socket.timeout.ms": 3000, "request.timeout.ms": 2000}


def load_on(nodes, topic: str) -> Load:
    return Load(addresses(nodes), topic, PARTITIONS, rate=2000, **{"enable.idempotence": True, **IMPATIENT})


def begin(nodes, **config) -> tuple[str, Load]:
    """A topic with three replicas, and one who produces to it and waits for all of them."""
    topic = unique("replicated")
    create(nodes[0], topic, PARTITIONS, 3, **{"min_insync_replicas": "2", **config})
    eventually(lambda: all(isr == ALL for _, isr in in_sync(nodes[0], topic)), 20, "all replicas in sync")
    return topic, load_on(nodes, topic)


def goes_on(load: Load, records: int = 300, seconds: float = 30):
    before = load.acks
    eventually(lambda: load.acks > before + records, seconds, "acknowledgements")


def whole(node, topic: str, seconds: float = 40):
    """Waits until all replicas are in sync again, as this node knows it."""
    eventually(lambda: all(isr == ALL for _, isr in in_sync(node, topic)), seconds, "all replicas in sync again")


@test(seconds=300)
def each_node_is_killed_and_nothing_is_lost():
    with cluster() as nodes:
        topic, load = begin(nodes)
        for killed in nodes * 2:
            goes_on(load)
            killed.kill()
            others = [node for node in nodes if node is not killed]
            goes_on(load)
            number = nodes.index(killed) + 1
            leaders = {leader for leader, _ in in_sync(others[0], topic)}
            assert number not in leaders, f"node {number} is dead and leads"
            killed.start()
            whole(others[0], topic)
        load.end()
        load.verify(addresses(nodes))


@test(seconds=240)
def all_are_killed_at_once_under_load():
    with cluster() as nodes:
        topic, load = begin(nodes)
        for _ in range(3):
            goes_on(load)
            restart_together(nodes)
            goes_on(load, seconds=60)
            whole(nodes[0], topic)
        load.end()
        load.verify(addresses(nodes))


@test(seconds=240)
def each_node_is_paused():
    """Who was away for a while and did not notice serves nobody what is not so any more, and loses nothing."""
    with cluster() as nodes:
        topic, load = begin(nodes)
        for paused in nodes:
            goes_on(load)
            paused.process.send_signal(signal.SIGSTOP)
            try:
                goes_on(load, seconds=40)
                time.sleep(1)
            finally:
                paused.process.send_signal(signal.SIGCONT)
            whole(paused, topic)
        load.end()
        load.verify(addresses(nodes))


@test(seconds=240)
def nodes_are_restarted_in_turn():
    """A rolling restart, without a delivery that fails."""
    with cluster() as nodes:
        topic, load = begin(nodes)
        for node in nodes:
            goes_on(load)
            equal(node.stop(20), node.stopped_status, "exit status")
            goes_on(load)
            node.start()
            whole(node, topic)
        load.end()
        load.verify(addresses(nodes))


@test(seconds=180)
def with_too_few_in_sync_only_those_are_refused_who_ask_for_all():
    with cluster() as nodes:
        topic = unique("few")
        create(nodes[0], topic, 1, 3, min_insync_replicas="3")
        whole(nodes[0], topic)
        [(leader, _)] = in_sync(nodes[0], topic)
        nodes[leader % 3].kill()
        left = nodes[leader - 1]
        eventually(lambda: len(in_sync(left, topic)[0][1]) == 2, 20, "the dead one is in sync no more")
        equal(produce(left, topic, "all"), "NOT_ENOUGH_REPLICAS", "acks=all")
        equal(produce(left, topic, "1"), None, "acks=1")
        nodes[leader % 3].start()
        whole(left, topic)
        equal(produce(left, topic, "all"), None, "acks=all")


def produce(node, topic: str, acks: str):
    """The name of the error of one produce; `None` for none."""
    outcome = []
    client = Producer({"bootstrap.servers": node.address, "acks": acks, "message.send.max.retries": 0, **QUIET})
    client.produce(topic, b"value", on_delivery=lambda error, _: outcome.append(error))
    client.flush(30)
    return outcome[0].name() if outcome[0] else None


@test(seconds=300)
def one_that_was_away_gets_what_it_lacks_and_leads_with_it():
    """Much more than is in memory, and in many segments; in the end it alone has to have all of it."""
    with cluster() as nodes:
        topic, load = begin(nodes, segment_bytes=str(1 << 20), min_insync_replicas="1")
        goes_on(load)
        away = nodes[2]
        away.kill()
        goes_on(load, 40_000, 120)
        away.start()
        whole(nodes[0], topic, 90)
        load.end()
        restart_together(nodes[:2])
        whole(nodes[0], topic)
        eventually(lambda: {leader for leader, _ in in_sync(nodes[0], topic)} == {3}, 20, "the third one leads all")
        load.verify(addresses(nodes))


@test(seconds=180)
def one_whose_disk_is_lost_has_everything_again_and_leads_with_it():
    with cluster() as nodes, Observer(4, nodes) as fourth:
        fourth.wait_ready()
        topic = unique("wiped")
        eventually(lambda: 4 in brokers(nodes[0]), 20, "the fourth is a broker")
        client = admin(nodes[0])
        client.create_topics([NewTopic(topic, PARTITIONS, replica_assignment=[[4, 1]] * PARTITIONS)])[topic].result(20)

        def both():
            return all(isr == {1, 4} for _, isr in in_sync(nodes[0], topic))
        eventually(both, 20, "both in sync")
        load = load_on(nodes, topic)
        goes_on(load)
        fourth.kill()
        goes_on(load)
        shutil.rmtree(fourth.data)
        fourth.start()
        eventually(both, 40, "both in sync again")
        goes_on(load)
        load.end()
        nodes[0].kill()
        eventually(lambda: {leader for leader, _ in in_sync(nodes[1], topic)} == {4}, 20, "the fourth leads")
        load.verify(addresses([*nodes[1:], fourth]))


@test(seconds=180)
def what_a_group_has_committed_is_there_when_its_coordinator_is_gone():
    with cluster() as nodes:
        topic, load = begin(nodes)
        goes_on(load)
        load.end()
        group, marks = unique("group"), [TopicPartition(topic, number, number + 1) for number in range(PARTITIONS)]
        for count, killed in enumerate(nodes):
            member = Consumer({"bootstrap.servers": addresses(nodes), "group.id": group, "enable.auto.commit": False, **QUIET})
            for mark in marks:
                mark.offset += 1
            patiently(lambda: member.commit(offsets=marks, asynchronous=False), 40)
            killed.kill()
            found = patiently(lambda: member.committed([TopicPartition(topic, number) for number in range(PARTITIONS)], 20), 60)
            equal([mark.offset for mark in found], [number + 2 + count for number in range(PARTITIONS)], "committed offsets")
            member.close()
            killed.start()
            whole(nodes[0], topic)


def rots(count: int, are_first: bool = False):
    """All nodes are killed at once, so all stay in sync, and what so many of them have has rotted: they may be asked to lead.
    Perhaps they are back first, and know that the others are gone."""
    no_checkpoint = {"millrace.store.checkpoint.bytes": str(512 << 20)}
    with cluster(prepare=lambda node: node.overrides.update(no_checkpoint)) as nodes:
        topic, partitions, rotten = unique("rotten"), 12, nodes[:count]
        create(nodes[0], topic, partitions, 3, min_insync_replicas="2")
        whole(nodes[0], topic)
        client = Producer({"bootstrap.servers": addresses(nodes), "acks": "all", "linger.ms": 0, **IMPATIENT, **QUIET})
        # Each in a flush of its own.
        for number in range(4):
            for partition in range(partitions):
                client.produce(topic, value_of(partition, number), partition=partition)
                equal(client.flush(20), 0, "unacknowledged")
        time.sleep(0.5)
        for node in nodes:
            node.kill()
        for node in rotten:
            [store] = store_files(node.data)
            for at, length in store.live_records():
                about = re.search(rb"(\d+)/[12]/", store.read(at, length))
                # The same partitions everywhere, and not two records in a row: that is refused.
                if about and int(about[1]) % 3 == 0:
                    store.flip(at + length // 2)
        first = rotten if are_first else nodes
        start_together(first)
        if are_first:
            numbers = set(range(1, count + 1))
            eventually(lambda: brokers(nodes[0]) == numbers, 30, "they are brokers that may lead, and no other one is")
            time.sleep(2)
            for node in nodes[count:]:
                node.start()
        said = [re.findall(rf"{topic}-(\d+) \(log \d+\) is damaged and not served", node.log_path.read_text()) for node in rotten]
        equal([len(set(named)) for named in said], [partitions // 3] * count, "partitions that have rotted")
        for node in rotten:
            eventually(lambda node=node: "it is made anew" in node.log_path.read_text(), 60, "what has rotted is made anew")
        whole(nodes[-1], topic, 60)
        # They lead some of them when another one is gone.
        for other in nodes[1:]:
            other.kill()
            wanted = [list(range(4)) for _ in range(partitions)]
            left = [node for node in nodes if node is not other]
            eventually(lambda other=other: all(leader not in (-1, other.number) for leader, _ in in_sync(nodes[0], topic)), 20, "others lead")
            equal(read_all(addresses(left), topic, partitions), wanted, "what there is to read")
            other.start()
            whole(nodes[0], topic)


@test(seconds=180)
def replicas_that_rot_hand_on_and_are_made_anew():
    rots(1)


@test(seconds=180)
def where_two_of_three_have_rotted_the_third_one_leads_and_they_are_made_anew():
    rots(2)


@test(seconds=180)
def where_the_two_that_have_rotted_are_back_first_the_third_one_is_waited_for():
    rots(2, are_first=True)


def begins_at(reader: Consumer, topic: str) -> int:
    """Where a partition begins, once somebody leads it."""
    found = []

    def finds() -> bool:
        try:
            found.append(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=5)[0])
        except KafkaException:
            return False
        return True

    eventually(finds, 40, "somebody leads it")
    return found[0]


@test(seconds=180)
def what_is_deleted_stays_deleted_when_another_one_leads():
    with cluster() as nodes:
        topic = unique("deleted")
        create(nodes[0], topic, 1, 3, min_insync_replicas="2")
        whole(nodes[0], topic)
        client = Producer({"bootstrap.servers": addresses(nodes), "acks": "all", **IMPATIENT, **QUIET})
        for number in range(100):
            client.produce(topic, value_of(0, number), partition=0)
        equal(client.flush(20), 0, "unacknowledged")
        for before in range(10, 50, 10):
            [(leader, _)] = in_sync(nodes[0], topic)
            asks, place = admin(nodes[leader - 1]), TopicPartition(topic, 0, before)
            patiently(lambda: asks.delete_records([place])[place].result(20))
            nodes[leader - 1].kill()
            left = addresses([node for node in nodes if node is not nodes[leader - 1]])
            reader = Consumer({"bootstrap.servers": left, "group.id": "unused", **QUIET})
            low = begins_at(reader, topic)
            assert low >= before, f"what is before {before} was deleted, and the next leader begins at {low}"
            reader.close()
            nodes[leader - 1].start()
            whole(nodes[0], topic)


if __name__ == "__main__":
    main("replication")
