//! What has come of a rebalance is decided for all members at once and told to them some at a time: a crowd takes
//! longer than a core may be held.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::classic::ClassicGroup;
use super::cx::{Cx, Timer};
use super::effect::SyncReply;
use super::member::Member;
use super::name::Name;
use super::state::State;
use crate::base::ErrorCode;

/// Members that are listed to the leader for as much as telling one who is not.
const LISTED_COST: usize = 8;

impl ClassicGroup {
    /// The members are a generation: who waits for it is to be told, and nobody has been silent before that.
    pub(super) fn decide_joins(&mut self) {
        for member in self.members.values_mut() {
            self.untold += usize::from(!member.is_untold());
            member.joined = true;
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
            cx.after(Timer::GoOn(self.id.clone()), 0);
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
        if self.untold > 0 {
            cx.after(Timer::GoOn(self.id.clone()), 0);
        }
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
        if waits && self.state == State::PreparingRebalance {
            // The next rebalance has begun meanwhile: that is what its join is part of.
            self.change(id, |member| member.joined = false);
            return;
        }
        if waits {
            let reply = self.current_join_reply(id);
            self.answer_join(cx, id, reply);
        }
        self.touch(cx, id);
        self.change(id, |member| {
            member.joined = false;
            member.is_new = false;
        });
    }

    /// Changes a member, and counts whether it is still to be told something.
    pub(super) fn change<T>(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Member) -> T,
    ) -> Option<T> {
        let member = self.members.get_mut(id)?;
        self.untold -= usize::from(member.is_untold());
        let changed = change(member);
        self.untold += usize::from(member.is_untold());
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupConfig;
    use super::super::testing::{Client, World};
    use super::*;
    use crate::base::ErrorCode as E;

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
    fn who_is_not_told_of_a_generation_yet_is_part_of_the_next_one() {
        let mut w = world(AT_A_TIME);
        let mut crowd = joining(&mut w, CROWD, 60_000);
        w.advance(6_001);
        let told = w.joined.len();
        assert!((1..CROWD).contains(&told), "{told}");
        let (told, untold): (Vec<_>, Vec<_>) = crowd
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
        let untold = untold.iter().map(|(_, token)| *token);
        for token in again.into_iter().chain(untold) {
            let reply = &w.joined[&token];
            assert_eq!((reply.error, reply.generation), (E::None, 2));
        }
        assert_eq!(
            (members(&w), w.state()),
            (CROWD - 1, State::CompletingRebalance)
        );
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
