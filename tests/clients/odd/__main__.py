"""Odd requests of every API as bare frames. What Kafka answers was recorded in kafka.json; ours is compared with it.

    tests/clients/run odd[:SCENE]                       compares
    tests/clients/run --broker kafka odd                so does Kafka itself, without any difference
    .deps/venv/bin/python tests/clients/odd --record    asks a real Kafka for all of it anew
    .deps/venv/bin/python tests/clients/odd --show      prints what differs, whether it is accepted or not
"""

import os
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import recording  # noqa: E402
from differences import ACCEPTED  # noqa: E402
from harness import broker, suite  # noqa: E402
from scene import Recorder, Scene, warm_up  # noqa: E402

import consumers  # noqa: E402
import groups  # noqa: E402
import mutations  # noqa: E402
import records  # noqa: E402
import topics  # noqa: E402
import txns  # noqa: E402

SETTINGS = {"offsets.topic.num.partitions": "5", "transaction.state.log.num.partitions": "5", "group.initial.rebalance.delay.ms": "0"}
SCENES = {**groups.SCENES, **consumers.SCENES, **records.SCENES, **topics.SCENES, **txns.SCENES, **mutations.scenes()}
# How long Kafka may think before it is recorded that it does not answer. Ours has more, because a machine may be busy.
KAFKA_SILENT_AFTER_S, SILENT_AFTER_S = 5, 30
SHOWN_MAX = 12


def play(name: str, server: broker.Broker, silent_after_s: float) -> recording.Answers:
    recorder = Recorder()
    scene = Scene(server.port, recorder, name, silent_after_s)
    try:
        SCENES[name](scene)
    finally:
        scene.close()
    return recorder.answers


def record(wanted: list[str]):
    by_scene = recording.load() if recording.FILE.exists() else {}
    by_scene = {name: answers for name, answers in by_scene.items() if name in SCENES}
    with broker.Kafka(SETTINGS) as server:
        warm_up(server.port)
        for name in SCENES:
            if not wanted or any(re.search(one, name) for one in wanted):
                by_scene[name] = play(name, server, KAFKA_SILENT_AFTER_S)
                print(f"{name}: {sum(map(len, by_scene[name].values()))} answers", flush=True)
    recording.save(by_scene)


def show(wanted: list[str]):
    kafka = recording.load()
    with broker.Millrace(SETTINGS) as server:
        warm_up(server.port)
        for name in SCENES:
            if not wanted or any(re.search(one, name) for one in wanted):
                for line in recording.compare(name, kafka.get(name, {}), play(name, server, KAFKA_SILENT_AFTER_S), [])[0]:
                    print(f"{name}: {line}", flush=True)


def as_test(name: str, server: broker.Broker, kafka: dict[str, recording.Answers], accepted: list[recording.Accepted]):
    def test():
        patience = KAFKA_SILENT_AFTER_S if suite.BROKER == "kafka" else SILENT_AFTER_S
        unknown, gone, used = recording.compare(name, kafka.get(name, {}), play(name, server, patience), accepted)
        gone += [f"no case is '{one.case}'" for one in accepted if re.fullmatch(one.scene, name) and one not in used]
        gone += [f"no reason for '{one.case}'" for one in used if not one.why]
        found = unknown + gone
        if found:
            print("\n".join([f"{name}:", *found]), file=sys.stderr)
        assert not found, f"{len(unknown)} differences from Kafka, {len(gone)} that are none: {'; '.join(found[:SHOWN_MAX])}"
    test.__name__ = name
    return suite.test(test, seconds=240)


def main():
    if sys.argv[1:2] == ["--record"]:
        return record(sys.argv[2:])
    if sys.argv[1:2] == ["--show"]:
        return show(sys.argv[2:])
    kafka = recording.load()
    accepted = ACCEPTED if suite.BROKER == "millrace" else []
    with broker.BROKERS[suite.BROKER](SETTINGS) as server:
        warm_up(server.port)
        for name in SCENES:
            as_test(name, server, kafka, accepted)

        @suite.test
        def all_that_is_recorded_is_asked():
            suite.equal(sorted(kafka), sorted(SCENES))

        @suite.test
        def each_accepted_difference_is_of_a_scene():
            scenes = {one.scene for one in accepted if not any(re.fullmatch(one.scene, name) for name in SCENES)}
            suite.equal(scenes, set())

        @suite.test
        def the_broker_is_alive():
            assert server.alive, server.log_tail()
        suite.main("odd", lambda: server.__exit__(None, None, None))


if __name__ == "__main__":
    main()
