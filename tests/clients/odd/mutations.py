"""One request of each API that is not odd, and what becomes of it when one thing in it is."""

import itertools

from harness import messages
from harness.messages import TAGS
from harness.protocol import batch, record

from consumers import known_topic
from scene import NOBODY, Scene, odd_requests, part

# Fields whose odd values only make the broker wait, or hold what the broker has no say in.
WAITS = {"max_wait_ms", "timeout_ms", "rebalance_timeout_ms"}


def records_of(s: Scene) -> bytes:
    return batch(record(0, b"value"), 1)


def bases(s: Scene, topic: str) -> dict[str, dict]:
    """A request of each API, in all of its versions."""
    config = {"name": "retention.ms", "value": "86400000", "config_operation": 0}
    resource = {"resource_type": 2, "resource_name": topic, "configuration_keys": ["retention.ms", "cleanup.policy"], "configs": [config]}
    group, txn = f"{s.name}-group", f"{s.name}-txn"
    offsets = [part(0, committed_offset=5, committed_metadata="m")]
    protocols = [{"name": "range", "metadata": b"odd"}]
    new = {"name": f"{s.name}-new", "num_partitions": 1, "replication_factor": 1, "configs": [config],
           "assignments": [], "topic_id": messages.NO_ID, "count": 2}
    assigned = [{"partition_index": 0, "broker_ids": [1]}]
    members = [{"member_id": "m", "group_instance_id": None, "reason": "odd"}]
    return {
        "Produce": {"acks": -1, "timeout_ms": 10_000, "topic_data": [s.named(topic, [part(0, records=records_of(s))])]},
        "Fetch": {"min_bytes": 0, "topics": [s.named(topic, [part(0, fetch_offset=0)])],
                  "forgotten_topics_data": [s.named(topic, [0])]},
        "ListOffsets": {"topics": [s.named(topic, [part(0, timestamp=-2)])]},
        "Metadata": {"topics": [{"name": topic, "topic_id": messages.NO_ID}]},
        "OffsetCommit": {"group_id": group, "member_id": "", "topics": [s.named(topic, offsets)]},
        "OffsetFetch": {"group_id": group, "topics": [s.named(topic, [0])], "groups": [
            {"group_id": group, "member_id": None, "member_epoch": -1, "topics": [s.named(topic, [0])]}]},
        "FindCoordinator": {"key": group, "coordinator_keys": [group]},
        "JoinGroup": {"group_id": group + "-join", "session_timeout_ms": 10_000, "rebalance_timeout_ms": 10_000, "member_id": "m",
                      "protocol_type": "consumer", "protocols": protocols},
        "Heartbeat": {"group_id": group, "generation_id": 1, "member_id": "m"},
        "LeaveGroup": {"group_id": group, "member_id": "m", "members": members},
        "SyncGroup": {"group_id": group, "generation_id": 1, "member_id": "m", "protocol_type": "consumer", "protocol_name": "range",
                      "assignments": [{"member_id": "m", "assignment": b"odd"}]},
        "DescribeGroups": {"groups": [group]},
        "ListGroups": {"states_filter": ["Stable"], "types_filter": ["classic"]},
        "ApiVersions": {"client_software_name": "odd", "client_software_version": "1", "node_id": -1},
        "CreateTopics": {"topics": [new], "validate_only": True},
        "CreateTopics assigned": {"topics": [{**new, "num_partitions": -1, "replication_factor": -1, "assignments": assigned}],
                                  "validate_only": True},
        "DeleteTopics": {"topic_names": [NOBODY], "topics": [{"name": NOBODY, "topic_id": messages.NO_ID}]},
        "DeleteRecords": {"topics": [s.named(topic, [part(0, offset=0)])]},
        "InitProducerId": {"transactional_id": txn, "transaction_timeout_ms": 60_000},
        "OffsetForLeaderEpoch": {"topics": [s.named(topic, [part(0, leader_epoch=0)])]},
        "AddPartitionsToTxn": {
            "v3_and_below_transactional_id": txn, "v3_and_below_producer_id": 987_654, "v3_and_below_producer_epoch": 0,
            "v3_and_below_topics": [s.named(topic, [0])],
            "transactions": [{"transactional_id": txn, "producer_id": 987_654, "producer_epoch": 0, "topics": [s.named(topic, [0])]}]},
        "AddOffsetsToTxn": {"transactional_id": txn, "producer_id": 987_654, "producer_epoch": 0, "group_id": group},
        "EndTxn": {"transactional_id": txn, "producer_id": 987_654, "producer_epoch": 0, "committed": True},
        "WriteTxnMarkers": {"markers": [{"producer_id": 987_654, "producer_epoch": 0, "transaction_result": False,
                                         "topics": [s.named(topic, [0])]}]},
        "TxnOffsetCommit": {"transactional_id": txn, "group_id": group, "producer_id": 987_654, "producer_epoch": 0,
                            "topics": [s.named(topic, offsets)]},
        "DescribeAcls": {"resource_type_filter": 1, "pattern_type_filter": 1, "operation": 1, "permission_type": 1},
        "DescribeConfigs": {"resources": [resource]},
        "AlterConfigs": {"resources": [resource], "validate_only": True},
        "IncrementalAlterConfigs": {"resources": [resource], "validate_only": True},
        "DescribeLogDirs": {"topics": [s.named(topic, [0])]},
        "CreatePartitions": {"topics": [{**new, "name": topic, "assignments": None}], "validate_only": True},
        "CreatePartitions assigned": {"topics": [{**new, "name": topic, "assignments": [{"broker_ids": [1]}]}], "validate_only": True},
        "DeleteGroups": {"groups_names": [NOBODY]},
        "ElectLeaders": {"topic_partitions": [s.named(topic, [0])]},
        "ListPartitionReassignments": {"topics": [s.named(topic, [0])]},
        "OffsetDelete": {"group_id": group, "topics": [s.named(topic, [part(0)])]},
        "DescribeQuorum": {"topics": [s.named("__cluster_metadata", [part(0)])]},
        "DescribeCluster": {"endpoint_type": 1},
        "DescribeProducers": {"topics": [s.named(topic, [0])]},
        "DescribeTransactions": {"transactional_ids": [txn]},
        "ListTransactions": {"state_filters": ["Ongoing"], "producer_id_filters": [987_654]},
        "ConsumerGroupHeartbeat": {
            "group_id": group + "-new", "member_id": "m", "member_epoch": 0, "rebalance_timeout_ms": 10_000,
            "subscribed_topic_names": [topic], "topic_partitions": []},
        "ConsumerGroupDescribe": {"group_ids": [group]},
        "ListConfigResources": {"resource_types": [2]},
        "DescribeTopicPartitions": {"topics": [{"name": topic}]},
    }


# Each case of these has a group of its own, because it changes the group.
OF_GROUPS = {"JoinGroup", "ConsumerGroupHeartbeat"}
# What is counted in a row, and depends on how many cases there were before.
COUNTED = {
    "Produce": {"base_offset": "OFFSET"},
    "InitProducerId": {"producer_epoch": "EPOCH"},
    "DescribeQuorum": {"leader_epoch": "EPOCH", "high_watermark": "OFFSET", "log_end_offset": "OFFSET"},
}


def mutate(s: Scene, name: str, base: dict):
    """Odd requests of one API, in the versions where something turns."""
    name, _, kind = name.partition(" ")
    kind = f"{kind}: " if kind else ""
    api = s.apis[name]
    s.counted.update(COUNTED.get(name, {}))
    groups = itertools.count()

    def ask(word: str, version: int, values: dict):
        if name in OF_GROUPS and values.get("group_id") == base["group_id"]:
            values = {**values, "group_id": f"{base['group_id']}-{next(groups)}"}
        s.ask(name, kind + word, version, **values)

    for version in api.turns:
        ask("as it should be", version, base)
        ask("nothing said", version, {})
        if api.is_flexible(version):
            ask("a tag that nobody knows", version, {**base, TAGS: {9999: b"odd"}})
        for word, odd in odd_requests(api.request[version], base, WAITS):
            ask(word, version, odd)
        body = s.asker.body(api, version, base)
        if body:
            s.ask_bytes(name, f"{kind}a byte is missing", version, body[:-1])
            s.ask_bytes(name, f"{kind}half is missing", version, body[:len(body) // 2])
            s.ask_bytes(name, f"{kind}empty", version, b"")
        s.ask_bytes(name, f"{kind}a byte more", version, body + b"\0")
    if not kind:
        for version in (api.min - 1, api.max + 1, -1, 32767):
            if version not in s.recorder.answers.get(f"{name} no such version", {}):
                s.ask_bytes(name, "no such version", version, s.asker.body(api, api.max, base))


def scenes() -> dict:
    """The mutations of each API are a scene of their own."""
    names = bases(_NoScene(), "").keys()

    def scene(name):
        def play(s: Scene):
            topic = known_topic(s, 1) if name == "ConsumerGroupHeartbeat" else s.topic("topic")
            mutate(s, name, bases(s, topic)[name])
        return play
    return {f"{name.lower().replace(' ', '-')}": scene(name) for name in names}


class _NoScene:
    """Enough of a scene to know which requests there are."""

    name = ""

    @staticmethod
    def named(*_):
        return {}
