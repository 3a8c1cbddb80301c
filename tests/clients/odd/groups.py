"""Odd requests to groups of the classic protocol in each of their states, and to those of the other kinds."""

from harness.suite import eventually

from scene import NOBODY, Scene, part

JOIN = {"session_timeout_ms": 30_000, "rebalance_timeout_ms": 30_000, "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b"one"}, {"name": "sticky", "metadata": b"two"}]}


def joined(s: Scene, group: str, **how) -> dict:
    """The first member of a group, whose assignment is still to come."""
    first = s.try_("JoinGroup", 9, group_id=group, **{**JOIN, **how})
    return s.do("JoinGroup", 9, group_id=group, member_id=first["member_id"], **{**JOIN, **how}) if first["error_code"] else first


def of(member: dict, group: str) -> dict:
    return {"group_id": group, "generation_id": member["generation_id"], "member_id": member["member_id"]}


def synced(s: Scene, group: str, **how) -> dict:
    """The only member of a stable group."""
    member = joined(s, group, **how)
    s.do("SyncGroup", 5, **of(member, group), protocol_type="consumer", protocol_name="range",
         assignments=[{"member_id": member["member_id"], "assignment": b"all"}])
    return member


def empty(s: Scene, group: str, topic: str):
    """A group with offsets and without members."""
    s.do("OffsetCommit", 9, group_id=group, topics=[s.named(topic, [part(0, committed_offset=3, committed_metadata="m")])])


def heartbeats_and_syncs(s: Scene, state: str, group: str, member: dict):
    """What a member may be wrong in, and somebody who is none."""
    good = of(member, group)
    odd = {"as it is": {}, "later generation": {"generation_id": good["generation_id"] + 1},
           "generation before": {"generation_id": good["generation_id"] - 1},
           "generation -1": {"generation_id": -1}, "another member": {"member_id": NOBODY}, "no member": {"member_id": ""},
           "an instance nobody has": {"group_instance_id": "instance"}, "another group": {"group_id": NOBODY}, "no group": {"group_id": ""}}
    for word, values in odd.items():
        s.ask_all("Heartbeat", f"{state}: {word}", **{**good, **values})
        if state != "joined" or word != "as it is":
            s.ask_all("SyncGroup", f"{state}: {word}", **{**good, **values})
    for word, values in {"another type": {"protocol_type": "other", "protocol_name": "range"}, "another protocol": {
            "protocol_type": "consumer", "protocol_name": "other"}, "no type": {"protocol_name": "range"},
            "no name": {"protocol_type": "consumer"}}.items():
        s.ask_all("SyncGroup", f"{state}: {word}", [5], **good, **values)


def commits(s: Scene, state: str, group: str, topic: str, member: dict | None):
    """Who may commit what."""
    good = of(member, group) if member else {"group_id": group, "generation_id": -1, "member_id": ""}
    good = {"group_id": group, "member_id": good["member_id"], "generation_id_or_member_epoch": good["generation_id"]}
    topics = [s.named(topic, [part(0, committed_offset=7, committed_metadata="m")])]
    odd = {"as it is": {}, "simple": {"member_id": "", "generation_id_or_member_epoch": -1}, "another member": {"member_id": NOBODY},
           "member and no generation": {"member_id": NOBODY, "generation_id_or_member_epoch": -1},
           "generation and no member": {"member_id": "", "generation_id_or_member_epoch": 5},
           "later generation": {"generation_id_or_member_epoch": good["generation_id_or_member_epoch"] + 1},
           "generation 0": {"generation_id_or_member_epoch": 0}, "an instance nobody has": {"group_instance_id": "instance"}}
    for word, values in odd.items():
        s.ask_all("OffsetCommit", f"{state}: {word}", **{**good, **values}, topics=topics)
    for word, parts in {"no such partition": [part(9, committed_offset=1)],
                        "one that is and one that is not": [part(0, committed_offset=1), part(9, committed_offset=1)],
                        "the same twice": [part(0, committed_offset=1), part(0, committed_offset=2)],
                        "offset -1": [part(0, committed_offset=-1)],
                        "long metadata": [part(0, committed_offset=1, committed_metadata="x" * 4097)],
                        "metadata as long as may be": [part(0, committed_offset=1, committed_metadata="x" * 4096)]}.items():
        s.ask_all("OffsetCommit", f"{state}: {word}", **good, topics=[s.named(topic, parts)])
    s.ask_all("OffsetCommit", f"{state}: no such topic", **good, topics=[s.named(NOBODY, [part(0, committed_offset=1)])])


def fetches(s: Scene, state: str, group: str, topic: str):
    """What is committed, and what is not."""
    for version in s.apis["OffsetFetch"].turns:
        for word, topics in {"all": None, "none": [], "one": [s.named(topic, [0])], "no such partition": [s.named(topic, [0, 9])],
                             "no such topic": [s.named(NOBODY, [0])]}.items():
            if version == 1 and topics is None:
                continue
            for stable in (False, True):
                label = f"{state}: {word}{' if stable' if stable else ''}"
                s.ask("OffsetFetch", label, version, group_id=group, topics=topics, require_stable=stable, groups=[
                    {"group_id": group, "member_epoch": -1, "topics": topics}])
    for word, who in {"a member": {"member_id": "m", "member_epoch": 1}, "an epoch alone": {"member_id": None, "member_epoch": 3},
                      "a member without an epoch": {"member_id": "m", "member_epoch": -1}}.items():
        for version in (9, 10):
            s.ask("OffsetFetch", f"{state}: {word}", version, groups=[{"group_id": group, "topics": None, **who}])


def looks(s: Scene, state: str, group: str):
    """What others see of it."""
    for version in s.apis["DescribeGroups"].turns:
        for rights in (False, True):
            s.ask("DescribeGroups", f"{state}: {'with rights' if rights else 'plain'}", version, groups=[group],
                  include_authorized_operations=rights)
    s.ask_all("ConsumerGroupDescribe", state, group_ids=[group])
    for version in s.apis["ListGroups"].turns:
        for word, values in {"all": {},
                             "by state": {"states_filter": ["stable", "EMPTY", "PreparingRebalance", "CompletingRebalance", "Dead"]},
                             "by type": {"types_filter": ["Classic"]}, "of consumers": {"types_filter": ["consumer"]},
                             "by what is none": {"states_filter": ["odd"], "types_filter": ["odd"]}}.items():
            s.ask("ListGroups", f"{state}: {word}", version, **values)


def removals(s: Scene, state: str, group: str, topic: str):
    for word, topics in {"a partition": [s.named(topic, [part(0)])], "no such partition": [s.named(topic, [part(9)])],
                         "no such topic": [s.named(NOBODY, [part(0)])], "nothing": []}.items():
        s.ask_all("OffsetDelete", f"{state}: {word}", group_id=group, topics=topics)


def in_state(s: Scene, state: str, group: str, topic: str, member: dict | None):
    looks(s, state, group)
    fetches(s, state, group, topic)
    commits(s, state, group, topic, member)
    removals(s, state, group, topic)
    for version in s.apis["ConsumerGroupHeartbeat"].turns:
        s.ask("ConsumerGroupHeartbeat", f"{state}: leave", version, group_id=group, member_id="m", member_epoch=-1)
        s.ask("ConsumerGroupHeartbeat", f"{state}: epoch 3", version, group_id=group, member_id="m", member_epoch=3)


def classic_states(s: Scene):
    """The same requests to a group that does not exist, has offsets alone, has a member that waits, is stable."""
    topic = s.topic("topic", 2)
    in_state(s, "dead", f"{s.name}-dead", topic, None)
    s.ask_all("DeleteGroups", "dead", groups_names=[f"{s.name}-dead"])
    group = f"{s.name}-empty"
    empty(s, group, topic)
    in_state(s, "empty", group, topic, None)
    for version in s.apis["DeleteGroups"].turns:
        empty(s, group, topic)
        s.ask("DeleteGroups", "empty", version, groups_names=[group])
        empty(s, group, topic)
        s.ask("DeleteGroups", "twice and another", version, groups_names=[group, group, NOBODY, ""])
    group = f"{s.name}-joined"
    member = joined(s, group)
    heartbeats_and_syncs(s, "joined", group, member)
    in_state(s, "joined", group, topic, member)
    s.ask_all("DeleteGroups", "joined", groups_names=[group])
    group = f"{s.name}-stable"
    member = synced(s, group)
    heartbeats_and_syncs(s, "stable", group, member)
    in_state(s, "stable", group, topic, member)
    s.ask_all("DeleteGroups", "stable", groups_names=[group])


def classic_joins(s: Scene):
    """Who may join what."""
    topic = s.topic("topic")
    group = f"{s.name}-group"
    member = synced(s, group)
    odd = {"another type": {"protocol_type": "other"}, "no type": {"protocol_type": ""},
           "no common protocol": {"protocols": [{"name": "other", "metadata": b""}]},
           "no protocol": {"protocols": []}, "another member": {"member_id": NOBODY}, "short session": {"session_timeout_ms": 5_999},
           "long session": {"session_timeout_ms": 1_800_001}, "no group": {"group_id": ""}, "session -1": {"session_timeout_ms": -1}}
    for word, values in odd.items():
        s.ask_all("JoinGroup", f"stable: {word}", **{"group_id": group, "member_id": member["member_id"], **JOIN, **values})
    s.ask_all("JoinGroup", "stable: as it is", [9], group_id=group, member_id=member["member_id"], **JOIN)
    s.ask_all("JoinGroup", "stable: nobody yet", [4, 5, 9], group_id=group, **JOIN)
    for version in s.apis["JoinGroup"].turns:
        for word, values in odd.items():
            s.ask("JoinGroup", f"new: {word}", version, **{"group_id": f"{s.name}-new-{version}-{word}", **JOIN, **values})
        answer = s.ask("JoinGroup", "new: as it should be", version, group_id=f"{s.name}-first-{version}", **JOIN)
        if answer["error_code"] == 79:
            s.ask("JoinGroup", "new: with the id it was told", version, group_id=f"{s.name}-first-{version}",
                  member_id=answer["member_id"], **JOIN)
        empty(s, f"{s.name}-empty-{version}", topic)
        for word in ("another type", "another member"):
            s.ask("JoinGroup", f"empty: {word}", version, **{"group_id": f"{s.name}-empty-{version}", **JOIN, **odd[word]})
        s.ask("JoinGroup", "the same protocol twice", version, group_id=f"{s.name}-twice-{version}",
              **{**JOIN, "protocols": JOIN["protocols"][:1] * 2})


def classic_static(s: Scene):
    """Members with a name of their own: who comes back, and who is fenced."""
    topic = s.topic("topic")
    group, me = f"{s.name}-group", {"group_instance_id": "instance"}
    old = synced(s, group, **me)
    for version in (5, 6, 9):
        s.ask("JoinGroup", "an id nobody has for the instance", version, group_id=group, member_id=NOBODY, **me, **JOIN)
        s.ask("JoinGroup", "another instance with its id", version, group_id=group, member_id=old["member_id"], group_instance_id="other",
              **JOIN)
        s.ask("JoinGroup", "comes back", version, group_id=group, **me, **JOIN)
    for version in (3, 4):
        for api in ("Heartbeat", "SyncGroup"):
            s.ask(api, "the one before", version, **of(old, group), **me)
            s.ask(api, "the one before, without its name", version, **of(old, group))
            s.ask(api, "another instance", version, **{**of(old, group), "group_instance_id": "other"})
    for version in (7, 8, 9, 10):
        topics = [s.named(topic, [part(0, committed_offset=7)])]
        s.ask("OffsetCommit", "the one before", version, group_id=group, member_id=old["member_id"], generation_id_or_member_epoch=1, **me,
              topics=topics)
    looks(s, "static", group)
    leaves = {"the one before": {"member_id": old["member_id"], **me}, "an id nobody has": {"member_id": NOBODY},
              "an instance nobody has": {
        "member_id": "", "group_instance_id": "other"}, "an id nobody has for the instance": {"member_id": NOBODY, **me},
        "neither": {"member_id": ""}}
    for version in (3, 4, 5):
        for word, one in leaves.items():
            s.ask("LeaveGroup", word, version, group_id=group, members=[one])
        s.ask("LeaveGroup", "all of them", version, group_id=group, members=list(leaves.values()))
    for version in (3, 4, 5):
        s.ask("LeaveGroup", "by its name", version, group_id=group, members=[{"member_id": "", **me}])
        s.ask("LeaveGroup", "twice", version, group_id=f"{s.name}-no-group", members=[{"member_id": "a"}, {"member_id": "a"}])
        synced(s, group, **me)
        s.ask("LeaveGroup", "twice by its name", version, group_id=group, members=[{"member_id": "", **me}] * 2)
        synced(s, group, **me)


def classic_rebalance(s: Scene):
    """Two members: what each is told while the other one is awaited."""
    group = f"{s.name}-group"
    one = synced(s, group)
    second_id = s.try_("JoinGroup", 9, group_id=group, **JOIN)["member_id"]
    waiting = s.begin("JoinGroup", 9, group_id=group, member_id=second_id, **JOIN)
    eventually(lambda: s.try_("Heartbeat", 4, **of(one, group))["error_code"] == 27, 20, "a rebalance")
    heartbeats_and_syncs(s, "preparing", group, one)
    looks(s, "preparing", group)
    s.ask_all("Heartbeat", "preparing: the one that waits", group_id=group, generation_id=one["generation_id"], member_id=second_id)
    s.ask_all("SyncGroup", "preparing: the one that waits", group_id=group, generation_id=one["generation_id"], member_id=second_id)
    again = s.begin("JoinGroup", 5, group_id=group, member_id=one["member_id"], **JOIN)
    first, second = again.answer("the leader, in a rebalance"), waiting.answer("the other one, in a rebalance")
    sync = s.begin("SyncGroup", 5, **of(second, group), protocol_type="consumer", protocol_name="range")
    looks(s, "completing", group)
    s.ask_all("Heartbeat", "completing: the leader", **of(first, group))
    s.ask_all("SyncGroup", "completing: generation before", **of(one, group))
    s.ask("SyncGroup", "completing: the leader, with too few", 5, **of(first, group), protocol_type="consumer", protocol_name="range",
          assignments=[{"member_id": first["member_id"], "assignment": b"all"}, {"member_id": NOBODY, "assignment": b"odd"}])
    sync.answer("completing: the other one, for which there is nothing")
    s.ask("SyncGroup", "stable: the other one again", 5, **of(second, group), protocol_type="consumer", protocol_name="range")
    looks(s, "two members", group)
    s.ask("LeaveGroup", "the leader", 2, group_id=group, member_id=first["member_id"])
    s.ask("LeaveGroup", "the leader again", 2, group_id=group, member_id=first["member_id"])
    s.ask_all("Heartbeat", "the leader has left", **of(second, group))
    s.ask("LeaveGroup", "the last one", 5, group_id=group, members=[{"member_id": second["member_id"], "reason": "odd"}])
    looks(s, "all have left", group)


def coordinators(s: Scene):
    """Of what there is a coordinator."""
    for version in s.apis["FindCoordinator"].turns:
        for kind in (0, 1, 2, 3, -1):
            for word, key in {"a name": "some", "no name": "", "of a share": "g:AAAAAAAAAAAAAAAAAAAAAA:0", "many colons": "a:b:c:d",
                              "long": "x" * 1000}.items():
                if kind != 1 or word != "no name":
                    s.ask("FindCoordinator", f"{word} of type {kind}", version, key=key, coordinator_keys=[key], key_type=kind)
        if version >= 4:
            s.ask("FindCoordinator", "none", version, coordinator_keys=[])
            s.ask("FindCoordinator", "the same twice, and the empty one", version, coordinator_keys=["a", "a", ""])


SCENES = {"classic-states": classic_states, "classic-joins": classic_joins, "classic-static": classic_static,
          "classic-rebalance": classic_rebalance, "coordinators": coordinators}
