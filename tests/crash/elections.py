"""Elections of leaders that somebody asks for: of the first replicas after a restart, and of one that is not in sync when no
other one is left."""

import pathlib
import subprocess
import tempfile
import time

from confluent_kafka import ElectionType, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from harness import paths, replicas
from harness.load import QUIET, patiently, read_all, value_of
from harness.nodes import addresses, admin, brokers, cluster, create, in_sync, kafka_tool
from harness.suite import equal, eventually, main, test, unique

IMPATIENT = {"socket.timeout.ms": 3000, "request.timeout.ms": 2000}
UNCLEAN = "unclean.leader.election.enable"


def elects(node, kind: str, *args: str) -> str:
    return kafka_tool(node, "LeaderElectionCommand", "--election-type", kind, *args)


def asks(node, kind: ElectionType, topic: str, partition: int = 0) -> str | None:
    """The error that a client is told of a partition; `None` for none."""
    place, client = TopicPartition(topic, partition), admin(node)
    # Without a timeout of its own: the client takes none.
    [error] = client.elect_leaders(kind, [place]).result(20).values()
    return (error.args[0] if isinstance(error, KafkaException) else error).name() if error else None


def leaders(node, topic: str) -> list[int]:
    return [leader for leader, _ in in_sync(node, topic)]


@test(seconds=180)
def first_replicas_are_elected_after_a_restart():
    stays = {"auto.leader.rebalance.enable": "false"}
    with cluster(prepare=lambda node: node.overrides.update(stays)) as nodes:
        topic, count = unique("preferred"), 6
        create(nodes[0], topic, count, 3, min_insync_replicas="2")

        def whole() -> bool:
            return all(isr == {1, 2, 3} for _, isr in in_sync(nodes[1], topic))
        eventually(whole, 20, "all replicas in sync")
        first = leaders(nodes[1], topic)
        equal(set(first), {1, 2, 3}, "leaders")
        led = first.index(1)
        nodes[0].kill()
        # Nobody is told of a leader that is lost, before another one leads.
        eventually(lambda: set(leaders(nodes[1], topic)) <= {2, 3}, 20, "others lead")
        equal(asks(nodes[1], ElectionType.PREFERRED, topic, led), "PREFERRED_LEADER_NOT_AVAILABLE", "while it is away")
        nodes[0].start()
        eventually(whole, 40, "all replicas in sync again")
        assert 1 not in leaders(nodes[1], topic), "it leads though nobody has asked for it"
        equal(asks(nodes[2], ElectionType.PREFERRED, topic, led), None, "one that is asked for")
        eventually(lambda: leaders(nodes[1], topic)[led] == 1, 20, "it leads")
        equal(asks(nodes[2], ElectionType.PREFERRED, topic, led), "ELECTION_NOT_NEEDED", "the same again")
        equal(asks(nodes[2], ElectionType.UNCLEAN, topic, led), "ELECTION_NOT_NEEDED", "of one that has a leader")
        equal(asks(nodes[2], ElectionType.PREFERRED, topic, count), "UNKNOWN_TOPIC_OR_PART", "of one that there is not")
        printed = elects(nodes[1], "preferred", "--all-topic-partitions")
        assert "Successfully completed leader election (PREFERRED) for partitions" in printed, printed
        eventually(lambda: leaders(nodes[1], topic) == first, 20, "the first replicas lead")
        printed = elects(nodes[1], "preferred", "--topic", topic, "--partition", str(led))
        assert "Valid replica already elected for partitions" in printed, printed


def write(nodes, topic: str, numbers: range):
    client = Producer({"bootstrap.servers": addresses(nodes), "acks": "all", "linger.ms": 0, **IMPATIENT, **QUIET})
    for number in numbers:
        client.produce(topic, value_of(0, number), partition=0)
    equal(client.flush(40), 0, f"records of {topic} that are not acknowledged")


def configure(node, topic: str, key: str, value: str):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    resource.add_incremental_config(ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET))
    client = admin(node)
    for done in client.incremental_alter_configs([resource]).values():
        done.result(20)


@test(seconds=240)
def one_that_is_not_in_sync_leads_when_it_is_all_that_is_left_and_is_told_to():
    """Nodes 1 and 2 decide, and have nothing of it. 3 is behind, 4 and 5 have known more to be committed."""
    with cluster(5, observers=2) as nodes:
        _, _, behind, last, other = nodes
        # By a tool, by a client, by the setting when it is changed, of the topic or of all brokers, and by the setting.
        names = ("asked", "called", "later", "everywhere", "allowed")
        asked, called, later, everywhere, allowed = topics = [unique(name) for name in names]
        client = admin(nodes[0])
        for topic in topics:
            config = {UNCLEAN: "true"} if topic == allowed else {}
            new = NewTopic(topic, 1, replica_assignment=[[4, 5, 3]], config=config)
            patiently(lambda new=new, topic=topic: client.create_topics([new])[topic].result(20))

        def is_now(leader: int, isr: set[int], which=topics) -> bool:
            return all(in_sync(nodes[0], topic) == [(leader, isr)] for topic in which)
        eventually(lambda: is_now(4, {3, 4, 5}), 20, "all in sync")
        for topic in topics:
            write(nodes, topic, range(100))
        behind.kill()
        eventually(lambda: is_now(4, {4, 5}), 20, "one is behind")
        for topic in topics:
            write(nodes, topic, range(100, 150))
        other.kill()
        eventually(lambda: is_now(4, {4}), 20, "one is left in sync")
        for topic in topics:
            write(nodes, topic, range(150, 170))
        last.kill()
        eventually(lambda: is_now(-1, {4}), 20, "nobody leads")
        equal(asks(nodes[0], ElectionType.UNCLEAN, asked), "ELIGIBLE_LEADERS_NOT_AVAILABLE", "without a replica that is alive")
        behind.start()
        eventually(lambda: 3 in brokers(nodes[0]), 20, "it is a broker that may lead")
        eventually(lambda: is_now(3, {3}, [allowed]), 20, "it leads where that is allowed")
        time.sleep(1)
        assert is_now(-1, {4}, [asked, called, later, everywhere]), "nobody leads where it is not"
        printed = elects(nodes[1], "unclean", "--topic", asked, "--partition", "0")
        assert "Successfully completed leader election (UNCLEAN) for partitions" in printed, printed
        equal(asks(nodes[1], ElectionType.UNCLEAN, called), None, "as a client asks for it")
        configure(nodes[0], later, UNCLEAN, "true")
        eventually(lambda: is_now(3, {3}, [asked, called, later]), 20, "it leads those of which that was said")
        assert is_now(-1, {4}, [everywhere]), "and nothing else"
        printed = kafka_tool(nodes[1], "ConfigCommand", "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", f"{UNCLEAN}=true")
        assert "Completed updating default config" in printed, printed
        eventually(lambda: is_now(3, {3}), 20, "it leads all of them")
        alive = nodes[:3]
        for topic in topics:
            equal(read_all(addresses(alive), topic, 1), [list(range(100))], "what it has")
            write(alive, topic, range(200, 230))
        for node in (last, other):
            node.start()
        eventually(lambda: is_now(3, {3, 4, 5}), 60, "the others follow it")
        for topic in topics:
            write(nodes, topic, range(230, 240))
            equal(read_all(addresses(nodes), topic, 1), [[*range(100), *range(200, 240)]], "what there is then")
        for node in nodes:
            equal(node.stop(20), node.stopped_status, "exit status")
        with tempfile.TemporaryDirectory() as out:
            for node in nodes[2:]:
                replicas.export(node.data, pathlib.Path(out) / str(node.number))
            for topic in topics:
                copies = {node.number: replicas.batches(pathlib.Path(out) / str(node.number) / f"{topic}-0") for node in nodes[2:]}
                equal(replicas.differences(copies), [], f"copies of {topic}")
                assert copies[3][-1].last == 139, copies[3][-1]


if __name__ == "__main__":
    main("elections")
