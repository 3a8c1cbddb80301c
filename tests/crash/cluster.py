"""Several nodes that agree on their metadata: killed one after the other, stopped, and with somebody missing."""

import signal
import time

from confluent_kafka.admin import NewTopic

from harness.load import Load, make_topic
from harness.nodes import Observer, addresses, admin, brokers, cluster, create, described_quorum, in_sync, kafka_tool, restart_together, topics
from harness.suite import equal, eventually, main, test, unique


@test(seconds=60)
def nodes_form_a_cluster_and_each_takes_requests():
    with cluster() as nodes:
        for node in nodes:
            eventually(lambda: brokers(node) == {1, 2, 3}, 10, "all three brokers")
        made = [unique(f"by-{number}") for number in range(3)]
        for node, topic in zip(nodes, made):
            create(node, topic, 6)
            described = admin(node).list_topics(topic, timeout=10).topics[topic]
            equal({partition.leader for partition in described.partitions.values()}, {1, 2, 3}, "leaders")
        for node in nodes:
            eventually(lambda: topics(node) >= set(made), 10, "what was asked of the others")


@test(seconds=60)
def any_node_tells_how_far_the_quorum_is():
    with cluster() as nodes:
        for node in nodes:
            create(node, unique("something"))
        told = [described_quorum(node) for node in nodes]
        equal({(it.leader, it.epoch) for it in told}, {(told[0].leader, told[0].epoch)}, "who leads")
        for quorum in told:
            equal((set(quorum.voters), quorum.observers), ({1, 2, 3}, {}), "voters and observers")
            assert quorum.leader in quorum.voters and 0 < quorum.high_watermark <= max(quorum.voters.values()), quorum
        leader = told[0].leader
        nodes[leader - 1].kill()
        left = nodes[leader % 3]
        eventually(lambda: described_quorum(left).leader not in (-1, leader), 20, "another leader")
        now = described_quorum(left)
        # It is not known how far one is that has not been heard of since.
        assert now.epoch > told[0].epoch and now.voters[leader] == -1, now


@test(seconds=240)
def each_node_is_killed_and_the_others_go_on():
    """What was acknowledged is there when its node is back, and topics are made meanwhile."""
    with cluster() as nodes:
        topic = unique("cluster-load")
        make_topic(nodes[0].address, topic, 6)
        everybody = ",".join(node.address for node in nodes)
        load = Load(everybody, topic, 6, **{"enable.idempotence": True})
        made = []
        for killed in nodes * 2:
            before = load.acks
            eventually(lambda: load.acks > before + 500, 30, "acknowledgements")
            killed.kill()
            others = [node for node in nodes if node is not killed]
            for node in others:
                made.append(unique("while-one-is-gone"))
                create(node, made[-1])
            eventually(lambda: len(brokers(others[0])) == 2, 20, "the dead one is missed")
            killed.start()
            eventually(lambda: brokers(others[0]) == {1, 2, 3}, 20, "it is back")
        load.end()
        load.verify(everybody)
        for node in nodes:
            eventually(lambda: topics(node) >= set(made), 10, "every topic that was made")


@test(seconds=120)
def all_are_killed_at_once_and_come_back():
    with cluster() as nodes:
        made = [unique("before") for _ in range(10)]
        for topic in made:
            create(nodes[1], topic)
        restart_together(nodes)
        for node in nodes:
            eventually(lambda node=node: topics(node) >= set(made), 20, "every topic")


@test(seconds=120)
def nodes_stop_in_turn():
    with cluster() as nodes:
        for node in nodes:
            for other in nodes:
                # One that was fenced a moment ago, or is, cannot take over yet.
                eventually(lambda: brokers(other) == {1, 2, 3}, 20, "all three brokers")
            began = time.monotonic()
            equal(node.stop(20), node.stopped_status, "exit status")
            assert time.monotonic() - began < 10, "it took longer than 10 s"
            others = [other for other in nodes if other is not node]
            create(others[0], unique("while-one-is-stopped"))
            node.start()


@test(seconds=60)
def one_of_three_serves_nobody():
    with cluster() as nodes:
        for node in nodes[1:]:
            node.kill()
        nodes[0].kill()
        nodes[0].spawn()
        time.sleep(3)
        assert nodes[0].alive, nodes[0].log_tail()
        try:
            nodes[0].start_seconds_max = 2
            nodes[0].wait_ready()
            raise AssertionError("it serves without a quorum")
        except RuntimeError as error:
            assert "does not answer" in str(error), error
        nodes[0].start_seconds_max = 30
        nodes[1].start()
        nodes[0].wait_ready()
        create(nodes[0], unique("two-of-three"))


@test(seconds=60)
def a_request_that_nobody_decides_on_does_not_keep_a_node():
    with cluster() as nodes:
        client = admin(nodes[0])
        eventually(lambda: len(client.list_topics(timeout=10).brokers) == 3, 10, "all three brokers")
        for node in nodes[1:]:
            node.kill()
        time.sleep(2)  # Whoever has led does not any more.
        topic = unique("never")
        waits = client.create_topics([NewTopic(topic, 1, 1)], request_timeout=40)[topic]
        time.sleep(1)
        assert not waits.done(), waits.result()
        equal(nodes[0].stop(15), nodes[0].stopped_status, "exit status")


def observes(nodes, observer, number: int):
    """Waits until a node without a vote is a broker like the others, and has all of the metadata."""
    observer.wait_ready()
    for node in [*nodes, observer]:
        eventually(lambda: brokers(node) == {1, 2, 3, number}, 20, "it is one of the brokers")

    def has_all():
        quorum = described_quorum(observer)
        equal(set(quorum.voters), {1, 2, 3}, "voters")
        return quorum.observers.get(number, -1) >= quorum.high_watermark
    eventually(has_all, 20, "it has all of the metadata")


@test(seconds=300)
def a_fourth_node_joins_under_load_and_bears_kills():
    """It is started, and has a part of what is made then; it is killed, a voter is killed, and nothing is lost."""
    with cluster() as nodes:
        before = unique("before")
        create(nodes[0], before, 6, 3, min_insync_replicas="2")
        old = Load(addresses(nodes), before, 6, rate=1000)
        eventually(lambda: old.acks > 500, 30, "acknowledgements")
        with Observer(4, nodes) as fourth:
            observes(nodes, fourth, 4)
            assert before in topics(fourth), "what there was before it came"
            everybody = [*nodes, fourth]
            topic = unique("over-four")
            create(fourth, topic, 8, 3, min_insync_replicas="2")
            placed = admin(fourth).list_topics(topic, timeout=10).topics[topic].partitions.values()
            equal({node for partition in placed for node in partition.replicas}, {1, 2, 3, 4}, "replicas")
            equal({partition.leader for partition in placed}, {1, 2, 3, 4}, "leaders")
            new = Load(addresses(everybody), topic, 8, rate=1000, **{"enable.idempotence": True})

            def both_go_on():
                for load in (old, new):
                    acks = load.acks
                    eventually(lambda: load.acks > acks + 300, 60, "acknowledgements")

            def all_in_sync(node):
                eventually(lambda: all(len(isr) == 3 for _, isr in in_sync(node, topic)), 60, "all replicas in sync")

            for killed in [fourth, nodes[described_quorum(fourth).leader - 1], fourth]:
                both_go_on()
                killed.kill()
                both_go_on()
                left = next(node for node in everybody if node is not killed)
                number = everybody.index(killed) + 1
                eventually(lambda: number not in brokers(left), 20, "the dead one is missed")
                create(left, unique("meanwhile"), 2, 3)
                killed.start()
                observes(nodes, fourth, 4)
                all_in_sync(fourth)
            both_go_on()
            equal(fourth.stop(20), fourth.stopped_status, "exit status")
            both_go_on()
            fourth.start()
            all_in_sync(nodes[0])
            old.end()
            new.end()
            old.verify(addresses(nodes))
            new.verify(addresses(everybody))


@test(seconds=120)
def a_node_is_told_no_more_than_where_one_voter_is():
    """It finds the others by that one, and what has happened meanwhile as a snapshot and entries."""
    with cluster() as nodes:
        made = [unique("made") for _ in range(20)]
        for topic in made:
            create(nodes[0], topic, 2)
        with Observer(7, nodes, servers=[nodes[2]]) as seventh:
            observes(nodes, seventh, 7)
            eventually(lambda: topics(seventh) >= set(made), 10, "every topic")
            leader = described_quorum(seventh).leader
            nodes[leader - 1].kill()
            eventually(lambda: described_quorum(seventh).leader not in (-1, leader), 20, "another leader")
            create(seventh, unique("asked-of-it"))
            seventh.kill()
            nodes[leader - 1].start()
            seventh.start()
            observes(nodes, seventh, 7)


@test(seconds=60)
def who_names_other_voters_is_told_so():
    """A node that believes that it has a vote is refused; one whose file names fewer hears of it."""
    with cluster() as nodes:
        voters = nodes[0].overrides["controller.quorum.voters"]
        stranger = Observer(4, nodes)
        stranger.overrides["process.roles"] = "broker,controller"
        stranger.overrides["controller.quorum.voters"] = f"{voters},4@{stranger.controller}"
        with stranger:
            eventually(lambda: "let it not name itself there" in stranger.log_tail(), 20, "why it is refused")
            assert stranger.alive, stranger.log_tail()
        nodes[2].kill()
        nodes[2].overrides["controller.quorum.voters"] = f"{voters},5@127.0.0.1:1"
        nodes[2].start()
        assert "naming others does not change them" in nodes[2].log_tail(), nodes[2].log_tail()
        eventually(lambda: "it has to be the same everywhere" in nodes[0].log_tail(), 10, "another node says so, too")
        nodes[2].kill()
        nodes[2].overrides["controller.quorum.voters"] = ",".join(voters.split(",")[1:])
        nodes[2].spawn()
        eventually(lambda: "nor the metadata say where nodes" in nodes[2].log_path.read_text(), 20, "where a voter is it is not told")
        assert nodes[2].alive, nodes[2].log_tail()


def listed(node) -> dict[int, tuple[str, str]]:
    """Rack and state of each broker, fenced ones too, as Kafka's own tool prints it."""
    printed = kafka_tool(node, "ClusterTool", "list-endpoints", "--include-fenced-brokers")
    rows = [line.split() for line in printed.splitlines()]
    return {int(row[0]): (row[3], row[4]) for row in rows if row and row[-1] == "broker"}


@test(seconds=180)
def a_broker_that_will_not_come_back_is_forgotten():
    def stands(node):
        node.overrides["broker.rack"] = "left" if node.number < 3 else "right"

    with cluster(prepare=stands) as nodes:
        topic = unique("racks")
        create(nodes[0], topic, 6, 2)
        described = admin(nodes[0]).list_topics(topic, timeout=10).topics[topic].partitions.values()
        assert all(3 in it.replicas for it in described), "one replica of each is in the other rack"
        racks = {1: "left", 2: "left", 3: "right"}
        equal(listed(nodes[0]), {node: (rack, "unfenced") for node, rack in racks.items()}, "brokers")

        def unregister() -> str:
            return kafka_tool(nodes[0], "ClusterTool", "unregister", "--id", "3")
        assert "Broker 3 is live: stop it first." in (said := unregister()), said
        nodes[2].kill()
        eventually(lambda: listed(nodes[0])[3] == ("right", "fenced"), 20, "it is fenced")
        assert "Broker 3 is no longer registered." in (said := unregister()), said
        assert "Broker ID 3 is not currently registered" in (said := unregister()), said
        for node in nodes[:2]:
            eventually(lambda: set(listed(node)) == {1, 2}, 20, "it is forgotten")
        equal({leader for leader, _ in in_sync(nodes[1], topic)}, {1, 2}, "leaders")
        # It has said nothing of not coming back.
        nodes[2].start()
        eventually(lambda: brokers(nodes[0]) == {1, 2, 3}, 20, "it has registered again")
        eventually(lambda: all(3 in isr and len(isr) == 2 for _, isr in in_sync(nodes[1], topic)), 40, "all replicas in sync")
        # One that was only away, and hears of it, would lead and follow as nobody.
        nodes[2].process.send_signal(signal.SIGSTOP)
        eventually(lambda: listed(nodes[0])[3] == ("right", "fenced"), 20, "it is fenced")
        assert "Broker 3 is no longer registered." in (said := unregister()), said
        nodes[2].process.send_signal(signal.SIGCONT)
        equal(nodes[2].process.wait(20), 70, "exit status")
        assert "broker 3 was unregistered" in (said := nodes[2].log_tail()), said
        nodes[2].start()
        eventually(lambda: all(3 in isr and len(isr) == 2 for _, isr in in_sync(nodes[1], topic)), 40, "all replicas in sync")


if __name__ == "__main__":
    main("cluster")
