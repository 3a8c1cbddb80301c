//! Tests of fetches at the owner of the partitions.

use std::sync::Arc;

use super::*;
use crate::base::{LeaderEpoch, Now, Offset, StoreId};
use crate::broker::io::Output;
use crate::broker::owner::stores::format_store;
use crate::broker::testing::with_fx;
use crate::config::BrokerConfig;
use crate::log::{EndOfTransaction, LogConfig};
use crate::record::{BatchBuilder, Codec};
use crate::replica::Leader;
use crate::store::{LogLabel, StoreConfig};

const LOG: LogId = LogId(7);
const NOW: Now = Now {
    mono: Mono(1),
    wall_ms: 1_700_000_000_000,
};

/// An owner that leads some logs, from [`LOG`] on, in this epoch.
fn leading(epoch: LeaderEpoch, logs: u64) -> Owner {
    let config = StoreConfig {
        journal_bytes: 1 << 20,
        initial_bytes: 4 << 20,
        raw: true,
        ..StoreConfig::default()
    };
    let slot = format_store(StoreId(0), config, 1).0;
    let mut owner = Owner::new(ShardId(0), Arc::new(BrokerConfig::default()), vec![slot]);
    let node = owner.config.node();
    for log in LOG.0..LOG.0 + logs {
        let (log, label) = (LogId(log), LogLabel::default());
        let open = owner.partitions.get_mut(&log);
        assert!(open.is_none());
        owner.open_own(NOW, 0, log, label, LogConfig::default());
        let open = owner.partitions.get_mut(&log).unwrap();
        let mut leader = Leader::begins(node, epoch, open.log.end_offset());
        let here = (&mut open.log, &mut owner.slots[open.slot].store);
        leader.assign(here, 0, (&[node], &[node]), 1);
        open.leader = Some(leader);
    }
    owner
}

/// Lets the disk do what it is told.
fn settle(owner: &mut Owner) {
    with_fx(NOW, |fx| {
        let mut ops = Vec::new();
        loop {
            owner.idle(fx);
            ops.extend(fx.out.drain(..).filter_map(|output| match output {
                Output::Disk { store, op } => Some((store, op.id())),
                _ => None,
            }));
            let Some((store, id)) = ops.pop() else {
                break;
            };
            owner.on_disk(store, id, Ok(()), fx);
        }
    });
}

fn append(owner: &mut Owner, log: LogId, builder: BatchBuilder) {
    let mut builder = builder;
    builder.push(NOW.wall_ms, None, Some(b"v"), &[]);
    owner.append_internal(NOW, log, builder.build()).unwrap();
}

fn req() -> ReqRef {
    ReqRef {
        shard: ShardId(0),
        id: 1,
    }
}

/// A client may know of another leader than the one that is here by the time it is asked, as in Kafka at each attempt.
#[test]
fn the_epoch_that_a_client_believes_in_is_that_of_who_leads_here() {
    for (believed, told) in [
        (-1, ErrorCode::None),
        (4, ErrorCode::FencedLeaderEpoch),
        (5, ErrorCode::None),
        (6, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut owner = leading(LeaderEpoch(5), 1);
        let ((), _, mut said) = with_fx(NOW, |fx| {
            let pass = FetchPass {
                round: 1,
                bytes_max: 1000,
                oversized: None,
                watch: Watch::No,
                committed: false,
            };
            let part = FetchPart {
                slot: 0,
                log: LOG,
                offset: Offset(0),
                bytes_max: 1000,
                leader_epoch: believed,
            };
            Plans::default().begin(&mut owner, req(), pass, vec![part], fx);
        });
        let Some(Msg::FetchDone { planned, .. }) = said.pop_front() else {
            panic!("no answer");
        };
        assert_eq!(planned.parts[0].error, told, "{believed}");
    }
}

/// What many hanging producers have left in each partition is told besides its records: 16 bytes for each.
#[test]
fn what_was_aborted_counts_like_records() {
    const LOGS: u64 = 6;
    const ABORTED: i64 = 300;
    let mut owner = leading(LeaderEpoch(0), LOGS);
    for log in (LOG.0..LOG.0 + LOGS).map(LogId) {
        let plain = || BatchBuilder::new(Codec::None, NOW.wall_ms);
        for id in 0..ABORTED {
            let builder = || plain().producer(id, 0, -1).transactional();
            // It is part of the transaction.
            let mut first = builder();
            first.push(NOW.wall_ms, None, Some(b"v"), &[]);
            let info = crate::record::parse(&first.build()).unwrap();
            let of = &mut owner.partitions.get_mut(&log).unwrap().log;
            let (token, _) = of.begin_verification(&info, false).unwrap();
            assert_eq!(of.end_verification(id, token, true), Ok(()));
            append(&mut owner, log, builder());
        }
        append(&mut owner, log, plain());
        let open = owner.partitions.get_mut(&log).unwrap();
        for producer_id in 0..ABORTED {
            let end = EndOfTransaction {
                producer_id,
                producer_epoch: 0,
                coordinator_epoch: 0,
                commits: false,
                version: 1,
            };
            let store = &mut owner.slots[open.slot].store;
            open.log.append_end(NOW, &end, store).unwrap();
        }
        append(&mut owner, log, plain());
    }
    settle(&mut owner);
    let bytes_max = 10_000;
    let ((), _, mut said) = with_fx(NOW, |fx| {
        let pass = FetchPass {
            round: 1,
            bytes_max,
            oversized: None,
            watch: Watch::Until(bytes_max as u64),
            committed: true,
        };
        let part = |slot: u64| FetchPart {
            slot: slot as u32,
            log: LogId(LOG.0 + slot),
            offset: Offset(ABORTED),
            bytes_max: 100,
            leader_epoch: -1,
        };
        let parts = (0..LOGS).map(part).collect();
        Plans::default().begin(&mut owner, req(), pass, parts, fx);
    });
    let Some(Msg::FetchDone { planned, .. }) = said.pop_front() else {
        panic!("no answer");
    };
    let told = planned
        .parts
        .iter()
        .map(|part| part.aborted.as_ref().unwrap().len());
    let told: Vec<usize> = told.collect();
    assert_eq!(told[0], ABORTED as usize, "the first is told all");
    let bytes = 16 * told.iter().sum::<usize>();
    assert!(bytes < bytes_max + 16 * ABORTED as usize, "{told:?}");
    assert_eq!(planned.watching, None, "there is no room for more");
    assert!(
        planned
            .parts
            .iter()
            .all(|part| part.error == ErrorCode::None)
    );
}
