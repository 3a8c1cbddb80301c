"""Odd requests about transactions, beside those of transactions.py: each API at each state of a transactional id, in every version."""

from harness.protocol import TRANSACTIONAL, batch, record
from harness.suite import eventually
from scene import NOBODY, Scene, part


def begun(s: Scene, txn: str) -> dict:
    answer = s.do("InitProducerId", 4, transactional_id=txn, transaction_timeout_ms=60_000)
    return {"producer_id": answer["producer_id"], "producer_epoch": answer["producer_epoch"]}


def add(s: Scene, label: str | None, version: int, txn: str, producer: dict, topics: list):
    """AddPartitionsToTxn, whose fields have other names in older versions."""
    values = {f"v3_and_below_{name}": value for name, value in {"transactional_id": txn, "topics": topics, **producer}.items()}
    values["transactions"] = [{"transactional_id": txn, "topics": topics, **producer}]
    return s.ask("AddPartitionsToTxn", label, version, **values) if label else s.do("AddPartitionsToTxn", version, **values)


def who(producer: dict) -> dict[str, dict]:
    id_, epoch = producer["producer_id"], producer["producer_epoch"]
    return {"epoch + 1": {"producer_id": id_, "producer_epoch": epoch + 1}, "epoch - 1": {"producer_id": id_, "producer_epoch": epoch - 1},
            "another id": {"producer_id": id_ + 5555, "producer_epoch": epoch}, "id -1": {"producer_id": -1, "producer_epoch": epoch}}


def in_state(s: Scene, state: str, txn: str, producer: dict, topic: str):
    """What those are told who are not this producer, and what others see. None of it changes anything."""
    group = f"{s.name}-group"
    offsets = [s.named(topic, [part(0, committed_offset=3)])]
    for word, other in who(producer).items():
        for version in s.apis["AddPartitionsToTxn"].turns:
            add(s, f"{state}: {word}", version, txn, other, [s.named(topic, [0])])
        s.ask_all("AddOffsetsToTxn", f"{state}: {word}", transactional_id=txn, group_id=group, **other)
        for commits in (True, False):
            s.ask_all("EndTxn", f"{state}: {word} {'commits' if commits else 'aborts'}", transactional_id=txn, committed=commits, **other)
        s.ask_all("TxnOffsetCommit", f"{state}: {word}", transactional_id=txn, group_id=group, topics=offsets, **other)
        # Of an ongoing transaction, it ends that.
        if state != "ongoing" or "id" in word:
            s.ask_all("InitProducerId", f"{state}: {word}", [3, 4, 5], transactional_id=txn, transaction_timeout_ms=60_000, **(
                other if "id" in word else {**other, "producer_epoch": other["producer_epoch"] + 7}))
    for version in s.apis["AddPartitionsToTxn"].turns:
        add(s, f"{state}: no such topic", version, txn, producer, [s.named(NOBODY, [0])])
        add(s, f"{state}: no such partition", version, txn, producer, [s.named(topic, [0, 9])])
    s.ask_all("TxnOffsetCommit", f"{state}: no such topic", [0, 3, 4], transactional_id=txn, group_id=group,
              topics=[s.named(NOBODY, [part(0, committed_offset=3)])], **producer)
    s.ask_all("TxnOffsetCommit", f"{state}: a member nobody knows", [3, 4], transactional_id=txn, group_id=group, topics=offsets,
              member_id=NOBODY,
              generation_id_or_member_epoch=3, **producer)
    s.ask_all("AddOffsetsToTxn", f"{state}: no group", transactional_id=txn, group_id="", **who(producer)["epoch + 1"])
    s.ask_all("DescribeTransactions", state, transactional_ids=[txn, NOBODY, txn, ""])
    for word, values in {"all": {}, "ongoing": {"state_filters": ["Ongoing"]}, "odd state": {"state_filters": ["odd", "Empty"]},
                         "by id": {"producer_id_filters": [producer["producer_id"]]},
                         "long ones": {"duration_filter": 10**9}, "duration 0": {"duration_filter": 0}}.items():
        s.ask_all("ListTransactions", f"{state}: {word}", [0, 1], **values)
    s.ask_all("DescribeProducers", state, topics=[s.named(topic, [0])])


def states(s: Scene):
    """A transactional id that nobody has, that has begun nothing, that has a transaction, and one that is over."""
    topic = s.topic("topic", 2)
    txn = f"{s.name}-txn"
    in_state(s, "nobody", f"{s.name}-nobody", {"producer_id": 987_654, "producer_epoch": 3}, topic)
    begun(s, txn)
    producer = begun(s, txn)
    in_state(s, "begun", txn, producer, topic)
    for version in s.apis["EndTxn"].turns[:-1]:
        s.ask("EndTxn", "begun: nothing in it", version, transactional_id=txn, committed=True, **producer)
    add(s, None, 3, txn, producer, [s.named(topic, [0])])
    made = batch(record(0, b"value"), 1, TRANSACTIONAL, (producer["producer_id"], producer["producer_epoch"], 0))
    s.do("Produce", 11, acks=-1, transactional_id=txn, topic_data=[s.named(topic, [part(0, records=made)])])
    in_state(s, "ongoing", txn, producer, topic)
    for level in (0, 1):
        s.ask_all("Fetch", f"ongoing, level {level}", min_bytes=0, isolation_level=level,
                  topics=[s.named(topic, [part(0, fetch_offset=0)])])
        s.ask_all("ListOffsets", f"ongoing, level {level}", [2, 5, 6, 11], isolation_level=level,
                  topics=[s.named(topic, [part(0, timestamp=-1)])])
    s.do("EndTxn", 3, transactional_id=txn, committed=False, **producer)
    eventually(lambda: s.try_("DescribeTransactions", 0,
                              transactional_ids=[txn])["transaction_states"][0]["transaction_state"] == "CompleteAbort", 20, "markers")
    for level in (0, 1):
        s.ask_all("Fetch", f"aborted, level {level}", min_bytes=0, isolation_level=level,
                  topics=[s.named(topic, [part(0, fetch_offset=0)])])
    s.ask_all("EndTxn", "over: again", [0, 2, 3], transactional_id=txn, committed=False, **producer)
    s.ask_all("EndTxn", "over: the other way", [0, 2, 3], transactional_id=txn, committed=True, **producer)


def inits(s: Scene):
    """Who may have a producer id."""
    for version in s.apis["InitProducerId"].turns:
        for timeout in (-1, 0, 1, 900_000, 900_001, 2**31 - 1):
            s.ask("InitProducerId", f"timeout {timeout}", version, transactional_id=f"{s.name}-{version}-{timeout}",
                  transaction_timeout_ms=timeout)
            s.ask("InitProducerId", f"timeout {timeout} and no id", version, transactional_id=None, transaction_timeout_ms=timeout)
        s.ask("InitProducerId", "an empty id", version, transactional_id="", transaction_timeout_ms=60_000)
    for version in (3, 4, 5):
        for word, producer in {"an epoch alone": (-1, 3), "an id alone": (3, -1), "both": (987_654, 0), "-2": (-2, -2)}.items():
            for txn in (None, f"{s.name}-{version}-{word}"):
                s.ask("InitProducerId", f"{word}{' and a name' if txn else ''}", version, transactional_id=txn,
                      transaction_timeout_ms=60_000,
                      producer_id=producer[0], producer_epoch=producer[1])


SCENES = {"txn-states": states, "txn-inits": inits}
