"""millrace-bench as a client: every mode against a live broker, judged by its JSON. Nothing here depends on how fast
the broker or the machine is."""

import json
import subprocess
import tempfile

from harness import paths
from harness.suite import BOOTSTRAP, equal, main, test, unique

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def bench(*args: str, status: int = 0) -> dict:
    """Runs it and returns what it wrote with --json."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run([paths.binary("millrace-bench"), *args, "--bootstrap", BOOTSTRAP, "--json", out.name],
                              capture_output=True, text=True, timeout=100)
        if done.returncode != status:
            raise AssertionError(f"status {done.returncode}: {done.stdout[-300:]} {done.stderr[-300:]}")
        return json.load(open(out.name))


def topic(name: str, partitions: int = 4) -> list[str]:
    return ["--topic", unique(name), "--partitions", str(partitions)]


SHORT = ["--seconds", "2", "--warmup", "1"]


@test
def open_loop_sends_what_is_due():
    got = bench("produce", *topic("open"), *SHORT, "--rate", "500", "--batch-records", "5", "--connections", "2")
    equal(got["loop"], "open")
    # Every request that fell due in the two seconds counts, answered in time or not.
    equal(got["latency"]["count"], 200)
    equal(got["failures"], [])


@test
def linger_counts_every_record_from_its_own_due_time():
    got = bench("produce", *topic("linger"), *SHORT, "--rate", "500", "--linger-ms", "100")
    assert 990 <= got["latency"]["count"] <= 1010, got["latency"]
    # A batch waits 100 ms for its records, so half of them wait about 50 ms at least.
    assert got["latency"]["p90_ms"] > 50, got["latency"]


@test(seconds=120)
def end_to_end_loses_nothing_with_every_codec():
    for codec in CODECS:
        got = bench("e2e", *topic("e2e"), *SHORT, "--rate", "600", "--record-bytes", "50..900", "--codec", codec,
                    "--fanout", "2", "--idempotent", "--keys", "20", "--key-order", "zipf")
        equal(got["records_lost"], 0, codec)
        equal(got["records_read_in_all"], 2 * got["records_acked_in_all"], codec)
        assert got["e2e_latency"]["p50_ms"] >= got["ack_latency"]["p50_ms"] * 0.5, got["e2e_latency"]
        seconds = got["timeline"]["seconds"]["e2e"]
        equal(sum(s["records"] for s in seconds), got["records_read_in_all"], codec)


@test
def producers_and_consumers_at_once_over_several_topics():
    got = bench("mixed", *topic("mixed"), *SHORT, "--topics", "3", "--consumer-connections", "2", "--connections", "3")
    equal((got["records_lost"], got["failures"]), (0, []))
    assert got["fetch_records"] > 0


@test
def a_search_ends_at_a_rate_that_was_good():
    got = bench("search", *topic("search"), "--seconds", "1", "--warmup", "0", "--rate-max", "2000", "--p99-ms", "20000",
                "--precision", "0.3")
    trials = got["trials_in_order"]
    good = [t["rate_records_per_s"] for t in trials if t["good"]]
    equal(got["highest_good_records_per_s"], max(good))


@test
def a_search_without_an_answer_fails():
    got = bench("search", *topic("search"), "--seconds", "1", "--warmup", "0", "--rate-max", "100", "--p99-ms", "0.001",
                "--precision", "0.9", status=1)
    assert "no rate" in got["failures"][0], got["failures"]


@test
def a_workload_file_of_the_openmessaging_benchmark_runs():
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as workload:
        workload.write("name: small\ntopics: 2\npartitionsPerTopic: 2\nmessageSize: 200\nsubscriptionsPerTopic: 2\n"
                       "consumerPerSubscription: 1\nproducersPerTopic: 1\nproducerRate: 400\ntestDurationMinutes: 5\n")
        workload.flush()
        got = bench("omb", workload.name, "--topic", unique("omb"), "--test-seconds", "2", "--warmup", "0")
    equal((got["workload"], got["records_lost"]), ("small", 0))
    equal(got["records_read_in_all"], 2 * got["records_acked_in_all"])


@test
def consumers_catch_up_with_a_backlog():
    got = bench("e2e", *topic("backlog"), "--seconds", "3", "--warmup", "0", "--rate", "1000", "--record-bytes", "1K",
                "--backlog-bytes", "1M")
    equal(got["records_lost"], 0)
    assert got["backlog_caught_up_s"] > 0, got


@test
def consumer_groups_share_the_partitions_and_commit():
    got = bench("e2e", *topic("group", 6), "--seconds", "3", "--warmup", "0", "--rate", "500", "--fanout", "2",
                "--consumer-connections", "3", "--group", unique("group"), "--commit-ms", "200")
    equal((got["records_lost"], got["group_members"], got["failures"]), (0, 6, []))
    # Each member once at the end, and before that as often as the machine gets round to it.
    assert got["commit_latency"]["count"] >= 6, got["commit_latency"]


@test
def fetch_sessions_read_the_same():
    where = topic("session", 6)
    made = bench("produce", *where, *SHORT, "--rate", "2000", "--connections", "2")
    # Everything once, however the partitions end one after the other, and then round and round.
    replay = ["consume", *where, "--mode", "replay", "--connections", "2"]
    counts = [bench(*replay, "--once", "--seconds", "30", "--fetch-bytes", "4K", *how)["records"] for how in ([], ["--fetch-session"])]
    equal(counts[0], counts[1], "records read without and with a session")
    assert counts[0] >= made["records"], (counts, made["records"])
    assert bench(*replay, "--seconds", "4", "--warmup", "0", "--fetch-session")["records"] > counts[0], "a second time round"
    # Idle partitions are not named, those with records are read all the same.
    got = bench("e2e", *topic("session-e2e", 6), *SHORT, "--rate", "300", "--fanout", "2", "--fetch-session")
    equal((got["records_lost"], got["records_read_in_all"]), (0, 2 * got["records_acked_in_all"]))


@test
def results_become_pages():
    with tempfile.TemporaryDirectory() as folder:
        bench("e2e", *topic("page"), *SHORT, "--rate", "200", "--html", f"{folder}/one.html", "--hdr-log", f"{folder}/log")
        page = open(f"{folder}/one.html").read()
        equal(page.count("<svg"), page.count("</svg>"))
        assert page.count("<svg") == 7 and "http-equiv" not in page
        log = open(f"{folder}/log").read()
        assert "Tag=produce," in log and "Tag=e2e," in log, log[:200]


@test
def the_environment_names_the_broker_and_its_settings():
    broker = bench("produce", *topic("env"), *SHORT)["environment"]["broker"]
    equal(broker["nodes"], 1)
    assert broker["fsync"] != "unknown" and broker["settings"], broker


if __name__ == "__main__":
    main("bench")
