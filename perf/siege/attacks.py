"""What hostile clients do, one generator per case: the first `yield` says that everything is prepared, each later one
that a round is over. They run in a process of their own, until it is stopped."""

import dataclasses
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator

from harness.protocol import API_VERSIONS, Connection, frame
from peer import wire

from . import bombs, frames

# The topic that is attacked; the honest clients have their own.
TOPIC, WIDE, PARTITIONS = "attacked", "wide", 10_000
MIB, SECONDS_MAX = 1 << 20, 60


@dataclasses.dataclass(frozen=True)
class Attack:
    """A case of the benchmark."""

    name: str
    title: str
    run: Callable[[int], Iterator[None]]


def connection(port: int) -> Connection:
    made = Connection(port, timeout=SECONDS_MAX)
    made.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def skip_reply(link: Connection) -> None:
    (left,) = struct.unpack(">i", link.read(4))
    while left:
        piece = link.socket.recv(min(left, MIB))
        if not piece:
            raise ConnectionResetError("closed within an answer")
        left -= len(piece)


def again_and_again(port: int, request: bytes, connections: int = 1) -> Iterator[None]:
    """The same request on each connection, again when all are answered; a broker that closes gets it on a new one."""
    links = [connection(port) for _ in range(connections)]
    yield
    while True:
        for attempt in (lambda link: link.send(request), skip_reply):
            for at, link in enumerate(links):
                try:
                    attempt(link)
                except ConnectionError:
                    link.socket.close()
                    links[at] = connection(port)
                    # Not at once: in a loop it would be another case.
                    select.select([], [], [], 0.01)
        yield


def make(port: int, topic: str = TOPIC, partitions: int = 1) -> None:
    with connection(port) as link:
        error = wire.create_topic(link, topic, partitions)
        if error not in (0, wire.TOPIC_ALREADY_EXISTS):
            raise RuntimeError(f"making {topic}: error {error}")


def nobody(port: int) -> Iterator[None]:
    while True:
        yield
        select.select([], [], [], 0.1)


def fetch_duplicates(port: int, times: int) -> Iterator[None]:
    make(port)
    return again_and_again(port, frames.fetch(TOPIC, [(0, 0)] * times, 500, 1), 2)


def crowd(port: int) -> Iterator[None]:
    """Ten thousand connections, each with a fetch that waits for the next record of one partition; three records a second."""
    make(port)
    waiting = [connection(port) for _ in range(10_000)]
    producer, offset = connection(port), 0
    for link in waiting:
        link.send(frames.fetch(TOPIC, [(0, 0)], frames.FOREVER, 1))
    yield
    while True:
        wire.produce(producer, TOPIC, range(1))
        offset += 1
        request = frames.fetch(TOPIC, [(0, offset)], frames.FOREVER, 1)
        for link in waiting:
            skip_reply(link)
            link.send(request)
        yield
        select.select([], [], [], 0.3)


def announce(port: int, drip: bool) -> Iterator[None]:
    """Connections that announce a megabyte, and come back when they are thrown out."""
    length = struct.pack(">i", MIB)

    def begin() -> socket.socket:
        made = connection(port).socket
        made.sendall(length)
        made.setblocking(False)
        return made

    links = [begin() for _ in range(1100)]
    while True:
        yield
        select.select([], [], [], 0.5)
        for at, link in enumerate(links):
            try:
                if drip:
                    link.send(b"\0")
                alive = link.recv(1) != b""
            except BlockingIOError:
                alive = True
            except OSError:
                alive = False
            if not alive:
                link.close()
                links[at] = begin()


def explode(port: int, codec: int) -> Iterator[None]:
    """A megabyte of batches, each of which opens to what the codec can make of it."""
    make(port)
    batch = bombs.bomb(codec)
    return again_and_again(port, frames.produce(TOPIC, [(0, batch)] * max(1, MIB // len(batch))))


def never_read(port: int) -> Iterator[None]:
    """64 consumers that each ask for 50 MB five times and read none of it, while the log's tail moves on."""
    make(port)
    producer = connection(port)
    fill = lambda: wire.produce(producer, TOPIC, range(1), 1_000_000)
    wire.one_record(1_000_000)
    for _ in range(60):
        fill()
    request = frames.fetch(TOPIC, [(0, 0)], 500, 1) * 5

    def begin() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.connect(("127.0.0.1", port))
        made.sendall(request)
        return made

    yield
    deaf = [begin() for _ in range(64)]
    while True:
        fill()
        poll = select.poll()
        for link in deaf:
            poll.register(link, 0)
        gone = {descriptor for descriptor, _ in poll.poll(0)}
        for at, link in enumerate(deaf):
            if link.fileno() in gone:
                link.close()
                deaf[at] = begin()
        yield
        select.select([], [], [], 0.02)


def empty_partitions(port: int, megabytes: int, topic: str) -> Iterator[None]:
    make(port)
    return again_and_again(port, frames.produce_nothing(topic, megabytes))


def closed_while_planned(port: int) -> Iterator[None]:
    """Connect, ask for a hundred partitions' records and as many as there will never be, and reset the connection."""
    make(port)
    request = frames.fetch(TOPIC, [(0, 0)] * 100, frames.FOREVER, frames.FOREVER)
    while True:
        yield
        with connection(port) as link:
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.send(request)


def reconnect(port: int) -> Iterator[None]:
    request = frame(API_VERSIONS, 0, 1)
    while True:
        yield
        with connection(port) as link:
            link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.send(request)
            if random.random() < 0.5:
                skip_reply(link)


def time_lookups(port: int) -> Iterator[None]:
    """ListOffsets by a time that is in none of the records of 512 partitions, whose only batches open to 8 MiB each."""
    make(port, TOPIC, 512)
    batch = bombs.bomb(bombs.ZSTD, 8 * MIB)
    with connection(port) as link:
        link.send(frames.produce(TOPIC, [(partition, batch) for partition in range(512)]))
        skip_reply(link)
    (newest,) = struct.unpack_from(">q", batch, 35)
    return again_and_again(port, frames.list_offsets(TOPIC, range(512), newest))


def wide(port: int) -> range:
    make(port, WIDE, PARTITIONS)
    return range(PARTITIONS)


def produce_wide(port: int) -> Iterator[None]:
    return again_and_again(port, frames.produce(WIDE, [(index, wire.one_record(10)) for index in wide(port)]))


def fetch_wide(port: int) -> Iterator[None]:
    return again_and_again(port, frames.fetch(WIDE, [(index, 0) for index in wide(port)], 0, 1))


def list_wide(port: int) -> Iterator[None]:
    return again_and_again(port, frames.list_offsets(WIDE, wide(port), frames.LATEST))


def metadata_wide(port: int) -> Iterator[None]:
    wide(port)
    return again_and_again(port, frames.metadata([WIDE]))


def metadata_names(port: int) -> Iterator[None]:
    """Of ten thousand topics that there are not, and that may not be made: their names are none."""
    return again_and_again(port, frames.metadata([f"no/{number}" for number in range(PARTITIONS)]))


def create_wide(port: int) -> Iterator[None]:
    """A topic of ten thousand partitions comes and goes."""
    link = connection(port)
    yield
    while True:
        if error := wire.create_topic(link, WIDE, PARTITIONS):
            raise RuntimeError(f"error {error}")
        wire.delete_topic(port, WIDE)
        yield


def commit_wide(port: int, times: int) -> Iterator[None]:
    """Of each partition so many times; a request may have one entry less than twice, since a topic counts as one more."""
    partitions = [*wide(port)] * times
    return again_and_again(port, frames.offset_commit("attack", WIDE, partitions[times - 1:], 1))


def delete_wide(port: int) -> Iterator[None]:
    """A record of each partition is deleted at a time, as long as there are some."""
    rounds = 40
    request = frames.produce(WIDE, [(index, wire.one_record(10)) for index in wide(port)])
    link = connection(port)
    for _ in range(rounds):
        link.send(request)
        skip_reply(link)
    yield
    offset = 0
    while True:
        offset = min(offset + 1, rounds)
        link.send(frames.delete_records(WIDE, range(PARTITIONS), offset))
        skip_reply(link)
        yield


def names(number: int) -> list[str]:
    return [f"name-{index}" for index in range(number)]


def narrow(port: int) -> list[str]:
    """Five thousand topics of a partition each."""
    made = names(5000)
    for at in range(0, len(made), 500):
        with connection(port) as link:
            link.send(frames.create_topics(made[at:at + 500]))
            skip_reply(link)
    return made


def offset_fetch(port: int) -> Iterator[None]:
    partitions = [*wide(port)]
    link = connection(port)
    link.send(frames.offset_commit("attack", WIDE, partitions, 1))
    skip_reply(link)
    return again_and_again(port, frames.offset_fetch("attack", WIDE, partitions))


def create_narrow(port: int) -> Iterator[None]:
    """Five thousand topics come and go, beside five thousand others."""
    narrow(port)
    made = [f"other-{index}" for index in range(5000)]
    link = connection(port)
    yield
    while True:
        for request in (frames.create_topics(made), frames.delete_topics(made)):
            link.send(request)
            skip_reply(link)
        yield


def alter_wide(port: int) -> Iterator[None]:
    """A setting of a topic of ten thousand partitions goes to and fro."""
    wide(port)
    link = connection(port)
    yield
    while True:
        for value in ("100000", "200000"):
            link.send(frames.incremental_alter_configs([WIDE], [("retention.ms", 0, value)], False))
            skip_reply(link)
        yield


def append_much(port: int) -> Iterator[None]:
    """To a setting of 100 topics that is a list, thousands of elements each."""
    listed = ",".join(str(number) for number in range(6_000))
    return again_and_again(port, frames.incremental_alter_configs(narrow(port)[:100], [("leader.replication.throttled.replicas", 2, listed)]))


def after(make_ready: Callable[[int], object], request: Callable[[int], bytes]) -> Callable[[int], Iterator[None]]:
    def run(port: int) -> Iterator[None]:
        make_ready(port)
        return again_and_again(port, request(port))
    return run


ATTACKS = [
    Attack("none", "nobody else", nobody),
    *(Attack(f"fetch-duplicates-{times // 1000}k", f"2 fetches, each naming one partition {times:,} times",
             lambda port, times=times: fetch_duplicates(port, times)) for times in (20_000, 100_000)),
    Attack("crowd", "10,000 watchers of one partition, all woken three times a second", crowd),
    Attack("announce", "1,100 connections announce a megabyte and send nothing", lambda port: announce(port, False)),
    Attack("drip", "the same, and a byte each every half second", lambda port: announce(port, True)),
    *(Attack(f"bombs-{name}", f"a megabyte of {name} batches that open to {bombs.OPENS_TO[codec] >> 20} MiB each",
             lambda port, codec=codec: explode(port, codec)) for name, codec in bombs.CODECS.items()),
    Attack("never-read", "64 consumers ask for 250 MB each and read nothing", never_read),
    *(Attack(f"empty-{size}-{kind}", f"{size} MB of partitions without records, {kind} topic",
             lambda port, size=size, topic=topic: empty_partitions(port, size, topic))
      for size in (20, 100) for kind, topic in (("known", TOPIC), ("unknown", "nobody-has-this"))),
    Attack("closed-while-planned", "fetches whose connections are reset at once", closed_while_planned),
    Attack("reconnect", "connections that come and go", reconnect),
    Attack("time-lookups", "ListOffsets by time in 512 batches that open to 8 MiB", time_lookups),
    Attack("produce-10k", "Produce to 10,000 partitions", produce_wide),
    Attack("fetch-10k", "Fetch of 10,000 partitions", fetch_wide),
    Attack("list-offsets-10k", "ListOffsets of 10,000 partitions", list_wide),
    Attack("list-offsets-200k", "ListOffsets of 200,000 partitions, a twentieth of which there is", after(wide, lambda port: frames.list_offsets(WIDE, range(200_000), frames.LATEST))),
    Attack("log-dirs", "DescribeLogDirs of all, 10,000 partitions", after(wide, lambda port: frames.describe_log_dirs())),
    Attack("metadata-10k", "Metadata of 10,000 partitions", metadata_wide),
    Attack("metadata-names", "Metadata of 10,000 topics that are not there", metadata_names),
    Attack("metadata-100k-names", "Metadata of 100,000 topics that are not there", lambda port: again_and_again(port, frames.metadata([f"no/{number}" for number in range(100_000)]))),
    Attack("coordinators-100k", "FindCoordinator of 100,000 keys", lambda port: again_and_again(port, frames.find_coordinators(names(100_000)))),
    Attack("create-10k", "CreateTopics and DeleteTopics, 10,000 partitions", create_wide),
    Attack("commit-10k", "OffsetCommit of 10,000 partitions", lambda port: commit_wide(port, 1)),
    Attack("commit-20k", "OffsetCommit that names 10,000 partitions twice", lambda port: commit_wide(port, 2)),
    Attack("offset-fetch-10k", "OffsetFetch of 10,000 partitions", offset_fetch),
    Attack("commit-4mb", "OffsetCommit of 4 MB of partitions", lambda port: again_and_again(port, frames.small_commits(4 << 20))),
    Attack("join-100mb", "JoinGroup with 90 MB", lambda port: again_and_again(port, frames.join_group("attack", [("range", bytes(90_000_000))]))),
    Attack("describe-groups-20k", "DescribeGroups of 20,000 groups", lambda port: again_and_again(port, frames.of_groups(frames.DESCRIBE_GROUPS, names(20_000)))),
    Attack("delete-groups-20k", "DeleteGroups of 20,000 groups", lambda port: again_and_again(port, frames.of_groups(frames.DELETE_GROUPS, names(20_000)))),
    Attack("create-5k", "CreateTopics and DeleteTopics of 5,000 topics", create_narrow),
    Attack("validate-10k", "CreateTopics of 10,000 topics, validated only", lambda port: again_and_again(port, frames.create_topics(names(10_000), True))),
    Attack("validate-alike", "CreateTopics of 10,000 topics with a dot in their names, validated only",
           lambda port: again_and_again(port, frames.create_topics([f"name.{index}" for index in range(10_000)], True))),
    Attack("delete-absent-20k", "DeleteTopics of 20,000 topics that are not there", lambda port: again_and_again(port, frames.delete_topics(names(20_000)))),
    Attack("configs-10k-groups", "DescribeConfigs of 10,000 groups", lambda port: again_and_again(port, frames.describe_configs(frames.GROUP_RESOURCE, names(10_000)))),
    Attack("configs-5k-topics", "DescribeConfigs of 5,000 topics", after(narrow, lambda port: frames.describe_configs(frames.TOPIC_RESOURCE, names(5_000)))),
    Attack("alter-configs-20k", "AlterConfigs of 20,000 topics that are not there", lambda port: again_and_again(port, frames.alter_configs(names(20_000), []))),
    Attack("alter-one-19k", "AlterConfigs of a topic with 19,000 settings", after(make, lambda port: frames.alter_configs([TOPIC], [("retention.ms", "1")] * 19_000))),
    Attack("alter-5k", "AlterConfigs of 5,000 topics, validated only", after(narrow, lambda port: frames.alter_configs(names(5_000), [("retention.ms", "100000")]))),
    Attack("incremental-20k", "IncrementalAlterConfigs of 20,000 topics that are not there", lambda port: again_and_again(port, frames.incremental_alter_configs(names(20_000), []))),
    Attack("incremental-5k", "IncrementalAlterConfigs of 5,000 topics, validated only",
           after(narrow, lambda port: frames.incremental_alter_configs(names(5_000), [("retention.ms", 0, "100000")]))),
    Attack("incremental-lists", "IncrementalAlterConfigs that appends 6,000 elements to a list of 100 topics, validated only", append_much),
    Attack("alter-wide", "IncrementalAlterConfigs of a topic of 10,000 partitions", alter_wide),
    Attack("partitions-wide", "CreatePartitions of a topic of 10,000, one more, validated only", after(wide, lambda port: frames.create_partitions([WIDE], PARTITIONS + 1))),
    Attack("partitions-20k", "CreatePartitions of 20,000 topics that are not there", lambda port: again_and_again(port, frames.create_partitions(names(20_000), 2))),
    Attack("partitions-5k", "CreatePartitions of 5,000 topics, validated only", after(narrow, lambda port: frames.create_partitions(names(5_000), 2))),
    Attack("topic-partitions-absent", "DescribeTopicPartitions of 20,000 topics that are not there", lambda port: again_and_again(port, frames.describe_topic_partitions(names(20_000)))),
    Attack("metadata-5k", "Metadata of 5,000 topics", after(narrow, lambda port: frames.metadata(names(5_000)))),
    Attack("delete-records-10k", "DeleteRecords of 10,000 partitions", delete_wide),
]
BY_NAME = {attack.name: attack for attack in ATTACKS}
