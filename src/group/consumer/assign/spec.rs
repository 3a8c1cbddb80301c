//! What an assignor is told, and what it has to do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::super::partitions::Partitions;
use crate::base::{Name, TopicId};

/// A member, as an assignor sees it.
#[derive(Clone, Debug)]
pub struct SpecMember {
    /// What it is sorted by: its instance, or its id.
    pub order: Name,
    /// Its topics, by their place among those of the group; sorted, none twice.
    pub topics: Arc<[u32]>,
    /// What was its own by the target before.
    pub before: Arc<Partitions>,
}

/// A group, as an assignor sees it.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// The topics that somebody is subscribed to and that exist, each with how many partitions it has.
    pub topics: Vec<(TopicId, i32)>,
    /// Their places.
    pub places: BTreeMap<TopicId, u32>,
    /// The members by id.
    pub members: Vec<SpecMember>,
}

impl Spec {
    /// The place of a partition that there is, if a member may have it.
    #[must_use]
    pub fn place_for(&self, member: &SpecMember, topic: TopicId, partition: i32) -> Option<u32> {
        let place = *self.places.get(&topic)?;
        let exists = (0..self.topics[place as usize].1).contains(&partition);
        let may = exists && member.topics.binary_search(&place).is_ok();
        may.then_some(place)
    }

    /// Whether all members are subscribed to the same topics.
    #[must_use]
    pub fn is_homogeneous(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|member| member.topics.len() == self.topics.len())
    }

    /// For each partition of each topic the same.
    #[must_use]
    pub fn of_partitions<T: Clone>(&self, value: T) -> Vec<Vec<T>> {
        let topics = self.topics.iter();
        topics
            .map(|(_, count)| vec![value.clone(); usize::try_from(*count).unwrap_or(0)])
            .collect()
    }
}

/// For each member its partitions, by the place of their topics, in any order.
pub type Assigned = Vec<Vec<(u32, i32)>>;

/// A way to assign partitions.
pub trait Assignor: fmt::Debug + Sync {
    /// Its name in settings and requests.
    fn name(&self) -> &'static str;

    /// Begins to assign the partitions of a group.
    fn begin(&self, spec: &Spec) -> Box<dyn Assigning>;
}

/// An assignment in the making.
pub trait Assigning: fmt::Debug {
    /// Does as much as is `left` of a slice, in partitions that are looked at; the assignment when it is made. Each
    /// partition of a topic that somebody is subscribed to has one owner, who is.
    fn go_on(&mut self, spec: &Spec, left: &mut usize) -> Option<Assigned>;
}

/// Takes a step of a slice.
pub(super) fn works(left: &mut usize, work: usize) {
    *left = left.saturating_sub(work);
}
