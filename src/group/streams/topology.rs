//! The topology of a streams application: its subtopologies, each with the topics that it reads and those that are made
//! for it. As its members say it when they join, and as its record has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::Name;
use crate::base::limits::{
    STREAMS_SUBTOPOLOGIES_MAX, STREAMS_TOPICS_MAX, STREAMS_TOPOLOGY_BYTES_MAX, TOPIC_NAME_BYTES_MAX,
};

/// A topic that is made for an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InternalTopic {
    /// Its name.
    pub name: Name,
    /// How many partitions it is to have; 0 if that follows from other topics.
    pub partitions: i32,
    /// 0 for the broker's default.
    pub replication_factor: i16,
    /// Its settings, in the order in which they were said.
    pub configs: Vec<(Name, Name)>,
}

/// Topics that must have the same number of partitions, by their places in the lists of their subtopology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopartitionGroup {
    /// Among its source topics.
    pub sources: Vec<i16>,
    /// Among its regular expressions; there are none yet.
    pub regexes: Vec<i16>,
    /// Among its repartition topics.
    pub repartition_sources: Vec<i16>,
}

/// A part of a topology that shares no state with others: its tasks are the partitions of what it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtopology {
    /// Its name, unique in the topology.
    pub id: Name,
    /// Topics that it reads.
    pub sources: Vec<Name>,
    /// Regular expressions of topics that it reads. As in Kafka 4.4 members may not have any yet.
    pub source_regexes: Vec<Name>,
    /// Changelogs of its state.
    pub changelogs: Vec<InternalTopic>,
    /// Repartition topics that it writes.
    pub repartition_sinks: Vec<Name>,
    /// Repartition topics that it reads.
    pub repartition_sources: Vec<InternalTopic>,
    /// See there.
    pub copartition_groups: Vec<CopartitionGroup>,
}

impl Subtopology {
    /// The topics that it reads.
    pub fn inputs(&self) -> impl Iterator<Item = &Name> {
        let repartitions = self.repartition_sources.iter().map(|topic| &topic.name);
        self.sources.iter().chain(repartitions)
    }

    /// The topics that are made for it.
    pub fn internals(&self) -> impl Iterator<Item = &InternalTopic> {
        self.repartition_sources.iter().chain(&self.changelogs)
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Its epoch: which of the topologies that the application has had it is.
    pub epoch: i32,
    /// Sorted by id.
    pub subtopologies: Vec<Subtopology>,
}

impl Topology {
    /// The topology of these subtopologies.
    #[must_use]
    pub fn new(epoch: i32, mut subtopologies: Vec<Subtopology>) -> Self {
        subtopologies.sort_by(|a, b| a.id.cmp(&b.id));
        Self {
            epoch,
            subtopologies,
        }
    }

    /// The topics that it needs: what it reads and what is made for it. With repetitions.
    pub fn required(&self) -> impl Iterator<Item = &Name> {
        self.subtopologies.iter().flat_map(|of| {
            let changelogs = of.changelogs.iter().map(|topic| &topic.name);
            of.inputs().chain(changelogs)
        })
    }

    /// Of each topic that is read the subtopology that does; the last one, if there are several.
    #[must_use]
    pub fn readers(&self) -> BTreeMap<&Name, &Name> {
        let all = self.subtopologies.iter();
        all.flat_map(|of| of.inputs().map(move |input| (input, &of.id)))
            .collect()
    }

    /// Whether a topic is read.
    #[must_use]
    pub fn reads(&self, topic: &str) -> bool {
        let mut inputs = self.subtopologies.iter().flat_map(Subtopology::inputs);
        inputs.any(|input| **input == *topic)
    }

    /// How many names of topics it has.
    #[must_use]
    pub fn names(&self) -> usize {
        let of = |of: &Subtopology| {
            of.inputs().count() + of.changelogs.len() + of.repartition_sinks.len()
        };
        self.subtopologies.iter().map(of).sum()
    }

    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 192;
        const NAME_BYTES: usize = 32;
        let name = |name: &Name| NAME_BYTES + name.len();
        let internal = |topic: &InternalTopic| {
            let configs = topic.configs.iter();
            EACH_BYTES + topic.name.len() + configs.map(|(k, v)| name(k) + name(v)).sum::<usize>()
        };
        let of = |of: &Subtopology| {
            let names = of.sources.iter().chain(&of.source_regexes);
            let names = names.chain(&of.repartition_sinks);
            let copartitioned = of.copartition_groups.iter().map(|group| {
                let places = [&group.sources, &group.regexes, &group.repartition_sources];
                EACH_BYTES + places.map(|it| 2 * it.len()).iter().sum::<usize>()
            });
            EACH_BYTES
                + of.id.len()
                + names.map(name).sum::<usize>()
                + of.internals().map(internal).sum::<usize>()
                + copartitioned.sum::<usize>()
        };
        EACH_BYTES + self.subtopologies.iter().map(of).sum::<usize>()
    }

    /// Why no group may have it: STREAMS_INVALID_TOPOLOGY.
    #[must_use]
    pub fn flaw(&self) -> Option<String> {
        let all = || self.subtopologies.iter();
        let places = |of: &Subtopology| of.sources.len() + of.repartition_sources.len();
        if all().len() > STREAMS_SUBTOPOLOGIES_MAX {
            return Some(format!(
                "A topology has no more than {STREAMS_SUBTOPOLOGIES_MAX} subtopologies."
            ));
        }
        if self.names() > STREAMS_TOPICS_MAX {
            return Some(format!(
                "A topology has no more than {STREAMS_TOPICS_MAX} topics."
            ));
        }
        if self.bytes() > STREAMS_TOPOLOGY_BYTES_MAX {
            return Some("The topology takes more memory than it may.".to_owned());
        }
        if self.epoch < 0 {
            return Some("Topology epoch must be non-negative.".to_owned());
        }
        if all().any(|of| of.id.len() > TOPIC_NAME_BYTES_MAX) {
            return Some(format!(
                "The id of a subtopology is part of names of topics: it has no more than {TOPIC_NAME_BYTES_MAX} bytes."
            ));
        }
        let ids: BTreeSet<&Name> = all().map(|of| &of.id).collect();
        if ids.len() < self.subtopologies.len() {
            return Some("A subtopology is there twice.".to_owned());
        }
        let changelog =
            |of: &Subtopology| of.changelogs.iter().find(|it| it.partitions != 0).cloned();
        if let Some(topic) = all().find_map(changelog) {
            return Some(format!(
                "Changelog topic {} must have an undefined partition count, but it is set to {}.",
                topic.name, topic.partitions
            ));
        }
        if let Some(topic) = all()
            .flat_map(Subtopology::internals)
            .find(|it| it.partitions < 0)
        {
            return Some(format!("Topic {} has less than no partitions.", topic.name));
        }
        let is_wrong = |of: &Subtopology| {
            let within = |places: &[i16], count: usize| {
                places
                    .iter()
                    .all(|at| usize::try_from(*at).is_ok_and(|at| at < count))
            };
            let groups = || of.copartition_groups.iter();
            let named =
                |group: &CopartitionGroup| group.sources.len() + group.repartition_sources.len();
            groups().map(named).sum::<usize>() > 4 * places(of)
                || groups().len() > 4 * places(of)
                || !groups().all(|group| {
                    within(&group.sources, of.sources.len())
                        && within(&group.repartition_sources, of.repartition_sources.len())
                })
        };
        let wrong = all().find(|of| is_wrong(of))?;
        Some(format!(
            "Copartition groups of subtopology {} are not among its source topics.",
            wrong.id
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_longer_than_a_name_of_a_topic() {
        let of = |bytes: usize| Topology {
            subtopologies: vec![Subtopology {
                id: "x".repeat(bytes).as_str().into(),
                ..Subtopology::default()
            }],
            ..Topology::default()
        };
        assert_eq!(of(TOPIC_NAME_BYTES_MAX).flaw(), None);
        assert!(of(TOPIC_NAME_BYTES_MAX + 1).flaw().is_some());
    }
}
