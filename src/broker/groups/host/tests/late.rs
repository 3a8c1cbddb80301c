//! What other replicas take too long for, or another leader decides on.

use super::*;

const UNAVAILABLE: GroupAnswer = GroupAnswer::Done(ErrorCode::CoordinatorNotAvailable);

/// As Kafka's coordinator, which follows its log, whatever it has told those who waited for too long.
#[test]
fn a_commit_that_took_too_long_counts_when_it_is_committed() {
    let mut f = Fixture::new();
    f.lead(1, 1, &[1, 2]);
    f.idle();
    f.commit(7);
    f.is_late();
    assert_eq!(f.answers, [(7, vec![(4, UNAVAILABLE)])]);
    let id = TopicId([1; 16]);
    assert_eq!(f.committed("topic-1", id), None, "not yet");
    f.replicated();
    assert_eq!(f.committed("topic-1", id), Some(5), "as the log says");
    f.ask(8, 0, GroupAsk::Delete(Name::from("g")));
    f.flush();
    f.replicated();
    assert_eq!(f.answers[1..], [(8, vec![(4, DONE)])]);
    f.load_anew(3);
    assert_eq!(f.committed("topic-1", id), None, "deleted is deleted");
    assert_eq!(f.answers.len(), 2, "each is told once");
}

#[test]
fn a_deletion_that_took_too_long_counts_when_it_is_committed() {
    let mut f = Fixture::new();
    f.lead(1, 1, &[1, 2]);
    f.idle();
    f.commit(7);
    f.flush();
    f.replicated();
    f.ask(8, 0, GroupAsk::Delete(Name::from("g")));
    f.is_late();
    f.replicated();
    assert_eq!(
        f.answers,
        [(7, vec![(4, DONE)]), (8, vec![(4, UNAVAILABLE)])]
    );
    let id = TopicId([1; 16]);
    assert_eq!(f.committed("topic-1", id), None, "as the log says");
    f.commit(9);
    f.flush();
    f.replicated();
    assert_eq!(f.answers[2..], [(9, vec![(4, DONE)])]);
    assert_eq!(f.committed("topic-1", id), Some(5));
    f.load_anew(3);
    assert_eq!(
        f.committed("topic-1", id),
        Some(5),
        "it is buried by nothing"
    );
}

/// A partition that both nodes have and whose compaction is about to write what is valid.
fn compacting() -> Fixture {
    const LEAST: i64 = 4096;
    let mut f = Fixture::new();
    f.site.owner.config = Arc::new(BrokerConfig {
        millrace_internal_compact_bytes: LEAST,
        ..BrokerConfig::default()
    });
    f.lead(1, 1, &[1, 2]);
    f.idle();
    let mut id = 0;
    while f.site.owner.partitions[&OFFSETS_LOG].log.size_bytes() < LEAST as u64 {
        id += 1;
        f.commit(id);
        f.flush();
        f.replicated();
    }
    assert!(f.coordinators.snapshots.has_more());
    f
}

/// What was valid by what this one knew may not be so any more.
#[test]
fn a_compaction_writes_nothing_in_another_epoch() {
    let mut f = compacting();
    let end = f.end();
    f.owner_learns(1, 3, &[1, 2]);
    f.idle();
    assert_eq!(f.end(), end);
    assert!(f.coordinators.snapshots.is_quiet());
}

/// Between the two another one may have led, which lacks what was written anew.
#[test]
fn a_compaction_drops_nothing_for_what_another_leader_may_lack() {
    let mut f = compacting();
    // What is valid is written once more, and only the other node is waited for.
    f.idle();
    f.flush();
    assert!(!f.coordinators.snapshots.is_quiet());
    f.owner_learns(1, 3, &[1, 2]);
    f.site.act(|owner, fx| owner.slice(fx));
    f.told();
    let log = &f.site.owner.partitions[&OFFSETS_LOG].log;
    assert_eq!(log.start_offset(), Offset(0));
    f.adopt(f.image.version + 1, false);
    f.idle();
    assert!(f.coordinators.snapshots.is_quiet());
}

#[test]
fn nothing_more_is_written_behind_what_takes_too_long() {
    let mut f = Fixture::new();
    f.lead(1, 1, &[1, 2]);
    f.idle();
    f.commit(7);
    f.is_late();
    f.commit(8);
    assert_eq!(f.answers[1..], [(8, vec![(4, UNAVAILABLE)])], "at once");
    assert_eq!(f.end(), Offset(1));
    f.replicated();
    f.commit(9);
    f.flush();
    f.replicated();
    assert_eq!(f.answers[2..], [(9, vec![(4, DONE)])]);
}

/// The high watermark is behind it, whatever has become of the replicas since.
#[test]
fn what_is_committed_counts_though_too_few_replicas_are_left_by_then() {
    let mut f = Fixture::new();
    f.commit(7);
    let number = *f.coordinators.appends.keys().next().expect("it is written");
    let (coordinators, image) = (&mut f.coordinators, &f.image);
    let fate = AppendFate::Committed(Err(ErrorCode::NotEnoughReplicasAfterAppend));
    f.site
        .act(|owner, fx| coordinators.appended(number, fate, image, owner, fx));
    f.settle();
    assert_eq!(f.answers, [(7, vec![(4, UNAVAILABLE)])]);
    assert_eq!(f.committed("topic-1", TopicId([1; 16])), Some(5));
}

/// What was to be committed may be there when it leads again, a moment later.
#[test]
fn who_does_not_know_what_becomes_of_his_log_decides_on_nothing() {
    let mut f = Fixture::new();
    f.lead(1, 1, &[1, 2]);
    f.idle();
    f.commit(7);
    f.flush();
    f.owner_learns(1, 3, &[1, 2]);
    f.site.act(|owner, fx| owner.slice(fx));
    f.settle();
    assert_eq!(f.answers, [(7, vec![(4, ELSEWHERE)])]);
    // As if nothing had been committed, there would be nothing to delete.
    let delete = |f: &mut Fixture, id| {
        let offsets = vec![(Name::from("topic-1"), 0)];
        f.ask(id, 0, GroupAsk::DeleteOffsets(Name::from("g"), offsets));
        f.flush();
        f.replicated();
        f.answers.pop().expect("it is answered").1.remove(0).1
    };
    let elsewhere = GroupAnswer::OffsetsDeleted(Err(ErrorCode::NotCoordinator));
    assert_eq!(delete(&mut f, 8), elsewhere);
    f.adopt(f.image.version + 1, false);
    f.idle();
    let id = TopicId([1; 16]);
    assert_eq!(f.committed("topic-1", id), Some(5));
    let deleted = GroupAnswer::OffsetsDeleted(Ok(vec![ErrorCode::None]));
    assert_eq!(delete(&mut f, 9), deleted);
    assert_eq!(f.committed("topic-1", id), None);
}

/// Another one may have led since it was decided.
#[test]
fn what_waited_for_its_turn_is_not_written_in_another_epoch() {
    let mut f = Fixture::new();
    f.lead(1, 1, &[1]);
    f.idle();
    let commit = commit_of("topic-1", TopicId([1; 16]), NOW);
    let (coordinators, image) = (&mut f.coordinators, &f.image);
    let parts = vec![(4, Question::To(0, GroupAsk::Commit(commit)))];
    f.site
        .act(|_, fx| coordinators.ask(req(7), 0, parts, image, fx));
    // The message to the owner is on its way.
    f.owner_learns(1, 3, &[1]);
    f.settle();
    assert_eq!(f.answers, [(7, vec![(4, ELSEWHERE)])]);
    assert_eq!(f.end(), Offset(0));
}
