"""confluent-kafka-python, which is librdkafka."""

import time

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType

from lines import BOOTSTRAP, Refused, data, serve, text

SECONDS = 60
STARTS = {"earliest": OFFSET_BEGINNING, "latest": OFFSET_END}


def record_of(message) -> dict:
    return {"partition": message.partition(), "offset": message.offset(), "key": text(message.key()), "value": text(message.value()),
            "headers": [[name, text(value)] for name, value in message.headers() or []], "timestamp": message.timestamp()[1]}


def send(producer: Producer, topic: str, records: list[dict]) -> list[int]:
    """Sends records and waits for all of them; their offsets."""
    offsets, errors = [], []

    def on_delivery(error, message):
        errors.append(error) if error else offsets.append(message.offset())
    for record in records:
        producer.produce(topic, key=data(record["key"]), value=data(record["value"]), partition=record.get("partition", 0),
                         headers=[(name, data(value)) for name, value in record.get("headers", [])],
                         timestamp=record.get("timestamp", 0), on_delivery=on_delivery)
    if producer.flush(SECONDS):
        raise Refused(None, "records are left unsent")
    if errors:
        raise KafkaException(errors[0])
    return offsets


class Driver:
    def __init__(self):
        self.admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
        self.members: dict[str, Consumer] = {}
        self.positions: dict[str, dict[int, TopicPartition]] = {}
        self.producers: dict[str, Producer] = {}

    def about(self):
        return {"client": f"confluent-kafka-python {confluent_kafka.__version__}"}

    def create_topic(self, topic, partitions, config):
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(SECONDS)

    def topics(self):
        return {"topics": list(self.admin.list_topics(timeout=SECONDS).topics)}

    def describe_topic(self, topic):
        told = self.admin.list_topics(topic, timeout=SECONDS).topics[topic]
        if told.error:
            raise KafkaException(told.error)
        return {"partitions": len(told.partitions)}

    def describe_config(self, topic):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return {"config": {name: entry.value for name, entry in self.admin.describe_configs([resource])[resource].result(SECONDS).items()}}

    def alter_config(self, topic, config):
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()])
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)

    def add_partitions(self, topic, count):
        self.admin.create_partitions([NewPartitions(topic, count)])[topic].result(SECONDS)

    def delete_records(self, topic, partition, before):
        of = TopicPartition(topic, partition, before)
        self.admin.delete_records([of])[of].result(SECONDS)

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result(SECONDS)

    def produce(self, topic, records, codec, acks):
        producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 20, "compression.type": codec, "acks": acks,
                             "message.max.bytes": 10_000_000, "topic.metadata.propagation.max.ms": 2000})
        return {"offsets": send(producer, topic, records)}

    def offset_at(self, topic, timestamp):
        source = self.consumer("offset-at")
        found = source.offsets_for_times([TopicPartition(topic, 0, timestamp)], SECONDS)[0]
        source.close()
        return {"offset": found.offset}

    def consumer(self, group, **config) -> Consumer:
        return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "enable.auto.commit": False, **config})

    def open(self, member, topic, start, reset, committed):
        source = self.consumer("none-of-it", **{"auto.offset.reset": reset if reset in STARTS else "error",
                                                "isolation.level": "read_committed" if committed else "read_uncommitted"})
        source.assign([TopicPartition(topic, 0, STARTS.get(start, start))])
        self.members[member], self.positions[member] = source, {}

    def join(self, member, group, topic, protocol, producer=None):
        # The broker says how long sessions are to members of groups of the consumer protocol.
        session = {} if protocol == "consumer" else {"session.timeout.ms": 10000}
        source = self.consumer(group, **{"auto.offset.reset": "earliest", "group.protocol": protocol, **session,
                                         "isolation.level": "read_committed"})
        source.subscribe([topic])
        self.members[member], self.positions[member] = source, {}

    def poll(self, member, count, seconds):
        source, deadline, records = self.members[member], time.monotonic() + seconds, []
        while not records and time.monotonic() < deadline:
            for message in source.consume(count, 0.1):
                if message.error():
                    raise KafkaException(message.error())
                records.append(record_of(message))
                self.positions[member][message.partition()] = TopicPartition(message.topic(), message.partition(), message.offset() + 1)
        return {"records": records, "assigned": [of.partition for of in source.assignment()]}

    def commit(self, member):
        self.members[member].commit(offsets=list(self.positions[member].values()), asynchronous=False)

    def leave(self, member):
        self.members.pop(member).close()

    def txn_open(self, id):
        # When its only broker is gone, librdkafka 2.16 forgets the broker to find it anew, and TxnOffsetCommit then waits for the one that
        # is forgotten, without an end: on Apache Kafka, too. Without that strategy it does not.
        self.producers[id] = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": id, "linger.ms": 5,
                                       "metadata.recovery.strategy": "none"})
        self.producers[id].init_transactions(SECONDS)

    def txn_begin(self, id):
        self.producers[id].begin_transaction()

    def txn_send(self, id, topic, records):
        send(self.producers[id], topic, records)

    def txn_offsets(self, id, member, group):
        self.producers[id].send_offsets_to_transaction(list(self.positions[member].values()),
                                                       self.members[member].consumer_group_metadata(), SECONDS)

    def txn_commit(self, id):
        self.producers[id].commit_transaction(SECONDS)

    def txn_abort(self, id):
        self.producers[id].abort_transaction(SECONDS)

    def txn_close(self, id):
        del self.producers[id]


def code_of(error) -> int | None:
    code = error.args[0].code() if isinstance(error, KafkaException) else -1
    # What librdkafka finds out by itself has negative codes.
    return {-188: 3, -190: 3}.get(code) if code < 0 else code


serve(Driver(), code_of)
