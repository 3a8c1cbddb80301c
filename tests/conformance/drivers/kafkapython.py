"""kafka-python: sends by a thread of its own, and is in a group only while it is polled."""

import time

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from lines import BOOTSTRAP, Unsupported, data, serve, text

SECONDS = 60


def send(producer: KafkaProducer, topic: str, records: list[dict]) -> list[int]:
    futures = [producer.send(topic, data(r["value"]), data(r["key"]), partition=r.get("partition", 0), timestamp_ms=r.get("timestamp"),
                             headers=[(name, data(value)) for name, value in r.get("headers", [])]) for r in records]
    producer.flush(SECONDS)
    return [future.get(SECONDS).offset for future in futures]


class Driver:
    def __init__(self):
        self.members: dict[str, KafkaConsumer] = {}
        self.positions: dict[str, dict[TopicPartition, int]] = {}
        self.producers: dict[str, KafkaProducer] = {}
        self.made: KafkaAdminClient | None = None

    @property
    def admin(self) -> KafkaAdminClient:
        if self.made is None:
            self.made = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        return self.made

    def about(self):
        return {"client": f"kafka-python {kafka.__version__}"}

    def create_topic(self, topic, partitions, config):
        self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])

    def topics(self):
        return {"topics": list(self.admin.list_topics())}

    def describe_topic(self, topic):
        told = self.admin.describe_topics([topic])[0]
        if told["error_code"]:
            raise kafka.errors.for_code(told["error_code"])
        return {"partitions": len(told["partitions"])}

    def describe_config(self, topic):
        told = self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
        return {"config": {name: entry["value"] for name, entry in told["topic"][topic].items()}}

    def alter_config(self, topic, config):
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])

    def add_partitions(self, topic, count):
        self.admin.create_partitions({topic: NewPartitions(count)})

    def delete_records(self, topic, partition, before):
        self.admin.delete_records({TopicPartition(topic, partition): before})

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def produce(self, topic, records, codec, acks):
        producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks=acks if acks == "all" else int(acks), linger_ms=20,
                                 enable_idempotence=acks == "all",
                                 compression_type=None if codec == "none" else codec, max_request_size=10_000_000, max_block_ms=8_000)
        try:
            return {"offsets": send(producer, topic, records)}
        finally:
            producer.close(10)

    def consumer(self, *topics, **config) -> KafkaConsumer:
        return KafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, **config)

    def offset_at(self, topic, timestamp):
        source, of = self.consumer(), TopicPartition(topic, 0)
        try:
            return {"offset": source.offsets_for_times({of: timestamp})[of].offset}
        finally:
            source.close()

    def open(self, member, topic, start, reset, committed):
        source = self.consumer(auto_offset_reset=reset or "none", isolation_level="read_committed" if committed else "read_uncommitted")
        of = TopicPartition(topic, 0)
        self.members[member], self.positions[member] = source, {}
        source.assign([of])
        if start == "earliest":
            source.seek_to_beginning(of)
        elif start == "latest":
            source.seek_to_end(of)
        else:
            source.seek(of, start)

    def join(self, member, group, topic, protocol, producer=None):
        if protocol != "classic":
            raise Unsupported
        self.positions[member] = {}
        self.members[member] = self.consumer(topic, group_id=group, auto_offset_reset="earliest", isolation_level="read_committed",
                                             heartbeat_interval_ms=500)

    def poll(self, member, count, seconds):
        source, records, deadline = self.members[member], [], time.monotonic() + seconds
        while not records and time.monotonic() < deadline:
            # Short polls are not for this client: when one ends while a rebalance does, it forgets what it was assigned (3.0.12).
            left_ms = max(1, int(1000 * (deadline - time.monotonic())))
            for of, found in source.poll(timeout_ms=left_ms, max_records=count).items():
                self.positions[member][of] = found[-1].offset + 1
                records += [{"partition": r.partition, "offset": r.offset, "key": text(r.key), "value": text(r.value),
                             "headers": [[name, text(value)] for name, value in r.headers], "timestamp": r.timestamp} for r in found]
        return {"records": records, "assigned": [of.partition for of in source.assignment()]}

    def offsets(self, member) -> dict[TopicPartition, OffsetAndMetadata]:
        return {of: OffsetAndMetadata(at, "", -1) for of, at in self.positions[member].items()}

    def commit(self, member):
        self.members[member].commit(self.offsets(member))

    def leave(self, member):
        self.members.pop(member).close()

    def txn_open(self, id):
        self.producers[id] = KafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=id)
        self.producers[id].init_transactions()

    def txn_begin(self, id):
        self.producers[id].begin_transaction()

    def txn_send(self, id, topic, records):
        send(self.producers[id], topic, records)

    def txn_offsets(self, id, member, group):
        self.producers[id].send_offsets_to_transaction(self.offsets(member), self.members[member].group_metadata())

    def txn_commit(self, id):
        self.producers[id].commit_transaction()

    def txn_abort(self, id):
        self.producers[id].abort_transaction()

    def txn_close(self, id):
        self.producers.pop(id).close(5)


def code_of(error) -> int | None:
    code = getattr(error, "errno", None)
    return code if isinstance(error, KafkaError) and code is not None and code >= 0 else None


serve(Driver(), code_of)
