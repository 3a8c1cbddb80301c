"""Who votes about the metadata: a voter that has lost its disk is replaced, a fourth node is given a vote and another one loses it, under
load, with our tool and with Kafka's own."""

import pathlib
import subprocess

from harness import ctl, paths
from harness.load import Load
from harness.nodes import Node, Observer, addresses, brokers, cluster, create, described_quorum, in_sync, restart_together
from harness.suite import equal, eventually, main, test, unique


def replicas(node: Node, role: str = "") -> dict[int, str]:
    """The directory of each replica of the metadata in a role, or of each that votes; by node."""
    roles = {role} if role else {"leader", "voter"}
    rows = ctl.answer(node.address, "cluster", "voters")["replicas"]
    return {row["node"]: row["directory"] for row in rows if row["role"] in roles}


def listener(node: Node) -> str:
    return f"CONTROLLER://{node.controller}"


def quorum_tool(node: Node, *args: str, config: pathlib.Path | None = None) -> str:
    """What `kafka-metadata-quorum` says."""
    java = ["java", "-XX:TieredStopAtLevel=1", "-Xmx256M", "-cp", paths.KAFKA_CLASSPATH, "org.apache.kafka.tools.MetadataQuorumCommand"]
    more = ["--command-config", str(config)] if config else []
    done = subprocess.run([*java, "--bootstrap-server", node.address, *more, *args], capture_output=True, text=True, timeout=90)
    return done.stdout + done.stderr


def as_kafkas(node: Node, cluster_id: str, directory: str) -> pathlib.Path:
    """The file of a node as Kafka's tool reads it, which looks for its directory in Kafka's own place."""
    home = node.home / "as-kafkas"
    home.mkdir(exist_ok=True)
    (home / "meta.properties").write_text(f"version=1\ncluster.id={cluster_id}\nnode.id={node.number}\ndirectory.id={directory}\n")
    settings = {**node.overrides, "log.dirs": str(home)}
    settings = {key: value for key, value in settings.items() if not key.startswith("millrace.")}
    file = home / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return file


def goes_on(load: Load):
    acks = load.acks
    eventually(lambda: load.acks > acks + 300, 60, "acknowledgements")


def all_in_sync(node: Node, topic: str):
    eventually(lambda: all(len(isr) == 3 for _, isr in in_sync(node, topic)), 90, "all replicas in sync")


def wipe(node: Node):
    node.kill()
    for store in node.data.iterdir():
        store.unlink()


def is_replaced(nodes: list[Node], lost: Node, by: Node):
    """The node comes back with an empty disk, votes for nobody, and is given the vote of the disk that it has lost."""
    old = replicas(by)[lost.number]
    wipe(lost)
    lost.start()
    for node in nodes:
        eventually(lambda node=node: brokers(node) == {1, 2, 3}, 30, "all three brokers")
    said = lost.log_path.read_text()
    assert f"had a vote about the metadata with directory {old}" in said, lost.log_tail()
    eventually(lambda: lost.number in replicas(by, "observer"), 20, "it observes")
    new = replicas(by, "observer")[lost.number]
    assert new != old and replicas(by)[lost.number] == old
    refused = ctl.said(by.address, "cluster", "voters", "add", str(lost.number), "--listener", listener(lost), status=1)
    assert "already part of the set of voters" in refused, refused
    refused = ctl.said(by.address, "cluster", "voters", "remove", str(lost.number), "--directory", new, status=1)
    assert f"with directory {old}, not {new}" in refused, refused
    equal(ctl.answer(by.address, "cluster", "voters", "remove", str(lost.number)), {"removed": lost.number, "directory": old}, "removed")
    added = ctl.answer(lost.address, "cluster", "voters", "add", str(lost.number), "--listener", listener(lost))
    equal(added, {"added": lost.number, "directory": new}, "added")
    for node in nodes:
        equal(replicas(node)[lost.number], new, "the directory that votes")


@test(seconds=300)
def a_voter_that_has_lost_its_disk_is_replaced_under_load():
    with cluster() as nodes:
        topic = unique("wiped-voters")
        create(nodes[0], topic, 6, 3, min_insync_replicas="2")
        load = Load(addresses(nodes), topic, 6, rate=1000, **{"enable.idempotence": True})
        goes_on(load)
        # One that follows, and then the one that leads.
        for leads in [False, True]:
            all_in_sync(nodes[0], topic)
            leader = described_quorum(nodes[0]).leader
            lost = next(node for node in nodes if (node.number == leader) == leads)
            by = next(node for node in nodes if node is not lost)
            is_replaced(nodes, lost, by)
            goes_on(load)
            all_in_sync(by, topic)
            # It votes as the old one did: with one of the two others gone something is still decided.
            by.kill()
            create(lost, unique("by-the-new-vote"))
            goes_on(load)
            by.start()
            for node in nodes:
                eventually(lambda node=node: brokers(node) == {1, 2, 3}, 30, "all three brokers")
        load.end()
        all_in_sync(nodes[0], topic)
        load.verify(addresses(nodes))
        # What the disks have says the same.
        before = replicas(nodes[0])
        restart_together(nodes)
        eventually(lambda: replicas(nodes[0]) == before, 20, "the same voters")


@test(seconds=300)
def a_fourth_node_is_given_a_vote_and_the_leader_loses_its_own_by_kafkas_tool():
    with cluster() as nodes:
        topic = unique("four-voters")
        create(nodes[0], topic, 6, 3, min_insync_replicas="2")
        load = Load(addresses(nodes), topic, 6, rate=1000, **{"enable.idempotence": True})
        fourth = Observer(4, nodes, servers=nodes)
        # Kafka's way: a controller that is told where others are, and not who votes.
        fourth.overrides["process.roles"] = "broker,controller"
        with fourth:
            fourth.wait_ready()
            everybody = [*nodes, fourth]
            for node in everybody:
                eventually(lambda node=node: brokers(node) == {1, 2, 3, 4}, 30, "all four brokers")
            eventually(lambda: 4 in replicas(nodes[0], "observer"), 20, "it observes")
            status = quorum_tool(nodes[0], "describe", "--status")
            cluster_id = next(line.split()[-1] for line in status.splitlines() if line.startswith("ClusterId"))
            config = as_kafkas(fourth, cluster_id, replicas(nodes[0], "observer")[4])
            said = quorum_tool(nodes[1], "add-controller", config=config)
            assert "Added controller 4" in said, said
            equal(set(replicas(fourth)), {1, 2, 3, 4}, "voters")
            goes_on(load)
            leader = described_quorum(nodes[0]).leader
            directory = replicas(nodes[0])[leader]
            args = ["remove-controller", "--controller-id", str(leader), "--controller-directory-id"]
            said = quorum_tool(nodes[leader % 3], *args, replicas(fourth)[4])
            assert "VoterNotFound" in said or "Cannot remove voter" in said, said
            said = quorum_tool(nodes[leader % 3], *args, directory)
            assert "Removed KRaft controller" in said, said
            left = {1, 2, 3, 4} - {leader}
            eventually(lambda: described_quorum(fourth).leader in left, 20, "another one leads")
            for node in everybody:
                eventually(lambda node=node: set(replicas(node)) == left, 20, "voters")
            eventually(lambda: leader in replicas(fourth, "observer"), 20, "it observes")
            goes_on(load)
            # Of the three that vote two are enough, whichever: those in the files are not asked.
            for killed in [node for node in everybody if node.number in left][:2]:
                killed.kill()
                other = next(node for node in everybody if node is not killed and node.number in left)
                create(other, unique("two-of-three"))
                goes_on(load)
                killed.start()
                for node in everybody:
                    eventually(lambda node=node: brokers(node) == {1, 2, 3, 4}, 30, "all four brokers")
            restart_together(everybody)
            eventually(lambda: set(replicas(fourth)) == left, 20, "the same voters")
            goes_on(load)
            load.end()
            all_in_sync(fourth, topic)
            load.verify(addresses(everybody))


@test(seconds=120)
def a_removal_that_would_leave_no_majority_is_refused():
    with cluster() as nodes:
        leader = described_quorum(nodes[0]).leader
        gone, left = [node for node in nodes if node.number != leader]
        lead = nodes[leader - 1]
        gone.kill()
        eventually(lambda: len(brokers(lead)) == 2, 20, "the dead one is missed")
        for number in [left.number, leader]:
            refused = ctl.said(lead.address, "cluster", "voters", "remove", str(number), status=1)
            assert "too few of the voters are there" in refused, refused
        create(lead, unique("still-decided"))
        ctl.said(lead.address, "cluster", "voters", "remove", str(gone.number))
        equal(set(replicas(lead)), {leader, left.number}, "voters")
        # It comes back with its disk, which says that it has a vote: it hears that it has none.
        gone.start()
        eventually(lambda: gone.number in replicas(lead, "observer"), 20, "it observes")
        equal(described_quorum(lead).leader, leader, "who leads")
        eventually(lambda: brokers(lead) == {1, 2, 3}, 20, "it is a broker that may lead")
        ctl.said(lead.address, "cluster", "voters", "add", str(gone.number), "--listener", listener(gone))
        equal(set(replicas(lead)), {1, 2, 3}, "voters")


if __name__ == "__main__":
    main("voters")
