//! A new target, when there has to be one: which topics there are by now that members are subscribed to, whether
//! something of them has changed, and who is to have what. All of it in slices, since a group may be large.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assign::{Assigned, Assigning, Spec, SpecMember};
use super::change::{GroupChange, GroupEpoch, Resolved, TargetEpoch};
use super::changes::Changes;
use super::cx::ConsumerCx;
use super::partitions::Partitions;
use super::state::GroupState;
use super::topics::TopicRegex;
use crate::base::limits::GROUP_MEMBERS_BYTES_MAX;
use crate::base::{Mono, Name, TopicId};

/// Whether a regular expression may be compiled now: the worst ones take more than a millisecond, and nothing stops
/// them. So it takes most of a slice to begin, and all that is left of it.
pub(super) fn may_compile(cx: &ConsumerCx<'_>, left: usize) -> bool {
    4 * left >= 3 * cx.config.slice
}

/// See the module.
#[derive(Debug)]
pub struct Refresh {
    /// The epoch of the group grows in any case.
    bumps: bool,
    /// There may be a new target from then on.
    assigns_from: Mono,
    /// The regular expressions whose topics are still to be looked for.
    regexes: Vec<Name>,
    looking: Option<Looking>,
    named: Named,
    stage: Stage,
}

/// Looking for the topics of a regular expression.
#[derive(Debug)]
struct Looking {
    regex: Name,
    compiled: Option<TopicRegex>,
    /// The name that is looked at, and the one before.
    at: Option<Name>,
    after: Option<Name>,
    found: Vec<Name>,
    bytes: usize,
}

/// The topics of the group by name, as far as they are known.
#[derive(Debug, Default)]
struct Named {
    /// The last one that was looked up of those that members name,
    after: Option<Name>,
    /// the regular expression whose topics all were, and how many were of the next one.
    matched: (Option<Name>, usize),
    /// Where each is among those that exist.
    places: BTreeMap<Name, Option<u32>>,
    partitions: usize,
    hash: i64,
    spec: Spec,
}

#[derive(Debug)]
enum Stage {
    /// Topics of regular expressions are looked for.
    Regexes,
    /// Topics are looked up.
    Topics,
    /// The members are written down for the assignor, up to this one.
    Members(Option<Name>, Option<Alike>),
    /// It works.
    Assigns(Box<dyn Assigning>),
    /// What has come of it is compared with the target before, up to this member.
    Compares(Assigned, Option<Name>, usize),
}

/// What the member before was subscribed to.
#[derive(Debug)]
struct Alike {
    topics: Vec<Name>,
    regex: Option<Name>,
    places: Arc<[u32]>,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// There is more to do.
    Partly,
    /// There is, and what is left of the slice is not enough for it.
    PutOff,
    /// The target is older than the group's epoch: it is too early for another one.
    TooEarly,
    /// The target is that of the group's epoch.
    Yes,
    /// The topics are more, or have more partitions, than a group may have.
    TooLarge,
}

fn works(left: &mut usize, work: usize) {
    *left = left.saturating_sub(work);
}

/// A number that tells a topic as it is from any other.
pub(in crate::group) fn hash_of(name: &str, id: TopicId, partitions: i32) -> i64 {
    // FNV-1a, mixed once more so that sums of them differ.
    let bytes = name
        .bytes()
        .chain([0])
        .chain(id.0)
        .chain(partitions.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) as i64
}

impl Refresh {
    /// Begins. `bumps`: members have changed what they are subscribed to, or are gone. `looks_again`: the metadata has
    /// changed, so that regular expressions may match other topics. There is a new target from `assigns_from` on only.
    #[must_use]
    pub fn new(state: &GroupState, bumps: bool, looks_again: bool, assigns_from: Mono) -> Self {
        let regexes = state.regexes();
        let to_look = |regex: &&Name| looks_again || state.resolved(regex).is_none();
        Self {
            bumps,
            assigns_from,
            regexes: regexes.filter(to_look).cloned().collect(),
            looking: None,
            named: Named::default(),
            stage: Stage::Regexes,
        }
    }

    /// Does as much as is `left` of a slice, in partitions that are looked at.
    pub fn go_on(
        &mut self,
        cx: &ConsumerCx<'_>,
        (state, changes): (&mut GroupState, &mut Changes),
        left: &mut usize,
    ) -> Refreshed {
        while *left > 0 {
            match &mut self.stage {
                Stage::Regexes => {
                    if self.looking.is_none() && !self.regexes.is_empty() && !may_compile(cx, *left)
                    {
                        return Refreshed::PutOff;
                    }
                    if !self.look(cx, (&mut *state, &mut *changes), left) {
                        return Refreshed::TooLarge;
                    }
                }
                Stage::Topics => {
                    if self.named.look_up(cx, state, left) {
                        if self.named.partitions > cx.config.partitions_max {
                            return Refreshed::TooLarge;
                        }
                        self.decide_epoch((&mut *state, &mut *changes));
                        if state.epoch() == state.target_epoch() {
                            return Refreshed::Yes;
                        }
                        if cx.now.mono < self.assigns_from {
                            return Refreshed::TooEarly;
                        }
                        self.stage = Stage::Members(None, None);
                    }
                }
                Stage::Members(after, alike) => {
                    let next = state.members_after(after.as_ref()).next();
                    let Some((id, _)) = next else {
                        let wanted = preferred_assignor(state);
                        let assignor = cx.config.assignor(wanted.as_ref());
                        self.stage = Stage::Assigns(assignor.begin(&self.named.spec));
                        continue;
                    };
                    let id = id.clone();
                    self.named.add_member(state, &id, alike, left);
                    *after = Some(id);
                }
                Stage::Assigns(assigning) => {
                    if let Some(assigned) = assigning.go_on(&self.named.spec, left) {
                        self.stage = Stage::Compares(assigned, None, 0);
                    }
                }
                Stage::Compares(assigned, after, at) => {
                    let next = state.members_after(after.as_ref()).next();
                    let Some((id, _)) = next else {
                        let made = TargetEpoch {
                            epoch: state.epoch(),
                            made_ms: cx.now.wall_ms,
                        };
                        changes.make(state, GroupChange::TargetEpoch(Some(made)));
                        return Refreshed::Yes;
                    };
                    let id = id.clone();
                    let of = std::mem::take(&mut assigned[*at]);
                    works(left, 4 + of.len());
                    let target = partitions_of(&self.named.spec, of);
                    if *state.target(&id) != target {
                        let change = GroupChange::TargetOf(id.clone(), Some(Arc::new(target)));
                        changes.make(state, change);
                    }
                    (*after, *at) = (Some(id), *at + 1);
                }
            }
        }
        Refreshed::Partly
    }

    /// Looks for topics that match; goes to the next stage when all are found. False if the group may not have so much.
    fn look(
        &mut self,
        cx: &ConsumerCx<'_>,
        (state, changes): (&mut GroupState, &mut Changes),
        left: &mut usize,
    ) -> bool {
        let Some(looking) = &mut self.looking else {
            let Some(regex) = self.regexes.pop() else {
                self.stage = Stage::Topics;
                return true;
            };
            *left = 0;
            self.looking = Some(Looking {
                compiled: TopicRegex::new(&regex),
                regex,
                at: None,
                after: None,
                found: Vec::new(),
                bytes: 0,
            });
            return true;
        };
        // What cannot be compiled, which another broker may have written, matches nothing.
        let compiled = looking.compiled.as_mut();
        let next = looking.at.take();
        let next = next.or_else(|| cx.topics.after(looking.after.as_deref()));
        if let (Some(compiled), Some(name)) = (compiled, next) {
            let Some(matches) = compiled.go_on(&name, left) else {
                looking.at = Some(name);
                return true;
            };
            works(left, 2);
            if matches {
                looking.bytes += 16 + name.len();
                looking.found.push(name.clone());
            }
            looking.after = Some(name);
            // It takes the place of what was found before.
            let before = state.resolved(&looking.regex);
            let others = state.members_bytes() - before.map_or(0, |before| before.bytes());
            return others + looking.bytes <= GROUP_MEMBERS_BYTES_MAX;
        }
        let Some(looking) = self.looking.take() else {
            return true;
        };
        let before = state.resolved(&looking.regex);
        if before.is_none_or(|before| before.topics != looking.found) {
            let resolved = Resolved {
                topics: looking.found,
                version: i64::try_from(cx.topics.version()).unwrap_or(i64::MAX),
                at_ms: cx.now.wall_ms,
            };
            works(left, resolved.topics.len() / 8);
            changes.make(
                state,
                GroupChange::Regex(looking.regex, Some(Arc::new(resolved))),
            );
        }
        true
    }

    /// All topics are known: the epoch grows if something of them has changed.
    fn decide_epoch(&self, (state, changes): (&mut GroupState, &mut Changes)) {
        let metadata_hash = self.named.hash;
        if self.bumps || metadata_hash != state.metadata_hash() {
            let epoch = state.epoch().saturating_add(1);
            let grown = GroupEpoch {
                epoch,
                metadata_hash,
            };
            changes.make(state, GroupChange::Epoch(Some(grown)));
        }
    }
}

impl Named {
    /// Looks up a topic, or some; true when there are no more.
    fn look_up(&mut self, cx: &ConsumerCx<'_>, state: &GroupState, left: &mut usize) -> bool {
        let named = state.topics_after(self.after.as_ref()).next().cloned();
        if let Some(name) = named {
            works(left, 2);
            self.add(cx, &name);
            self.after = Some(name);
            return false;
        }
        let Some(regex) = state.regexes_after(self.matched.0.as_ref()).next() else {
            return true;
        };
        works(left, 2);
        let resolved = state.resolved(regex);
        match resolved.and_then(|resolved| resolved.topics.get(self.matched.1)) {
            Some(name) => {
                self.add(cx, name);
                self.matched.1 += 1;
            }
            None => self.matched = (Some(regex.clone()), 0),
        }
        false
    }

    fn add(&mut self, cx: &ConsumerCx<'_>, name: &Name) {
        if self.places.contains_key(name) {
            return;
        }
        let place = cx.topics.named(name).map(|(id, count)| {
            let place = self.spec.topics.len() as u32;
            self.spec.topics.push((id, count));
            self.spec.places.insert(id, place);
            self.partitions += usize::try_from(count).unwrap_or(0);
            self.hash = self.hash.wrapping_add(hash_of(name, id, count));
            place
        });
        self.places.insert(name.clone(), place);
    }

    /// Writes a member down.
    fn add_member(
        &mut self,
        state: &GroupState,
        id: &Name,
        alike: &mut Option<Alike>,
        left: &mut usize,
    ) {
        let Some(member) = state.member(id) else {
            return;
        };
        let same = alike.as_ref();
        let same =
            same.filter(|it| it.topics == member.topics && it.regex.as_ref() == member.regex());
        works(left, 4 + member.topics.len() / 8);
        let places = match same {
            Some(same) => same.places.clone(),
            None => {
                let resolved = member.regex().and_then(|regex| state.resolved(regex));
                let matched = resolved.map_or(&[][..], |it| &it.topics);
                let all = member.topics.iter().chain(matched);
                let mut places: Vec<u32> = all.filter_map(|name| *self.places.get(name)?).collect();
                places.sort_unstable();
                places.dedup();
                works(left, member.topics.len() + matched.len());
                let places: Arc<[u32]> = places.into();
                *alike = Some(Alike {
                    topics: member.topics.clone(),
                    regex: member.regex().cloned(),
                    places: places.clone(),
                });
                places
            }
        };
        self.spec.members.push(SpecMember {
            order: member.instance.clone().unwrap_or_else(|| id.clone()),
            topics: places,
            before: state.target(id),
        });
    }
}

fn partitions_of(spec: &Spec, mut of: Vec<(u32, i32)>) -> Partitions {
    of.sort_unstable();
    let mut partitions = Partitions::default();
    for same in of.chunk_by(|a, b| a.0 == b.0) {
        let (topic, _) = spec.topics[same[0].0 as usize];
        partitions.add(topic, same.iter().map(|(_, partition)| *partition));
    }
    partitions
}

/// The assignor that most members want, the first by name of several; none if none wants any.
#[must_use]
pub fn preferred_assignor(state: &GroupState) -> Option<Name> {
    let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
    for (_, member) in state.members() {
        if let Some(wanted) = &member.assignor {
            *votes.entry(wanted).or_default() += 1;
        }
    }
    let most = *votes.values().max()?;
    let mut votes = votes.into_iter();
    votes
        .find(|(_, count)| *count == most)
        .map(|(name, _)| name.clone())
}
