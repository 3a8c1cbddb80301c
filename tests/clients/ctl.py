"""`millracectl` as an operator uses it: against Millrace, and as far as the API is Kafka's, against Apache Kafka."""

import json
import os
import signal
import subprocess
import tempfile
import time

from confluent_kafka import Consumer, Producer, TopicPartition

import harness.ctl
from harness import paths
from harness.suite import BOOTSTRAP, BROKER, equal, eventually, main, test, unique

# Where nobody listens.
NOWHERE = "127.0.0.1:9"


def ctl(*args: str, status: int = 0, stdin: str = "", bootstrap: str = BOOTSTRAP) -> str:
    return harness.ctl.said(bootstrap, *args, status=status, stdin=stdin)


def answer(*args: str, stdin: str = "") -> dict:
    return harness.ctl.answer(BOOTSTRAP, *args, stdin=stdin)


def records(*args: str) -> list[dict]:
    return [json.loads(line) for line in ctl("consume", *args, "-o", "beginning", "-e", "--json").splitlines()]


def made(partitions: int = 1) -> str:
    topic = unique("ctl")
    equal(answer("topics", "create", topic, "--partitions", str(partitions)), {"created": topic})
    # A broker may not have heard yet of a topic that was just made.
    eventually(lambda: works("topics", "offsets", topic), 20, "leaders")
    return topic


def works(*args: str) -> bool:
    return subprocess.run([paths.binary("millracectl"), "--bootstrap", BOOTSTRAP, *args], capture_output=True, timeout=60).returncode == 0


@test
def topics_are_made_described_changed_and_deleted():
    topic = made(2)
    equal(answer("topics", "list", "--matching", f"^{topic}$")["topics"], [
        {"topic": topic, "partitions": 2, "replicas": 1, "out_of_sync": 0, "internal": False},
    ])
    changed = answer("topics", "alter", topic, "--partitions", "3", "--set", "retention.ms=3600000", "--set", "max.message.bytes=2000000")
    equal(changed, {"altered": topic, "set": ["retention.ms", "max.message.bytes"], "unset": [], "partitions": 3})
    answer("topics", "alter", topic, "--unset", "max.message.bytes")
    sent = answer("produce", topic, "-p", "2", stdin="a\nb\n")
    equal(sent["partitions"][0]["end_offset"], 2)

    def described():
        (one,) = answer("topics", "describe", topic)["topics"]
        return one if len(one["partitions"]) == 3 else None
    one = eventually(described, 20, "three partitions")
    equal((one["topic"], one["internal"], [p["partition"] for p in one["partitions"]]), (topic, False, [0, 1, 2]))
    equal([(p["first_offset"], p["end_offset"]) for p in one["partitions"]], [(0, 0), (0, 0), (0, 2)])
    assert one["partitions"][2]["bytes"] > 0 and one["bytes"] == sum(p["bytes"] for p in one["partitions"]), one
    for partition in one["partitions"]:
        equal(partition["isr"], partition["replicas"])
        assert partition["leader"] in partition["isr"], partition
    settings = {config["name"]: (config["value"], config["source"]) for config in one["configs"]}
    equal(settings["retention.ms"], ("3600000", "topic"))
    assert "max.message.bytes" not in settings, settings

    assert "PARTITION  LEADER" in ctl("topics", "describe", topic), "a table for people"
    equal(answer("topics", "delete", topic), {"deleted": [topic]})
    why = ctl("topics", "describe", topic + "x", status=1)
    assert "there is no topic" in why, why


@test
def a_pattern_deletes_after_showing_what_goes():
    prefix = unique("ctl-many")
    for number in range(3):
        answer("topics", "create", f"{prefix}-{number}", "--partitions", "1")
    eventually(lambda: len(answer("topics", "list", "--matching", prefix)["topics"]) == 3, 20, "three topics")
    refused = ctl("topics", "delete", "--matching", f"^{prefix}-[01]$", status=2)
    assert "--yes" in refused, refused
    equal(len(answer("topics", "list", "--matching", prefix)["topics"]), 3, "topics after no answer")
    equal(sorted(answer("topics", "delete", "--matching", f"^{prefix}-[01]$", "--yes")["deleted"]), [f"{prefix}-0", f"{prefix}-1"])
    eventually(lambda: [one["topic"] for one in answer("topics", "list", "--matching", prefix)["topics"]] == [f"{prefix}-2"], 20, "one left")
    assert "no topic" in ctl("topics", "delete", "--matching", f"^{prefix}-[01]$", "--yes", status=1)


@test
def records_go_in_and_come_out_as_they_are():
    topic = made(3)
    lines = [
        {"key": "k", "value": "v", "headers": [{"key": "a", "value": "1"}, {"key": "b", "value": None}], "timestamp_ms": 1_700_000_000_000},
        {"key": "k", "value": None},
        {"key": None, "value": {"base64": "/wA="}, "partition": 2},
        {"value": "ümläut\n\t\"", "partition": 0},
    ]
    sent = answer("produce", topic, "--input", "json", stdin="".join(json.dumps(line) + "\n" for line in lines))
    equal((sent["topic"], sent["records"]), (topic, 4))
    out = records(topic)
    equal(len(out), 4)
    by_key = [record for record in out if record["key"] == "k"]
    equal([record["value"] for record in by_key], ["v", None])
    equal(by_key[0]["headers"], lines[0]["headers"])
    equal(by_key[0]["timestamp_ms"], 1_700_000_000_000)
    equal(len({record["partition"] for record in by_key}), 1, "partitions of one key")
    equal([record["value"] for record in out if record["partition"] == 2 and record["key"] is None], [{"base64": "/wA="}])
    assert any(record["value"] == lines[3]["value"] for record in out), out
    # What is printed can be sent as it is.
    copy = made(3)
    answer("produce", copy, "--input", "json", stdin="".join(json.dumps(record) + "\n" for record in out))
    again = records(copy)
    for record in out + again:
        del record["topic"]
    equal(again, out)
    why = ctl("produce", topic, "--input", "json", status=1, stdin='{"value":"x"}\n{"valeu":"y"}\n')
    assert "line 2" in why and "valeu" in why, why


@test
def files_and_the_command_line_say_what_records_have():
    topic = made(2)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("x:1\n2\n")
        file.flush()
        args = ["-K", ":", "--key", "all", "--header", "h=1", "--timestamp", "2023-11-14T22:13:20Z", "-p", "1", "--codec", "zstd"]
        for acks in ["all", "1"]:
            equal(answer("produce", topic, "--file", file.name, "--acks", acks, *args)["records"], 2)
        # Nobody answers for these.
        equal(answer("produce", topic, "--file", file.name, "--acks", "0", *args)["partitions"][0]["first_offset"], None)
    out = eventually(lambda: len(found := records(topic)) == 6 and found, 20, "six records")
    for record in out:
        equal((record["headers"], record["timestamp_ms"], record["partition"]), ([{"key": "h", "value": "1"}], 1_700_000_000_000, 1))
    equal([record["key"] for record in out], ["x", "all"] * 3)
    assert "cannot read" in ctl("produce", topic, "--file", "/nowhere/x", status=1)


@test
def consume_takes_ranges_patterns_and_formats():
    topic = made(1)
    answer("produce", topic, "--input", "json", stdin="".join(json.dumps(
        {"key": f"k{n}", "value": None if n == 3 else f"v{n}", "timestamp_ms": 1_700_000_000_000 + n * 1000}) + "\n" for n in range(6)))

    def offsets(*args: str) -> list[int]:
        return [int(word) for word in ctl("consume", topic, "-f", "%o ", *args).split()]
    equal(offsets("-o", "2", "--to", "4"), [2, 3])
    equal(offsets("-o", "-2", "-e"), [4, 5])
    equal(offsets("-o", "@2023-11-14T22:13:22Z", "--to", "@1700000004000"), [2, 3])
    equal(offsets("-o", "beginning", "-e", "--grep", "[vk][14]$"), [1, 4])
    equal(offsets("-o", "beginning", "-n", "3"), [0, 1, 2])
    equal(ctl("consume", topic, "-o", "3", "-n", "1", "-f", "%t/%p %k=%v %K %V %d\\n"), f"{topic}/0 k3=null 2 -1 2023-11-14T22:13:23.000Z\n")
    places = answer("topics", "offsets", topic)["partitions"]
    equal(places, [{"partition": 0, "first_offset": 0, "end_offset": 6}])
    places = answer("topics", "offsets", topic, "--at", "@1700000001500")["partitions"]
    equal(places, [{"partition": 0, "offset": 2, "timestamp_ms": 1_700_000_002_000}])
    # Quietly, as head wants it.
    done = subprocess.run(f"{paths.binary('millracectl')} --bootstrap {BOOTSTRAP} consume {topic} -o beginning -e | head -1",
                          shell=True, capture_output=True, text=True, timeout=60)
    equal((done.stdout, done.stderr), ("v0\n", ""))


@test
def old_records_are_deleted_after_a_question():
    topic = made(1)
    answer("produce", topic, stdin="a\nb\nc\n")
    assert "--yes" in ctl("topics", "delete-records", topic, "--before", "2", status=2)
    equal(len(records(topic)), 3, "records after no answer")
    done = answer("topics", "delete-records", topic, "--before", "2", "--yes")
    equal(done, {"topic": topic, "deleted_records": 2, "partitions": [{"partition": 0, "first_offset": 2}]})
    equal([record["value"] for record in records(topic)], ["c"])


def joined(topic: str, group: str, protocol: str) -> Consumer:
    config = {"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
              "group.protocol": protocol, "client.id": "the-client", "log_level": 2}
    if protocol == "classic":
        config["session.timeout.ms"] = 10_000
    consumer = Consumer(config)
    consumer.subscribe([topic])
    eventually(lambda: consumer.poll(0.2) is not None, 40, "a record")
    return consumer


def lag_of(group: str) -> dict:
    (one,) = answer("groups", "describe", group)["groups"]
    return one


def groups_show_lag_and_move(protocol: str):
    topic, group = made(2), unique("ctl-group")
    old = int(time.time() * 1000) - 3_600_000
    for partition in range(2):
        stdin = "".join(json.dumps({"value": str(n), "timestamp_ms": old + n}) + "\n" for n in range(10))
        answer("produce", topic, "--input", "json", "-p", str(partition), stdin=stdin)
    consumer = joined(topic, group, protocol)
    consumer.commit(offsets=[TopicPartition(topic, 0, 4), TopicPartition(topic, 1, 10)], asynchronous=False)
    found = lag_of(group)
    equal((found["group"], found["type"], found["state"], found["lag"]), (group, protocol, "Stable", 6))
    (member,) = found["members"]
    equal((member["client"], member["partitions"]), ("the-client", {topic: [0, 1]}))
    behind = [(one["topic"], one["partition"], one["offset"], one["end_offset"], one["lag"], one["member"]) for one in found["offsets"]]
    equal(behind, [(topic, 0, 4, 10, 6, member["member"]), (topic, 1, 10, 10, 0, member["member"])])
    equal(found["offsets"][1]["behind_ms"], 0, "how far behind at the end")
    hour = found["offsets"][0]["behind_ms"]
    assert 3_590_000 < hour < 4_200_000, hour
    listed = {one["group"]: one for one in answer("groups", "list")["groups"]}
    equal((listed[group]["type"].lower(), listed[group]["state"]), (protocol, "Stable"))

    refused = ctl("groups", "reset-offsets", group, "--topic", topic, "--to", "beginning", "--execute", status=1)
    assert "has members" in refused, refused
    consumer.close()
    eventually(lambda: lag_of(group)["state"] == "Empty", 30, "an empty group")
    plan = answer("groups", "reset-offsets", group, "--to", "-2")
    equal(plan["executed"], False)
    equal([(one["partition"], one["from_offset"], one["to_offset"]) for one in plan["offsets"]], [(0, 4, 2), (1, 10, 8)])
    equal(lag_of(group)["lag"], 6, "lag after a plan")
    done = answer("groups", "reset", group, "--topic", topic, "-p", "0", "--to", f"@{old + 7}", "--execute")
    equal((done["executed"], [(one["partition"], one["to_offset"]) for one in done["offsets"]]), (True, [(0, 7)]))
    equal(lag_of(group)["lag"], 3, "lag after it was done")
    equal(answer("groups", "delete", group), {"deleted": [group]})
    assert "GROUP_ID_NOT_FOUND" in ctl("groups", "describe", group, status=1)


@test
def classic_groups_show_lag_and_move():
    groups_show_lag_and_move("classic")


@test
def consumer_groups_show_lag_and_move():
    groups_show_lag_and_move("consumer")


def groups_of_another_kind_are_listed_and_named():
    topic, group = made(1), unique("ctl-share")
    share = subprocess.Popen(["java", "-cp", paths.KAFKA_CLASSPATH, "org.apache.kafka.tools.consumer.ConsoleShareConsumer", "--bootstrap-server", BOOTSTRAP,
                              "--topic", topic, "--group", group], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def kind() -> str | None:
            return {one["group"]: one["type"].lower() for one in answer("groups", "list")["groups"]}.get(group)
        equal(eventually(kind, 40, "a share group"), "share")
        why = ctl("groups", "describe", group, status=1)
        assert "it is a share group" in why, why
    finally:
        share.kill()
        share.wait()


if BROKER == "kafka":
    test(groups_of_another_kind_are_listed_and_named)


@test
def a_group_goes_on_where_it_was():
    topic, group = made(3), unique("ctl-member")
    lines = [json.dumps({"value": str(n), "partition": n % 3}) + "\n" for n in range(9)]
    answer("produce", topic, "--input", "json", stdin="".join(lines))

    def read(*args: str) -> list[str]:
        return ctl("consume", topic, "--group", group, "-o", "beginning", *args).split()
    some = read("-n", "4")
    equal(len(some), 4)
    found = lag_of(group)
    equal((found["type"], found["state"], found["members"], found["lag"]), ("consumer", "Empty", [], 5))
    rest = read("-e")
    equal(sorted(some + rest), [str(n) for n in range(9)], "each record once")
    equal(lag_of(group)["lag"], 0)
    equal(read("-e"), [])

    # Two at once share the partitions; who is stopped leaves, and has committed what it printed.
    command = [paths.binary("millracectl"), "--bootstrap", BOOTSTRAP, "consume", topic, "-g", group, "-f", "%p %v\n"]
    members = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        def shared() -> bool:
            given = [sum(len(partitions) for partitions in member["partitions"].values()) for member in lag_of(group)["members"]]
            return sorted(given) == [1, 2]
        eventually(shared, 40, "partitions for both")
        answer("produce", topic, "--input", "json", stdin="".join(json.dumps({"value": "new", "partition": n}) + "\n" for n in range(3)))
        eventually(lambda: lag_of(group)["lag"] == 0, 40, "all of it read")
    finally:
        for member in members:
            member.send_signal(signal.SIGINT)
    said = [member.communicate(timeout=30)[0].splitlines() for member in members]
    equal([member.returncode for member in members], [0, 0])
    equal(sorted(said[0] + said[1]), [f"{n} new" for n in range(3)])
    equal(sorted(map(len, said)), [1, 2])
    found = lag_of(group)
    equal((found["state"], found["lag"]), ("Empty", 0))


@test
def transactions_are_told_and_aborted():
    topic, txn = made(2), unique("ctl-txn")
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": txn, "log_level": 2})
    producer.init_transactions(20)
    producer.begin_transaction()
    for partition in range(2):
        producer.produce(topic, b"x", partition=partition)
    producer.flush(20)

    listed = {one["transactional_id"]: one for one in answer("transactions", "list", "--state", "Ongoing")["transactions"]}
    producer_id = listed[txn]["producer_id"]
    (one,) = answer("transactions", "list", "--producer", str(producer_id))["transactions"]
    equal((one["transactional_id"], one["state"]), (txn, "Ongoing"))
    assert "no state" in ctl("transactions", "list", "--state", "Ongoign", status=1)
    (one,) = answer("transactions", "describe", txn)["transactions"]
    equal((one["state"], one["producer_id"], one["partitions"]), ("Ongoing", producer_id, {topic: [0, 1]}))
    assert 0 <= one["open_ms"] < 60_000 and one["timeout_ms"] == 60_000, one

    found = answer("transactions", "producers", topic)["producers"]
    equal([(one["partition"], one["producer_id"], one["start_offset"]) for one in found], [(0, producer_id, 0), (1, producer_id, 0)])
    # Its coordinator will end it.
    equal(answer("transactions", "hanging", "--topic", topic, "--older-than", "0s"), {"hanging": []})

    where = ["--topic", topic, "--partition", "1", "--start-offset"]
    assert "begins at offset 5" in ctl("transactions", "abort", *where, "5", "--yes", status=1)
    assert "--yes" in ctl("transactions", "abort", *where, "0", status=2)
    done = answer("transactions", "abort", *where, "0", "--yes")
    equal(done, {"topic": topic, "partition": 1, "aborted_producer_id": producer_id, "start_offset": 0})
    (one,) = answer("transactions", "producers", topic, "-p", "1")["producers"]
    equal(one["start_offset"], None)
    (one,) = answer("transactions", "producers", topic, "-p", "0")["producers"]
    equal(one["start_offset"], 0, "the other partition")
    producer.abort_transaction(20)
    assert "TRANSACTIONAL_ID_NOT_FOUND" in ctl("transactions", "describe", "nobody", status=1)


@test
def settings_are_told_and_changed():
    topic = made(1)
    equal(answer("configs", "describe", "topic", topic)["configs"], [])
    answer("configs", "alter", "topic", topic, "--set", "retention.ms=7200000")
    (setting,) = answer("configs", "describe", "topic", topic)["configs"]
    equal(setting, {"name": "retention.ms", "value": "7200000", "source": "topic", "read_only": False, "sensitive": False})
    everything = answer("configs", "describe", "topic", topic, "--all")["configs"]
    assert len(everything) > 10, everything
    answer("configs", "alter", "topic", topic, "--unset", "retention.ms")
    equal(answer("configs", "describe", "topic", topic)["configs"], [])
    node = answer("cluster")["nodes"][0]["node"]
    brokers = {one["name"]: one for one in answer("configs", "describe", "broker", str(node))["configs"]}
    equal(brokers["listeners"]["source"], "file")
    group = unique("ctl-configs")
    equal(answer("configs", "describe", "group", group)["configs"], [])
    answer("configs", "alter", "group", group, "--set", "consumer.session.timeout.ms=50000")
    (setting,) = answer("configs", "describe", "group", group)["configs"]
    equal((setting["name"], setting["value"], setting["source"]), ("consumer.session.timeout.ms", "50000", "group"))
    assert "INVALID_CONFIG" in ctl("configs", "alter", "group", group, "--set", "consumer.session.timeout.ms=1", status=1)
    answer("configs", "alter", "group", group, "--unset", "consumer.session.timeout.ms")
    assert "INVALID_CONFIG" in ctl("configs", "alter", "topic", topic, "--set", "retention.ms=soon", status=1)
    assert "nothing to change" in ctl("configs", "alter", "topic", topic, status=2)


@test
def the_cluster_says_how_it_is():
    topic = made(1)
    answer("produce", topic, stdin="x\n")
    found = answer("cluster")
    equal((len(found["nodes"]), found["nodes"][0]["reachable"], found["without_leader"]), (1, True, 0))
    equal(answer("cluster", "nodes")["cluster"], found["cluster"])
    node = found["nodes"][0]["node"]
    quorum = answer("cluster", "quorum")
    equal((quorum["leader"], [(one["node"], one["role"], one["lag"]) for one in quorum["replicas"]]), (node, [(node, "leader", 0)]))
    stores = answer("cluster", "stores")["stores"]
    assert stores and all(one["error"] is None and one["replicas"] > 0 for one in stores), stores
    # Not every broker tells how large its disk is.
    assert all(one["total_bytes"] is None or one["total_bytes"] >= one["usable_bytes"] > 0 for one in stores), stores
    (replica,) = answer("logdirs", "--topic", topic)["replicas"]
    equal((replica["topic"], replica["partition"], replica["node"], replica["lag"]), (topic, 0, node, 0))
    assert replica["bytes"] > 0 and replica["path"] in {one["path"] for one in stores}, replica
    # The disk of the machine may be nearly full, which is told; nothing else is wrong.
    done = subprocess.run([paths.binary("millracectl"), "--bootstrap", BOOTSTRAP, "cluster", "health", "--json"],
                          capture_output=True, text=True, timeout=60)
    health = json.loads(done.stdout)
    equal({problem["problem"] for problem in health["problems"]} - {"nearly-full"}, set())
    equal((done.returncode, health["healthy"]), (4, False) if health["problems"] else (0, True))


@test
def the_top_shows_what_goes_on():
    topic, group = made(2), unique("ctl-top")
    answer("produce", topic, stdin="a\n" * 10)
    answer("groups", "reset", group, "--topic", topic, "--to", "beginning", "--execute")
    command = [paths.binary("millracectl"), "--bootstrap", BOOTSTRAP, "top", "--every", "1", "-n", "3", "--rows", "1000", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        looks = []
        for line in top.stdout:
            looks.append(json.loads(line))
            answer("produce", topic, stdin="b\n" * 1000)
    equal((top.returncode, len(looks)), (0, 3))
    topics = [{one["topic"]: one for one in look["topics"]}[topic] for look in looks]
    assert topics[0]["bytes"] > 0 and max(one["records_per_s"] for one in topics) > 0, topics
    lags = [{one["group"]: one for one in look["groups"]}[group]["lag"] for look in looks]
    assert lags[0] >= 10 and lags == sorted(lags) and lags[-1] >= 1010, lags
    assert all(one["bytes"] > 0 and one["replicas"] > 0 for look in looks for one in look["nodes"]), looks[0]
    assert "processes" not in looks[0]
    assert "cannot read the metrics" in ctl("top", "--metrics", NOWHERE, "-n", "1", status=1)


@test
def clusters_have_names():
    with tempfile.TemporaryDirectory() as config:
        def named(*args: str, status: int = 0, **more: str) -> str:
            env = {**os.environ, "XDG_CONFIG_HOME": config, **more}
            done = subprocess.run([paths.binary("millracectl"), *args], env=env, capture_output=True, text=True, timeout=60)
            equal(done.returncode, status, f"{' '.join(args)}: {done.stdout}{done.stderr}")
            return done.stdout + done.stderr
        named("profiles", "set", "gone", "--bootstrap", NOWHERE)
        named("profiles", "set", "here", "--bootstrap", BOOTSTRAP, "--metrics", "127.0.0.1:9644")
        equal(json.loads(named("profiles", "list", "--json"))["clusters"], [
            {"cluster": "gone", "bootstrap": NOWHERE, "metrics": None},
            {"cluster": "here", "bootstrap": BOOTSTRAP, "metrics": "127.0.0.1:9644"},
        ])
        wanted = answer("cluster")["cluster"]
        equal(json.loads(named("cluster", "--json", "--cluster", "here"))["cluster"], wanted)
        equal(json.loads(named("cluster", "--json", MILLRACE_CLUSTER="here"))["cluster"], wanted)
        equal(json.loads(named("cluster", "--json", "--cluster", "here", MILLRACE_CLUSTER="gone"))["cluster"], wanted)
        named("cluster", MILLRACE_CLUSTER="gone", status=3)
        assert "did you mean 'here'" in named("cluster", "--cluster", "her", status=2)
        named("profiles", "delete", "here")
        assert "no cluster 'here'" in named("cluster", "--cluster", "here", status=2)


@test
def what_cannot_be_done_has_its_status():
    why = ctl("topics", "list", status=3, bootstrap=NOWHERE)
    assert "cannot reach broker" in why and "Check" in why, why
    ctl("topics", "liszt", status=2)
    why = ctl("topics", "create", "a/b", status=1)
    assert "INVALID_TOPIC" in why, why
    if BROKER == "kafka":
        assert "no Millrace" in ctl("explain", "--since-start", status=1)
    else:
        assert json.loads(ctl("explain", "--since-start", "--json"))["node"] >= 0


@test
def nothing_but_a_terminal_gets_colours():
    topic = made(1)
    master, slave = os.openpty()
    command = [paths.binary("millracectl"), "--bootstrap", BOOTSTRAP, "topics", "describe", topic]
    subprocess.run(command, stdout=slave, check=True, timeout=60)
    os.close(slave)
    seen = os.read(master, 65536)
    os.close(master)
    assert b"\x1b[1mPARTITION\x1b[0m" in seen, seen
    assert "\x1b" not in ctl("topics", "describe", topic)


if __name__ == "__main__":
    main("ctl")
