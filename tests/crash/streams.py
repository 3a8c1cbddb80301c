"""A Kafka Streams application with a windowed aggregation and two joins, exactly once (`exactly_once_v2`), of the classic group
protocol and of that of streams (KIP-1071): it is killed and resumed, and so is the broker. What it wrote is what a plain program works out from the same orders, record by record."""

import collections
import os
import random
import re
import shutil
import subprocess
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from harness import java, paths
from harness.broker import BROKERS, Broker
from harness.load import QUIET, patiently
from harness.nodes import addresses, cluster, create, in_sync, topics
from harness.suite import Skipped, equal, eventually, main, test, unique

KIND = BROKERS[os.environ.get("BROKER", "millrace")]
PARTITIONS = 3
CUSTOMERS = 50
ORDERS = 4000
INPUTS, OUTPUTS = ["orders", "payments", "customers"], ["sums", "placed", "paid"]
# Orders that are on their way through the application, so that it is busy whenever something is killed.
AHEAD = 600
AT_ONCE = 100
WINDOW_MS, APART_MS_MAX = 10_000, 60_000
STALL_SECONDS_MAX = 90
APP = "shop"


class Shop:
    """What happens in a shop: orders, and payments of some of them, once, twice, or too late. The same for the same seed."""

    def __init__(self, seed: int):
        chance = random.Random(seed)
        began = int(time.time() * 1000) - 3_600_000
        self.regions = {f"c{number}": f"region-{chance.randrange(7)}" for number in range(CUSTOMERS)}
        self.customers_ms = began - 600_000
        # customer, order, amount, timestamp
        self.orders = [(f"c{chance.randrange(CUSTOMERS)}", f"o{number}", chance.randrange(1, 1000), began + number * 50 + chance.randrange(-500, 500))
                       for number in range(ORDERS)]
        # order, payment, timestamp; each with the order before it.
        self.payments = [[(order, f"p{order}/{again}", at + chance.randrange(-2 * APART_MS_MAX, 2 * APART_MS_MAX))
                          for again in range(chance.choice([0, 1, 1, 1, 2]))] for _, order, _, at in self.orders]

    def sums(self) -> dict[str, list[str]]:
        """For each window of each customer all that is written of it, in order."""
        kept = collections.defaultdict(lambda: (0, 0))
        written = collections.defaultdict(list)
        for customer, _, amount, at in self.orders:
            window = f"{customer}@{at // WINDOW_MS * WINDOW_MS}"
            count, total = kept[window]
            kept[window] = count + 1, total + amount
            written[window].append("%d %d" % kept[window])
        return written

    def placed(self) -> dict[str, list[str]]:
        """For each customer all orders, in order."""
        written = collections.defaultdict(list)
        for customer, order, amount, _ in self.orders:
            written[customer].append(f"{order} {amount} {self.regions[customer]}")
        return written

    def paid(self) -> dict[str, list[str]]:
        """For each order its payments that are near it in time, sorted: what comes first is chance."""
        written = collections.defaultdict(list)
        for (_, order, amount, at), payments in zip(self.orders, self.payments):
            for _, payment, paid_at in payments:
                if abs(paid_at - at) <= APART_MS_MAX:
                    written[order].append(f"{order} {amount} {payment}")
        return {order: sorted(payments) for order, payments in written.items()}

    def counts(self, times: int = 1) -> dict[str, int]:
        """How many records are written to each topic."""
        return {"sums": ORDERS * times, "placed": ORDERS * times, "paid": sum(map(len, self.paid().values())) * times}


class Reader:
    """Reads what is committed of all that the application writes."""

    def __init__(self, servers: str):
        self.found = {topic: collections.defaultdict(list) for topic in OUTPUTS}
        self.counts = collections.Counter()
        self.consumer = Consumer({"bootstrap.servers": servers, "group.id": unique("reader"), "isolation.level": "read_committed",
                                  "enable.partition.eof": True, "enable.auto.commit": False, "metadata.recovery.strategy": "none", **QUIET})
        self.consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic in OUTPUTS for partition in range(PARTITIONS)])
        self.at_end = set()

    def read(self, seconds: float) -> int:
        """Reads on for so long at the most, and says how many records that were."""
        count = 0
        for message in self.consumer.consume(500, seconds):
            place = message.topic(), message.partition()
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    self.at_end.add(place)
                continue
            self.at_end.discard(place)
            self.found[message.topic()][message.key().decode()].append(message.value().decode())
            self.counts[message.topic()] += 1
            count += 1
        return count

    def has(self, wanted: dict[str, int]) -> bool:
        return all(self.counts[topic] >= count for topic, count in wanted.items())


def all_written(servers: str, wanted: dict[str, int]) -> Reader:
    """All that there is, when at least that is there and nobody writes any more."""
    reader = Reader(servers)
    eventually(lambda: reader.read(1) == 0 and len(reader.at_end) == len(OUTPUTS) * PARTITIONS and reader.has(wanted), STALL_SECONDS_MAX,
               "the end of what is written")
    return reader


class Feeder:
    """Writes what happens in the shop, a bit at a time."""

    def __init__(self, servers: str, shop: Shop):
        self.shop, self.fed = shop, 0
        # Keys go where Java's clients put them: the application joins partition by partition.
        self.producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "partitioner": "murmur2_random",
                                  "metadata.recovery.strategy": "none", **QUIET})
        for customer, region in shop.regions.items():
            self._write("customers", customer, region, shop.customers_ms)
        self._flush()

    def _write(self, topic: str, key: str, value: str, at: int):
        self.producer.produce(topic, value, key, timestamp=at)

    def _flush(self):
        equal(self.producer.flush(STALL_SECONDS_MAX), 0, "records that are not taken")

    def feed(self):
        """Writes the next orders, if there are any."""
        for index in range(self.fed, min(self.fed + AT_ONCE, ORDERS)):
            customer, order, amount, at = self.shop.orders[index]
            self._write("orders", customer, f"{order} {amount}", at)
            for order, payment, paid_at in self.shop.payments[index]:
                self._write("payments", order, payment, paid_at)
        self._flush()
        self.fed = min(self.fed + AT_ONCE, ORDERS)


# What an application says of the protocol of its group. Of the streams protocol the broker knows how long a session is.
CLASSIC = {"group.protocol": "classic", "consumer.session.timeout.ms": "6000", "consumer.heartbeat.interval.ms": "1500"}
STREAMS = {"group.protocol": "streams"}


def application(servers: str, replicas: int, protocol: dict[str, str] = CLASSIC, **settings: str) -> java.Program:
    settings = {
        "application.id": APP,
        "bootstrap.servers": servers,
        "processing.guarantee": "exactly_once_v2",
        **protocol,
        "state.dir": "state",
        "num.stream.threads": "2",
        "replication.factor": str(replicas),
        "topic.min.insync.replicas": str(min(replicas, 2)),
        "commit.interval.ms": "500",
        # Each order is written, not only the last one of a moment.
        "statestore.cache.max.bytes": "0",
        "repartition.purge.interval.ms": "1000",
        "consumer.auto.offset.reset": "earliest",
        **{name.replace("_", "."): value for name, value in settings.items()},
    }
    classpath = f"{paths.STREAMS_CLASSPATH}:{java.compiled('StreamsApp.java', paths.STREAMS_CLASSPATH)}"
    return java.Program("streams", classpath, "StreamsApp", {"app.properties": java.properties(settings)})


def follow(servers: str, wanted: dict[str, int], apps: list[java.Program], step=lambda reader: False):
    """Reads what is written until there is as much as is wanted, as long as it goes on. In between is a step, which says whether it did
    something that may take its time."""
    reader, progress = Reader(servers), time.monotonic()
    while not reader.has(wanted):
        if (reader.read(0.1) > 0) | step(reader):
            progress = time.monotonic()
        ended = [app.process.returncode for app in apps if not app.alive]
        equal(ended, [], "exit status of an application that has ended")
        assert time.monotonic() - progress < STALL_SECONDS_MAX, f"it stands still: {dict(reader.counts)} of {wanted}"
    equal([app.stop() for app in apps], [143] * len(apps), "exit status of the application")


def run(servers: str, faults: list, *apps: java.Program) -> Shop:
    """Lets the shop go on, with these faults, at equal distances, while the application is busy; then judges what it wrote."""
    shop = Shop(random.randrange(1 << 32))
    feeder = Feeder(servers, shop)
    due = [ORDERS * (number + 1) // (len(faults) + 2) for number in range(len(faults))]

    def step(reader: Reader) -> bool:
        done = reader.counts["placed"]
        if feeder.fed < ORDERS and feeder.fed - done < AHEAD:
            feeder.feed()
        if not due or done < due[0]:
            return False
        due.pop(0)
        # Not when it has just committed what it had: it has something to do, and has done a part of that.
        feeder.feed()
        time.sleep(random.random() / 2)
        faults.pop(0)()
        return True
    follow(servers, shop.counts(), list(apps), step)
    equal(faults, [], "faults that have not happened")
    judge(shop, servers)
    is_at_the_end(servers)
    return shop


def judge(shop: Shop, servers: str, times: int = 1):
    """What there is now is what there has to be, from the first to the last order, so many times."""
    found = all_written(servers, shop.counts(times)).found
    found["paid"] = {order: sorted(payments) for order, payments in found["paid"].items()}
    for topic, once in (("sums", shop.sums()), ("placed", shop.placed()), ("paid", shop.paid())):
        wanted = {key: sorted(all_of * times) if topic == "paid" else all_of * times for key, all_of in once.items()}
        different = {key: (found[topic].get(key), wanted.get(key)) for key in wanted.keys() | found[topic].keys()
                     if found[topic].get(key) != wanted.get(key)}
        equal(different, {}, f"keys of {topic} of which something else is written")


def is_at_the_end(servers: str):
    """What the application has read is committed, and what it has passed to itself is put away."""
    repartitioned = f"{APP}-by-order-left-repartition"
    consumer = Consumer({"bootstrap.servers": servers, "group.id": APP, **QUIET})
    places = [TopicPartition(topic, partition) for topic in ("orders", "payments", repartitioned) for partition in range(PARTITIONS)]
    committed = {(place.topic, place.partition): place.offset for place in patiently(lambda: consumer.committed(places, timeout=20))}
    bounds = {(place.topic, place.partition): consumer.get_watermark_offsets(place, timeout=20) for place in places}
    for (topic, partition), (_, end) in bounds.items():
        if topic != repartitioned:
            equal(committed[topic, partition], end, f"what is committed of {topic}-{partition}")
    assert all(bounds[repartitioned, partition][0] > 0 for partition in range(PARTITIONS)), f"nothing is deleted of {repartitioned}: {bounds}"
    consumer.close()


def is_reset(node: Broker):
    """Kafka's own tool puts away what the application has left, throws out the members that it did not take along, and lets it begin anew."""
    done = subprocess.run(
        ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", paths.STREAMS_CLASSPATH, "org.apache.kafka.tools.StreamsResetter",
         "--bootstrap-server", node.address, "--application-id", APP, "--input-topics", ",".join(INPUTS), "--force"],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout}{done.stderr}"
    eventually(lambda: not any(topic.startswith(f"{APP}-") for topic in topics(node)), 30, "its own topics are gone")
    consumer = Consumer({"bootstrap.servers": node.address, "group.id": APP, **QUIET})
    committed = patiently(lambda: consumer.committed([TopicPartition(topic, partition) for topic in INPUTS for partition in range(PARTITIONS)], 20))
    equal({place.offset for place in committed}, {0}, "offsets of what it reads")
    consumer.close()


def groups(node: Broker, *args: str) -> str:
    """What Kafka's own tool says of streams groups."""
    done = subprocess.run(
        ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", paths.STREAMS_CLASSPATH, "org.apache.kafka.tools.streams.StreamsGroupCommand",
         "--bootstrap-server", node.address, *args], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def is_shown(node: Broker):
    """The group has a member for each thread of the application, and they have its tasks."""
    def has_members() -> bool:
        state = groups(node, "--describe", "--group", APP, "--state")
        return any(line.split()[:1] == [APP] and line.split()[-2:] == ["Stable", "2"] for line in state.splitlines())
    eventually(has_members, 60, "two members")
    printed = groups(node, "--describe", "--group", APP, "--members")
    tasks = {task for line in printed.splitlines() if line.startswith(APP) for task in re.findall(r"\b\d+:\[[\d,]+\]", line)}
    assert tasks, printed
    assert APP in groups(node, "--list"), "the group is listed"


def is_deleted(node: Broker):
    """Without members the group and what was made for it can be deleted."""
    eventually(lambda: "Empty" in groups(node, "--describe", "--group", APP, "--state"), 60, "nobody is a member")
    groups(node, "--delete", "--group", APP, "--delete-all-internal-topics")
    assert APP not in groups(node, "--list"), "the group is gone"
    eventually(lambda: not any(topic.startswith(f"{APP}-") for topic in topics(node)), 30, "its own topics are gone")


def does_it_all_again(node: Broker, shop: Shop, app: java.Program):
    """The application is reset, and at once makes the topics anew that were deleted, and computes everything a second time."""
    is_reset(node)
    shutil.rmtree(app.home / "state")
    app.start()
    follow(node.address, shop.counts(2), [app])
    judge(shop, node.address, 2)


def make_topics(node: Broker, replicas: int):
    for topic in INPUTS + OUTPUTS:
        create(node, topic, PARTITIONS, replicas, **({"min_insync_replicas": "2"} if replicas > 1 else {}))


def forget(app: java.Program):
    """It comes back on another machine, as it were: with an empty disk, and a name that nobody knows."""
    app.kill()
    shutil.rmtree(app.home / "state")
    app.start()


def resume(app: java.Program):
    app.kill()
    app.start()


@test(seconds=300)
def an_application_and_its_broker_are_killed_and_each_result_is_there_once():
    with KIND() as node:
        make_topics(node, 1)
        with application(node.address, 1) as app:
            shop = run(node.address, [lambda: resume(app), node.restart, lambda: forget(app), node.restart], app)
            does_it_all_again(node, shop, app)


@test(seconds=300)
def an_application_of_the_streams_protocol_and_its_broker_are_killed_and_each_result_is_there_once():
    with KIND() as node:
        make_topics(node, 1)
        with application(node.address, 1, STREAMS) as app:
            run(node.address, [lambda: resume(app), lambda: is_shown(node), node.restart, lambda: forget(app), node.restart], app)
        is_deleted(node)


@test(seconds=300)
def two_applications_of_the_streams_protocol_keep_copies_for_each_other():
    with KIND({"group.streams.num.standby.replicas": "1", "group.streams.initial.rebalance.delay.ms": "1000"}) as node:
        make_topics(node, 1)
        single = {"num_stream_threads": "1"}
        with application(node.address, 1, STREAMS, **single) as first, application(node.address, 1, STREAMS, **single) as second:
            run(node.address, [lambda: resume(first), lambda: forget(second), node.restart, lambda: resume(second)], first, second)


@test(seconds=400)
def two_applications_and_each_node_of_three_are_killed_and_each_result_is_there_once():
    if KIND.name != "millrace":
        raise Skipped("Kafka is asked with one node")
    with cluster() as nodes:
        make_topics(nodes[0], 3)

        def restart(node):
            node.restart()
            for topic in INPUTS + OUTPUTS:
                eventually(lambda topic=topic: all(isr == {1, 2, 3} for _, isr in in_sync(node, topic)), 60, "all replicas in sync")
        # Each has copies of the other one's stores, and goes on with them.
        together = {"num_standby_replicas": "1", "num_stream_threads": "1"}
        with application(addresses(nodes), 3, **together) as first, application(addresses(nodes), 3, **together) as second:
            shop = run(addresses(nodes), [lambda: restart(nodes[0]), lambda: resume(first), lambda: restart(nodes[1]), lambda: forget(second),
                                          lambda: restart(nodes[2])], first, second)
            does_it_all_again(nodes[0], shop, first)


if __name__ == "__main__":
    main("streams", java.put_away)
