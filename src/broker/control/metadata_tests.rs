//! What was decided becomes true when it is committed, and whoever waits for it is told.

use bytes::Bytes;

use super::*;
use crate::base::{LeaderEpoch, NodeId, Offset};
use crate::broker::control::testing::{Site, directories, req, topic};
use crate::controller::METADATA_LOG;
use crate::controller::testing::partition;
use crate::quorum::{EntryIndex, QuorumInput, QuorumMessage, ReplicaKey, Restored, Says, Voters};

fn reply() -> Called {
    Called::Frame(vec![Bytes::from_static(b"reply")])
}

/// Metadata of two shards, both of which serve by the first image.
fn serving() -> (Site, Metadata) {
    let mut site = Site::new();
    let config = Arc::new(BrokerConfig::default());
    let mut metadata = Metadata::new(config, 2, directories(2), 1);
    let me = key(0);
    let restored = Restored::empty(Voters::new([me]).unwrap());
    let quorum = site.act(|owner, fx| {
        owner.begin_at(fx.now, METADATA_LOG, Offset(1));
        QuorumDriver::start(me, restored, (4096, 1), owner, fx)
    });
    metadata.quorum = Some(quorum.unwrap());
    let turns = settle(&mut site, &mut metadata);
    assert!(matches!(turns[..], [CommittedTurn::Leads]));
    site.act(|_, fx| metadata.publish_current(fx));
    assert_eq!(published(&mut site), [(0, 0), (1, 0)]);
    assert!(metadata.next_served().is_some());
    (site, metadata)
}

/// A replica of this node, or another one.
fn key(other: u16) -> ReplicaKey {
    ReplicaKey {
        node: NodeId(1 + i32::from(other)),
        directory: directories(other + 1)[usize::from(other)].id,
    }
}

/// Replays what is committed; what else there is to do by it.
fn replay(site: &mut Site, metadata: &mut Metadata) -> Vec<CommittedTurn> {
    let mut turns = Vec::new();
    site.act(|owner, fx| {
        while let Some(turn) = metadata
            .replay_some(&mut usize::MAX.clone(), owner, fx)
            .unwrap()
        {
            turns.push(turn);
        }
    });
    metadata.invariants();
    turns
}

/// Makes all durable, until nothing more comes of it.
fn settle(site: &mut Site, metadata: &mut Metadata) -> Vec<CommittedTurn> {
    let mut turns = Vec::new();
    loop {
        let tokens = site.flush();
        if tokens.is_empty() {
            return turns;
        }
        for token in tokens {
            durable(site, metadata, token);
        }
        turns.extend(replay(site, metadata));
    }
}

fn durable(site: &mut Site, metadata: &mut Metadata, token: u64) -> bool {
    let quorum = metadata.quorum.as_mut().unwrap();
    site.act(|owner, fx| quorum.durable(token, owner, fx))
}

/// Which images the shards got since the last time, by version.
fn published(site: &mut Site) -> Vec<(u16, u64)> {
    let sent = site.sent().into_iter();
    sent.map(|(to, msg)| match msg {
        Msg::Image { image, .. } => (to, image.version),
        msg => panic!("unexpected {msg:?}"),
    })
    .collect()
}

fn commit(site: &mut Site, metadata: &mut Metadata, records: Vec<MetadataRecord>, then: Then) {
    site.act(|owner, fx| {
        let change = Change::new(&metadata.image, records).unwrap();
        assert!(metadata.commit(change, then, owner, fx).is_ok());
    });
    metadata.invariants();
}

#[test]
fn a_change_is_published_when_it_is_committed_and_answered_when_every_shard_serves_by_it() {
    let (mut site, mut metadata) = serving();
    let records = vec![topic(1), partition(1, 0, 1)];
    commit(
        &mut site,
        &mut metadata,
        records,
        Then::Answer(req(7), reply()),
    );
    assert!(metadata.image.topic("topic-1").is_some(), "decided");
    assert!(site.sent().is_empty() && !metadata.is_quiet());
    let tokens = site.flush();
    assert_eq!(tokens.len(), 1, "one flush");
    assert!(metadata.committed.topic("topic-1").is_none());
    assert!(durable(&mut site, &mut metadata, tokens[0]));
    assert!(replay(&mut site, &mut metadata).is_empty());
    assert_eq!(published(&mut site), [(0, 2), (1, 2)]);
    metadata.served(ShardId(1), 2);
    assert!(metadata.next_served().is_none(), "one does not serve by it");
    metadata.served(ShardId(0), 2);
    let then = metadata.next_served().unwrap();
    assert!(matches!(&then[..], [Then::Answer(to, called)] if *to == req(7) && *called == reply()));
    assert!(metadata.is_quiet());
}

#[test]
fn what_is_answered_meanwhile_waits_for_what_it_was_decided_by() {
    let (mut site, mut metadata) = serving();
    site.act(|_, fx| metadata.reply(req(1), reply(), fx));
    assert_eq!(site.answers(), [(1, Ok(reply()))], "nothing is on its way");
    commit(&mut site, &mut metadata, vec![topic(1)], Then::Nothing);
    let other = Then::Answer(req(2), reply());
    commit(&mut site, &mut metadata, vec![topic(2)], other);
    site.act(|_, fx| metadata.reply(req(3), reply(), fx));
    assert!(site.answers().is_empty());
    settle(&mut site, &mut metadata);
    assert_eq!(published(&mut site), [(0, 1), (0, 2), (1, 1), (1, 2)]);
    // It is committed, which is enough but for who is to be answered from the image.
    site.act(|_, fx| metadata.reply(req(4), reply(), fx));
    site.act(|_, fx| metadata.reply(req(5), Called::Created, fx));
    assert_eq!(site.answers(), [(4, Ok(reply()))]);
    (0..2).for_each(|shard| metadata.served(ShardId(shard), 2));
    let first = metadata.next_served().unwrap();
    let second = metadata.next_served().unwrap();
    assert!(matches!(first[..], [Then::Nothing]));
    let told = second.iter().map(|then| match then {
        Then::Answer(req, _) => req.id,
        Then::Nothing => 0,
    });
    assert_eq!(told.collect::<Vec<_>>(), [2, 3, 5]);
}

#[test]
fn a_flush_of_somebody_elses_publishes_nothing() {
    let (mut site, mut metadata) = serving();
    commit(&mut site, &mut metadata, vec![topic(1)], Then::Nothing);
    commit(&mut site, &mut metadata, vec![topic(2)], Then::Nothing);
    let tokens = site.flush();
    assert!(
        !durable(&mut site, &mut metadata, tokens[1]),
        "it has its turn later"
    );
    assert!(!durable(&mut site, &mut metadata, 999));
    assert!(replay(&mut site, &mut metadata).is_empty());
    assert!(site.sent().is_empty());
}

/// Somebody says that there is another leader, of the next term.
fn depose(site: &mut Site, metadata: &mut Metadata) {
    let message = QuorumMessage {
        from: key(1),
        to: key(0),
        term: LeaderEpoch(2),
        says: Says::Append {
            prev: EntryId::default(),
            entries: Vec::new(),
            commit: EntryIndex(0),
        },
    };
    let quorum = metadata.quorum.as_mut().unwrap();
    site.act(|owner, fx| quorum.step(QuorumInput::Message(message), owner, fx));
}

#[test]
fn who_leads_no_more_forgets_what_it_has_decided_and_not_what_is_committed() {
    let (mut site, mut metadata) = serving();
    let then = |id| Then::Answer(req(id), reply());
    commit(&mut site, &mut metadata, vec![topic(1)], then(1));
    let tokens = site.flush();
    commit(&mut site, &mut metadata, vec![topic(2)], then(2));
    assert!(durable(&mut site, &mut metadata, tokens[0]));
    depose(&mut site, &mut metadata);
    let turns = replay(&mut site, &mut metadata);
    assert!(matches!(turns[..], [CommittedTurn::Follows]) && !metadata.leads());
    assert_eq!(published(&mut site), [(0, 1), (1, 1)], "it was committed");
    let lost = metadata.forget_decided();
    assert!(matches!(lost[..], [Then::Answer(to, _)] if to == req(2)));
    metadata.invariants();
    let change = Change::new(&metadata.image, [topic(3)]).unwrap();
    let refused = site.act(|owner, fx| metadata.commit(change, then(3), owner, fx));
    assert!(matches!(refused, Err((Declined::NotLeader { .. }, _))));
    // Nobody has said that it is not committed: when it leads again, it is.
    site.pass_ms(1_000);
    let quorum = metadata.quorum.as_mut().unwrap();
    site.act(|owner, fx| quorum.step(QuorumInput::Time, owner, fx));
    let turns = settle(&mut site, &mut metadata);
    assert!(matches!(turns[..], [CommittedTurn::Leads]));
    assert_eq!(published(&mut site), [(0, 2), (1, 2)]);
    assert!(metadata.image.topic("topic-2").is_some());
    assert!(metadata.image.topic("topic-3").is_none());
}

/// One that stops has waited long enough, and is left to lead, for nobody else is there.
#[test]
fn who_forgets_what_it_has_decided_decides_nothing_more_though_it_leads() {
    let (mut site, mut metadata) = serving();
    commit(&mut site, &mut metadata, vec![topic(1)], Then::Nothing);
    assert!(matches!(metadata.forget_decided()[..], [Then::Nothing]));
    let leads_in = metadata.quorum.as_ref().unwrap().leads_in();
    assert!(leads_in.is_some() && metadata.image.topic("topic-1").is_none());
    let again = Change::new(&metadata.image, [topic(1)]).unwrap();
    let refused = site.act(|owner, fx| metadata.commit(again, Then::Nothing, owner, fx));
    assert!(matches!(refused, Err((Declined::NotLeader { .. }, _))));
    assert!(settle(&mut site, &mut metadata).is_empty());
    assert!(metadata.committed.topic("topic-1").is_some(), "it was kept");
    metadata.invariants();
}

/// It leads again before it has come to that it did not: what others have decided meanwhile is not in its image.
#[test]
fn what_was_decided_in_an_earlier_term_is_not_gone_on_with() {
    let (mut site, mut metadata) = serving();
    depose(&mut site, &mut metadata);
    site.pass_ms(1_000);
    let quorum = metadata.quorum.as_mut().unwrap();
    site.act(|owner, fx| quorum.step(QuorumInput::Time, owner, fx));
    for _ in 0..3 {
        for token in site.flush() {
            durable(&mut site, &mut metadata, token);
        }
    }
    assert!(metadata.leads() && metadata.quorum.as_ref().unwrap().leads_in().is_some());
    let change = Change::new(&metadata.image, [topic(1)]).unwrap();
    let refused = site.act(|owner, fx| metadata.commit(change, Then::Nothing, owner, fx));
    assert!(matches!(refused, Err((Declined::NotLeader { .. }, _))));
    let mut turns = replay(&mut site, &mut metadata);
    turns.extend(settle(&mut site, &mut metadata));
    assert!(matches!(
        turns[..],
        [CommittedTurn::Follows, CommittedTurn::Leads]
    ));
}

/// Their ids are never given out; and none may use up those of everybody else, or keep the broker from starting.
#[test]
fn strays_keep_their_ids_if_these_could_ever_be_given_out() {
    for (found, noted, next_log) in [
        (vec![7, 3], vec![3, 7], 8),
        (vec![u64::MAX], vec![], 1),
        (vec![u64::MAX - 1, 5, u64::MAX / 2], vec![5], 6),
    ] {
        let (mut site, mut metadata) = serving();
        let found: BTreeSet<LogId> = found.into_iter().map(LogId).collect();
        for _ in 0..2 {
            site.act(|owner, fx| metadata.strays_found(found.clone(), owner, fx));
            assert!(site.sent().is_empty(), "nothing is fatal");
        }
        let noted: Vec<LogId> = noted.into_iter().map(LogId).collect();
        let strays = found.iter().filter(|log| metadata.image.is_stray(**log));
        assert_eq!(strays.count(), noted.len());
        assert!(noted.iter().all(|log| metadata.image.is_stray(*log)));
        assert_eq!(metadata.image.next_log, next_log);
        let version = metadata.image.version;
        assert_eq!(version as usize, noted.len(), "once each");
    }
}
