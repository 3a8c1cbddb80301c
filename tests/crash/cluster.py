"""Several nodes that agree on their metadata: killed one after the other, stopped, and with somebody missing."""

import time

from confluent_kafka.admin import NewTopic

from harness.load import Load, make_topic
from harness.nodes import admin, brokers, cluster, create, described_quorum, topics
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
        for node in nodes:
            node.kill()
        for node in nodes:
            node.spawn()
        for node in nodes:
            node.wait_ready()
            eventually(lambda: topics(node) >= set(made), 20, "every topic")


@test(seconds=120)
def nodes_stop_in_turn():
    with cluster() as nodes:
        for node in nodes:
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


if __name__ == "__main__":
    main("cluster")
