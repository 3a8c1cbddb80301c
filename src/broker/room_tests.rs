//! What a shard does about stores that have no room, and about those that make some.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::owner::Owner;
use super::{Fx, Input, Output, Shard, ShardSetup, format_store};
use crate::base::{DirectoryId, LeaderEpoch, LogId, Mono, Now, Offset, ShardId, StoreId};
use crate::config::BrokerConfig;
use crate::controller::Directory;
use crate::store::{DiskOp, LogLabel, StoreConfig};

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

/// Whether an operation makes room, or readies it.
fn makes_room(op: &DiskOp) -> bool {
    match op {
        DiskOp::Allocate { .. } => true,
        DiskOp::Write {
            data, background, ..
        } => *background && data.iter().all(|byte| *byte == 0),
        DiskOp::Sync { .. } => false,
    }
}

#[test]
fn a_stop_does_not_wait_for_stores_that_write_ahead() {
    let config = Arc::new(BrokerConfig::default());
    let store = |id| format_store(StoreId(id), config.store(), 1).0;
    let directory = |id| Directory {
        id: DirectoryId::new(1, StoreId(id)),
        shard: ShardId(0),
    };
    let mut shard = Shard::new(ShardSetup {
        id: ShardId(0),
        shards: 1,
        config: Arc::clone(&config),
        seed: 1,
        slots: (0..2).map(store).collect(),
        directories: (0..2).map(directory).collect(),
    });
    let (mut disk, mut drained, mut nanos) = (VecDeque::new(), false, 0);
    // What each input makes room for.
    let mut give = |input, disk: &mut VecDeque<_>| {
        let mut made = 0;
        for input in [input, Input::Idle] {
            nanos += 1000;
            let now = Now {
                mono: Mono(nanos),
                wall_ms: 1_700_000_000_000,
            };
            let mut out = Vec::new();
            shard.handle(now, input, &mut out);
            for output in out {
                match output {
                    Output::Disk { store, op } => {
                        made += usize::from(makes_room(&op));
                        disk.push_back((store, op.id()));
                    }
                    Output::Drained => drained = true,
                    _ => {}
                }
            }
        }
        (made, drained)
    };
    let done = |(store, id)| Input::Disk {
        store,
        id,
        result: Ok(()),
    };
    give(Input::Start, &mut disk);
    let mut made = 0;
    while made < 20 {
        let next = disk.pop_front().expect("they write ahead");
        made += give(done(next), &mut disk).0;
    }
    // From here on one of them always has something on its way when the other one has not.
    assert_eq!(give(Input::Shutdown, &mut disk).0, 0);
    while let Some(next) = disk.pop_front() {
        assert_eq!(give(done(next), &mut disk).0, 0, "nobody needs it");
    }
    assert!(give(Input::Idle, &mut disk).1, "drained");
}
