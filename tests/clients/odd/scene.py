"""What odd requests are asked with: a scene is some steps on one broker, and each request that it records is a case.

Answers are kept as what they say alone: ids, times and ports that differ from run to run are named instead.
"""

import copy
import re
import uuid

from harness import messages
from harness.messages import Asker, Closed, Raw, Silent
from harness.suite import eventually

CLOSED, SILENT = "closed", "no answer"
# Topics of this name do not exist, nor those of this id.
NOBODY = "nobody"
NO_SUCH_ID = uuid.UUID(int=0x0DD)
# What goes away by itself.
PASSING = {"COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "CONCURRENT_TRANSACTIONS",
           "LEADER_NOT_AVAILABLE", "NOT_LEADER_OR_FOLLOWER"}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BARE_ID = re.compile(r"[A-Za-z0-9_-]{22}|[0-9a-f]{32}")
TIME_MIN = 10**11
# What depends on the run: the word that stands for it where there is any.
NAMED = {"port": "PORT", "log_dir": "DIR", "cluster_id": "CLUSTER", "documentation": "TEXT"}
# The same of numbers that are not negative, or not 0.
COUNTED = {"partition_size": "BYTES", "total_bytes": "BYTES", "usable_bytes": "BYTES", "finalized_features_epoch": "COUNT",
           "current_txn_start_offset": "OFFSET"}
POSITIVE = {"session_id": "SESSION"}
# Messages are for people.
DROPPED = {"throttle_time_ms", "error_message", "batch_index_error_message"}
# By what things are told apart that have been there before, or come from others: they are no part of an answer.
NAMES = ("name", "topic", "topic_name", "topic_id", "group_id", "transactional_id", "resource_name")
LONG_TEXT = 60


class Recorder:
    """The answers by case and version."""

    def __init__(self):
        self.answers: dict[str, dict[int, object]] = {}

    def add(self, case: str, version: int, answer):
        versions = self.answers.setdefault(case, {})
        assert version not in versions, f"{case} {version} is there twice"
        versions[version] = answer


class Scene:
    """Some steps. Topics and groups have names of their own in each scene, since all are on one broker."""

    # What other scenes have made, by name or id.
    others: set = set()

    def __init__(self, port: int, recorder: Recorder, name: str, silent_after_s: float):
        self.port, self.recorder, self.name, self.silent_after_s = port, recorder, name, silent_after_s
        self.asker = Asker(port, silent_after_s)
        self.apis = self.asker.protocol.apis
        self.ids: dict[str, uuid.UUID] = {}
        self.producers: dict[int, str] = {}
        self.counted = dict(COUNTED)

    def close(self):
        self.others.update(self.ids)
        self.others.update(self.ids.values())
        self.asker.close()

    # Requests.

    def try_(self, api: str, version: int, **values):
        """An answer that is no case; None if the broker closes the connection."""
        try:
            return self.asker.ask(api, version, **values)
        except Closed:
            return None

    def do(self, api: str, version: int | None = None, **values) -> dict:
        """A step that has to succeed, as soon as the broker is ready for it."""
        version = self.apis[api].max if version is None else version

        def done():
            answer = self.asker.ask(api, version, **values)
            found = [self.error(code) for code in errors(answer)]
            assert all(error == "NONE" or error in PASSING for error in found), f"{api} {values}: {answer}"
            return all(error == "NONE" for error in found) and [answer]
        answer = eventually(done, 20, api)[0]
        self.plain(answer)
        return answer

    def ask(self, api: str, label: str, version: int, **values):
        """A case, and its bare answer."""
        return self.ask_bytes(api, label, version, self.asker.body(self.apis[api], version, values))

    def ask_all(self, api: str, label: str, versions=None, **values):
        """The same case in several versions: those where something turns, unless they are named."""
        for version in versions or self.apis[api].turns:
            self.ask(api, label, version, **values)

    def ask_bytes(self, api: str, label: str, version: int, body: bytes):
        """A case whose body may be damaged."""
        try:
            answer = self.asker.ask_bytes(self.apis[api], version, body)
        except Closed:
            answer = CLOSED
        except Silent:
            answer = SILENT
        self.record(api, label, version, answer)
        return answer

    def begin(self, api: str, version: int, **values) -> "Waiting":
        """A request on a connection of its own, whose answer may have to wait."""
        return Waiting(self, api, version, values)

    def record(self, api: str, label: str, version: int, answer):
        self.recorder.add(f"{api} {label}", version, answer if isinstance(answer, str) else self.plain(answer))

    # Steps that many scenes have.

    def topic(self, suffix: str, partitions: int = 1, **configs: str) -> str:
        """A topic that can be written to."""
        name = f"{self.name}-{suffix}"
        of = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
        answer = self.do("CreateTopics", topics=[{"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": of}])
        self.ids[name] = answer["topics"][0]["topic_id"]
        # Kafka tells of a topic before it serves it.
        every = [part(index, timestamp=-1) for index in range(partitions)]
        eventually(lambda: set(errors(self.asker.ask("ListOffsets", 1, topics=[self.named(name, every)]))) == {0}, 20, name)
        return name

    def id_of(self, topic: str) -> uuid.UUID:
        return self.ids.get(topic, messages.NO_ID if topic == "" else NO_SUCH_ID)

    def named(self, topic: str, parts: list) -> dict:
        """A topic as requests name it and its partitions, by name and by id."""
        id_ = self.id_of(topic)
        return {"name": topic, "topic": topic, "topic_name": topic, "topic_id": id_, "partitions": parts, "partition_indexes": parts,
                "partition_data": parts}

    def error(self, code: int) -> str:
        return self.asker.protocol.errors.get(code, str(code))

    # Answers.

    def plain(self, value, field: str = ""):
        """An answer as it is recorded."""
        if isinstance(value, dict):
            return {name: self.plain(of, name) for name, of in value.items() if name not in DROPPED}
        if isinstance(value, list):
            return self.plain_list(value, field)
        if field.endswith("error_code"):
            return self.error(value)
        if value is None or isinstance(value, bool):
            return value
        if field in NAMED:
            return NAMED[field] if value else None
        if isinstance(value, bytes):
            return f"{len(value)} bytes" if field == "records" else value.decode("latin-1")
        if isinstance(value, uuid.UUID):
            return self.plain_id(value)
        if isinstance(value, int | float):
            return self.plain_number(value, field)
        value = "ID" if field == "member_id" and BARE_ID.fullmatch(value) else UUID.sub("UUID", value)
        return value if len(value) <= LONG_TEXT else f"{value[:20]}... of {len(value)}"

    def plain_list(self, value: list, field: str):
        if field == "api_keys":
            return {str(one["api_key"]): f"{one['min_version']}-{one['max_version']}" for one in sorted(value,
                                                                                                        key=lambda one: one["api_key"])}
        if field in ("supported_features", "finalized_features"):
            return {one["name"]: [of for name, of in one.items() if name != "name"] for one in sorted(value, key=lambda one: one["name"])}
        plain = [self.plain(one, field) for one in value if not self.is_foreign(one, field)]
        return sorted(plain, key=repr) if value and isinstance(value[0], dict) else plain

    def is_foreign(self, value, field: str) -> bool:
        """Whether this is about what another scene has made, or a topic of the broker's own, which are there sooner or later."""
        if not isinstance(value, dict):
            return False
        of = [value[name] for name in NAMES if value.get(name)]
        if field in ("groups", "transaction_states") and "error_code" not in value:  # A list of whatever there is.
            return any(name in value and not value[name].startswith(self.name) for name in ("group_id", "transactional_id"))
        return any(name in self.others or str(name).startswith("__") for name in of)

    def plain_id(self, value: uuid.UUID) -> str:
        if value == messages.NO_ID:
            return "none"
        if value == NO_SUCH_ID:
            return NOBODY
        return next((f"of {name}" for name, id_ in self.ids.items() if id_ == value), "ID")

    def plain_number(self, value, field: str):
        if field in POSITIVE and value > 0:
            return POSITIVE[field]
        if field in self.counted and value >= 0:
            return self.counted[field]
        if field == "producer_id" and value >= 0:
            return self.producers.setdefault(value, f"producer {len(self.producers) + 1}")
        return "TIME" if TIME_MIN < value < 100 * TIME_MIN else value


def warm_up(port: int):
    """Waits until all coordinators are there: what comes before that is told of by its order alone."""
    scene = Scene(port, Recorder(), "warm-up", 20)
    names = [f"{scene.name}-{number}" for number in range(30)]
    for kind in (0, 1):
        scene.do("FindCoordinator", 6, coordinator_keys=names, key_type=kind)
    scene.do("DescribeGroups", 5, groups=names)
    scene.do("OffsetFetch", 9, groups=[{"group_id": name, "member_epoch": -1, "topics": None} for name in names])
    for name in names:
        scene.do("InitProducerId", transactional_id=name)
    scene.do("ListTransactions", 1)
    scene.close()


class Waiting:
    """A request that is on its way."""

    def __init__(self, scene: Scene, api: str, version: int, values: dict):
        self.scene, self.api, self.version = scene, api, version
        self.asker = Asker(scene.port, scene.silent_after_s)
        of = scene.apis[api]
        self.asker.send(self.asker.frame(of, version, Asker.body(of, version, values)))

    def answer(self, label: str | None = None) -> dict:
        """Its answer, as a case if it has a label."""
        api = self.scene.apis[self.api]
        try:
            answer = self.asker.receive(api, self.version)
        except Closed:
            answer = CLOSED
        except Silent:
            answer = SILENT
        self.asker.close()
        if label:
            self.scene.record(self.api, label, self.version, answer)
        return answer


def part(index: int, **fields) -> dict:
    """A partition as requests name it."""
    return {"partition": index, "partition_index": index, "index": index, **fields}


def errors(answer) -> list[int]:
    """All error codes of an answer."""
    if isinstance(answer, list):
        return [code for one in answer for code in errors(one)]
    if not isinstance(answer, dict):
        return []
    return [code for name, of in answer.items() for code in ([of] if name.endswith("error_code") else errors(of))]


# One thing at a time is made odd in a request that is none.

NUMBERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
HUGE = 2**31 - 1


def odd_values(kind, value):
    """Values that a field of this kind hardly ever has, with words for them."""
    if isinstance(kind, list):
        of, nullable, _ = kind
        if of == "struct":
            if nullable:
                yield "null", None
            return
        yield "null", None
        yield "empty", []
        if value:
            yield "twice", [*value, value[0]]
        yield "huge", Raw(messages.varint(HUGE) if of.startswith("compact") else b"\x7f\xff\xff\xff")
        yield "negative", Raw(messages.varint(2**32 - 1) if of.startswith("compact") else b"\xff\xff\xff\xfe")
    elif "string" in kind:
        yield "null", None
        yield "empty", ""
        yield "long", "x" * 300
        yield "blank", " a/b:c*"
        yield "beyond", Raw(messages.varint(30_001) if kind.startswith("compact") else b"\x75\x30")
    elif "bytes" in kind or "records" in kind:
        yield "null", None
        yield "empty", b""
        yield "noise", b"\xff" * 70
        yield "beyond", Raw(messages.varint(HUGE) if kind.startswith("compact") else b"\x7f\xff\xff\xff")
    elif kind == "uuid":
        yield "none", messages.NO_ID
        yield "nobody", NO_SUCH_ID
    elif kind == "boolean":
        yield "2", Raw(b"\x02")
        yield "turned", not value
    elif kind in NUMBERS:
        top = 2 ** (NUMBERS[kind] - 1)
        for number, word in ((-1, "-1"), (-2, "-2"), (0, "0"), (1, "1"), (top - 1, "max"), (-top, "min")):
            if number != value:
                yield word, number


def odd_requests(fields: list, values: dict, but: set[str], path: str = ""):
    """Requests that differ from this one in one field, with words for what is odd."""
    for name, kind in fields:
        if name is None or name in but:
            continue
        value = values[name] if name in values else messages.default(name, kind)
        here = f"{path}{name}"
        for word, odd in odd_values(kind, value):
            yield f"{here} {word}", {**values, name: odd}
        if not isinstance(kind, list):
            continue
        if kind[0] == "struct":
            for word, odd in odd_requests(kind[2], value, but, f"{here}.") if value else ():
                yield word, {**values, name: odd}
        elif isinstance(kind[2], list) and value:
            for word, odd in odd_requests(kind[2][2], value[0], but, f"{here}."):
                yield word, {**values, name: [odd, *copy.copy(value[1:])]}
