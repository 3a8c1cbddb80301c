//! What a topology comes to with the topics that there are: how many partitions those have that are made for it, which
//! of them are missing, and how many tasks there are. As `InternalTopicManager` of Kafka 4.4 finds it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::consumer::{GroupTopics, hash_of};
use super::topology::{InternalTopic, Subtopology, Topology};
use crate::base::Name;
use crate::base::limits::STREAMS_PARTITIONS_MAX;

/// What members are told of the state of their group. The numbers are those of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamsStatus {
    /// The member's topology is older than the group's.
    StaleTopology,
    /// Topics that it reads are missing.
    MissingSourceTopics,
    /// Topics have other numbers of partitions than they should.
    IncorrectlyPartitionedTopics,
    /// Topics that are made for it are not there yet.
    MissingInternalTopics,
    /// A member wants all to end.
    ShutdownApplication,
    /// There is a new target later.
    AssignmentDelayed,
}

impl StreamsStatus {
    /// Its number.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::StaleTopology => 0,
            Self::MissingSourceTopics => 1,
            Self::IncorrectlyPartitionedTopics => 2,
            Self::MissingInternalTopics => 3,
            Self::ShutdownApplication => 4,
            Self::AssignmentDelayed => 5,
        }
    }
}

/// A subtopology with the topics that there are, or are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredSubtopology {
    /// Its name.
    pub id: Name,
    /// How many tasks it has.
    pub tasks: i32,
    /// Whether its tasks have state, which standby tasks keep copies of.
    pub is_stateful: bool,
    /// What it reads, each with its partitions.
    pub inputs: Vec<(Name, i32)>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The version of the metadata that was looked at.
    pub version: u64,
    /// Tells the topics that were found.
    pub hash: i64,
    /// Why there can be no tasks yet.
    pub problem: Option<(StreamsStatus, String)>,
    /// Why there never can be: STREAMS_INVALID_TOPOLOGY.
    pub invalid: Option<String>,
    /// By id; none if there is a problem other than missing internal topics.
    pub subtopologies: Vec<ConfiguredSubtopology>,
    /// Internal topics that are missing, sorted by name. Their numbers of partitions are decided.
    pub missing: Vec<InternalTopic>,
    /// How many partitions internal topics have, or are to have.
    pub partitions: BTreeMap<Name, i32>,
}

impl Configured {
    /// Whether there can be tasks.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.problem.is_none() && self.invalid.is_none()
    }

    /// The subtopology with this id.
    #[must_use]
    pub fn subtopology(&self, id: &str) -> Option<&ConfiguredSubtopology> {
        let at = self.subtopologies.binary_search_by(|of| (*of.id).cmp(id));
        at.ok().map(|at| &self.subtopologies[at])
    }

    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 96;
        let inputs: usize = self
            .subtopologies
            .iter()
            .map(|of| 1 + of.inputs.len())
            .sum();
        EACH_BYTES * (1 + inputs + self.partitions.len() + 2 * self.missing.len())
    }
}

/// Why a topology has no tasks.
enum Unfit {
    Yet(StreamsStatus, String),
    Ever(String),
}

/// How many partitions topics have: those that are there, and those that are decided.
struct Counts<'a> {
    places: BTreeMap<&'a Name, usize>,
    names: Vec<&'a Name>,
    existing: Vec<Option<i32>>,
    decided: Vec<Option<i32>>,
}

/// A subtopology by the places of its topics.
struct Placed {
    sources: Vec<usize>,
    sinks: Vec<usize>,
    repartitions: Vec<usize>,
    changelogs: Vec<usize>,
}

impl<'a> Counts<'a> {
    fn of(topology: &'a Topology, topics: &dyn GroupTopics) -> (Self, Vec<Placed>, i64) {
        let mut counts = Self {
            places: BTreeMap::new(),
            names: Vec::new(),
            existing: Vec::new(),
            decided: Vec::new(),
        };
        let mut hash: i64 = 0;
        let placed = topology.subtopologies.iter().map(|of| Placed {
            sources: of
                .sources
                .iter()
                .map(|it| counts.place(it, topics, &mut hash))
                .collect(),
            sinks: of
                .repartition_sinks
                .iter()
                .map(|it| counts.place(it, topics, &mut hash))
                .collect(),
            repartitions: of
                .repartition_sources
                .iter()
                .map(|it| counts.place(&it.name, topics, &mut hash))
                .collect(),
            changelogs: of
                .changelogs
                .iter()
                .map(|it| counts.place(&it.name, topics, &mut hash))
                .collect(),
        });
        let placed = placed.collect();
        (counts, placed, hash)
    }

    fn place(&mut self, name: &'a Name, topics: &dyn GroupTopics, hash: &mut i64) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let found = topics.named(name);
        if let Some((id, count)) = found {
            *hash = hash.wrapping_add(hash_of(name, id, count));
        }
        let place = self.existing.len();
        self.places.insert(name, place);
        self.names.push(name);
        self.existing.push(found.map(|(_, count)| count));
        self.decided.push(None);
        place
    }

    fn get(&self, place: usize) -> Option<i32> {
        self.existing[place].or(self.decided[place])
    }

    fn max(&self, places: impl Iterator<Item = usize>) -> Option<i32> {
        places.filter_map(|place| self.get(place)).max()
    }

    fn name(&self, place: usize) -> &str {
        self.names[place]
    }

    /// Repartition topics have as many partitions as is said, or as what their writers read.
    fn decide_repartitions(&mut self, topology: &Topology, placed: &[Placed]) -> Result<(), Unfit> {
        let mut known: Vec<Option<i32>> = vec![None; self.existing.len()];
        for (of, at) in topology.subtopologies.iter().zip(placed) {
            for (topic, place) in of.repartition_sources.iter().zip(&at.repartitions) {
                if topic.partitions != 0 {
                    known[*place] = Some(topic.partitions);
                }
            }
        }
        loop {
            let (mut lacks, mut progress) = (false, false);
            for at in placed {
                let unknown = |sink: &&usize| known[**sink].is_none();
                let sinks: Vec<usize> = at.sinks.iter().filter(unknown).copied().collect();
                if sinks.is_empty() {
                    continue;
                }
                let read = at.repartitions.iter().filter_map(|it| known[*it]);
                let read = read.chain(at.sources.iter().filter_map(|it| self.existing[*it]));
                let read = read.max();
                match read {
                    Some(_) => progress = true,
                    None => lacks = true,
                }
                sinks.into_iter().for_each(|sink| known[sink] = read);
            }
            if !lacks {
                break;
            }
            if !progress {
                return Err(Unfit::Ever(
                    "Failed to compute number of partitions for all repartition topics. There may be loops in the \
                     topology that cannot be resolved."
                        .to_owned(),
                ));
            }
        }
        let mut read = placed.iter().flat_map(|at| &at.repartitions);
        if read.any(|place| known[*place].is_none()) {
            return Err(Unfit::Ever(
                "Failed to compute number of partitions for all repartition topics, because a repartition source \
                 topic is never used as a sink topic."
                    .to_owned(),
            ));
        }
        for (decided, known) in self.decided.iter_mut().zip(known) {
            *decided = known.or(*decided);
        }
        Ok(())
    }

    fn not_the_same(&self, places: &[usize]) -> Unfit {
        let mut all: Vec<String> = places
            .iter()
            .map(|at| format!("{}={}", self.name(*at), self.get(*at).unwrap_or(0)))
            .collect();
        all.sort_unstable();
        let why = format!(
            "Following topics do not have the same number of partitions: [{{{}}}]",
            all.join(", ")
        );
        Unfit::Yet(StreamsStatus::IncorrectlyPartitionedTopics, why)
    }

    fn are_same(&self, places: &[usize]) -> bool {
        places
            .windows(2)
            .all(|two| self.get(two[0]) == self.get(two[1]))
    }

    /// Repartition topics that are copartitioned with others have as many partitions as those.
    fn enforce(&mut self, topology: &Topology, placed: &[Placed]) -> Result<(), Unfit> {
        let mut fixed = BTreeSet::new();
        let mut internal = BTreeSet::new();
        for (of, at) in topology.subtopologies.iter().zip(placed) {
            for (topic, place) in of.repartition_sources.iter().zip(&at.repartitions) {
                internal.insert(*place);
                if topic.partitions != 0 {
                    fixed.insert(*place);
                }
            }
        }
        let all_fixed: Vec<usize> = fixed.iter().copied().collect();
        // What is fixed stays as it is.
        let fixed_are_same = self.are_same(&all_fixed);
        for (of, at) in topology.subtopologies.iter().zip(placed) {
            for group in &of.copartition_groups {
                let sources = group.sources.iter();
                let sources = sources.filter_map(|it| at.sources.get(usize::try_from(*it).ok()?));
                let read = group.repartition_sources.iter();
                let read = read.filter_map(|it| at.repartitions.get(usize::try_from(*it).ok()?));
                let of_group: BTreeSet<usize> = sources.chain(read).copied().collect();
                let (repartitions, others): (Vec<usize>, Vec<usize>) = of_group
                    .into_iter()
                    .partition(|place| internal.contains(place));
                let count = match (others.first(), all_fixed.first()) {
                    (None, None) => self.max(repartitions.iter().copied()),
                    (None, Some(_)) if !fixed_are_same => {
                        return Err(self.not_the_same(&repartitions));
                    }
                    (None, Some(first)) => self.get(*first),
                    (Some(_), _) if !self.are_same(&others) => {
                        return Err(self.not_the_same(&others));
                    }
                    (Some(first), _) => self.get(*first),
                };
                let Some(count) = count else {
                    continue;
                };
                for place in repartitions {
                    let said = self.get(place).unwrap_or(count);
                    if fixed.contains(&place) && said != count {
                        let why = format!(
                            "Number of partitions [{said}] of repartition topic [{}] doesn't match number of \
                             partitions [{count}] of the source topic.",
                            self.name(place)
                        );
                        let status = StreamsStatus::IncorrectlyPartitionedTopics;
                        return Err(Unfit::Yet(status, why));
                    }
                    self.decided[place] = Some(count);
                }
            }
        }
        Ok(())
    }
}

/// The first three of some names, and how many more there are.
fn summary<'a>(names: impl ExactSizeIterator<Item = &'a Name>) -> String {
    const SHOWN: usize = 3;
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<&str> = names.take(SHOWN).map(|name| &**name).collect();
    let shown = shown.join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} additional topics"),
    }
}

/// Looks at the topics of a topology.
#[must_use]
pub fn configure(topology: &Topology, topics: &dyn GroupTopics) -> Configured {
    let (mut counts, placed, hash) = Counts::of(topology, topics);
    let mut configured = Configured {
        version: topics.version(),
        hash,
        ..Configured::default()
    };
    match decide(topology, &mut counts, &placed, &mut configured) {
        Ok(()) => {}
        Err(Unfit::Yet(status, why)) => {
            if status != StreamsStatus::MissingInternalTopics {
                configured.subtopologies.clear();
                configured.missing.clear();
            }
            configured.problem = Some((status, why));
        }
        Err(Unfit::Ever(why)) => {
            configured.subtopologies.clear();
            configured.missing.clear();
            configured.invalid = Some(why);
        }
    }
    configured
}

fn decide(
    topology: &Topology,
    counts: &mut Counts<'_>,
    placed: &[Placed],
    configured: &mut Configured,
) -> Result<(), Unfit> {
    let sources = topology.subtopologies.iter().flat_map(|of| &of.sources);
    let is_missing = |name: &&Name| {
        counts
            .places
            .get(name)
            .is_some_and(|at| counts.existing[*at].is_none())
    };
    let missing: BTreeSet<&Name> = sources.filter(is_missing).collect();
    if !missing.is_empty() {
        let why = format!(
            "Source topics {} are missing.",
            summary(missing.into_iter())
        );
        return Err(Unfit::Yet(StreamsStatus::MissingSourceTopics, why));
    }
    counts.decide_repartitions(topology, placed)?;
    counts.enforce(topology, placed)?;
    let mut read: usize = 0;
    for (of, at) in topology.subtopologies.iter().zip(placed) {
        let inputs = || at.sources.iter().chain(&at.repartitions).copied();
        let Some(tasks) = counts.max(inputs()) else {
            return Err(Unfit::Ever(format!(
                "No source topics found for subtopology {}",
                of.id
            )));
        };
        for changelog in &at.changelogs {
            counts.decided[*changelog] = Some(tasks);
        }
        let names = of.inputs().cloned();
        let partitions = inputs().map(|place| counts.get(place).unwrap_or(0));
        let inputs: Vec<(Name, i32)> = names.zip(partitions).collect();
        let counted = inputs
            .iter()
            .map(|(_, count)| usize::try_from(*count).unwrap_or(0));
        read = read.saturating_add(counted.sum());
        configured.subtopologies.push(ConfiguredSubtopology {
            id: of.id.clone(),
            tasks,
            is_stateful: !of.changelogs.is_empty(),
            inputs,
        });
    }
    if read > STREAMS_PARTITIONS_MAX {
        return Err(Unfit::Ever(format!(
            "The topology reads {read} partitions, and may read no more than {STREAMS_PARTITIONS_MAX}."
        )));
    }
    missing_internals(topology, counts, placed, configured)
}

/// Internal topics that are not there, if all others are as they should be.
fn missing_internals(
    topology: &Topology,
    counts: &Counts<'_>,
    placed: &[Placed],
    configured: &mut Configured,
) -> Result<(), Unfit> {
    let mut missing: BTreeMap<&Name, InternalTopic> = BTreeMap::new();
    let internals = |of: &'_ Subtopology, at: &Placed| -> Vec<(InternalTopic, usize)> {
        let places = at.repartitions.iter().chain(&at.changelogs).copied();
        of.internals().cloned().zip(places).collect()
    };
    for (of, at) in topology.subtopologies.iter().zip(placed) {
        for (mut topic, place) in internals(of, at) {
            if topic.partitions == 0 {
                topic.partitions = counts.decided[place].unwrap_or(0);
            }
            configured
                .partitions
                .insert(topic.name.clone(), topic.partitions);
            match counts.existing[place] {
                Some(found) if found != topic.partitions => {
                    let why = format!(
                        "Existing topic {} has different number of partitions: expected {}, found {found}",
                        topic.name, topic.partitions
                    );
                    return Err(Unfit::Yet(StreamsStatus::IncorrectlyPartitionedTopics, why));
                }
                Some(_) => {}
                None => {
                    if let Some((name, _)) = counts.places.get_key_value(&topic.name) {
                        missing.insert(name, topic);
                    }
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "Internal topics are missing: {}",
        summary(missing.keys().copied())
    );
    configured.missing = missing.into_values().collect();
    Err(Unfit::Yet(StreamsStatus::MissingInternalTopics, why))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Topics, internal, subtopology};
    use super::*;

    fn problem(configured: &Configured) -> Option<(i8, &str)> {
        let problem = configured.problem.as_ref();
        problem.map(|(status, why)| (status.code(), &**why))
    }

    #[test]
    fn what_is_missing_is_told_and_decided() {
        let mut first = subtopology("0", &["in"]);
        first.repartition_sinks = vec![Name::from("re")];
        let mut second = subtopology("1", &[]);
        second.repartition_sources = vec![internal("re", 0)];
        second.changelogs = vec![internal("log", 0)];
        let topology = Topology::new(0, vec![second, first]);
        let mut topics = Topics::default();
        let none = configure(&topology, &topics);
        assert_eq!(problem(&none), Some((1, "Source topics in are missing.")));
        assert!(none.subtopologies.is_empty() && none.missing.is_empty());
        topics.set("in", 3);
        let some = configure(&topology, &topics);
        assert_eq!(
            problem(&some),
            Some((3, "Internal topics are missing: log, re"))
        );
        let missing = some.missing.iter().map(|it| (&*it.name, it.partitions));
        assert_eq!(missing.collect::<Vec<_>>(), [("log", 3), ("re", 3)]);
        topics.set("re", 3);
        topics.set("log", 2);
        let wrong = configure(&topology, &topics);
        let why = "Existing topic log has different number of partitions: expected 3, found 2";
        assert_eq!(problem(&wrong), Some((2, why)));
        topics.set("log", 3);
        let all = configure(&topology, &topics);
        assert!(all.is_ready() && all.hash != some.hash);
        let tasks = all
            .subtopologies
            .iter()
            .map(|it| (&*it.id, it.tasks, it.is_stateful));
        assert_eq!(tasks.collect::<Vec<_>>(), [("0", 3, false), ("1", 3, true)]);
    }

    #[test]
    fn copartitioned_topics_have_the_same_number() {
        let mut of = subtopology("0", &["a", "b"]);
        of.repartition_sources = vec![internal("re", 0)];
        of.repartition_sinks = vec![Name::from("re")];
        of.copartition_groups = vec![super::super::topology::CopartitionGroup {
            sources: vec![0, 1],
            regexes: Vec::new(),
            repartition_sources: vec![0],
        }];
        let mut topics = Topics::default();
        topics.set("a", 2);
        topics.set("b", 4);
        let topology = Topology::new(0, vec![of.clone()]);
        let differ = configure(&topology, &topics);
        let why = "Following topics do not have the same number of partitions: [{a=2, b=4}]";
        assert_eq!(problem(&differ), Some((2, why)));
        topics.set("a", 4);
        assert_eq!(configure(&topology, &topics).missing[0].partitions, 4);
        of.repartition_sources[0].partitions = 3;
        let topology = Topology::new(0, vec![of]);
        let fixed = configure(&topology, &topics);
        let why = "Number of partitions [3] of repartition topic [re] doesn't match number of partitions [4] of the \
                   source topic.";
        assert_eq!(problem(&fixed), Some((2, why)));
    }

    #[test]
    fn what_can_never_be_is_told_apart() {
        let mut of = subtopology("0", &[]);
        of.repartition_sources = vec![internal("re", 0)];
        of.repartition_sinks = vec![Name::from("re")];
        let invalid = |of: &Subtopology| {
            let mut topics = Topics::default();
            topics.set("big", 60_000);
            configure(&Topology::new(0, vec![of.clone()]), &topics)
                .invalid
                .unwrap_or_default()
        };
        assert!(invalid(&of).contains("loops"));
        of.repartition_sinks.clear();
        assert!(invalid(&of).contains("never used as a sink"));
        of.repartition_sources.clear();
        assert!(invalid(&of).starts_with("No source topics"));
        assert!(invalid(&subtopology("0", &["big"])).contains("no more than"));
    }
}
