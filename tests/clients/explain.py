"""`millracectl explain` on a broker under load: what it says has to add up, and to be about the requests that were made."""

import json
import subprocess

from harness import paths
from harness.broker import Millrace
from harness.load import Load, Watcher, make_topic
from harness.protocol import Connection, frame
from harness.suite import equal, eventually, main, test, unique

STAGES = ["queue", "parse", "hop", "append", "plan", "flush-wait", "write", "sync", "watermark", "answer", "order", "send"]


def explain(server: Millrace, *args: str) -> str:
    done = subprocess.run([paths.binary("millracectl"), "--bootstrap", server.address, "explain", *args],
                          capture_output=True, text=True, timeout=60)
    equal(done.returncode, 0, f"explain {' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout


def classes(server: Millrace, *args: str) -> dict[str, dict]:
    """The one node's requests by kind."""
    lines = explain(server, "--json", *args).splitlines()
    equal(len(lines), 1, "nodes")
    return {one["class"]: one for one in json.loads(lines[0])["classes"]}


def adds_up(requests: dict):
    """Nothing here depends on how fast the machine is: only that the parts are parts of the whole."""
    equal([stage["stage"] for stage in requests["stages"]], STAGES)
    shares = sum(stage["share"] for stage in requests["stages"])
    assert abs(shares - 1) < 0.001, shares
    # A percentile is the end of its bucket, which is an eighth wide; its parts are averages in the bucket.
    for name in ["p50", "p99"]:
        parts, latency = sum(stage[f"in_{name}_ns"] for stage in requests["stages"]), requests[f"{name}_ns"]
        assert latency * 7 / 8 - 200 <= parts <= latency, f"{name}: {parts} of {latency} ns"
    assert requests["p50_ns"] <= requests["p99_ns"] <= requests["max_ns"], requests
    for stage in requests["stages"]:
        assert 0 <= stage["p50_ns"] <= stage["p99_ns"] <= stage["max_ns"], stage
    slowest = [slow["total_ns"] for slow in requests["slowest"]]
    equal(slowest, sorted(slowest, reverse=True), "slowest first")
    for slow in requests["slowest"]:
        equal(sum(slow["spent_ns"].values()), slow["total_ns"], "stages of a slow request")


@test
def stages_add_up_under_load():
    with Millrace({"millrace.shards": "2"}) as server:
        topic = unique("explain")
        make_topic(server.address, topic, 4)
        load = Load(server.address, topic, 4, **{"client.id": "the-producer"})
        watcher = Watcher(server.address, topic, 4)
        eventually(lambda: load.acks > 1000 and sum(map(len, watcher.seen)) > 1000, 30, "records going through")
        began = load.acks
        recent = classes(server, "--seconds", "2", "--slowest", "8")
        batches_max = load.acks - began + 5000
        text = explain(server, "--since-start")
        load.end()
        watcher.end(server.address)
        ever = classes(server, "--since-start", "--slowest", "1000")

        produce, fetch = recent["produce"], recent["fetch"]
        assert 0 < produce["count"] <= batches_max, produce["count"]
        assert 0 < fetch["count"] < ever["fetch"]["count"], fetch["count"]
        for requests in [produce, fetch, ever["produce"], ever["fetch"], ever["other"]]:
            adds_up(requests)
        assert produce["slowest"] and len(produce["slowest"]) <= 8, produce["slowest"]
        for slow in produce["slowest"]:
            equal((slow["api"], slow["client"], slow["topic"]), ("Produce", "the-producer", topic))
            assert 0 <= slow["partition"] < 4 and slow["bytes"] > 100 and slow["shard"] in (0, 1), slow
            # Acknowledged means on disk: none has spent nothing on getting there. A flush of a single write is durable
            # with it; the others have a sync of their own.
            assert slow["spent_ns"]["write"] > 0, slow
            equal(slow["spent_ns"]["plan"], 0, "a produce plans no reads")
        # A consumer at the end waits for records, which is no latency: it does not appear among the stages.
        assert ever["fetch"]["parked"] > 0, "no fetch had to wait"
        equal({slow["topic"] for slow in fetch["slowest"]}, {topic})
        # With two shards and four partitions some requests come to the core that does not own the partition.
        assert any(stage["max_ns"] > 0 for stage in produce["stages"] if stage["stage"] == "hop"), produce["stages"]
        # Two different shards have contributed, although one connection asked.
        equal({slow["shard"] for slow in ever["produce"]["slowest"] + ever["fetch"]["slowest"] + ever["other"]["slowest"]} - {0, 1}, set())
        for word in ["node 1, 2 shards", "produce:", "fetch:", "sync", "latency", "the-producer", topic]:
            assert word in text, f"{word} is missing in {text}"


@test
def looking_changes_nothing_that_is_looked_at():
    with Millrace({"millrace.shards": "2"}) as server:
        before = classes(server, "--since-start")
        for _ in range(3):
            classes(server, "--since-start")
        after = classes(server, "--since-start", "--slowest", "1000")
        equal((after["produce"]["count"], after["fetch"]["count"]), (0, 0))
        apis = {slow["api"] for slow in after["other"]["slowest"]}
        assert "Explain" not in apis, apis
        assert after["other"]["count"] > before["other"]["count"], "connecting counts"


@test
def keys_that_nobody_knows_end_the_connection_alone():
    with Millrace({"millrace.shards": "1"}) as server:
        for key in [20_099, 20_101]:
            with Connection(server.port) as stranger:
                stranger.send(frame(key, 0, 7))
                assert stranger.closed_by_broker(), f"key {key} is served"
        assert server.alive, server.log_tail()
        classes(server, "--since-start")


if __name__ == "__main__":
    main("explain")
