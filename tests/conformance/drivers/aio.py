"""aiokafka, whose event loop runs in a thread of its own: members stay in their groups between two verbs."""

import asyncio
import threading
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from aiokafka.structs import OffsetAndMetadata

from lines import BOOTSTRAP, Unsupported, data, serve, text

SECONDS = 60


def headers_of(record: dict) -> list[tuple]:
    return [(name, data(value)) for name, value in record.get("headers", [])]


async def send(producer: AIOKafkaProducer, topic: str, records: list[dict]) -> list[int]:
    futures = [await producer.send(topic, data(r["value"]), data(r["key"]), partition=r.get("partition", 0),
                                   timestamp_ms=r.get("timestamp"), headers=headers_of(r)) for r in records]
    await producer.flush()
    return [told.offset for told in [await asyncio.wait_for(future, SECONDS) for future in futures] if told is not None]


class Verbs:
    def __init__(self):
        self.members: dict[str, AIOKafkaConsumer] = {}
        self.positions: dict[str, dict[TopicPartition, int]] = {}
        self.producers: dict[str, AIOKafkaProducer] = {}
        self.made: AIOKafkaAdminClient | None = None

    async def admin(self) -> AIOKafkaAdminClient:
        if self.made is None:
            self.made = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP, request_timeout_ms=SECONDS * 1000)
            await self.made.start()
        return self.made

    async def about(self):
        return {"client": f"aiokafka {aiokafka.__version__}"}

    async def create_topic(self, topic, partitions, config):
        told = await (await self.admin()).create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
        check(told.topic_errors[0][1])

    async def topics(self):
        return {"topics": await (await self.admin()).list_topics()}

    async def describe_topic(self, topic):
        told = (await (await self.admin()).describe_topics([topic]))[0]
        check(told["error_code"])
        return {"partitions": len(told["partitions"])}

    async def describe_config(self, topic):
        told = await (await self.admin()).describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return {"config": {entry[0]: entry[1] for entry in told[0].resources[0][4]}}

    async def alter_config(self, topic, config):
        told = await (await self.admin()).alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
        check(told[0].resources[0][0])

    async def add_partitions(self, topic, count):
        told = await (await self.admin()).create_partitions({topic: NewPartitions(count)})
        check(told.topic_errors[0][1])

    async def delete_records(self, topic, partition, before):
        from aiokafka.admin import RecordsToDelete
        await (await self.admin()).delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})

    async def delete_topic(self, topic):
        told = await (await self.admin()).delete_topics([topic])
        check(told.topic_error_codes[0][1])

    async def produce(self, topic, records, codec, acks):
        producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks=acks if acks == "all" else int(acks), linger_ms=20,
                                    compression_type=None if codec == "none" else codec, max_request_size=10_000_000,
                                    request_timeout_ms=10_000)
        await producer.start()
        try:
            return {"offsets": await send(producer, topic, records)}
        finally:
            await producer.stop()

    async def consumer(self, *topics, **config) -> AIOKafkaConsumer:
        source = AIOKafkaConsumer(*topics, bootstrap_servers=BOOTSTRAP, enable_auto_commit=False, **config)
        await source.start()
        return source

    async def offset_at(self, topic, timestamp):
        source, of = await self.consumer(), TopicPartition(topic, 0)
        source.assign([of])
        try:
            return {"offset": (await source.offsets_for_times({of: timestamp}))[of].offset}
        finally:
            await source.stop()

    async def open(self, member, topic, start, reset, committed):
        source, of = await self.consumer(auto_offset_reset=reset or "none", isolation_level="read_committed" if committed else "read_uncommitted"), \
            TopicPartition(topic, 0)
        self.members[member], self.positions[member] = source, {}
        source.assign([of])
        if start == "earliest":
            await source.seek_to_beginning(of)
        elif start == "latest":
            await source.seek_to_end(of)
        else:
            source.seek(of, start)

    async def join(self, member, group, topic, protocol, producer=None):
        if protocol != "classic":
            raise Unsupported
        self.positions[member] = {}
        self.members[member] = await self.consumer(topic, group_id=group, auto_offset_reset="earliest", isolation_level="read_committed",
                                                   heartbeat_interval_ms=500, metadata_max_age_ms=5000)

    async def poll(self, member, count, seconds):
        source, records, deadline = self.members[member], [], time.monotonic() + seconds
        while not records and time.monotonic() < deadline:
            for of, found in (await source.getmany(timeout_ms=100, max_records=count)).items():
                self.positions[member][of] = found[-1].offset + 1
                records += [{"partition": r.partition, "offset": r.offset, "key": text(r.key), "value": text(r.value),
                             "headers": [[name, text(value)] for name, value in r.headers], "timestamp": r.timestamp} for r in found]
        return {"records": records, "assigned": [of.partition for of in source.assignment()]}

    async def commit(self, member):
        await self.members[member].commit(self.positions[member])

    async def leave(self, member):
        await self.members.pop(member).stop()

    async def txn_open(self, id):
        self.producers[id] = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=id, request_timeout_ms=10_000)
        await asyncio.wait_for(self.producers[id].start(), SECONDS)

    async def txn_begin(self, id):
        await self.producers[id].begin_transaction()

    async def txn_send(self, id, topic, records):
        await send(self.producers[id], topic, records)

    async def txn_offsets(self, id, member, group):
        positions = {of: OffsetAndMetadata(at, "") for of, at in self.positions[member].items()}
        await asyncio.wait_for(self.producers[id].send_offsets_to_transaction(positions, group), SECONDS)

    async def txn_commit(self, id):
        await asyncio.wait_for(self.producers[id].commit_transaction(), SECONDS)

    async def txn_abort(self, id):
        await asyncio.wait_for(self.producers[id].abort_transaction(), SECONDS)

    async def txn_close(self, id):
        await asyncio.wait_for(self.producers.pop(id).stop(), SECONDS)


def check(code: int):
    if code:
        raise for_code(code)


def code_of(error) -> int | None:
    code = getattr(error, "errno", None)
    return code if isinstance(error, KafkaError) and code is not None and code >= 0 else None


class Driver:
    """The verbs, each run in the loop's thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.verbs = Verbs()

    def __getattr__(self, name):
        verb = getattr(self.verbs, name)
        return lambda **asked: asyncio.run_coroutine_threadsafe(verb(**asked), self.loop).result()


serve(Driver(), code_of)
