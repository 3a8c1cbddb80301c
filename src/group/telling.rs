//! What has come of a rebalance is decided for all members at once and told to them some at a time: a crowd takes
//! longer than a core may be held.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::classic::ClassicGroup;
use super::cx::{Cx, Timer};
use super::effect::SyncReply;
use super::member::Member;
use super::state::State;
use crate::base::ErrorCode;
use crate::base::Name;

/// Members that are listed to the leader for as much as telling one who is not.
const LISTED_COST: usize = 8;

impl ClassicGroup {
    /// The members are a generation: who waits for it is to be told, and nobody has been silent before that. The next
    /// one is not complete before all are told of this one.
    pub(super) fn decide_joins(&mut self) {
        for member in self.members.values_mut() {
            self.untold += usize::from(!member.is_untold());
            self.untold_joins += usize::from(!member.joined);
            member.joined = true;
            member.is_new = false;
            if member.sync.is_some() {
                // It is of the generation before.
                member.synced = Some(ErrorCode::RebalanceInProgress);
            }
        }
    }

    /// Members get these assignments, others none, and who waits for its own is to be told, or this error.
    pub(super) fn decide_syncs(&mut self, error: ErrorCode, assignments: BTreeMap<Name, Bytes>) {
        let mut assignments = assignments.into_iter().peekable();
        for (id, member) in &mut self.members {
            while assignments.next_if(|(of, _)| of < id).is_some() {}
            let own = assignments.next_if(|(of, _)| of == id);
            let assignment = own.map_or_else(Bytes::new, |(_, assignment)| assignment);
            self.bytes = self.bytes + assignment.len() - member.assignment.len();
            member.assignment = assignment;
            if member.sync.is_some() && member.synced.is_none() {
                self.untold += usize::from(!member.is_untold());
                member.synced = Some(error);
            }
        }
    }

    /// Begins to tell what was decided.
    pub(super) fn begin_telling(&mut self, cx: &mut Cx<'_>) {
        self.told_to = None;
        if self.untold <= cx.config.told_at_a_time {
            self.tell_some(cx);
        } else {
            self.will_go_on(cx);
        }
    }

    /// There is more to do in slices: soon, and not later because more of it came.
    pub(super) fn will_go_on(&self, cx: &mut Cx<'_>) {
        let timer = Timer::GoOn(self.id.clone());
        if !cx.timers.contains(&timer) {
            cx.after(timer, 0);
        }
    }

    /// Goes on with what is done in slices.
    pub(super) fn go_on(&mut self, cx: &mut Cx<'_>) {
        self.look_for_some_topics(cx);
        self.tell_some(cx);
    }

    /// Tells some of those who are still to be told.
    pub(super) fn tell_some(&mut self, cx: &mut Cx<'_>) {
        let all = cx.config.told_at_a_time;
        let mut left = all;
        let tells_joins = self.untold_joins > 0;
        while left > 0
            && let Some(id) = self.next_untold()
        {
            let cost = match self.is_leader(&id) {
                true => 1 + self.members.len() / LISTED_COST,
                false => 1,
            };
            if cost > left && left < all {
                break;
            }
            left = left.saturating_sub(cost);
            self.told_to = Some(id.clone());
            self.tell(cx, &id);
        }
        if tells_joins && self.untold_joins == 0 {
            self.all_are_told(cx);
        }
        if self.untold > 0 {
            self.will_go_on(cx);
        }
    }

    /// All have been told of the generation: the time begins that they have for what comes next.
    fn all_are_told(&mut self, cx: &mut Cx<'_>) {
        let timer = match self.state {
            State::PreparingRebalance => Timer::Join(self.id.clone()),
            State::CompletingRebalance | State::Stable if !self.pending_sync.is_empty() => {
                Timer::Sync(self.id.clone())
            }
            State::CompletingRebalance | State::Stable | State::Empty | State::Dead => return,
        };
        cx.after(timer, self.rebalance_timeout_ms());
    }

    fn next_untold(&self) -> Option<Name> {
        if self.untold == 0 {
            return None;
        }
        let from = self
            .told_to
            .as_ref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.members.range::<Name, _>((from, Bound::Unbounded));
        let next = behind.find(|(_, member)| member.is_untold());
        next.map(|(id, _)| id.clone())
    }

    fn tell(&mut self, cx: &mut Cx<'_>, id: &Name) {
        let Some(member) = self.member(id) else {
            return;
        };
        let (is_joined, waits) = (member.joined, member.join.is_some());
        if let Some(error) = member.synced {
            let reply = match error {
                ErrorCode::None => self.sync_reply(member.assignment.clone()),
                error => SyncReply::error(error),
            };
            self.answer_sync(cx, id, reply);
            self.touch(cx, id);
        }
        if !is_joined {
            return;
        }
        if waits {
            // If the next rebalance has begun meanwhile its SyncGroup, or a heartbeat, is told so.
            let reply = self.current_join_reply(id);
            self.answer_join(cx, id, reply);
        }
        self.touch(cx, id);
        self.change(id, |member| member.joined = false);
    }

    /// Changes a member, and counts whether it is still to be told something.
    pub(super) fn change<T>(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Member) -> T,
    ) -> Option<T> {
        let member = self.members.get_mut(id)?;
        self.untold -= usize::from(member.is_untold());
        self.untold_joins -= usize::from(member.joined);
        let changed = change(member);
        self.untold += usize::from(member.is_untold());
        self.untold_joins += usize::from(member.joined);
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupConfig;
    use super::super::testing::{Client, World};
    use super::*;
    use crate::base::{ErrorCode as E, Mono};

    const AT_A_TIME: usize = 16;
    const CROWD: usize = 100;

    fn world(told_at_a_time: usize) -> World {
        World::new(GroupConfig {
            told_at_a_time,
            ..GroupConfig::default()
        })
    }

    /// Clients that have sent their joins.
    fn joining(w: &mut World, count: usize, rebalance_timeout_ms: i32) -> Vec<(Client, u64)> {
        let clients = (0..count).map(|_| {
            let client = Client {
                version: 3,
                session_timeout_ms: 1_000_000,
                rebalance_timeout_ms,
                ..Client::new()
            };
            let token = w.send_join(&client);
            (client, token)
        });
        clients.collect()
    }

    fn members(w: &World) -> usize {
        w.coordinator.group("g").unwrap().members().len()
    }

    /// How often something happens within a millisecond, at the most.
    fn most_at_once(w: &mut World, count: impl Fn(&World) -> usize) -> usize {
        let each = (0..3 * CROWD / AT_A_TIME).map(|_| {
            let before = count(w);
            w.advance(1);
            count(w).abs_diff(before)
        });
        each.max().unwrap()
    }

    #[test]
    fn a_crowd_is_told_in_slices_and_all_of_it() {
        let mut w = world(AT_A_TIME);
        let mut crowd = joining(&mut w, CROWD, 60_000);
        w.advance(5_999);
        assert!(w.joined.is_empty());
        let most = most_at_once(&mut w, |w| w.joined.len());
        assert!(most <= AT_A_TIME, "{most}");
        let mut listed = Vec::new();
        for (client, token) in &mut crowd {
            let reply = w.finish_join(client, *token);
            assert_eq!((reply.error, reply.generation), (E::None, 1));
            listed.push(reply.members.len());
        }
        let leads = listed.iter().position(|listed| *listed == CROWD).unwrap();
        assert_eq!(listed.iter().sum::<usize>(), CROWD);
        let others = (0..CROWD).filter(|n| *n != leads);
        let mut syncs: BTreeMap<usize, u64> =
            others.map(|n| (n, w.sync(&crowd[n].0, &[]))).collect();
        let ids: Vec<(&Client, &str)> = crowd.iter().map(|(c, _)| (c, &*c.id)).collect();
        syncs.insert(leads, w.sync(&crowd[leads].0, &ids));
        assert_eq!((w.state(), w.synced.len()), (State::Stable, 0));
        let most = most_at_once(&mut w, |w| w.synced.len());
        assert!(most <= AT_A_TIME, "{most}");
        for (n, token) in syncs {
            let assignment = w.synced.remove(&token).unwrap().assignment;
            assert_eq!(assignment, crowd[n].0.id.as_bytes());
        }
        // Who does not join again is removed in slices too, and who does not sync.
        let token = w.send_join(&crowd[leads].0);
        w.advance(59_999);
        assert_eq!(members(&w), CROWD);
        let most = most_at_once(&mut w, members);
        assert!(most <= AT_A_TIME, "{most}");
        assert_eq!((members(&w), w.joined[&token].generation), (1, 2));
        joining(&mut w, CROWD, 60_000);
        w.send_join(&crowd[leads].0);
        most_at_once(&mut w, |w| w.joined.len());
        assert_eq!(
            (members(&w), w.state()),
            (1 + CROWD, State::CompletingRebalance)
        );
        w.advance(59_980);
        let most = most_at_once(&mut w, members);
        assert!(most <= AT_A_TIME, "{most}");
        assert_eq!((members(&w), w.state()), (0, State::Empty));
    }

    #[test]
    fn who_is_not_told_of_a_generation_yet_is_told_though_the_next_one_is_prepared() {
        let mut w = world(AT_A_TIME);
        let mut crowd = joining(&mut w, CROWD, 60_000);
        w.advance(6_001);
        let told = w.joined.len();
        assert!((1..CROWD).contains(&told), "{told}");
        let (told, mut untold): (Vec<_>, Vec<_>) = crowd
            .iter_mut()
            .partition(|(_, token)| w.joined.contains_key(token));
        let mut again = Vec::new();
        for (n, (client, token)) in told.into_iter().enumerate() {
            assert_eq!(w.finish_join(client, *token).generation, 1);
            match n {
                0 => assert_eq!(w.leave(&[(&client.id, None)]), Ok(vec![E::None])),
                _ => again.push(w.send_join(client)),
            }
        }
        w.advance(100);
        for (client, token) in &mut untold {
            let reply = w.finish_join(client, *token);
            assert_eq!((reply.error, reply.generation), (E::None, 1));
            assert_eq!(w.heartbeat(client), E::RebalanceInProgress);
            again.push(w.send_join(client));
        }
        w.advance(100);
        for token in again {
            let reply = &w.joined[&token];
            assert_eq!((reply.error, reply.generation), (E::None, 2));
        }
        assert_eq!(
            (members(&w), w.state()),
            (CROWD - 1, State::CompletingRebalance)
        );
    }

    /// A crowd of more than a slice that was told of its generation, and which of it leads: one of the first slice.
    fn told_crowd(count: usize) -> (World, Vec<Client>, usize) {
        let tries = (0..CROWD).map(|others| {
            let mut w = world(AT_A_TIME);
            for _ in 0..others {
                // Takes an id.
                w.send_join(&Client {
                    group: Name::from("other"),
                    ..Client::new()
                });
            }
            let crowd = joining(&mut w, count, 60_000);
            w.advance(6_010);
            let finish = |(mut client, token)| {
                w.finish_join(&mut client, token);
                client
            };
            let crowd: Vec<Client> = crowd.into_iter().map(finish).collect();
            let leader = w.coordinator.group("g").unwrap().leader().cloned();
            let leads = crowd.iter().position(|c| Some(&c.id) == leader.as_ref());
            (w, crowd, leads.unwrap())
        });
        let before = |crowd: &[Client], id: &Name| crowd.iter().filter(|c| c.id < *id).count();
        let mut tries =
            tries.filter(|(_, crowd, leads)| before(crowd, &crowd[*leads].id) < AT_A_TIME);
        tries.next().unwrap()
    }

    #[test]
    fn there_is_a_rebalance_though_the_rest_of_the_silent_syncs() {
        for leader_syncs in [true, false] {
            let (mut w, crowd, leads) = told_crowd(AT_A_TIME + 5);
            if leader_syncs {
                let all: Vec<(&Client, &str)> = crowd.iter().map(|c| (c, &*c.id)).collect();
                w.sync(&crowd[leads], &all);
                assert_eq!(w.state(), State::Stable);
            }
            w.advance(59_900);
            while members(&w) == crowd.len() {
                w.advance(1);
            }
            assert_eq!(members(&w), 5);
            let group = w.coordinator.group("g").unwrap();
            let left = crowd.iter().filter(|c| group.member(&c.id).is_some());
            let left: Vec<&Client> = left.collect();
            assert_eq!(group.member(&crowd[leads].id).is_some(), leader_syncs);
            let syncs: Vec<u64> = left.iter().map(|c| w.sync(c, &[])).collect();
            w.advance(10);
            assert_eq!(w.state(), State::PreparingRebalance);
            for (client, token) in left.iter().zip(syncs) {
                let expected = match leader_syncs {
                    true => E::None,
                    false => E::RebalanceInProgress,
                };
                assert_eq!(w.synced[&token].error, expected);
                assert_eq!(w.heartbeat(client), E::RebalanceInProgress);
            }
        }
    }

    #[test]
    fn a_crowd_that_is_joined_before_it_is_told_is_no_generation_for_each() {
        let mut w = world(AT_A_TIME);
        let crowd = joining(&mut w, 300, 60_000);
        w.advance(6_000);
        assert_eq!((w.joined.len(), w.state()), (0, State::CompletingRebalance));
        joining(&mut w, 50, 60_000);
        assert_eq!(w.coordinator.group("g").unwrap().generation(), 1);
        w.advance(100);
        for (_, token) in crowd {
            assert_eq!(
                (w.joined[&token].error, w.joined[&token].generation),
                (E::None, 1)
            );
        }
    }

    #[test]
    fn those_who_come_and_go_keep_nobody_from_being_told() {
        const HALF_MS: Mono = Mono(500_000);
        let mut w = world(AT_A_TIME);
        let crowd = joining(&mut w, CROWD, 60_000);
        w.advance(6_000);
        let mut guest = Client::new();
        for n in 0..1_000 {
            match n % 2 {
                0 => drop(w.join(&mut guest)),
                _ => {
                    assert_eq!(w.leave(&[(&guest.id, None)]), Ok(vec![E::None]));
                    guest = Client::new();
                }
            }
            w.now.mono = Mono(w.now.mono.0 + HALF_MS.0);
            w.advance(0);
        }
        let told = crowd
            .iter()
            .filter(|(_, token)| w.joined.contains_key(token));
        assert_eq!(told.count(), CROWD);
        assert_eq!(w.coordinator.group("g").unwrap().generation(), 1);
    }

    #[test]
    fn syncs_to_be_told_do_not_give_the_silent_more_time() {
        for stored_ms in [59_998, 60_004] {
            let mut w = world(1);
            let crowd = joining(&mut w, 10, 60_000);
            w.advance(6_000);
            let start = w.now.mono;
            w.advance(20);
            let finish = |(mut client, token)| {
                w.finish_join(&mut client, token);
                client
            };
            let crowd: Vec<Client> = crowd.into_iter().map(finish).collect();
            let leader = w.coordinator.group("g").unwrap().leader().unwrap().clone();
            let silent = crowd.iter().position(|c| c.id != leader).unwrap();
            w.hold_appends = true;
            for (n, client) in crowd.iter().enumerate() {
                if n != silent {
                    w.sync(client, &[]);
                }
            }
            w.advance(stored_ms - w.now.mono.ms_since(start));
            w.flush();
            assert_eq!((members(&w), w.state()), (10, State::Stable));
            w.advance(60_050 - w.now.mono.ms_since(start));
            assert_eq!((members(&w), w.state()), (9, State::PreparingRebalance));
            assert_eq!(w.synced.len(), 9);
        }
    }

    #[test]
    fn who_joins_again_before_it_is_told_is_not_new() {
        let mut w = world(1);
        let mut clients: Vec<Client> = (0..5).map(|_| Client::new()).collect();
        for client in &mut clients {
            (client.session_timeout_ms, client.rebalance_timeout_ms) = (1_000_000, 600_000);
            w.join(client);
        }
        w.advance(6_000);
        assert_eq!(w.state(), State::CompletingRebalance);
        clients[4].protocols = vec![("range", "other")];
        let token = w.send_join(&clients[4]);
        w.advance(400_000);
        assert!(!w.joined.contains_key(&token), "it waits for the others");
        assert_eq!(members(&w), 5);
    }

    #[test]
    fn nobody_is_too_late_for_what_was_not_told_yet() {
        let mut w = world(1);
        let crowd = joining(&mut w, 10, 0);
        w.advance(3_100);
        for (_, token) in crowd {
            assert_eq!(
                (w.joined[&token].error, w.joined[&token].generation),
                (E::None, 1)
            );
        }
        assert_eq!(w.state(), State::Empty, "nobody has synced");
    }
}
