"""Apache Kafka's own command line tools, and with them its Java clients."""

import json
import re
import subprocess
import tempfile

from harness import paths
from harness.suite import BOOTSTRAP, equal, eventually, main, test, unique

TOOLS = "org.apache.kafka.tools."
KEYED = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]


class ToolServer:
    """One JVM that runs the tools one after the other; see ToolServer.java."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["java", "-XX:TieredStopAtLevel=1", "-Xmx512M", "-Dlog4j2.configurationFile=java/log4j2.properties",
             "-cp", paths.KAFKA_CLASSPATH, "java/ToolServer.java"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, tool: str, *args: str, stdin: bytes = b"") -> tuple[int, str]:
        """Exit status and all that the tool printed."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(stdin)
            file.flush()
            self.process.stdin.write("\t".join([file.name if stdin else "", tool, *args]).encode() + b"\n")
            self.process.stdin.flush()
            status, length = self.process.stdout.readline().split()
            return int(status), self.process.stdout.read(int(length)).decode()


server = ToolServer()


def tool(name: str, *args: str, stdin: bytes = b"", fails: bool = False, address: str = "--bootstrap-server") -> str:
    """Runs a tool against the broker and returns what it printed."""
    status, printed = server.run(TOOLS + name, address, BOOTSTRAP, *args, stdin=stdin)
    if (status != 0) != fails:
        raise AssertionError(f"{name} {' '.join(args)}: status {status}: {printed[-500:]}")
    return printed


def topics(*args: str, **how) -> str:
    return tool("TopicCommand", *args, **how)


def groups(*args: str, **how) -> str:
    return tool("consumer.group.ConsumerGroupCommand", *args, **how)


def configs(*args: str, **how) -> str:
    return tool("ConfigCommand", *args, **how)


def make_topic(prefix: str, partitions: int = 1, *args: str) -> str:
    name = unique(prefix)
    topics("--create", "--topic", name, "--partitions", str(partitions), "--replication-factor", "1", *args)
    return name


def console_produce(topic: str, text: bytes, *args: str):
    tool("ConsoleProducer", "--topic", topic, *args, stdin=text)


def console_consume(topic: str, count: int, *args: str) -> str:
    printed = tool("consumer.ConsoleConsumer", "--topic", topic, "--max-messages", str(count),
                   "--timeout-ms", "20000", *args)
    return re.sub(r"(Processed a total of \d+ messages|The consumer rebalance protocol \(KIP-848\).*)\n", "", printed)


@test(seconds=90)
def api_versions_are_told():
    printed = tool("BrokerApiVersionsCommand")
    assert re.search(r"Produce\(0\): 0 to \d+ \[usable: \d+\]", printed), printed[:500]
    assert re.search(r"Fetch\(1\): \d+ to \d+ \[usable: \d+\]", printed), printed[:500]


@test(seconds=90)
def the_metadata_quorum_is_described():
    status = tool("MetadataQuorumCommand", "describe", "--status")
    told = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    leader = int(told["LeaderId"])
    equal([voter["id"] for voter in json.loads(told["CurrentVoters"])], [leader], "voters")
    equal((told["CurrentObservers"], told["MaxFollowerLag"]), ("[]", "0"), "observers and lag")
    assert int(told["LeaderEpoch"]) > 0 and int(told["HighWatermark"]) > 0, status
    rows = [line.split("\t") for line in tool("MetadataQuorumCommand", "describe", "--replication").strip().splitlines()]
    of = {name.strip(): value.strip() for name, value in zip(*rows)}
    equal((of["NodeId"], of["Lag"], of["Status"]), (str(leader), "0", "Leader"), rows)


@test
def the_cluster_and_its_features_are_described():
    printed = tool("FeatureCommand", "describe")
    levels = dict(re.findall(r"Feature: (\S+)\s.*FinalizedVersionLevel: (\S+)", printed))
    equal((levels["group.version"], levels["streams.version"], levels["transaction.version"]), ("1", "1", "2"), printed)
    assert levels["metadata.version"].startswith("4."), printed
    host, port = BOOTSTRAP.rsplit(":", 1)
    # This tool wants to know first what it is to do.
    for command, wanted in (("cluster-id", r"Cluster ID: [\w-]{22}$"), ("list-endpoints", rf"^1\s+{host}\s+{port}\s")):
        status, printed = server.run(TOOLS + "ClusterTool", command, "--bootstrap-server", BOOTSTRAP)
        assert status == 0 and re.search(wanted, printed, re.M), printed


@test
def topics_live_and_die():
    name = make_topic("java-topic", 2, "--config", "retention.ms=7200000")
    assert name in topics("--list").split()
    printed = topics("--describe", "--topic", name)
    assert "PartitionCount: 2" in printed and "retention.ms=7200000" in printed, printed
    equal(len(re.findall(r"Partition: \d+\tLeader: \d+\tReplicas: \d+\tIsr: \d+", printed)), 2, printed)
    topics("--alter", "--topic", name, "--partitions", "4")
    assert "PartitionCount: 4" in topics("--describe", "--topic", name)
    assert "already exists" in topics("--create", "--topic", name, fails=True)
    assert "UNKNOWN" not in topics("--create", "--if-not-exists", "--topic", name)
    topics("--delete", "--topic", name)
    eventually(lambda: name not in topics("--list").split(), what="the topic is gone")
    assert "does not exist" in topics("--describe", "--topic", name, fails=True)


@test
def leaders_are_elected():
    name = make_topic("java-elect", 2)
    one = ["--topic", name, "--partition", "0"]
    printed = tool("LeaderElectionCommand", "--election-type", "preferred", *one)
    assert f"Valid replica already elected for partitions {name}-0" in printed, printed
    printed = tool("LeaderElectionCommand", "--election-type", "unclean", *one)
    assert f"Valid replica already elected for partitions {name}-0" in printed, printed
    printed = tool("LeaderElectionCommand", "--election-type", "preferred", "--topic", name, "--partition", "7", fails=True)
    assert "UnknownTopicOrPartitionException" in printed, printed
    tool("LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions")


@test
def bad_topics_are_refused():
    printed = topics("--create", "--topic", unique("java-bad"), "--replication-factor", "7", fails=True)
    assert "replication factor" in printed.lower(), printed
    printed = topics("--create", "--topic", unique("java-bad"), "--config", "retention.ms=-7", fails=True)
    assert "retention.ms" in printed, printed
    printed = topics("--create", "--topic", "bad name", fails=True)
    assert "illegal" in printed or "invalid" in printed, printed


@test
def console_to_console():
    name = make_topic("java-console", 1)
    text = b"".join(b"line %d\n" % i for i in range(2000))
    console_produce(name, text)
    equal(console_consume(name, 2000, "--from-beginning"), text.decode())


@test
def console_with_keys_headers_and_offsets():
    name = make_topic("java-keys")
    console_produce(name, b"h1:one\tk1\tv1\nh1:two\tk2\tv2\n", "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")
    printed = console_consume(name, 2, "--from-beginning", *(a for key in ["print.key", "print.headers", "print.offset", "print.partition"]
                                                           for a in ("--formatter-property", f"{key}=true")))
    equal(printed, "Partition:0\tOffset:0\th1:one\tk1\tv1\nPartition:0\tOffset:1\th1:two\tk2\tv2\n")
    equal(console_consume(name, 1, "--partition", "0", "--offset", "1"), "v2\n")


@test(seconds=90)
def every_codec():
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        name = make_topic(f"java-{codec}")
        text = b"".join(b"%s %d\n" % (codec.encode(), i) for i in range(500))
        console_produce(name, text, "--compression-codec", codec)
        equal(console_consume(name, 500, "--from-beginning"), text.decode(), codec)


@test
def offsets_and_deleted_records():
    name = make_topic("java-offsets", 2)
    console_produce(name, b"".join(b"k%d:%d\n" % (i, i) for i in range(40)), *KEYED)

    def offsets(time_spec: str) -> dict[int, int]:
        printed = tool("GetOffsetShell", "--topic", name, "--time", time_spec)
        return {int(p): int(o) for p, o in re.findall(rf"^{name}:(\d+):(-?\d+)$", printed, re.M)}
    ends = offsets("latest")
    equal(sum(ends.values()), 40)
    equal(offsets("earliest"), {0: 0, 1: 0})
    equal(offsets("max-timestamp").keys(), {0, 1})
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"version": 1, "partitions": [{"topic": name, "partition": 0, "offset": 3}, {"topic": name, "partition": 1, "offset": -1}]}, file)
        file.flush()
        printed = tool("DeleteRecordsCommand", "--offset-json-file", file.name)
    assert f"partition: {name}-0\tlow_watermark: 3" in printed, printed
    equal(offsets("earliest"), {0: 3, 1: ends[1]})


@test
def topic_configs():
    name = make_topic("java-config")
    configs("--alter", "--entity-type", "topics", "--entity-name", name, "--add-config", "max.message.bytes=5000,cleanup.policy=[delete]")

    def described(*args: str) -> str:
        return configs("--describe", "--entity-type", "topics", "--entity-name", name, *args)
    eventually(lambda: "max.message.bytes=5000" in described(), what="the new value is told")
    assert "DYNAMIC_TOPIC_CONFIG" in described() and "segment.bytes=1073741824" in described("--all")
    printed = tool("ConsoleProducer", "--topic", name, "--max-memory-bytes", "100000000", "--command-property", "max.request.size=20000000",
                   "--command-property", "compression.type=none", stdin=b"x" * 6000 + b"\n")
    assert "RecordTooLargeException" in printed, printed[-500:]
    configs("--alter", "--entity-type", "topics", "--entity-name", name, "--delete-config", "max.message.bytes")
    eventually(lambda: "max.message.bytes=5000" not in described(), what="the default is back")
    assert "nonsense" in configs("--alter", "--entity-type", "topics", "--entity-name", name, "--add-config", "nonsense=1", fails=True)
    configs("--alter", "--entity-type", "topics", "--entity-name", unique("java-nowhere"), "--add-config", "retention.ms=1", fails=True)


@test
def group_configs():
    group = unique("java-group-config")

    def described(*args: str) -> str:
        return configs("--describe", "--entity-type", "groups", *args)
    configs("--alter", "--entity-type", "groups", "--entity-name", group, "--add-config",
            "consumer.session.timeout.ms=50000,streams.num.standby.replicas=1")
    eventually(lambda: "consumer.session.timeout.ms=50000" in described("--entity-name", group), what="the new value is told")
    printed = described("--entity-name", group, "--all")
    assert "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000" in printed and "streams.initial.rebalance.delay.ms=" in printed, printed
    assert group in described(), "it is listed though there is no such group"
    for wrong in ["consumer.session.timeout.ms=1", "nonsense=1", "streams.num.standby.replicas=3"]:
        configs("--alter", "--entity-type", "groups", "--entity-name", group, "--add-config", wrong, fails=True)
    configs("--alter", "--entity-type", "groups", "--entity-name", group, "--delete-config",
            "consumer.session.timeout.ms,streams.num.standby.replicas")
    eventually(lambda: group not in described(), what="it has none any more")


@test
def broker_configs():
    def described(*args: str) -> str:
        return configs("--describe", "--entity-type", "brokers", *args)
    printed = described("--entity-name", "1", "--all")
    assert "num.io.threads=" in printed and "log.retention.hours=168" in printed, printed[:500]
    configs("--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "log.cleaner.delete.retention.ms=86400001")
    eventually(lambda: "log.cleaner.delete.retention.ms=86400001" in described("--entity-default"), what="the default of all brokers is told")
    configs("--alter", "--entity-type", "brokers", "--entity-default", "--delete-config", "log.cleaner.delete.retention.ms")
    printed = configs("--alter", "--entity-type", "brokers", "--entity-name", "1", "--add-config", "num.partitions=3", fails=True)
    assert "Cannot update these configs dynamically" in printed, printed


@test
def sizes_of_logs():
    name = make_topic("java-dirs", 2)
    console_produce(name, b"k:" + b"x" * 5000 + b"\n", *KEYED)
    printed = tool("LogDirsCommand", "--describe", "--topic-list", name)
    told = json.loads(printed[printed.index("{"):].splitlines()[0])
    partitions = {p["partition"]: p["size"] for b in told["brokers"] for d in b["logDirs"] for p in d["partitions"]}
    equal(partitions.keys(), {f"{name}-0", f"{name}-1"})
    assert 5000 < sum(partitions.values()) < 6000 and min(partitions.values()) == 0, partitions


@test
def what_is_not_there_is_told_as_that():
    assert "No partition reassignments found" in tool("reassign.ReassignPartitionsCommand", "--list")
    printed = tool("AclCommand", "--list", fails=True)
    assert "No Authorizer is configured" in printed, printed


@test(seconds=90)
def groups_live_and_die():
    name, group = make_topic("java-group", 2), unique("java-group")
    console_produce(name, b"".join(b"k%d:%d\n" % (i, i) for i in range(30)), *KEYED)
    console_consume(name, 30, "--group", group, "--from-beginning")
    assert group in groups("--list").split()

    def lag() -> tuple[int, int]:
        rows = re.findall(rf"^{group}\s+{name}\s+\d+\s+(\S+)\s+\d+\s+(\d+)", groups("--describe", "--group", group), re.M)
        return len(rows), sum(int(lag) for _, lag in rows)
    equal(lag(), (2, 0), "partitions and lag after reading all")
    console_produce(name, b"more\n")
    equal(lag(), (2, 1), "lag after one more record")
    state = eventually(lambda: re.search(r"(Empty|Dead)", groups("--describe", "--state", "--group", group)), what="the group is empty")
    equal(state[1], "Empty")
    groups("--reset-offsets", "--group", group, "--topic", name, "--to-earliest", "--execute")
    equal(lag(), (2, 31), "lag after the reset")
    groups("--reset-offsets", "--group", group, "--topic", f"{name}:0,1", "--shift-by", "2", "--execute")
    equal(lag()[1], 27, "lag after the shift")
    groups("--delete-offsets", "--group", group, "--topic", f"{name}:0")
    equal(lag()[0], 1, "partitions with an offset after one was deleted")
    groups("--delete", "--group", group)
    assert group not in groups("--list").split()
    assert "does not exist" in groups("--delete", "--group", group)


@test(seconds=90)
def groups_are_reset_by_time_and_from_files():
    name, group = make_topic("java-reset"), unique("java-reset")
    console_produce(name, b"".join(b"%d\n" % i for i in range(10)))
    console_consume(name, 10, "--group", group, "--from-beginning")
    assert re.search(rf"^{group}\s+Classic\s+consumer", tool("GroupsCommand", "--list"), re.M)
    eventually(lambda: "Empty" in groups("--describe", "--state", "--group", group), what="the group is empty")

    def reset(*args: str) -> int:
        """Where the group is then."""
        groups("--reset-offsets", "--group", group, *args, "--execute")
        return int(re.search(rf"^{group}\s+{name}\s+0\s+(\d+)", groups("--describe", "--group", group), re.M)[1])
    equal(reset("--topic", name, "--to-datetime", "2001-01-01T00:00:00.000"), 0, "reset to a time before all records")
    equal(reset("--topic", name, "--to-datetime", "2101-01-01T00:00:00.000"), 10, "reset to a time behind all records")
    equal(reset("--all-topics", "--by-duration", "P1D"), 0, "reset to a day ago")
    equal(reset("--topic", f"{name}:0", "--to-offset", "4"), 4, "reset to an offset")
    equal(reset("--topic", name, "--to-offset", "99"), 10, "reset to an offset behind the end")
    planned = groups("--reset-offsets", "--group", group, "--topic", name, "--shift-by", "-3", "--export", "--dry-run")
    equal(re.findall(rf"^.?{name}.*$", planned, re.M), [f"{name},0,7"], planned)
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write(f"{name},0,6\n")
        file.flush()
        equal(reset("--from-file", file.name), 6, "reset to what a file says")
    assert re.search(rf"^{group}\s+{name}\s+0\s+6\s+10\s+4\s", groups("--describe", "--all-groups"), re.M)


@test(seconds=120)
def consumer_protocol_groups_live_and_die():
    name, group = make_topic("java-848", 4), unique("java-848")
    command = ["java", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile=java/log4j2.properties", "-cp", paths.KAFKA_CLASSPATH,
               "org.apache.kafka.tools.VerifiableConsumer", "--bootstrap-server", BOOTSTRAP, "--topic", name, "--group-id", group,
               "--group-protocol", "consumer", "--reset-policy", "earliest", "--enable-autocommit"]

    def members() -> list[tuple[str, int]]:
        """The members that there are, and how many partitions each has."""
        printed = groups("--describe", "--members", "--verbose", "--group", group)
        rows = re.findall(rf"^{group}\s+(\S+)\s+\S+\s+\S+\s+(\d+)\s", printed, re.M)
        return sorted((member, int(count)) for member, count in rows)

    def committed() -> int:
        rows = re.findall(rf"^{group}\s+{name}\s+\d+\s+(\d+)", groups("--describe", "--group", group), re.M)
        return sum(map(int, rows))

    def shares(*counts: int):
        eventually(lambda: sorted(count for _, count in members()) == sorted(counts), 40, f"members with {counts} partitions")
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        shares(4)
        second = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            shares(2, 2)
            console_produce(name, b"".join(b"k%d:%d\n" % (i, i) for i in range(40)), *KEYED)
            state = groups("--describe", "--state", "--group", group)
            assert re.search(r"uniform\s+Stable\s+2", state), state
            listed = [line.split() for line in groups("--list", "--type", "consumer").splitlines()]
            assert any(row[0] == group for row in listed), listed
        finally:
            # It does not say that it leaves.
            second.kill()
            second.wait()
        shares(4)
        eventually(lambda: committed() == 40, 30, "offsets committed")
    finally:
        first.terminate()
        first.wait()
    eventually(lambda: "Empty" in groups("--describe", "--state", "--group", group), 30, "the group is empty")
    groups("--delete", "--group", group)
    assert group not in groups("--list").split()


@test(seconds=120)
def performance_tools():
    name = make_topic("java-perf", 2)
    printed = tool("ProducerPerformance", "--topic", name, "--num-records", "50000", "--record-size", "200", "--throughput", "-1",
                   "--command-property", "acks=all", "--command-property", "enable.idempotence=true")
    assert "50000 records sent" in printed, printed
    printed = tool("ConsumerPerformance", "--topic", name, "--num-records", "50000", "--timeout", "30000")
    assert re.search(r"\b50000\b", printed), printed
    printed = tool("EndToEndLatency", "--topic", make_topic("java-latency"), "--num-records", "500", "--producer-acks", "all", "--record-size", "100")
    assert "Percentiles: 50th" in printed, printed


def alone(name: str, *args: str) -> list[dict]:
    """Runs a tool that hooks into the end of its JVM in a JVM of its own; returns the events it printed."""
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", paths.KAFKA_CLASSPATH, TOOLS + name, "--bootstrap-server", BOOTSTRAP, *args]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


@test(seconds=90)
def verifiable_clients():
    name, group = make_topic("java-verifiable", 3), unique("java-verifiable")
    events = alone("VerifiableProducer", "--topic", name, "--max-messages", "3000", "--acks", "-1")
    equal(sum(e["name"] == "producer_send_success" for e in events), 3000, "acknowledged")
    events = alone("VerifiableConsumer", "--topic", name, "--group-id", group, "--max-messages", "3000", "--reset-policy", "earliest",
                   "--enable-autocommit")
    equal(sum(e["count"] for e in events if e["name"] == "records_consumed"), 3000, "consumed")


@test(seconds=60)
def a_commit_is_seen_by_what_is_asked_behind_it():
    command = ["java", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile=java/log4j2.properties", "-cp", paths.KAFKA_CLASSPATH,
               "java/CommitBehind.java", BOOTSTRAP, make_topic("java-behind"), unique("java-behind")]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    equal(json.loads(printed.splitlines()[-1]), {"stale": 0})


@test(seconds=120)
def a_topic_is_copied_exactly_once():
    command = ["java", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile=java/log4j2.properties", "-cp", paths.KAFKA_CLASSPATH,
               "java/Transactions.java", BOOTSTRAP, make_topic("java-tx", 2), make_topic("java-tx-copy", 2), unique("java-tx")]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=110).stdout
    equal(json.loads(printed.splitlines()[-1]), {"found": 200, "distinct": 200, "fenced": True})


@test(seconds=90)
def transactions_are_listed_and_described():
    name, producer = make_topic("java-tx", 2), unique("java-tx")
    printed = tool("ProducerPerformance", "--topic", name, "--num-records", "500", "--record-size", "100", "--throughput", "-1",
                   "--transactional-id", producer, "--transaction-duration-ms", "50")
    assert "500 records sent" in printed, printed
    eventually(lambda: "CompleteCommit" in tool("TransactionsCommand", "describe", "--transactional-id", producer), 20, "its last transaction")
    # It was of version 2, or several were: the epoch has grown with each.
    names, row = (line.split("\t") for line in tool("TransactionsCommand", "describe", "--transactional-id", producer).splitlines()[-2:])
    described = {name.strip(): value.strip() for name, value in zip(names, row)}
    assert int(described["ProducerEpoch"]) > 0, described
    listed = tool("TransactionsCommand", "list")
    assert any(producer in line and "CompleteCommit" in line for line in listed.splitlines()), listed
    # Reads what is committed: all of it.
    committed = console_consume(name, 500, "--from-beginning", "--isolation-level", "read_committed")
    equal(len(committed.splitlines()), 500, "records that are committed")
    producers = tool("TransactionsCommand", "describe-producers", "--topic", name, "--partition", "0")
    assert "LatestCoordinatorEpoch" in producers, producers
    hanging = tool("TransactionsCommand", "find-hanging", "--topic", name)
    assert name not in hanging.split(), hanging


if __name__ == "__main__":
    main("java")
