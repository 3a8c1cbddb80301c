"""Odd requests to groups of the consumer protocol (KIP-848), and of both protocols to a group of the other one."""

import itertools

from harness.suite import eventually

from groups import JOIN, commits, fetches, joined, looks, of, removals, synced
from scene import NO_SUCH_ID, NOBODY, Scene, part

BEAT = {"rebalance_timeout_ms": 30_000, "topic_partitions": []}


def member(s: Scene, group: str, topic: str, name: str = "m", **how) -> dict:
    """A member that has been given all there is."""
    return s.do("ConsumerGroupHeartbeat", group_id=group, member_id=name, member_epoch=0, subscribed_topic_names=[topic], **{**BEAT, **how})


def known_topic(s: Scene, partitions: int) -> str:
    """A topic that the coordinators of groups have heard of."""
    topic = s.topic("topic", partitions)
    groups = itertools.count()

    def is_assigned():
        answer = s.try_("ConsumerGroupHeartbeat", 1, group_id=f"{s.name}-asks-{next(groups)}", member_id="m", member_epoch=0,
                        subscribed_topic_names=[topic], **BEAT)
        return bool(answer["assignment"] and answer["assignment"]["topic_partitions"])
    eventually(is_assigned, 20, "an assignment")
    return topic


def consumer_first(s: Scene):
    """The first request of a member."""
    topic = known_topic(s, 2)
    good = {"member_id": "m", "member_epoch": 0, "subscribed_topic_names": [topic], **BEAT}
    odd = {
        "as it should be": {}, "no topics": {"subscribed_topic_names": None}, "an empty list of topics": {"subscribed_topic_names": []},
        "no such topic": {"subscribed_topic_names": [NOBODY]}, "the same topic twice": {"subscribed_topic_names": [topic, topic]},
        "an empty topic": {"subscribed_topic_names": [""]}, "no timeout": {"rebalance_timeout_ms": -1},
        "timeout 0": {"rebalance_timeout_ms": 0},
        "partitions it has": {"topic_partitions": [{"topic_id": s.id_of(topic), "partitions": [0]}]},
        "partitions null": {"topic_partitions": None},
        "an assignor nobody has": {"server_assignor": "odd"}, "no assignor": {"server_assignor": ""}, "range": {"server_assignor": "range"},
        "uniform": {"server_assignor": "uniform"}, "rack": {"rack_id": "rack"}, "empty rack": {"rack_id": ""},
        "instance": {"instance_id": "i"},
        "empty instance": {"instance_id": ""}, "epoch 1": {"member_epoch": 1}, "epoch -1": {"member_epoch": -1},
        "epoch -2": {"member_epoch": -2},
        "epoch -3": {"member_epoch": -3}, "epoch -2 of an instance": {"member_epoch": -2, "instance_id": "i"},
        "a long member": {"member_id": "m" * 300},
        "a regex": {"subscribed_topic_names": None, "subscribed_topic_regex": f"{topic}.*"},
        "an odd regex": {"subscribed_topic_names": None, "subscribed_topic_regex": "(("},
        "an empty regex": {"subscribed_topic_names": None, "subscribed_topic_regex": ""}, "both": {"subscribed_topic_regex": f"{topic}.*"},
        "no member": {"member_id": ""}, "no group": {"group_id": ""}, "blank group": {"group_id": " "},
    }
    for version in (0, 1):
        for word, values in odd.items():
            group = {"group_id": f"{s.name}-{version}-{word}"}
            s.ask("ConsumerGroupHeartbeat", f"first: {word}", version, **{**group, **good, **values})
        s.ask("ConsumerGroupDescribe", "no such topic", version, group_ids=[f"{s.name}-{version}-no such topic"])


def consumer_later(s: Scene):
    """What a member may be wrong in that is there."""
    topic = known_topic(s, 2)
    for version in (0, 1):
        group = f"{s.name}-{version}"
        epoch = member(s, group, topic)["member_epoch"]
        good = {"group_id": group, "member_id": "m", "member_epoch": epoch, "rebalance_timeout_ms": -1}
        other = {"topic_id": NO_SUCH_ID, "partitions": [0]}
        odd = {
            "as it should be": {}, "epoch + 1": {"member_epoch": epoch + 1}, "epoch + 5": {"member_epoch": epoch + 5},
            "epoch - 1": {"member_epoch": epoch - 1},
            "another member": {"member_id": NOBODY}, "another member at 0": {"member_id": NOBODY, "member_epoch": 0},
            "no member": {"member_id": ""},
            "an assignor nobody has": {"server_assignor": "odd"}, "partitions it has not": {"topic_partitions": [other]},
            "another timeout": {"rebalance_timeout_ms": 1},
            "the epoch before, and what it has": {"member_epoch": epoch - 1,
                                                  "topic_partitions": [{"topic_id": s.id_of(topic), "partitions": [0, 1]}]},
            "epoch 0 and no more": {"member_epoch": 0}, "epoch 0 again": {"member_epoch": 0, **BEAT, "subscribed_topic_names": [topic]},
            "an instance nobody has": {"instance_id": "i"}, "epoch -2": {"member_epoch": -2},
            "an odd regex": {"subscribed_topic_regex": "[["},
        }
        for word, values in odd.items():
            s.ask("ConsumerGroupHeartbeat", f"later: {word}", version, **{**good, **values})
        looks_at = {"ConsumerGroupDescribe": "later", "DescribeGroups": "of consumers"}
        s.ask("ConsumerGroupDescribe", looks_at["ConsumerGroupDescribe"], version, group_ids=[group], include_authorized_operations=True)
        s.ask("ConsumerGroupDescribe", "twice, and one that is not there", version, group_ids=[group, group, NOBODY, ""])
        s.ask("ConsumerGroupHeartbeat", "leave", version, group_id=group, member_id="m", member_epoch=-1)
        s.ask("ConsumerGroupHeartbeat", "leave again", version, group_id=group, member_id="m", member_epoch=-1)
        s.ask("ConsumerGroupDescribe", "all have left", version, group_ids=[group])


def consumer_static(s: Scene):
    """Members with a name of their own."""
    topic = known_topic(s, 2)
    for version in (0, 1):
        group = f"{s.name}-{version}"
        epoch = member(s, group, topic, "m", instance_id="i")["member_epoch"]
        first = {"group_id": group, "member_id": "m", "instance_id": "i"}
        new = {**BEAT, "subscribed_topic_names": [topic]}
        s.ask("ConsumerGroupHeartbeat", "another one of the instance", version, **{**first, "member_id": "n"}, member_epoch=0, **new)
        s.ask("ConsumerGroupHeartbeat", "later, without the instance", version, group_id=group, member_id="m", member_epoch=epoch)
        s.ask("ConsumerGroupHeartbeat", "later, of another instance", version, **{**first, "instance_id": "j"}, member_epoch=epoch)
        s.ask("ConsumerGroupHeartbeat", "gone for a while", version, **first, member_epoch=-2)
        s.ask("ConsumerGroupDescribe", "gone for a while", version, group_ids=[group])
        s.ask("ConsumerGroupHeartbeat", "beat while it is gone", version, **first, member_epoch=epoch)
        s.ask("ConsumerGroupHeartbeat", "another one comes back", version, **{**first, "member_id": "n"}, member_epoch=0, **new)
        s.ask("ConsumerGroupHeartbeat", "the one before", version, **first, member_epoch=epoch)
        s.ask("ConsumerGroupHeartbeat", "the one before leaves", version, **first, member_epoch=-1)
        s.ask("ConsumerGroupHeartbeat", "the one before goes for a while", version, **first, member_epoch=-2)
        s.ask("ConsumerGroupHeartbeat", "it leaves", version, **{**first, "member_id": "n"}, member_epoch=-1)


def consumer_state(s: Scene):
    """What every API says to a group of the consumer protocol with a member, and without."""
    topic = known_topic(s, 2)
    group = f"{s.name}-group"
    epoch = member(s, group, topic)["member_epoch"]
    one = {"generation_id": epoch, "member_id": "m"}
    for state in ("consumers", "left"):
        looks(s, state, group)
        fetches(s, state, group, topic)
        commits(s, state, group, topic, one)
        removals(s, state, group, topic)
        for version in (9, 10):
            for word, who in {"the member": {"member_id": "m", "member_epoch": epoch},
                              "its epoch + 1": {"member_id": "m", "member_epoch": epoch + 1},
                              "its epoch - 1": {"member_id": "m", "member_epoch": epoch - 1},
                              "another member": {"member_id": NOBODY, "member_epoch": epoch}}.items():
                s.ask("OffsetFetch", f"{state}: {word}", version, groups=[{"group_id": group, "topics": None, **who}])
        s.ask_all("Heartbeat", state, group_id=group, **one)
        s.ask_all("SyncGroup", state, group_id=group, **one)
        s.ask_all("LeaveGroup", f"{state}: another member", group_id=group, member_id=NOBODY, members=[{"member_id": NOBODY}])
        if state == "consumers":
            s.ask_all("DeleteGroups", state, groups_names=[group])
            s.ask_all("JoinGroup", f"{state}: not of consumers", group_id=group, **{**JOIN, "protocol_type": "other"})
            s.ask_all("JoinGroup", f"{state}: metadata that is none", group_id=group, member_id=NOBODY, **JOIN)
            s.do("ConsumerGroupHeartbeat", group_id=group, member_id="m", member_epoch=-1)
    s.ask("DeleteGroups", "left", 2, groups_names=[group])


def both_protocols(s: Scene):
    """A consumer that comes to a group of the classic protocol."""
    topic = known_topic(s, 1)
    good = {"member_epoch": 0, "member_id": "m", "subscribed_topic_names": [topic], **BEAT}
    group = f"{s.name}-joined"
    joined(s, group)
    s.ask_all("ConsumerGroupHeartbeat", "to a classic group that waits", group_id=group, **good)
    group = f"{s.name}-stable"
    one = synced(s, group)
    s.ask_all("ConsumerGroupHeartbeat", "to a classic group whose metadata is none", group_id=group, **good)
    s.ask_all("Heartbeat", "after that", **of(one, group))
    group = f"{s.name}-other"
    synced(s, group)
    s.do("OffsetCommit", 9, group_id=f"{s.name}-empty", topics=[s.named(topic, [part(0, committed_offset=3)])])
    s.ask("ConsumerGroupHeartbeat", "to a classic group with offsets alone", 1, group_id=f"{s.name}-empty", **good)
    s.ask("OffsetFetch", "after that", 9, groups=[{"group_id": f"{s.name}-empty", "member_epoch": -1, "topics": None}])


SCENES = {"consumer-first": consumer_first, "consumer-later": consumer_later, "consumer-static": consumer_static,
          "consumer-state": consumer_state, "both-protocols": both_protocols}
