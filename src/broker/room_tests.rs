//! What a shard does about stores that have no room, and about those that make some.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::owner::Owner;
use super::{Fx, Output, format_store};
use crate::base::{LeaderEpoch, LogId, Mono, Now, Offset, ShardId, StoreId};
use crate::config::BrokerConfig;
use crate::store::{LogLabel, StoreConfig};

/// Lets an owner do what there is to do; what the disks are asked for.
fn idle(owner: &mut Owner, now: Mono) -> Vec<Output> {
    let (mut out, mut local) = (Vec::new(), VecDeque::new());
    let mut fx = Fx {
        me: ShardId(0),
        now,
        out: &mut out,
        local: &mut local,
        ops: Vec::new(),
    };
    let now = Now {
        mono: now,
        wall_ms: 1_700_000_000_000,
    };
    owner.idle(now, &mut fx);
    out
}

#[test]
fn a_checkpoint_for_which_there_was_no_room_is_tried_again_each_second() {
    let config = StoreConfig {
        journal_bytes: 128 << 10,
        raw: true,
        ..StoreConfig::default()
    };
    let config = StoreConfig {
        bytes_max: config.least_bytes(),
        ..config
    };
    let (mut slot, _) = format_store(StoreId(0), config, 1);
    slot.store
        .create_log(LogId(1), LogLabel::default(), Offset(0));
    // More than there is room for anywhere.
    let batch = Bytes::from(vec![7; 20 << 20]);
    slot.store
        .append_anyway(LogId(1), batch, Offset(0), LeaderEpoch(0));
    let config = Arc::new(BrokerConfig::default());
    let mut owner = Owner::new(ShardId(0), config, vec![slot]);
    let start = Mono(0).plus_ms(1);
    idle(&mut owner, start);
    let waits = |owner: &Owner| owner.slots[0].store.waits_for_room();
    assert!(waits(&owner), "the checkpoint is put off");
    let mut now = start;
    for _ in 0..3 {
        let next = owner.next_deadline();
        assert!(now < next && next <= now.plus_ms(1000));
        assert!(!owner.slots[0].store.checkpoint_due());
        now = next;
        idle(&mut owner, now);
    }
    // Smaller, now that it is tried with nothing in it.
    owner.slots[0].store.delete_log(LogId(1));
    now = owner.next_deadline();
    assert!(!idle(&mut owner, now).is_empty());
    assert!(!waits(&owner));
}
