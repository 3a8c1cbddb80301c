//! Records of `__consumer_offsets`: a byte that says how long the key is, the key, the value.

use bytes::Bytes;
use millrace::base::TopicId;
use millrace::group::Committed;
use millrace::group::records::{
    GroupValue, MemberValue, group_key, group_value, offset_key, offset_value, parse_group_value,
    parse_key, parse_offset_value,
};

use super::{DECODING, Target, outcome};

pub const TARGET: Target = Target {
    name: "groups",
    corpus,
    check,
    repair,
    memory: DECODING,
};

/// Both kinds of value, whatever the key says. What is read in any version is read the same from what is written of it.
fn check(input: &[u8]) -> u64 {
    let Some((len, rest)) = input.split_first() else {
        return 0;
    };
    let (key, value) = rest.split_at(usize::from(*len).min(rest.len()));
    let key = parse_key(key);
    let offset = parse_offset_value(value);
    if let Ok(committed) = &offset {
        let mut again = committed.clone();
        if again.expire_ms.is_some() {
            // It is read where earlier builds wrote it, and is not written there.
            again.topic_id = TopicId::ZERO;
        }
        assert_eq!(parse_offset_value(&offset_value(committed)), Ok(again));
    }
    let group = parse_group_value(value);
    if let Ok(value) = &group {
        assert_eq!(parse_group_value(&group_value(value)).as_ref(), Ok(value));
    }
    let version = value.get(..2).map(<[u8]>::to_vec);
    outcome(
        version,
        &(
            key.is_ok(),
            offset.map(drop),
            group.map(|group| group.members.len()),
        ),
    )
}

/// Gives the value a version that is known.
fn repair(input: &mut [u8]) {
    let at = 1 + usize::from(input.first().copied().unwrap_or(0));
    if let Some(version) = input.get_mut(at..at + 2) {
        version[0] = 0;
        version[1] %= 5;
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let committed = |expire_ms| Committed {
        topic_id: TopicId([7; 16]),
        offset: 42,
        leader_epoch: 1,
        metadata: "note".into(),
        commit_ms: 1000,
        expire_ms,
        lacks_id: false,
    };
    let member = MemberValue {
        member: "a-1".into(),
        instance: Some("one".into()),
        client_id: "a".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(b"topics"),
        assignment: Bytes::from_static(b"part"),
    };
    let group = GroupValue {
        protocol_type: Some("consumer".into()),
        generation: 3,
        protocol: Some("range".into()),
        leader: Some("a-1".into()),
        state_since_ms: Some(1000),
        members: vec![member],
    };
    let offsets = [None, Some(2000)].map(|expire| {
        (
            offset_key("g", "orders", 0),
            offset_value(&committed(expire)),
        )
    });
    let groups = [group, GroupValue::default()].map(|value| (group_key("g"), group_value(&value)));
    let all = offsets.into_iter().chain(groups);
    all.map(|(key, value)| [&[key.len() as u8], &key[..], &value[..]].concat())
        .collect()
}
