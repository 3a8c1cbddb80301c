//! The topics that the consumers of a group are subscribed to. They are looked for some at a time when a generation
//! begins; until all are found it is as if they could not be known.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::member::{Member, subscribed_topics};
use crate::base::Name;
use crate::base::limits::GROUP_TOPICS_MAX;

/// What is known of them.
#[derive(Debug)]
pub(super) enum Subscribed {
    /// They cannot be known: the members are no consumers, say something else, or name too many.
    Unknown,
    /// They are being looked for.
    Looking(Search),
    /// These are all.
    Known(BTreeSet<Name>),
}

/// How far the search is.
#[derive(Debug, Default)]
pub(super) struct Search {
    topics: BTreeSet<Name>,
    /// The member that was looked at last,
    after: Option<Name>,
    /// and the topics as it names them, which most members do.
    last: Bytes,
}

impl Search {
    /// Adds what a member is subscribed to; how many topics had to be looked at, or nothing if they cannot be known.
    fn add(&mut self, metadata: &Bytes) -> Option<usize> {
        let (_version, rest) = metadata.split_at_checked(size_of::<i16>())?;
        if !self.last.is_empty() && rest.starts_with(&self.last) {
            return Some(0);
        }
        let (named, bytes) = subscribed_topics(metadata, GROUP_TOPICS_MAX)?;
        for topic in &named {
            if !self.topics.contains(*topic) {
                self.topics.insert(Name::from(*topic));
            }
        }
        self.last = metadata.slice(size_of::<i16>()..bytes);
        (self.topics.len() <= GROUP_TOPICS_MAX).then_some(named.len())
    }
}

impl Subscribed {
    /// They are to be looked for.
    pub fn looking() -> Self {
        Self::Looking(Search::default())
    }

    /// Whether [`Self::look`] has something to do.
    pub fn is_looking(&self) -> bool {
        matches!(self, Self::Looking(_))
    }

    /// What was not found by now will not be.
    pub fn end(&mut self) {
        if self.is_looking() {
            *self = Self::Unknown;
        }
    }

    /// Looks at all members again if not all were: one has another id now, which may be before those that were.
    pub fn start_over(&mut self) {
        if self.is_looking() {
            *self = Self::looking();
        }
    }

    /// Looks for some more, as far as so many members, and topics that they name, go. Nobody joins meanwhile, nor does
    /// the protocol change; for a new id see [`Self::start_over`].
    pub fn look(&mut self, members: &BTreeMap<Name, Member>, protocol: &str, mut left: usize) {
        let Self::Looking(search) = self else {
            return;
        };
        let after = search.after.take();
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = members.range::<Name, _>((from, Bound::Unbounded));
        let mut last = after.as_ref();
        while left > 0 {
            let Some((id, member)) = behind.next() else {
                *self = Self::Known(std::mem::take(&mut search.topics));
                return;
            };
            let Some(named) = search.add(&member.metadata(protocol)) else {
                *self = Self::Unknown;
                return;
            };
            left = left.saturating_sub(1 + named);
            last = Some(id);
        }
        search.after = last.cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupConfig;
    use super::super::testing::{Client, World};
    use super::*;
    use crate::base::ErrorCode as E;

    /// A subscription to these topics, with what tells its sender from others.
    fn subscription(topics: impl ExactSizeIterator<Item = String>, sender: usize) -> &'static str {
        let mut text = String::from("\0\x01");
        text.extend(text_of(topics.len() as u32));
        for topic in topics {
            text.push('\0');
            text.push(topic.len() as u8 as char);
            text += &topic;
        }
        text += &sender.to_string();
        text.leak()
    }

    /// Big-endian, in characters that are their own bytes.
    fn text_of(number: u32) -> impl Iterator<Item = char> {
        let bytes = number.to_be_bytes();
        assert!(bytes.iter().all(u8::is_ascii), "{number}");
        bytes.into_iter().map(char::from)
    }

    /// A group with members that are subscribed to so many topics each, from this one on.
    fn group(world: &mut World, of: &[(usize, usize)]) -> Vec<Client> {
        let client = |(sender, (from, count)): (usize, &(usize, usize))| {
            let topics = (*from..from + count).map(|n| format!("t-{n}"));
            Client::with_protocols(&[("range", subscription(topics, sender))])
        };
        let mut clients: Vec<Client> = of.iter().enumerate().map(client).collect();
        world.stable(&mut clients.iter_mut().collect::<Vec<_>>());
        clients
    }

    fn refusal(world: &mut World, topic: &str) -> E {
        let (now, token, group) = (world.now, world.token(), Name::from("g"));
        let mut effects = Vec::new();
        let target = [(Name::from(topic), 0)];
        let coordinator = &mut world.coordinator;
        let asked = coordinator.delete_offsets(now, token, &group, &target, &mut effects);
        world.perform(effects);
        asked.unwrap()[0]
    }

    #[test]
    fn topics_are_found_some_at_a_time_and_until_then_all_may_be_subscribed_to() {
        for at_a_time in [1, 1000] {
            let mut w = World::new(GroupConfig {
                told_at_a_time: at_a_time,
                ..GroupConfig::default()
            });
            let mut clients = group(&mut w, &[(0, 70), (0, 70), (70, 3), (200, 1)]);
            w.advance(100);
            for (topic, refused) in [
                ("t-0", E::GroupSubscribedToTopic),
                ("t-72", E::GroupSubscribedToTopic),
                ("t-200", E::GroupSubscribedToTopic),
                ("t-73", E::None),
            ] {
                assert_eq!(refusal(&mut w, topic), refused, "{topic}");
            }
            // Another generation, of which not all are known yet.
            let leader = w.coordinator.group("g").unwrap().leader().unwrap().clone();
            let leads = clients.iter().position(|c| c.id == leader).unwrap();
            w.join(&mut clients[leads]);
            for other in (0..clients.len()).filter(|n| *n != leads) {
                w.join(&mut clients[other]);
            }
            let known = w.coordinator.group("g").unwrap().knows_subscription();
            assert_eq!(known, at_a_time == 1000);
            let refused = if known {
                E::None
            } else {
                E::GroupSubscribedToTopic
            };
            assert_eq!(refusal(&mut w, "t-73"), refused);
            w.advance(100);
            assert_eq!(refusal(&mut w, "t-73"), E::None);
        }
    }

    #[test]
    fn a_static_member_that_comes_back_is_not_overlooked() {
        const MEMBERS: usize = 40;
        let mut w = World::new(GroupConfig {
            told_at_a_time: 1,
            ..GroupConfig::default()
        });
        let client = |n: usize| Client {
            // Its id begins with this: some are before those of longer ones, and others behind them.
            instance: Some(Name::from(format!("i{}", "-8".repeat(n)).as_str())),
            ..Client::with_protocols(&[(
                "range",
                subscription((8 * n..8 * n + 8).map(|t| format!("t-{t}")), n),
            )])
        };
        // One from the middle leads.
        let order = (MEMBERS / 2..MEMBERS).chain(0..MEMBERS / 2);
        let mut clients: Vec<Client> = order.clone().map(client).collect();
        let tokens: Vec<u64> = clients.iter().map(|c| w.send_join(c)).collect();
        let leads = loop {
            w.advance(1);
            let group = w.coordinator.group("g").unwrap();
            let told = |token: &u64| {
                let reply = w.joined.get(token)?;
                group.is_leader(&reply.member).then_some(())
            };
            if let Some(leads) = tokens.iter().position(|t| told(t).is_some()) {
                break leads;
            }
        };
        w.finish_join(&mut clients[leads], tokens[leads]);
        w.sync(&clients[leads], &[]);
        let group = w.coordinator.group("g").unwrap();
        assert!(group.subscribed.is_looking());
        for (_, other) in order.enumerate().filter(|(at, _)| *at != leads) {
            w.send_join(&client(other));
        }
        w.advance(1_000);
        let group = w.coordinator.group("g").unwrap();
        assert!(group.knows_subscription());
        for topic in 0..8 * MEMBERS {
            let topic = format!("t-{topic}");
            assert!(group.is_subscribed_to(&topic), "{topic}");
        }
    }

    #[test]
    fn more_topics_than_are_kept_are_as_if_nobody_could_know_them() {
        let search = |topics: usize| {
            let mut search = Search::default();
            let mut metadata = b"\0\x01".to_vec();
            metadata.extend((topics as u32).to_be_bytes());
            for topic in 0..topics {
                metadata.extend(4u16.to_be_bytes());
                metadata.extend((topic as u32).to_be_bytes().map(|byte| byte % 128));
            }
            search.add(&metadata.into())
        };
        assert_eq!(search(GROUP_TOPICS_MAX), Some(GROUP_TOPICS_MAX));
        assert_eq!(search(GROUP_TOPICS_MAX + 1), None);
        // Each of these is few.
        let mut all = Search::default();
        let found = (0..=GROUP_TOPICS_MAX as u32).map(|topic| {
            let topic = format!("\0\x01\0\0\0\x01\0\x05{topic:05}");
            all.add(&topic.into_bytes().into())
        });
        let last = found.enumerate().find(|(_, found)| found.is_none());
        assert_eq!(last, Some((GROUP_TOPICS_MAX, None)));
    }
}
