"""Odd requests about topics and their settings: what may be created, changed, told and deleted."""

from harness import messages
from scene import NO_SUCH_ID, NOBODY, Scene

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
NAMES = {"none": "", "dot": ".", "dots": "..", "long": "x" * 250, "longest": "y" * 249, "blank": "a b", "slash": "a/b", "colon": "a:b",
         "umlaut": "\u00fc",
         "newline": "a\nb", "internal": "__consumer_offsets", "of the cluster": "__cluster_metadata"}


def created(s: Scene):
    """What a new topic may be asked to be."""
    there = s.topic("a.b")
    new = {"name": f"{s.name}-new", "num_partitions": 1, "replication_factor": 1}
    assigned = [{"partition_index": 0, "broker_ids": [1]}]
    own = {**new, "num_partitions": -1, "replication_factor": -1}
    odd = {word: {**new, "name": name} for word, name in NAMES.items()} | {
        "there": {**new, "name": there}, "like one that is there": {**new, "name": there.replace(".", "_")},
        "partitions 0": {**new, "num_partitions": 0},
        "partitions -2": {**new, "num_partitions": -2}, "partitions by default": {**new, "num_partitions": -1},
        "replicas 0": {**new, "replication_factor": 0},
        "replicas -2": {**new, "replication_factor": -2}, "replicas 2": {**new, "replication_factor": 2},
        "replicas by default": {**new, "replication_factor": -1},
        "partitions 10001": {**new, "num_partitions": 10_001}, "assigned": {**own, "assignments": assigned},
        "assigned and partitions": {**new, "assignments": assigned},
        "assigned and replicas": {**own, "replication_factor": 1, "assignments": assigned},
        "assigned to nobody": {**own, "assignments": [{"partition_index": 0, "broker_ids": []}]},
        "assigned to 9": {**own, "assignments": [{"partition_index": 0, "broker_ids": [9]}]},
        "assigned twice": {**own, "assignments": assigned * 2},
        "assigned to 1 and 1": {**own, "assignments": [{"partition_index": 0, "broker_ids": [1, 1]}]},
        "assigned to -1": {**own, "assignments": [{"partition_index": 0, "broker_ids": [-1]}]},
        "assigned with a gap": {**own, "assignments": [*assigned, {"partition_index": 2, "broker_ids": [1]}]},
        "assigned from 1": {**own, "assignments": [{"partition_index": 1, "broker_ids": [1]}]},
        "assigned and uneven": {**own, "assignments": [*assigned, {"partition_index": 1, "broker_ids": [1, 2]}]},
    }
    configs = {"nobody's": (NOBODY, "1"), "no number": ("retention.ms", "x"), "null": ("retention.ms", None), "-2": ("retention.ms", "-2"),
               "empty": ("", "1"),
               "too large": ("segment.bytes", "99999999999"), "small segments": ("segment.bytes", "13"),
               "policy": ("cleanup.policy", "odd"), "no policy": ("cleanup.policy", ""),
               "policies": ("cleanup.policy", "compact,delete"), "codec": ("compression.type", "odd"),
               "ratio": ("min.cleanable.dirty.ratio", "1.5"), "bool": ("preallocate", "maybe"),
               "spaces": ("retention.ms", " 1000 "), "time type": ("message.timestamp.type", "Odd"), "isr 0": ("min.insync.replicas", "0"),
               "isr 9": ("min.insync.replicas", "9"),
               "remote": ("remote.storage.enable", "true"), "local retention": ("local.retention.ms", "86400000000"),
               "throttled": ("leader.replication.throttled.replicas", "odd"),
               "level": ("compression.gzip.level", "99"), "lag": ("max.compaction.lag.ms", "0"),
               "downconversion": ("message.downconversion.enable", "true"), "format": ("message.format.version", "3.0")}
    for word, (name, value) in configs.items():
        odd[f"setting {word}"] = {**new, "configs": [{"name": name, "value": value}]}
    odd["setting twice"] = {**new, "configs": [{"name": "retention.ms", "value": "1"}, {"name": "retention.ms", "value": "2"}]}
    for version in s.apis["CreateTopics"].turns:
        for word, one in odd.items():
            s.ask("CreateTopics", word, version, topics=[one], validate_only=True)
        s.ask("CreateTopics", "the same name twice", version, topics=[new, new, {**new, "name": f"{s.name}-other"}], validate_only=True)
        s.ask("CreateTopics", "alike", version, topics=[{**new, "name": "a.c"}, {**new, "name": "a_c"}], validate_only=True)
        s.ask("CreateTopics", "in earnest", version,
              topics=[{**new, "name": f"{s.name}-made-{version}"}, {**new, "name": there}, {**new, "name": ""}])


def deleted(s: Scene):
    """What may be deleted: by name, by id, and by both."""
    for version in s.apis["DeleteTopics"].turns:
        for word, name in NAMES.items():
            if name == "" or "_" not in name:
                s.ask("DeleteTopics", word, version, topic_names=[name], topics=[{"name": name, "topic_id": messages.NO_ID}])
        one = s.topic(f"one-{version}")
        s.ask("DeleteTopics", "there, and not", version, topic_names=[one, NOBODY], topics=[{"name": one}, {"name": NOBODY}])
        two = s.topic(f"two-{version}")
        s.ask("DeleteTopics", "twice", version, topic_names=[two, two], topics=[{"name": two}, {"name": two}])
        s.ask("DeleteTopics", "again", version, topic_names=[one], topics=[{"name": one}])
    three = s.topic("three")
    for word, one in {"name and id": {"name": three, "topic_id": s.id_of(three)}, "neither": {"name": None},
                      "an id nobody has": {"name": None, "topic_id": NO_SUCH_ID},
                      "a name and an id nobody has": {"name": three, "topic_id": NO_SUCH_ID},
                      "by id": {"name": None, "topic_id": s.id_of(three)}}.items():
        s.ask("DeleteTopics", word, 6, topics=[one])
    s.ask("DeleteTopics", "by id again", 6, topics=[{"name": None, "topic_id": s.id_of(three)}])
    four = s.topic("four")
    s.ask("DeleteTopics", "by name and by id", 6, topics=[{"name": four}, {"name": None, "topic_id": s.id_of(four)}])


def grown(s: Scene):
    """How many partitions a topic may have."""
    topic = s.topic("topic", 3)
    odd = {"fewer": {"count": 2}, "as many": {"count": 3}, "more": {"count": 5}, "none": {"count": 0}, "-1": {"count": -1},
           "10004": {"count": 10_004},
           "assigned": {"count": 4, "assignments": [{"broker_ids": [1]}]},
           "too few assigned": {"count": 5, "assignments": [{"broker_ids": [1]}]},
           "too many assigned": {"count": 4, "assignments": [{"broker_ids": [1]}] * 2},
           "assigned to 9": {"count": 4, "assignments": [{"broker_ids": [9]}]},
           "assigned to nobody": {"count": 4, "assignments": [{"broker_ids": []}]},
           "assigned to 1 and 1": {"count": 4, "assignments": [{"broker_ids": [1, 1]}]},
           "assigned to two": {"count": 4, "assignments": [{"broker_ids": [1, 2]}]}, "no assignments": {"count": 4, "assignments": []},
           "no such topic": {"name": NOBODY, "count": 4}, "internal": {"name": "__consumer_offsets", "count": 3}}
    for version in s.apis["CreatePartitions"].turns:
        for word, values in odd.items():
            s.ask("CreatePartitions", word, version, topics=[{"name": topic, "assignments": None, **values}], validate_only=True)
        one = {"name": topic, "assignments": None, "count": 4}
        s.ask("CreatePartitions", "twice", version, topics=[one, {**one, "count": 5}], validate_only=True)


def told(s: Scene):
    """Who is told of which topics."""
    topic = s.topic("topic", 2)
    for version in range(14):
        for word, name in {**NAMES, "nobody": NOBODY, "there": topic}.items():
            if name.startswith("__"):
                continue
            for auto in ((False, True) if word in ("none", "dot", "long", "blank", "slash") else (False,)):
                if version >= 4:
                    s.ask("Metadata", f"{word}{' created' if auto else ''}", version, topics=[{"name": name}],
                          allow_auto_topic_creation=auto)
        s.ask("Metadata", "rights", version, topics=[{"name": topic}], include_cluster_authorized_operations=True,
              include_topic_authorized_operations=True)
        s.ask("Metadata", "twice", version, topics=[{"name": topic}, {"name": topic}])
        if version >= 1:
            s.ask("Metadata", "an empty list", version, topics=[])
            s.ask("Metadata", "no list", version, topics=None)
        if version >= 10:
            for word, one in {"by id": {"name": None, "topic_id": s.id_of(topic)},
                              "an id nobody has": {"name": None, "topic_id": NO_SUCH_ID},
                              "name and id": {"name": topic, "topic_id": s.id_of(topic)}, "neither": {"name": None}}.items():
                s.ask("Metadata", word, version, topics=[one])
            s.ask("Metadata", "one by name and one by id", version, topics=[{"name": topic}, {"name": None, "topic_id": s.id_of(topic)}])
    for word, names in {"there": [topic], "twice": [topic, topic], "nobody": [topic, NOBODY], "none": []}.items():
        for limit in (0, 1, 2, -1):
            s.ask("DescribeTopicPartitions", f"{word}, {limit} partitions", 0, topics=[{"name": name} for name in names],
                  response_partition_limit=limit)
        for word_at, at in {"after it": (topic, 2), "before it": ("a", 0), "in it": (topic, 1), "at -1": (topic, -1),
                            "behind all": ("zzz", 0), "nowhere": ("", 0)}.items():
            s.ask("DescribeTopicPartitions", f"{word}, from {word_at}", 0, topics=[{"name": name} for name in names],
                  cursor={"topic_name": at[0], "partition_index": at[1]})


def described(s: Scene):
    """Whose settings are told."""
    topic = s.topic("topic", 1, retention_ms="1000")
    keys = ["retention.ms", NOBODY, "cleanup.policy", "retention.ms"]
    for version in s.apis["DescribeConfigs"].turns:
        for kind in (0, 1, TOPIC, 3, BROKER, LOGGER, METRICS, GROUP, -1):
            for word, name in {"topic": topic, "nobody": NOBODY, "none": "", "1": "1", "9": "9", "a/b": "a/b"}.items():
                if kind != LOGGER or name != "1":
                    s.ask("DescribeConfigs", f"type {kind}, {word}", version,
                          resources=[{"resource_type": kind, "resource_name": name, "configuration_keys": keys}],
                          include_synonyms=True)
    for word, kinds in {"none": [], "topics": [2], "twice": [2, 2], "brokers": [4], "loggers": [8], "metrics": [16], "groups": [32],
                        "odd": [3], "-1": [-1]}.items():
        s.ask("ListConfigResources", word, 1, resource_types=kinds)


def altered(s: Scene):
    """Which settings may be changed how."""
    topic = s.topic("topic")
    settings = {"as it should be": ("retention.ms", "1000"), "no number": ("retention.ms", "x"), "null": ("retention.ms", None),
                "empty": ("retention.ms", ""), "nobody's": (NOBODY, "1"),
                "no name": ("", "1"), "a list": ("cleanup.policy", "compact"), "an odd list": ("cleanup.policy", "odd"),
                "twice in a list": ("cleanup.policy", "delete,delete"),
                "throttled": ("follower.replication.throttled.replicas", "*")}
    where = {"topic": (TOPIC, topic), "no topic": (TOPIC, ""), "nobody": (TOPIC, NOBODY), "broker": (BROKER, "1"),
             "all brokers": (BROKER, ""), "another broker": (BROKER, "9"),
             "odd broker": (BROKER, "x"), "logger": (LOGGER, "1"), "group": (GROUP, "g"), "no group": (GROUP, ""),
             "metrics": (METRICS, "m"), "type 0": (0, "x"), "type 3": (3, "x"), "type -1": (-1, "x")}
    of_brokers = {"known": ("log.retention.ms", "1000"), "read only": ("node.id", "7"), "no number": ("log.cleaner.threads", "x"),
                  "nobody's": (NOBODY, "1"), "of each": ("log.dirs", "x")}
    of_groups = {"session": ("consumer.session.timeout.ms", "50000"), "too short": ("consumer.session.timeout.ms", "1"),
                 "beat": ("consumer.heartbeat.interval.ms", "1000"), "nobody's": (NOBODY, "1")}
    for place, (kind, name) in where.items():
        some = {BROKER: of_brokers, GROUP: of_groups}.get(kind, settings if place == "topic" else dict(list(settings.items())[:2]))
        for word, (key, value) in some.items():
            for operation in (0, 1, 2, 3):
                s.ask_all("IncrementalAlterConfigs", f"{place}: {word}, operation {operation}", validate_only=True, resources=[
                    {"resource_type": kind, "resource_name": name,
                     "configs": [{"name": key, "config_operation": operation, "value": value}]}])
            if value is None and kind == TOPIC or kind == LOGGER:
                continue
            s.ask_all("AlterConfigs", f"{place}: {word}", validate_only=True, resources=[
                {"resource_type": kind, "resource_name": name, "configs": [{"name": key, "value": value}]}])
    twice = {"name": "retention.ms", "config_operation": 0, "value": "1"}
    s.ask_all("IncrementalAlterConfigs", "the same setting twice", validate_only=True,
              resources=[{"resource_type": TOPIC, "resource_name": topic, "configs": [twice, twice]}])
    one = {"resource_type": TOPIC, "resource_name": topic, "configs": [twice]}
    s.ask_all("IncrementalAlterConfigs", "one that is and one that is not", validate_only=True,
              resources=[one, {**one, "resource_name": NOBODY}])


def elected(s: Scene):
    """Elections, moves and the quorum, on one node."""
    topic = s.topic("topic", 2)
    some = {"there": [s.named(topic, [0, 1])], "no such partition": [s.named(topic, [9])], "no such topic": [s.named(NOBODY, [0])],
            "none of it": [s.named(topic, [])],
            "twice": [s.named(topic, [0, 0])], "-1": [s.named(topic, [-1])]}
    for word, named in some.items():
        for kind in (0, 1, 2, -1):
            for version in s.apis["ElectLeaders"].turns:
                if version or not kind:
                    s.ask("ElectLeaders", f"{word}, type {kind}", version, election_type=kind, topic_partitions=named)
        s.ask_all("ListPartitionReassignments", word, topics=named)
        s.ask_all("DescribeProducers", word, topics=named)
        s.ask_all("DescribeLogDirs", word, topics=named)
    for kind in (0, 1, 2, 3, -1):
        for rights in (False, True):
            s.ask_all("DescribeCluster", f"type {kind}{' with rights' if rights else ''}", endpoint_type=kind,
                      include_cluster_authorized_operations=rights)


def misrouted(s: Scene):
    """Clients that mean another cluster or node (KIP-1242)."""
    us = s.asker.ask("DescribeCluster", 0)["cluster_id"]
    for word, cluster, node in (("right", us, 1), ("another node", us, 9), ("node -2", us, -2), ("another cluster", "odd", 1),
                                ("both", "odd", 9),
                                ("a cluster alone", us, -1), ("a node alone", None, 1), ("an empty cluster", "", 1)):
        answer = s.asker.ask("ApiVersions", 5, client_software_name="odd", client_software_version="1", cluster_id=cluster, node_id=node)
        s.record("ApiVersions", word, 5, {"error_code": answer["error_code"]})


SCENES = {"created": created, "deleted": deleted, "grown": grown, "told": told, "described": described, "altered": altered,
          "elected": elected,
          "misrouted": misrouted}
