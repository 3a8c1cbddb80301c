"""kcat (librdkafka): produce and consume from the shell, as people do first."""

import json
import os
import random
import subprocess
import tempfile
import threading
import time

from harness.suite import BOOTSTRAP, equal, eventually, main, test, unique

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def kcat(*args: str, stdin: bytes = b"", fails: bool = False) -> bytes:
    """Runs kcat and returns its standard output, or with `fails` what it printed when it failed."""
    done = subprocess.run(["kcat", "-b", BOOTSTRAP, *args], input=stdin, capture_output=True, timeout=45)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"kcat {' '.join(args)}: status {done.returncode}: {done.stderr.decode()[-400:]}")
    return done.stderr + done.stdout if fails else done.stdout


def consume(topic: str, *args: str) -> bytes:
    """All there is in a topic, to its end."""
    return kcat("-C", "-q", "-e", "-o", "beginning", "-t", topic, *args)


def lines(count: int) -> bytes:
    return b"".join(b"line %06d %s\n" % (i, b"x" * (i % 200)) for i in range(count))


@test
def metadata_names_the_broker():
    told = json.loads(kcat("-L", "-J"))
    host, port = BOOTSTRAP.split(":")
    # With direct ports each core is one, next to the port that clients begin with.
    ids = [int(id_) for id_ in os.environ.get("DIRECT_IDS", "").split(",") if id_]
    if ids:
        equal({b["id"]: b["name"] for b in told["brokers"]}, {id_: f"{host}:{int(port) + 1 + n}" for n, id_ in enumerate(ids)})
    else:
        equal([b["name"] for b in told["brokers"]], [BOOTSTRAP])
    assert told["controllerid"] in [b["id"] for b in told["brokers"]], told["controllerid"]


@test
def first_produce_makes_the_topic():
    topic = unique("kcat-auto")
    kcat("-P", "-t", topic, stdin=b"hello\n")
    equal(consume(topic), b"hello\n")
    partitions = json.loads(kcat("-L", "-J", "-t", topic))["topics"][0]["partitions"]
    equal(len(partitions), 1, "partitions")


@test
def a_file_of_lines_comes_back_byte_for_byte():
    topic, text = unique("kcat-lines"), lines(20000)
    kcat("-P", "-t", topic, stdin=text)
    assert consume(topic) == text, "not the same bytes"


@test
def a_binary_file_as_one_message():
    topic, blob = unique("kcat-blob"), random.Random(1).randbytes(700_000)
    with tempfile.NamedTemporaryFile() as file:
        file.write(blob)
        file.flush()
        kcat("-P", "-t", topic, file.name)
    assert consume(topic, "-D", "") == blob, "not the same bytes"


@test
def every_codec():
    text = lines(3000)
    for codec in CODECS:
        topic = unique(f"kcat-{codec}")
        kcat("-P", "-t", topic, "-z", codec, "-X", "linger.ms=20", stdin=text)
        assert consume(topic) == text, f"{codec}: not the same bytes"


@test
def codecs_mixed_in_one_topic():
    topic, wanted = unique("kcat-mixed"), b""
    for codec in CODECS:
        kcat("-P", "-t", topic, "-z", codec, stdin=lines(50))
        wanted += lines(50)
    assert consume(topic, "-X", "check.crcs=true") == wanted, "not the same bytes"


@test
def every_level_of_acks():
    for acks in ["0", "1", "all"]:
        topic = unique(f"kcat-acks-{acks}")
        kcat("-P", "-t", topic, "-X", f"acks={acks}", stdin=b"warm\n")
        kcat("-P", "-t", topic, "-X", f"acks={acks}", stdin=lines(100))
        # Nothing tells when acks=0 has arrived.
        eventually(lambda: consume(topic) == b"warm\n" + lines(100), what=f"all lines with acks={acks}")


@test
def idempotent_producer():
    topic, text = unique("kcat-idempotent"), lines(5000)
    kcat("-P", "-t", topic, "-X", "enable.idempotence=true", stdin=text)
    assert consume(topic) == text, "not the same bytes"


@test
def keys_headers_and_tombstones():
    topic = unique("kcat-keys")
    kcat("-P", "-t", topic, "-K:", "-H", "colour=red", "-H", "empty", stdin=b"a:1\nb:2\n")
    kcat("-P", "-t", topic, "-K:", "-Z", stdin=b"a:\n")
    got = [json.loads(line) for line in consume(topic, "-J").splitlines()]
    equal([(m["key"], m["payload"], m["offset"]) for m in got], [("a", "1", 0), ("b", "2", 1), ("a", None, 2)])
    equal(got[0]["headers"], ["colour", "red", "empty", None])
    equal([m["tstype"] for m in got], ["create"] * 3)
    assert abs(got[0]["ts"] - time.time() * 1000) < 60_000, got[0]["ts"]


@test
def same_key_same_partition():
    topic = unique("kcat-partitions")
    make_topic(topic, 4)
    kcat("-P", "-t", topic, "-K:", "-X", "topic.partitioner=murmur2", stdin=b"".join(b"k%d:v\n" % (i % 8) for i in range(80)))
    seen = {tuple(line.split()) for line in consume(topic, "-f", "%k %p\n").decode().splitlines()}
    equal(len(seen), 8, "pairs of key and partition")
    assert len({partition for _, partition in seen}) > 1, seen


@test
def a_chosen_partition():
    topic = unique("kcat-partition")
    make_topic(topic, 3)
    kcat("-P", "-t", topic, "-p", "2", stdin=b"two\n")
    equal(consume(topic, "-p", "2"), b"two\n")
    equal(consume(topic, "-p", "0"), b"")


@test
def positions():
    topic = unique("kcat-positions")
    kcat("-P", "-t", topic, stdin=b"".join(b"%d\n" % i for i in range(10)))

    def at(*args: str) -> str:
        return kcat("-C", "-q", "-e", "-t", topic, "-p", "0", *args).decode().replace("\n", "")
    equal(at("-o", "beginning"), "0123456789")
    equal(at("-o", "7"), "789")
    equal(at("-o", "-2"), "89")
    equal(at("-o", "end"), "")
    equal(at("-o", "3", "-c", "4"), "3456")


@test
def positions_by_time():
    topic = unique("kcat-times")
    kcat("-P", "-t", topic, stdin=b"old\n")
    time.sleep(0.3)
    between = int(time.time() * 1000)
    time.sleep(0.3)
    kcat("-P", "-t", topic, stdin=b"new\n")
    equal(consume_at(topic, f"s@{between}"), b"new\n")
    equal(consume_at(topic, f"s@{between - 60_000}", f"e@{between}"), b"old\n")

    def offset(at: int) -> int:
        return int(kcat("-Q", "-t", f"{topic}:0:{at}").split()[-1])
    equal([offset(-2), offset(-1), offset(between), offset(between - 60_000)], [0, 2, 1, 0])
    equal(offset(between + 60_000), -1, "offset of a time after the last record")


def consume_at(topic: str, *offsets: str) -> bytes:
    return kcat("-C", "-q", "-e", "-t", topic, "-p", "0", *(a for o in offsets for a in ("-o", o)))


@test
def too_large_a_message_is_refused():
    topic = unique("kcat-large")
    kcat("-P", "-t", topic, stdin=b"small\n")
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(1_200_000))
        file.flush()
        told = kcat("-P", "-t", topic, "-X", "message.max.bytes=3000000", file.name, fails=True)
    assert b"Message size too large" in told, told[-300:]
    equal(consume(topic), b"small\n")


@test
def an_unknown_topic_is_named():
    told = json.loads(kcat("-L", "-J", "-t", unique("kcat-nowhere"), "-X", "allow.auto.create.topics=false"))
    assert "Unknown topic" in told["topics"][0]["error"], told


@test
def a_partition_that_is_not_there():
    topic = unique("kcat-nopartition")
    kcat("-P", "-t", topic, stdin=b"x\n")
    told = kcat("-C", "-e", "-t", topic, "-p", "7", fails=True)
    assert b"partition 7 does not exist" in told, told


@test
def a_tail_consumer_sees_records_as_they_come():
    topic = unique("kcat-tail")
    kcat("-P", "-t", topic, stdin=b"first\n")
    tail = subprocess.Popen(["kcat", "-b", BOOTSTRAP, "-C", "-q", "-u", "-o", "beginning", "-t", topic, "-c", "3"],
                            stdout=subprocess.PIPE)
    timer = threading.Timer(40, tail.kill)
    timer.start()
    try:
        equal(tail.stdout.readline(), b"first\n")
        for text in [b"second\n", b"third\n"]:
            kcat("-P", "-t", topic, stdin=text)
            equal(tail.stdout.readline(), text)
        equal(tail.wait(10), 0)
    finally:
        timer.cancel()
        tail.kill()


@test(seconds=90)
def a_group_of_two_shares_the_partitions():
    topic, group = unique("kcat-group"), unique("kcat-group")
    make_topic(topic, 4)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [open(f"{folder}/{i}", "w+b") for i in range(2)]
        members = [subprocess.Popen(["kcat", "-b", BOOTSTRAP, "-q", "-u", "-X", "auto.offset.reset=earliest",
                                     "-X", "session.timeout.ms=10000", "-f", "%p %s\n", "-G", group, topic],
                                    stdout=out, stderr=subprocess.DEVNULL) for out in outputs]

        def seen() -> list[list[str]]:
            return [open(out.name).read().splitlines() for out in outputs]
        try:
            # Only a produced record shows who owns what: produce until both have had some.
            sent = 0

            def both_have_some() -> bool:
                nonlocal sent
                for partition in range(4):
                    kcat("-P", "-t", topic, "-p", str(partition), stdin=b"%d\n" % sent)
                    sent += 1
                return all(seen())
            eventually(both_have_some, 60, "both members have records")
            eventually(lambda: sum(map(len, seen())) >= sent, 20, "all records seen")
        finally:
            for member in members:
                member.terminate()
            for member in members:
                member.wait(15)
        values = sorted(int(line.split()[1]) for out in seen() for line in out)
        equal(sorted(set(values)), list(range(sent)), "records seen by the group")


def make_topic(topic: str, partitions: int):
    """kcat cannot make topics; the admin client of the same library can."""
    from confluent_kafka.admin import AdminClient, NewTopic
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)


if __name__ == "__main__":
    main("kcat")
