//! Which decisions about brokers have their turn, and that none is forgotten or stands in the way of all.

use super::*;
use crate::base::Incarnation;
use crate::config::BrokerConfig;
use crate::controller::testing::{cluster, create};
use crate::controller::{Draft, FEATURE_LEVEL};

const ME: NodeId = NodeId(1);

/// Brokers 1 to 3, of which this one is fenced.
fn image(fenced: i32) -> Image {
    let mut image = cluster(3);
    assert!(image.brokers.set_fenced(NodeId(fenced), true));
    image
}

/// A leader that has just begun.
fn leading(image: &Image) -> ClusterMembers {
    let mut members = ClusterMembers::default();
    members.lead(Mono(0), image);
    members
}

/// The next decision, in words.
fn next(members: &mut ClusterMembers, number: u64) -> Option<String> {
    let has_more = members.has_more();
    let next = members.next(number).map(|next| format!("{next:?}"));
    assert_eq!(has_more, next.is_some());
    next
}

fn is(decision: &Option<String>, what: &str, node: i32) -> bool {
    let said = decision.as_deref().unwrap_or_default();
    said.contains(what) && said.contains(&format!("NodeId({node})"))
}

/// All that follows from a cause in this image.
fn followed(image: &Image, cause: Cause) -> Result<Called, String> {
    let (mut moves, mut draft) = (Moves::new(cause), Draft::new(image));
    while !moves.go_on(
        &mut draft,
        &BrokerConfig::default(),
        &mut usize::MAX.clone(),
    ) {}
    Ok(Called::Member(MemberDone::Moved(moves, true)))
}

fn partly(cause: Cause) -> Result<Called, String> {
    Ok(Called::Member(MemberDone::Moved(Moves::new(cause), false)))
}

fn follows(cause: Cause, node: i32) -> Result<Called, String> {
    Ok(Called::Member(MemberDone::Follows(
        NodeId(node),
        Some(cause),
    )))
}

fn failed() -> Result<Called, String> {
    Err("the quorum does not take it".to_owned())
}

fn unfence(node: i32) -> MemberAsk {
    let node = NodeId(node);
    let incarnation = Incarnation(1);
    MemberAsk::Unfence(NodeProcess { node, incarnation })
}

/// As whom a node is heard of which this is thought.
fn heard(image: &Image, node: NodeId, verdict: Verdict) -> Option<(DirectoryId, Verdict)> {
    let broker = image.brokers.get(node).expect("it is registered");
    Some((broker.directories[0].id, verdict))
}

/// Nobody is gone.
fn look_at(members: &mut ClusterMembers, now: Mono, image: &Image) {
    members.look(now, ME, image, |node| heard(image, node, Verdict::Alive));
}

fn look(members: &mut ClusterMembers, image: &Image) {
    look_at(members, Mono(0), image);
}

/// Decides on what the leader before may have left of those that are live.
fn of_the_living(members: &mut ClusterMembers, image: &Image) {
    let moving = next(members, 100).expect("it has just begun");
    assert!(moving.contains("Living"), "{moving}");
    members.done(100, followed(image, Cause::Living));
}

#[test]
fn a_broker_may_lead_when_all_that_followed_from_its_fencing_is_recorded() {
    let image = image(2);
    let (fenced, unfenced) = (Cause::Fenced(NodeId(2)), Cause::Unfenced(NodeId(2)));
    let mut members = leading(&image);
    members.ask(NodeId(2), unfence(2));
    let first = next(&mut members, 1);
    assert!(is(&first, "Moving", 2), "left by the one before: {first:?}");
    assert_eq!(next(&mut members, 2), None, "one at a time");
    members.done(1, partly(fenced));
    assert!(is(&next(&mut members, 2), "Moving", 2), "the rest of it");
    members.done(2, followed(&image, fenced));
    of_the_living(&mut members, &image);
    assert!(is(&next(&mut members, 3), "Unfencing", 2));
    members.done(3, follows(unfenced, 2));
    assert!(is(&next(&mut members, 4), "Moving", 2));
    members.done(4, followed(&image, unfenced));
    // Fenced once more, it is not settled.
    let all = cluster(3);
    members.look(Mono(0), ME, &all, |node| match node {
        NodeId(2) => heard(&all, node, Verdict::Dead),
        _ => heard(&all, node, Verdict::Suspected),
    });
    assert!(is(&next(&mut members, 5), "Fencing", 2));
    members.ask(NodeId(2), unfence(2));
    members.done(5, follows(fenced, 2));
    assert!(
        is(&next(&mut members, 6), "Moving", 2),
        "before it may return"
    );
}

/// Nobody asks again for what follows from a fencing.
#[test]
fn what_cannot_be_decided_now_is_decided_later() {
    let image = image(2);
    let mut members = leading(&image);
    for number in 1..4 {
        assert!(is(&next(&mut members, number), "Moving", 2), "{number}");
        members.done(number, failed());
        assert_eq!(next(&mut members, number), None, "not at once");
        look(&mut members, &image);
    }
    assert!(is(&next(&mut members, 4), "Moving", 2));
    members.done(4, followed(&image, Cause::Fenced(NodeId(2))));
    of_the_living(&mut members, &image);
    for number in [5, 6] {
        members.ask(NodeId(2), unfence(2));
        assert!(is(&next(&mut members, number), "Unfencing", 2));
        members.done(number, failed());
        look(&mut members, &image);
        assert_eq!(next(&mut members, 7), None, "it asks again");
    }
}

/// Such as to a request of another node to which there is no connection any more.
#[test]
fn an_answer_to_something_else_ends_no_decision() {
    let image = image(2);
    let mut members = leading(&image);
    assert!(is(&next(&mut members, 7), "Moving", 2));
    members.done(6, Ok(Called::Created));
    members.done(5, failed());
    look(&mut members, &image);
    assert_eq!(next(&mut members, 8), None);
    members.done(7, failed());
    look(&mut members, &image);
    assert!(is(&next(&mut members, 8), "Moving", 2));
    members.done(8, followed(&image, Cause::Fenced(NodeId(2))));
    of_the_living(&mut members, &image);
    assert_eq!(next(&mut members, 9), None, "each once");
}

#[test]
fn who_is_dead_or_was_never_heard_of_is_fenced_and_nobody_else() {
    let image = image(3);
    let mut members = leading(&cluster(3));
    let silent = Mono(0).plus_ms(BROKER_SILENT_MS);
    let gone = |members: &mut ClusterMembers, now, verdict: Option<Verdict>| {
        members.look(now, ME, &image, |node| {
            assert_eq!(node, NodeId(2), "a live one that is another one");
            verdict.and_then(|verdict| heard(&image, node, verdict))
        });
        members.gone.len()
    };
    assert_eq!(gone(&mut members, Mono(0), None), 0, "not yet");
    assert_eq!(gone(&mut members, silent, None), 1);
    for verdict in [Verdict::Alive, Verdict::Suspected] {
        assert_eq!(gone(&mut members, silent, Some(verdict)), 0, "{verdict:?}");
    }
    assert_eq!(gone(&mut members, Mono(0), Some(Verdict::Dead)), 1);
    members.resign();
    assert_eq!(
        gone(&mut members, silent, Some(Verdict::Dead)),
        0,
        "another one leads"
    );
    assert_eq!(next(&mut members, 1), None);
}

#[test]
fn a_process_that_is_about_to_stop_leads_nothing_and_none_that_comes_after_it() {
    let image = cluster(3);
    let member = image.brokers.member(NodeId(2)).expect("it is registered");
    let mut members = leading(&image);
    of_the_living(&mut members, &image);
    members.ask(NodeId(2), MemberAsk::Leave(member));
    assert!(is(&next(&mut members, 4), "Leaving", 2));
    members.done(4, follows(Cause::Fenced(NodeId(2)), 2));
    assert!(is(&next(&mut members, 5), "Moving", 2));
    let decide = |member: NodeProcess| {
        let mut draft = Draft::new(&image);
        leave(&mut draft, member)
    };
    assert_eq!(decide(member), Some(Cause::Fenced(NodeId(2))));
    let later = Incarnation(member.incarnation.0 + 1);
    let incarnation = Incarnation(member.incarnation.0.wrapping_sub(1));
    for incarnation in [later, incarnation] {
        let node = member.node;
        assert_eq!(decide(NodeProcess { node, incarnation }), None);
    }
}

#[test]
fn a_process_asks_to_leave_until_the_metadata_say_that_it_has() {
    let mut image = cluster(3);
    let known = image.brokers.get(NodeId(2)).expect("it is registered");
    let (member, mut it) = (known.member, Membership::new(known.start, None));
    let ask = |it: &mut Membership, image: &Image| {
        let at = it.ask_at();
        it.ask(at, image, true, || None, NodeId(2))
    };
    assert_eq!(ask(&mut it, &image), None, "it is what it wants to be");
    it.leave();
    for _ in 0..2 {
        assert_eq!(ask(&mut it, &image), Some(MemberAsk::Leave(member)));
    }
    assert!(image.brokers.set_fenced(NodeId(2), true));
    assert_eq!(ask(&mut it, &image), None, "nor to be let lead again");
}

/// What it has asked for before may be decided on after it is gone.
#[test]
fn a_process_that_has_asked_to_be_let_lead_and_stops_takes_that_back() {
    let image = image(2);
    let known = image.brokers.get(NodeId(2)).expect("it is registered");
    let (member, mut it) = (known.member, Membership::new(known.start, None));
    let ask = |it: &mut Membership| {
        let at = it.ask_at();
        it.ask(at, &image, true, || None, NodeId(2))
    };
    let mut members = leading(&image);
    members.ask(NodeId(2), ask(&mut it).expect("it is fenced"));
    it.leave();
    assert!(it.wants(NodeId(2), &image), "it may be let lead still");
    members.ask(NodeId(2), ask(&mut it).expect("the last word"));
    assert_eq!(
        members.asks.get(&NodeId(2)),
        Some(&MemberAsk::Leave(member))
    );
    assert_eq!(members.asks.len(), 1);
    assert!(!it.wants(NodeId(2), &image));
}

fn joins(node: i32) -> MemberAsk {
    MemberAsk::Register(Box::new(Joining {
        node: NodeId(node),
        start: [9; 16],
        cluster_id: String::new(),
        level: FEATURE_LEVEL,
        rack: None,
        addresses: Vec::new(),
        directories: Vec::new(),
    }))
}

/// After a power cut: none is known to be gone when the first one asks.
#[test]
fn those_that_are_started_anew_at_once_are_all_registered_before_anything_follows() {
    let image = cluster(3);
    let mut members = leading(&image);
    let mut number = 0;
    let mut decide = |members: &mut ClusterMembers| {
        number += 1;
        (number, next(members, number))
    };
    let fenced = |node| Cause::Fenced(NodeId(node));
    for node in [2, 1] {
        members.ask(NodeId(node), joins(node));
        let (number, registering) = decide(&mut members);
        assert!(is(&registering, "Registering", node), "{registering:?}");
        members.done(number, follows(fenced(node), node));
    }
    of_the_living(&mut members, &image);
    assert_eq!(decide(&mut members).1, None, "another one may ask");
    members.ask(NodeId(3), joins(3));
    let (number, registering) = decide(&mut members);
    assert!(is(&registering, "Registering", 3));
    members.done(number, follows(fenced(3), 3));
    members.ask(NodeId(3), unfence(3));
    assert_eq!(decide(&mut members).1, None, "it is not settled");
    let heard = Mono(0).plus_ms(2 * REGISTERED_WITHIN_MS);
    members.look(heard, ME, &image, |_| None);
    members.pass(heard);
    assert_eq!(decide(&mut members).1, None, "another one may be there");
    look_at(&mut members, heard.plus_ms(1), &image);
    let late = heard.plus_ms(REGISTERED_WITHIN_MS);
    assert_eq!(members.deadline(), late);
    members.pass(late);
    assert_eq!(members.deadline(), Mono::NEVER);
    for node in [3, 1, 2] {
        let (number, moving) = decide(&mut members);
        assert!(is(&moving, "Fenced", node), "{moving:?}");
        members.done(number, followed(&image, fenced(node)));
    }
    assert!(is(&decide(&mut members).1, "Unfencing", 3));
}

#[test]
fn leaders_are_balanced_now_and_then_when_nothing_else_moves() {
    let image = cluster(3);
    let mut members = leading(&image);
    members.balance(Mono(0).plus_ms(100), 100);
    // What was left comes first.
    of_the_living(&mut members, &image);
    members.balance(Mono(0).plus_ms(99), 100);
    assert_eq!(next(&mut members, 4), None, "not yet");
    members.balance(Mono(0).plus_ms(100), 100);
    let moving = next(&mut members, 4).expect("it is time");
    assert!(moving.contains("Balance"), "{moving}");
    members.balance(Mono(0).plus_ms(300), 100);
    members.done(4, followed(&image, Cause::Balance));
    assert_eq!(next(&mut members, 5), None, "one at a time");
    members.balance(Mono(0).plus_ms(300), 100);
    assert!(next(&mut members, 5).is_some_and(|it| it.contains("Balance")));
}

/// A disk was lost, and its node is back before anybody has noticed that it was gone.
#[test]
fn a_broker_whose_node_is_heard_with_another_disk_is_fenced() {
    let image = cluster(3);
    let mut members = leading(&image);
    of_the_living(&mut members, &image);
    let disk = DirectoryId::new(99, crate::base::StoreId(0));
    let look = |members: &mut ClusterMembers, ms, directory: Option<DirectoryId>| {
        members.look(Mono(0).plus_ms(ms), ME, &image, |node| match node {
            NodeId(2) => directory.map_or_else(
                || heard(&image, node, Verdict::Alive),
                |directory| Some((directory, Verdict::Alive)),
            ),
            _ => heard(&image, node, Verdict::Alive),
        });
        next(members, 1)
    };
    assert_eq!(look(&mut members, 1, Some(disk)), None);
    // The other one was started by mistake.
    assert_eq!(look(&mut members, 2, None), None);
    assert_eq!(look(&mut members, 10, Some(disk)), None);
    assert_eq!(look(&mut members, BROKER_SILENT_MS + 9, Some(disk)), None);
    let fencing = look(&mut members, BROKER_SILENT_MS + 10, Some(disk));
    assert!(is(&fencing, "Fencing", 2));
}

/// Partitions without a leader wait for nothing else; who stops or returns does not wait for what may take long.
#[test]
fn what_follows_from_a_dead_broker_comes_first() {
    let mut image = image(2);
    create(&mut image, "a", 2, 3);
    let mut members = leading(&image);
    let fenced = |node| Cause::Fenced(NodeId(node));
    members.done(0, failed());
    assert!(is(&next(&mut members, 1), "Fenced", 2));
    members.done(1, followed(&image, fenced(2)));
    of_the_living(&mut members, &image);
    members.balance(Mono(0).plus_ms(100), 100);
    assert!(next(&mut members, 2).is_some_and(|it| it.contains("Balance")));
    members.ask(NodeId(2), unfence(2));
    members.done(2, partly(Cause::Balance));
    assert!(is(&next(&mut members, 3), "Unfencing", 2));
    members.elects_others();
    members.done(3, follows(fenced(3), 3));
    assert!(is(&next(&mut members, 4), "Fenced", 3));
    members.ask(
        NodeId(1),
        MemberAsk::Leave(image.brokers.member(ME).expect("it is registered")),
    );
    let mut rest = Moves::new(fenced(3));
    let mut draft = Draft::new(&image);
    while rest.rank() == 0 {
        let done = rest.go_on(&mut draft, &BrokerConfig::default(), &mut 1);
        assert!(!done, "there is a second pass");
    }
    members.done(4, Ok(Called::Member(MemberDone::Moved(rest, false))));
    assert!(is(&next(&mut members, 5), "Leaving", 1));
    members.done(5, follows(fenced(1), 1));
    assert!(is(&next(&mut members, 6), "Fenced", 1), "its first pass");
    members.done(6, followed(&image, fenced(1)));
    assert!(is(&next(&mut members, 7), "Fenced", 3), "the second one");
    members.done(7, followed(&image, fenced(3)));
    assert!(next(&mut members, 8).is_some_and(|it| it.contains("Leaderless")));
    members.done(8, followed(&image, Cause::Leaderless));
    assert!(next(&mut members, 9).is_some_and(|it| it.contains("Balance")));
}
