"""Metrics and health over HTTP, as Prometheus, promtool and curl see them."""

import json
import re
import shutil
import socket
import subprocess
import tempfile

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import paths
from harness.broker import Millrace, free_port
from harness.load import make_topic
from harness.nodes import cluster, create
from harness.suite import equal, eventually, main, test, unique

RULES = paths.ROOT / "tools" / "prometheus"
# Labels that Prometheus adds itself.
ADDED = {"instance", "job"}


class Watched(Millrace):
    """A broker that answers at `self.http`."""

    def __init__(self, overrides: dict[str, str] | None = None):
        self.http = f"127.0.0.1:{free_port()}"
        super().__init__({"millrace.shards": "2", "millrace.metrics.listener": self.http, **(overrides or {})})

    def curl(self, path: str, *args: str) -> tuple[int, str]:
        return curl(self.http, path, *args)

    def samples(self) -> dict[tuple, float]:
        return samples_of(self.http)


def curl(listener: str, path: str, *args: str) -> tuple[int, str]:
    """Status and body."""
    done = subprocess.run(["curl", "-sS", "-m", "10", "-w", "\n%{http_code}", *args, f"http://{listener}{path}"],
                          capture_output=True, text=True, timeout=30)
    equal(done.returncode, 0, f"curl {path}: {done.stderr}")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def told(listener: str) -> list:
    """Every sample."""
    status, text = curl(listener, "/metrics", "-H", "Accept: application/openmetrics-text;version=1.0.0")
    equal(status, 200, "/metrics")
    return [one for family in text_string_to_metric_families(text) for one in family.samples]


def samples_of(listener: str) -> dict[tuple, float]:
    """Every sample, by name and the values of its labels."""
    return {(one.name, *one.labels.values()): one.value for one in told(listener)}


def promtool(*args: str, **options) -> subprocess.CompletedProcess:
    program = shutil.which("promtool") or str(paths.DEPS / "promtool")
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=60, **options)


def total(samples: dict[tuple, float], name: str, label: str | None = None) -> float:
    """Of all shards, or what is said with a label."""
    return sum(value for key, value in samples.items() if key[0] == name and (label is None or label in key))


@test
def what_clients_do_is_counted():
    with Watched() as server:
        topic = unique("metrics")
        make_topic(server.address, topic, 2)
        before = server.samples()
        equal(before["millrace_ready",], 1)
        equal(total(before, "millrace_produced_records_total"), 0)
        producer = Producer({"bootstrap.servers": server.address, "acks": "all"})
        for number in range(1000):
            producer.produce(topic, b"x" * 100, partition=number % 2)
        equal(producer.flush(30), 0, "records that were not acknowledged")
        consumer = Consumer({"bootstrap.servers": server.address, "group.id": unique("group")})
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(2)])
        read = []
        eventually(lambda: read.extend(consumer.consume(1000, 0.2)) or len(read) >= 1000, 30, "records read")

        after = server.samples()
        equal(total(after, "millrace_produced_records_total"), 1000)
        assert 100_000 < total(after, "millrace_produced_bytes_total") < 200_000
        for name in ["produce", "fetch"]:
            assert after["millrace_request_duration_seconds_count", name] > 0, name
            assert after["millrace_request_duration_seconds_sum", name] > 0, name
        assert after["millrace_requests_total", "Produce"] >= after["millrace_request_duration_seconds_count", "produce"] > 0
        assert after["millrace_received_bytes_total",] > 100_000
        # A reply has left when the kernel says so, which may be after its client has read it.
        for name in ["millrace_sent_bytes_total", "millrace_fetched_bytes_total"]:
            eventually(lambda: total(server.samples(), name) > 100_000, 20, name)
        assert total(after, "millrace_connections") >= 2, "of a producer and a consumer"
        assert total(after, "millrace_flushes_total") > 0 < total(after, "millrace_store_bytes")
        assert total(after, "millrace_partitions") >= 2
        equal(total(after, "millrace_controller"), 1, "a node alone decides")
        assert total(after, "millrace_metadata_entry") > 0
        eventually(lambda: total(server.samples(), "millrace_groups") == 0, 20, "groups")
        consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
        eventually(lambda: total(server.samples(), "millrace_groups") == 1, 20, "the group that has committed")
        equal(total(after, "millrace_leaders"), total(after, "millrace_leaderships_begun_total"), "a node alone leads all")
        equal(total(after, "millrace_topic_produced_records_total"), 1000)
        equal(after["millrace_topic_produced_records_total", topic], 1000)
        grown = [key for key in before if key[0].endswith("_total") and after.get(key, 0) < before[key]]
        equal(grown, [], "counters that shrank")
        consumer.close()
        eventually(lambda: total(server.samples(), "millrace_connections") < total(after, "millrace_connections"), 30, "a connection less")


@test
def a_deleted_topic_is_told_of_no_more():
    with Watched() as server:
        topic = unique("gone")
        make_topic(server.address, topic, 4)
        eventually(lambda: ("millrace_topic_produced_records_total", topic) in server.samples(), 20, "the topic")
        admin = AdminClient({"bootstrap.servers": server.address})
        admin.delete_topics([topic])[topic].result(20)
        eventually(lambda: ("millrace_topic_produced_records_total", topic) not in server.samples(), 20, "no topic")


@test
def the_top_reads_them():
    with Watched() as server:
        topic = unique("top")
        make_topic(server.address, topic)
        command = [paths.binary("millracectl"), "--bootstrap", server.address, "top", "--every", "1", "-n", "2", "--metrics", server.http, "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
            looks = []
            for line in top.stdout:
                looks.append(json.loads(line))
                producer = Producer({"bootstrap.servers": server.address})
                producer.produce(topic, b"x" * 100_000)
                equal(producer.flush(20), 0)
        equal((top.returncode, len(looks)), (0, 2))
        for look in looks:
            (process,) = look["processes"]
            equal((process["listener"], process["node"]), (server.http, "1"))
            assert process["memory"] > 1_000_000 and process["cpu_percent"] >= 0, process
        assert looks[1]["processes"][0]["produced_per_s"] > 10_000, looks[1]


@test
def promtool_finds_nothing_to_say():
    with Watched() as server:
        make_topic(server.address, unique("metrics"), 1)
        _, text = server.curl("/metrics")
        done = promtool("check", "metrics", input=text)
        equal((done.returncode, done.stdout + done.stderr), (0, ""), "promtool check metrics")


def _queries() -> list[str]:
    """Everything that the dashboard and the alerts ask Prometheus."""
    dashboard = json.loads((RULES / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = re.findall(r"^ +expr: (.+)$", (RULES / "alerts.yml").read_text(), re.MULTILINE)
    assert len(asked) > 10 < len(alerts) + 5, (len(asked), len(alerts))
    return asked + alerts


@test
def dashboard_and_alerts_ask_for_what_there_is():
    with Watched() as server:
        make_topic(server.address, unique("metrics"), 1)
        there = {one.name: set(one.labels) for one in told(server.http)}
    for query in _queries():
        for name, matchers in re.findall(r"\b((?:millrace|process)_[a-z_]+)(?:{([^}]*)})?", query):
            assert name in there, f"{name} is not there: {query}"
            unknown = set(re.findall(r"(\w+)=", matchers)) - there[name] - ADDED
            assert not unknown, f"{name} has no {unknown}: {query}"


@test
def promtool_understands_dashboard_and_alerts():
    equal(promtool("check", "rules", str(RULES / "alerts.yml")).returncode, 0, "alerts.yml")
    groups = [{"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")} for number, query in enumerate(_queries())]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as rules:
        # What is JSON is YAML.
        json.dump({"groups": [{"name": "queries", "rules": groups}]}, rules)
        rules.flush()
        done = promtool("check", "rules", rules.name)
        equal(done.returncode, 0, done.stdout + done.stderr)


@test
def the_page_names_what_there_is():
    page = (paths.ROOT / "tools" / "METRICS.md").read_text()
    with Watched() as server:
        make_topic(server.address, unique("metrics"), 1)
        names = {key[0] for key in server.samples()}
    for ending in ["_bucket", "_sum", "_count"]:
        names = {name.removesuffix(ending) for name in names}
    missing = [name for name in names if f"| `{name}` |" not in page]
    equal(missing, [], "not in tools/METRICS.md")


@test
def health_follows_the_life_of_a_node():
    with Watched() as server:
        equal(server.curl("/health/live"), (200, "live\n"))
        equal(server.curl("/health/ready"), (200, "ready\n"))
        status, version = server.curl("/version")
        equal((status, json.loads(version)["node_id"]), (200, 1))
        equal(server.curl("/health/live", "-I")[0], 200)
        equal(server.curl("/nothing")[0], 404)
        equal(server.curl("/metrics", "-d", "x")[0], 405)
        equal(server.stop(), 0)


@test
def what_is_no_request_harms_nobody():
    with Watched() as server:
        host, port = server.http.split(":")
        bad = {b"\0\0\0\x12\0\x12\0\x04": b"400", b"GET " + b"a" * 20_000: b"431",
               b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2000 + b"\r\n": b"431"}
        for garbage, status in bad.items():
            with socket.create_connection((host, int(port)), 10) as one:
                one.sendall(garbage)
                equal(one.recv(100)[9:12], status, f"{garbage[:20]}")
        silent = [socket.create_connection((host, int(port)), 10) for _ in range(64)]
        for _ in range(20):
            silent.append(socket.create_connection((host, int(port)), 10))
            equal(server.curl("/health/live"), (200, "live\n"))
        for one in silent:
            one.close()
        make_topic(server.address, unique("metrics"), 1)


@test(seconds=120)
def a_cluster_says_what_its_partitions_lack():
    listeners = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    scrapes = iter(listeners)
    with cluster(prepare=lambda node: node.overrides.update({"millrace.metrics.listener": next(scrapes)})) as nodes:
        topic = unique("replicated")
        create(nodes[0], topic, 6, 3, min_insync_replicas="2")

        def gauge(name: str, among: list[str]) -> float:
            return sum(total(samples_of(listener), f"millrace_{name}") for listener in among)

        def fenced(among: list[str]) -> float:
            return sum(total(samples_of(listener), "millrace_brokers", "fenced") for listener in among)

        leaders = {}
        eventually(lambda: leaders.update({it: gauge("leaders", [it]) for it in listeners}) or min(leaders.values()) > 0, 30, "all of them lead")
        eventually(lambda: gauge("under_replicated_partitions", listeners) == 0, 30, "all replicas in sync")
        equal(gauge("offline_partitions", listeners) + gauge("unserved_partitions", listeners), 0)
        eventually(lambda: gauge("controller", listeners) == 1, 30, "one of them is the controller")
        eventually(lambda: gauge("brokers", listeners) == 9, 30, "each knows three brokers")
        begun = gauge("leaderships_begun_total", listeners[:2])
        nodes[2].kill()
        eventually(lambda: fenced(listeners[:2]) == 2, 30, "both others know one that is fenced")
        eventually(lambda: gauge("controller", listeners[:2]) == 1, 30, "one of the others is the controller")
        eventually(lambda: gauge("under_replicated_partitions", listeners[:2]) >= 6, 30, "partitions that lack a replica")
        eventually(lambda: gauge("leaders", listeners[:2]) == sum(leaders.values()), 30, "the others lead what it led")
        assert gauge("leaderships_begun_total", listeners[:2]) >= begun + leaders[listeners[2]]
        equal(gauge("under_min_isr_partitions", listeners[:2]), 0, "two are enough")
        nodes[2].start()
        eventually(lambda: gauge("under_replicated_partitions", listeners) == 0, 60, "all replicas in sync again")
        eventually(lambda: fenced(listeners) == 0, 30, "nobody is fenced any more")
        entries = lambda: [gauge("metadata_entry", [it]) for it in listeners]
        eventually(lambda: len(set(entries())) == 1 and entries()[0] > 0, 30, "all have applied the same metadata")
        assert gauge("isr_expansions_total", listeners) > 0


@test
def a_taken_address_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = Millrace({"millrace.metrics.listener": address})
        try:
            server.spawn()
            equal(server.process.wait(20), 71)
            assert f"cannot listen on HTTP://{address}" in server.log_tail(), server.log_tail()
        finally:
            server.__exit__(None, None, None)


if __name__ == "__main__":
    main("metrics")
