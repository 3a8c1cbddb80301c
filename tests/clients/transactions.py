"""Odd requests about transactions as bare frames, of version 2 (KIP-890) and of before: what is wrong with each is told in Kafka's words."""

from confluent_kafka.admin import AdminClient, NewTopic

from harness.suite import BOOTSTRAP, equal, eventually, main, test, unique
from harness.txn_wire import Parts, Producer, Wire

NOBODY = ("nobody", (987_654, 0))
NO_TOPIC = "no-such-topic"
TOPIC, GROUP = unique("odd"), unique("odd")
wire = Wire(int(BOOTSTRAP.rsplit(":", 1)[1]))


def parts(*indexes: int) -> Parts:
    return {TOPIC: list(indexes or (0,))}


def prepare():
    """The topics and the coordinators are there."""
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(TOPIC, 3, 1)])[TOPIC].result(20)
    for of_transactions in (True, False):
        eventually(lambda of=of_transactions: wire.coordinator(GROUP, of) == "NONE", 20, "a coordinator")
    # Kafka tells of a topic before it serves it.
    eventually(lambda: set(wire.produce(None, (-1, -1), -1, parts(0, 1, 2), transactional=False).values()) == {"NONE"}, 20, "the topic")
    begin()


def begin() -> tuple[str, Producer]:
    """A transactional id that nobody has used, and its first producer."""
    txn = unique("txn")

    def inited():
        error, producer = wire.init(txn)
        return producer if error == "NONE" else None
    return txn, eventually(inited, 20, "a producer")


def first(answer) -> str:
    """The only error of an answer."""
    if isinstance(answer, tuple):
        return answer[0]
    if isinstance(answer, dict):
        assert len(set(answer.values())) == 1, answer
        return next(iter(answer.values()))
    return answer


def settled(ask):
    """The answer to this when nothing is on its way for its transactional id any more."""
    return eventually(lambda: (answer := ask()) and first(answer) != "CONCURRENT_TRANSACTIONS" and answer, 20, "an answer")


def all_told(*rows):
    """What is asked in each of these rows is told this."""
    for number, (ask, wanted) in enumerate(rows):
        equal(first(ask()), wanted, f"row {number}")


def ongoing(version: int) -> tuple[str, Producer]:
    """A transaction of a client of that version in partition 0."""
    txn, producer = begin()
    if version < 2:
        equal(first(wire.add(txn, producer, parts())), "NONE")
    equal(first(wire.produce(txn, producer, 0, parts(), 12 if version >= 2 else 11)), "NONE")
    return txn, producer


def after(producer: Producer, epochs: int = 1) -> Producer:
    return producer[0], producer[1] + epochs


def ended(txn: str, producer: Producer, commits: bool, version: int = 5):
    """A transaction is over, with its markers."""
    answer = wire.end(txn, producer, commits, version)
    equal(answer[0], "NONE")
    settled(lambda: wire.init(txn, producer=(producer[0] + 1_000_000, 0)))
    return answer[1]


@test
def who_is_not_known_is_told_so():
    txn, producer = NOBODY
    unknown = "INVALID_PRODUCER_ID_MAPPING"
    all_told(*((ask, unknown) for ask in (
        lambda: wire.end(txn, producer, True, 4), lambda: wire.end(txn, producer, True, 5),
        lambda: wire.add(txn, producer, parts()), lambda: wire.add_offsets(txn, producer, GROUP),
        lambda: wire.produce(txn, producer, 0, parts(), 10), lambda: wire.produce(txn, producer, 0, parts(), 11),
        lambda: wire.produce(txn, producer, 0, parts(), 12), lambda: wire.commit_offsets(txn, producer, GROUP, parts(), 3),
        lambda: wire.commit_offsets(txn, producer, GROUP, parts(), 4), lambda: wire.commit_offsets(txn, producer, GROUP, parts(), 5),
    )))
    for verify_only in (True, False):
        for version in (4, 5):
            equal(wire.add_as_broker([(txn, producer, parts())], verify_only, version), {txn: {f"{TOPIC}-0": unknown}})


@test
def an_id_that_is_empty_is_told_so():
    _, producer = NOBODY
    all_told(*((ask, "INVALID_REQUEST") for ask in (
        lambda: wire.end("", producer, True, 4), lambda: wire.end("", producer, True, 5),
        lambda: wire.add("", producer, parts()), lambda: wire.add_offsets("", producer, GROUP),
        lambda: wire.produce("", producer, 0, parts(), 11), lambda: wire.produce("", producer, 0, parts(), 12),
        lambda: wire.commit_offsets("", producer, GROUP, parts(), 4), lambda: wire.commit_offsets("", producer, GROUP, parts(), 5),
        lambda: wire.init(""),
    )))
    for version in (10, 11, 12):
        equal(first(wire.produce(None, producer, 0, parts(), version)), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED")


@test
def a_producer_id_is_asked_for_as_who_may_have_it():
    txn, producer = begin()
    for timeout_ms in (0, -1, 900_001, 2**31 - 1):
        equal(wire.init(unique("txn"), timeout_ms)[0], "INVALID_TRANSACTION_TIMEOUT", str(timeout_ms))
    equal(wire.init(unique("txn"), producer=(4444, 7))[1][1], 0)
    equal(wire.init(None, 0)[0], "NONE")
    for other, wanted in (((producer[0], -1), "INVALID_REQUEST"), ((-1, 3), "INVALID_REQUEST"),
                          ((producer[0] + 100_000, 0), "PRODUCER_FENCED"), (after(producer, 5), "PRODUCER_FENCED")):
        equal(wire.init(txn, producer=other)[0], wanted, str(other))
    # It asks again, because it does not know that it was answered.
    for _ in range(2):
        equal(wire.init(txn, producer=producer), ("NONE", after(producer)))
    equal(wire.init(txn, producer=after(producer)), ("NONE", after(producer, 2)))
    equal(wire.init(txn, producer=producer)[0], "PRODUCER_FENCED")
    equal(wire.init(txn, producer=producer, version=3)[0], "INVALID_PRODUCER_EPOCH")


@test
def what_has_nothing_in_it_ends_in_version_2_only_by_an_abort():
    for version, commits, wanted in ((4, True, "INVALID_TXN_STATE"), (4, False, "INVALID_TXN_STATE"), (5, True, "INVALID_TXN_STATE"),
                                     (5, False, "NONE")):
        txn, producer = begin()
        for other in (after(producer), after(producer, -1)):
            equal(wire.end(txn, other, commits, version)[0], "PRODUCER_FENCED")
        equal(wire.end(txn, after((producer[0] + 9999, 0), 0), commits, version)[0], "INVALID_PRODUCER_ID_MAPPING")
        answer = wire.end(txn, producer, commits, version)
        equal(answer[0], wanted, f"{version} {commits}")
        if wanted == "NONE":
            equal(answer[1], after(producer))


@test
def what_goes_on_is_its_producers_alone():
    for version in (0, 2):
        produce, offsets, end = (12, 5, 5) if version else (11, 4, 4)
        txn, producer = ongoing(version)
        ahead, other = after(producer), (producer[0] + 5555, 0)
        all_told(
            (lambda: wire.produce(txn, ahead, 0, parts(2), produce), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.produce(txn, other, 0, parts(2), produce), "INVALID_PRODUCER_ID_MAPPING"),
            (lambda: wire.produce(txn, producer, 7, parts(), produce), "OUT_OF_ORDER_SEQUENCE_NUMBER"),
            (lambda: wire.produce(txn, producer, 1, parts(), produce, transactional=False), "INVALID_TXN_STATE"),
            (lambda: wire.commit_offsets(txn, ahead, GROUP, parts(), offsets), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.commit_offsets(txn, other, GROUP, parts(), offsets), "INVALID_PRODUCER_ID_MAPPING"),
            (lambda: wire.add(txn, ahead, parts()), "PRODUCER_FENCED"),
            (lambda: wire.end(txn, ahead, True, end), "PRODUCER_FENCED"),
            (lambda: wire.end(txn, other, True, end), "INVALID_PRODUCER_ID_MAPPING"),
        )


@test
def clients_of_before_add_partitions_themselves():
    for txn, producer in (begin(), ongoing(0)):
        all_told(
            (lambda: wire.produce(txn, producer, 0, parts(1), 10), "INVALID_TXN_STATE"),
            (lambda: wire.produce(txn, producer, 0, parts(1), 11), "TRANSACTION_ABORTABLE"),
            (lambda: wire.commit_offsets(txn, producer, GROUP, parts(), 3), "INVALID_TXN_STATE"),
            (lambda: wire.commit_offsets(txn, producer, GROUP, parts(), 4), "TRANSACTION_ABORTABLE"),
        )


@test
def an_end_makes_the_epoch_grow_and_who_had_the_one_before_can_do_no_more():
    for commits in (True, False):
        txn, old = ongoing(2)
        new = ended(txn, old, commits)
        equal(new, after(old))
        all_told(
            (lambda: wire.produce(txn, new, 1, parts()), "OUT_OF_ORDER_SEQUENCE_NUMBER"),
            (lambda: wire.produce(txn, old, 1, parts()), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.produce(None, old, 1, parts(), transactional=False), "INVALID_PRODUCER_EPOCH"),
            (lambda: settled(lambda: wire.produce(txn, new, 0, parts())), "NONE"),
            (lambda: wire.produce(txn, old, 1, parts()), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.produce(txn, old, 0, parts(1)), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.add(txn, old, parts(2)), "PRODUCER_FENCED"),
            (lambda: wire.add_offsets(txn, old, GROUP), "PRODUCER_FENCED"),
            (lambda: wire.commit_offsets(txn, old, GROUP, parts()), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.end(txn, old, True), "PRODUCER_FENCED"),
            (lambda: wire.end(txn, old, False), "PRODUCER_FENCED"),
            (lambda: wire.end(txn, old, commits, 4), "PRODUCER_FENCED"),
        )


@test
def an_end_may_be_asked_for_again():
    for commits in (True, False):
        txn, old = ongoing(2)
        new = ended(txn, old, commits)
        equal(wire.end(txn, old, commits), ("NONE", new))
        all_told(
            (lambda: wire.end(txn, old, not commits), "INVALID_TXN_STATE"),
            (lambda: wire.end(txn, old, commits, 4), "PRODUCER_FENCED"),
            (lambda: wire.end(txn, new, commits, 4), "NONE"),
            (lambda: wire.end(txn, new, not commits, 4), "INVALID_TXN_STATE"),
            (lambda: wire.end(txn, new, True), "INVALID_TXN_STATE"),
            (lambda: wire.end(txn, after(new), False), "PRODUCER_FENCED"),
        )
        # It is the next one, and has nothing in it.
        equal(settled(lambda: wire.end(txn, new, False)), ("NONE", after(new)))
        equal(settled(lambda: wire.end(txn, new, False)), ("NONE", after(new)))
        equal(wire.end(txn, old, False)[0], "PRODUCER_FENCED")


@test
def an_id_goes_from_one_kind_of_client_to_the_other():
    txn, producer = begin()
    equal(first(wire.add(txn, producer, parts(0))), "NONE")
    # One of version 2 in a transaction of before.
    equal(first(wire.produce(txn, producer, 0, parts(1))), "NONE")
    ended(txn, producer, True, 4)
    equal(first(settled(lambda: wire.produce(txn, producer, 1, parts(1)))), "NONE")
    new = ended(txn, producer, True, 5)
    equal(new, after(producer))
    equal(settled(lambda: wire.init(txn, producer=producer)), ("NONE", new))
    equal(first(wire.add(txn, new, parts(2))), "NONE")
    equal(first(wire.produce(txn, new, 0, parts(2), 11)), "NONE")
    ended(txn, new, False, 4)
    equal(wire.end(txn, new, False, 4)[0], "NONE")
    equal(wire.end(txn, new, True, 5)[0], "INVALID_TXN_STATE")


@test
def a_transaction_that_a_later_producer_has_aborted_is_told_so():
    for version, commits, wanted in ((4, True, "PRODUCER_FENCED"), (4, False, "PRODUCER_FENCED"), (5, True, "INVALID_TXN_STATE"),
                                     (5, False, "NONE")):
        txn, old = ongoing(2)
        equal(wire.init(txn)[0], "CONCURRENT_TRANSACTIONS")
        equal(settled(lambda: wire.end(txn, old, commits, version))[0], wanted, f"{version} {commits}")
        equal(settled(lambda: wire.init(txn)), ("NONE", after(old, 2)))
        all_told(
            (lambda: wire.end(txn, old, commits, version), "PRODUCER_FENCED"),
            (lambda: wire.produce(txn, old, 1, parts()), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.produce(txn, old, 0, parts(1), 11), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.commit_offsets(txn, old, GROUP, parts(), 4), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.commit_offsets(txn, old, GROUP, parts(), 5), "INVALID_PRODUCER_EPOCH"),
            (lambda: wire.init(txn, producer=old), "PRODUCER_FENCED"),
        )


@test
def where_nothing_is_known_of_a_producer_version_2_begins_with_the_first_sequence():
    txn, producer = begin()
    equal(first(wire.produce(txn, producer, 3, parts(1))), "OUT_OF_ORDER_SEQUENCE_NUMBER")
    equal(first(wire.add(txn, producer, parts(2))), "NONE")
    equal(first(wire.produce(txn, producer, 3, parts(2), 11)), "NONE")
    for _ in range(2):
        equal(first(wire.produce(txn, producer, 0, parts(1))), "NONE", "and again, as a duplicate")


@test
def what_does_not_exist_is_no_part_of_a_transaction():
    unknown = "UNKNOWN_TOPIC_OR_PARTITION"
    for asked in ({NO_TOPIC: [0]}, {TOPIC: [9]}, {TOPIC: [0, 9]}, {TOPIC: [0], NO_TOPIC: [0]}):
        named = {f"{topic}-{index}": topic == TOPIC and index == 0 for topic, indexes in asked.items() for index in indexes}
        untried = {name: "OPERATION_NOT_ATTEMPTED" if exists else unknown for name, exists in named.items()}
        done = {name: "NONE" if exists else unknown for name, exists in named.items()}
        txn, producer = begin()
        for id_ in (txn, "nobody"):
            equal(wire.add(id_, producer, asked), untried)
        for verify_only in (True, False):
            equal(wire.add_as_broker([(txn, producer, asked)], verify_only), {txn: untried})
        equal(wire.produce(txn, producer, 0, asked), done)
        equal(wire.commit_offsets(txn, producer, GROUP, asked), done)
        equal(wire.end(txn, producer, True)[0], "NONE" if True in named.values() else "INVALID_TXN_STATE")


@test
def nothing_may_be_asked_for():
    for asked in ({}, {TOPIC: []}):
        txn, producer = begin()
        equal(wire.commit_offsets(txn, producer, GROUP, asked), {})
        equal(wire.end(txn, producer, True)[0], "INVALID_TXN_STATE", "nothing has begun")
        equal(wire.add(txn, producer, asked), {})
        equal(wire.end(txn, producer, True), ("NONE", after(producer)), "it has begun with nothing in it")
    txn, producer = begin()
    equal(wire.produce(txn, producer, 0, {}), {})
    told = wire.add_as_broker([(txn, producer, parts(0)), ("nobody", producer, parts(1))], False)
    equal(told, {txn: {f"{TOPIC}-0": "NONE"}, "nobody": {f"{TOPIC}-1": "INVALID_PRODUCER_ID_MAPPING"}})


@test
def a_transaction_is_looked_at_before_its_group():
    for version, not_added in ((3, "INVALID_TXN_STATE"), (4, "TRANSACTION_ABORTABLE"), (5, None)):
        for odd in ({"member": "m", "generation": 1}, {"generation": 5}):
            (txn, producer), group = begin(), unique("odd")
            ask = lambda id_, by: eventually(  # noqa: E731
                lambda: (told := first(wire.commit_offsets(id_, by, group, parts(), version, **odd))) != "NOT_COORDINATOR" and told)
            equal(ask("nobody", producer), "INVALID_PRODUCER_ID_MAPPING")
            equal(ask(txn, after(producer, 4)), "INVALID_PRODUCER_EPOCH")
            if not_added:
                equal(ask(txn, producer), not_added)
                equal(wire.add_offsets(txn, producer, group), "NONE")
            equal(ask(txn, producer), "ILLEGAL_GENERATION")
            # Whatever its group says, it has begun.
            equal(wire.end(txn, producer, True)[0], "NONE")
        txn, producer = begin()
        equal(first(wire.commit_offsets(txn, producer, "", parts(), version)), "INVALID_GROUP_ID")


@test
def markers_are_fenced():
    txn, producer = ongoing(2)
    odd = [
        ((producer, parts(), 0, 2), "INVALID_PRODUCER_EPOCH"),  # Of version 2 it has a newer epoch.
        ((after(producer), parts(), 5, 2), "NONE"),
        ((after(producer), parts(), 5, 2), "NONE"),
        ((after(producer, 2), parts(), 4, 2), "TRANSACTION_COORDINATOR_FENCED"),
        ((producer, parts(), 5, 2), "INVALID_PRODUCER_EPOCH"),
        ((producer, parts(), 5, 0), "INVALID_PRODUCER_EPOCH"),
        ((producer, {NO_TOPIC: [0]}, 5, 2), "UNKNOWN_TOPIC_OR_PARTITION"),
        ((producer, {TOPIC: [7]}, 5, 2), "UNKNOWN_TOPIC_OR_PARTITION"),
        ((after(producer, 7), parts(), 5, 9), "NONE"),
    ]
    for number, ((by, asked, coordinator, version), wanted) in enumerate(odd):
        equal(first(wire.write_markers(by, True, asked, coordinator, version)), wanted, f"marker {number}")
    equal(first(wire.produce(txn, producer, 1, parts())), "INVALID_PRODUCER_EPOCH")


if __name__ == "__main__":
    prepare()
    main("transactions")
