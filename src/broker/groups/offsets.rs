//! OffsetFetch (9), OffsetDelete (47).
//!
//! From version 10 on topics of fetches are named by their ids, as those of commits. A fetch
//! sees durable commits only, so `require_stable` (KIP-447) adds nothing but what is said of partitions for which a
//! transaction has an offset that is not over.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_wire_core::{StrBytes, Uuid};

use super::answers::error_of;
use super::plan::{Asks, GroupPlan, PlanCx, Written, name, text};
use crate::base::limits::OFFSETS_TOLD_PER_SLICE;
use crate::base::{ErrorCode, TopicId};
use crate::controller::{Image, Topic};
use crate::coordinator::{
    FetchedOf, FetchedOffset, Fetcher, GroupAnswer, GroupAsk, OffsetsOf, Stability, TopicOffsets,
};
use crate::group::{self, Name};
use crate::wire::{ListFrame, RequestHeader, WireError, decode, encode_response};

/// From this version on ids name topics.
pub(super) const TOPIC_IDS_SINCE: i16 = 10;
/// From this version on an OffsetFetch is of several groups.
const GROUPS_SINCE: i16 = 8;

/// Partitions of a topic of an OffsetFetch, and their error if the topic is one that is not known.
#[derive(Debug)]
struct Wanted {
    topic: OffsetFetchResponseTopics,
    partitions: std::vec::IntoIter<i32>,
    unknown: Option<ErrorCode>,
    /// They are the last ones of the topic.
    is_last: bool,
}

/// What is wanted of a group of an OffsetFetch, and asked at a time.
#[derive(Debug)]
struct FetchOf {
    group: StrBytes,
    topics: Topics,
    fetcher: Fetcher,
    /// It is the last of the group.
    is_last: bool,
}

#[derive(Debug)]
enum Topics {
    /// These.
    Some(VecDeque<Wanted>),
    /// All for which something is committed, and the one at hand.
    All(Option<OffsetFetchResponseTopics>),
}

/// OffsetFetch.
pub fn offset_fetch(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: OffsetFetchRequest = decode(body, header.version)?;
    let version = header.version;
    let mut groups = if version >= GROUPS_SINCE {
        request.groups
    } else {
        vec![as_group(request.group_id, request.topics)]
    };
    // Each once: a group with many offsets named very often would make an answer of any size.
    let mut seen = HashSet::new();
    groups.retain(|group| seen.insert(group.group_id.clone()));
    let stability = match request.require_stable {
        true => Stability::Stable,
        false => Stability::Any,
    };
    let mut asks = Vec::with_capacity(groups.len());
    let mut fetches = VecDeque::with_capacity(groups.len());
    for group in groups {
        let to = (&mut asks, &mut fetches);
        fetch_of(cx.image, version, (group, stability), to);
    }
    let behind = if (2..GROUPS_SINCE).contains(&version) {
        2
    } else {
        0
    };
    let empty = OffsetFetchResponse::default();
    let frame = ListFrame::new(header.correlation_id, version, &empty, behind)?;
    let (image, id) = (Arc::clone(cx.image), header.correlation_id);
    let mut failed = None;
    let write = move |frame: &mut ListFrame, answer| {
        let fetched = match answer {
            GroupAnswer::Fetched(fetched) => fetched,
            other => Err(error_of(Some(other))),
        };
        let refused = fetched.as_ref().err().copied();
        // Version 1 has no place for an error but the partitions.
        let error = refused.filter(|_| version >= 2);
        if let Some(error) = error.filter(|_| version < GROUPS_SINCE) {
            let mut response = OffsetFetchResponse::default();
            response.error_code = error.code();
            return encode_response(id, version, &response).map(Written::Instead);
        }
        failed = failed.or(error);
        let Some(of) = fetches.front_mut() else {
            return Ok(Written::Yes);
        };
        let (topics, more) = fetched.unwrap_or_default();
        let last = topics.last().filter(|_| more);
        let last = last.and_then(|(topic, offsets)| Some((topic.clone(), offsets.last()?.0)));
        let mut slice = WriteSlice {
            frame,
            version,
            image: &image,
            left: OFFSETS_TOLD_PER_SLICE,
        };
        let rest = match &mut of.topics {
            _ if error.is_some() => None,
            Topics::Some(wanted) => slice.add_wanted(wanted, topics.into(), refused)?,
            Topics::All(at) => slice.add_all(at, topics.into())?,
        };
        if let Some(rest) = rest {
            let rest = GroupAnswer::Fetched(Ok((rest.into(), more)));
            return Ok(Written::Rest(rest));
        }
        if last.is_some() {
            let behind = FetchedOf::AllAfter(last);
            let ask = GroupAsk::Fetch(name(&of.group), behind, of.fetcher.clone());
            return Ok(Written::Ask(ask));
        }
        if let Topics::All(Some(topic)) = &of.topics {
            slice.end_found(topic)?;
        }
        let Some(of) = fetches.pop_front() else {
            return Ok(Written::Yes);
        };
        if version >= GROUPS_SINCE && of.is_last {
            let mut group = OffsetFetchResponseGroup::default();
            group.group_id = of.group;
            group.error_code = failed.take().map_or(0, ErrorCode::code);
            // The error is behind the topics.
            frame.add_around(&group, 2)?;
        }
        Ok(Written::Yes)
    };
    Ok(GroupPlan::list(Asks::Groups(asks), frame, write))
}

/// The one group of an old request.
fn as_group(id: StrBytes, topics: Option<Vec<OffsetFetchRequestTopic>>) -> OffsetFetchRequestGroup {
    let mut group = OffsetFetchRequestGroup::default();
    group.group_id = id;
    group.topics = topics.map(|topics| {
        let named = topics.into_iter().map(|topic| {
            let mut named = OffsetFetchRequestTopics::default();
            named.name = topic.name;
            named.partition_indexes = topic.partition_indexes;
            named
        });
        named.collect()
    });
    group
}

/// What is asked of a group, in parts that are answered at a time.
fn fetch_of(
    image: &Image,
    version: i16,
    (group, stability): (OffsetFetchRequestGroup, Stability),
    (asks, fetches): (&mut Vec<GroupAsk>, &mut VecDeque<FetchOf>),
) {
    let group_name = name(&group.group_id);
    let fetcher = Fetcher {
        stability,
        member: group.member_id.as_ref().map(name),
        epoch: group.member_epoch,
    };
    let Some(topics) = group.topics else {
        let all = FetchedOf::AllAfter(None);
        asks.push(GroupAsk::Fetch(group_name, all, fetcher.clone()));
        return fetches.push_back(FetchOf {
            group: group.group_id,
            topics: Topics::All(None),
            fetcher,
            is_last: true,
        });
    };
    let (mut asked, mut wanted, mut count) = (Vec::new(), VecDeque::new(), 0);
    let mut push = |asked, wanted, is_last| {
        let asked = FetchedOf::Some(asked);
        asks.push(GroupAsk::Fetch(group_name.clone(), asked, fetcher.clone()));
        fetches.push_back(FetchOf {
            group: group.group_id.clone(),
            topics: Topics::Some(wanted),
            fetcher: fetcher.clone(),
            is_last,
        });
    };
    // Each once, as groups: long metadata named very often would make an answer of any size.
    let mut seen = HashSet::new();
    for mut topic in topics {
        // Names need not exist: nothing is committed for them, then.
        let ((of, id), unknown) = match find(image, version, &topic.name, topic.topic_id) {
            (Some(found), _) => {
                let partitions = &mut topic.partition_indexes;
                partitions.retain(|partition| seen.insert((found.id, *partition)));
                ((Name::clone(&found.name), found.id), None)
            }
            (None, error) if version >= TOPIC_IDS_SINCE => {
                ((Name::from(""), TopicId::ZERO), Some(error))
            }
            (None, _) => ((name(&topic.name), TopicId::ZERO), None),
        };
        let mut empty = OffsetFetchResponseTopics::default();
        empty.name = topic.name;
        empty.topic_id = topic.topic_id;
        let mut partitions = topic.partition_indexes;
        loop {
            let fit = (OFFSETS_TOLD_PER_SLICE - count).min(partitions.len());
            let behind = partitions.split_off(fit);
            let is_last = behind.is_empty();
            count += 1 + partitions.len();
            asked.push(OffsetsOf {
                name: Name::clone(&of),
                id,
                partitions: match unknown {
                    Some(_) => Vec::new(),
                    None => partitions.clone(),
                },
            });
            wanted.push_back(Wanted {
                topic: empty.clone(),
                partitions: partitions.into_iter(),
                unknown,
                is_last,
            });
            if count >= OFFSETS_TOLD_PER_SLICE {
                let (asked, wanted) = (std::mem::take(&mut asked), std::mem::take(&mut wanted));
                push(asked, wanted, false);
                count = 0;
            }
            if is_last {
                break;
            }
            partitions = behind;
        }
    }
    push(asked, wanted, true);
}

/// Offsets of topics, of which some are written.
type Offsets = VecDeque<TopicOffsets>;

/// What is written of a group's offsets at a time.
struct WriteSlice<'a> {
    frame: &'a mut ListFrame,
    version: i16,
    image: &'a Image,
    /// Of [`OFFSETS_TOLD_PER_SLICE`].
    left: usize,
}

impl WriteSlice<'_> {
    /// Writes those that were asked for. Returns what is left of them for another slice.
    fn add_wanted(
        &mut self,
        wanted: &mut VecDeque<Wanted>,
        mut found: Offsets,
        refused: Option<ErrorCode>,
    ) -> Result<Option<Offsets>, WireError> {
        while let Some(mut of) = wanted.pop_front() {
            let (topic, offsets) = found
                .pop_front()
                .unwrap_or_else(|| (group::name(""), vec![]));
            let mut offsets = offsets.into_iter();
            let error = of.unknown.or(refused);
            while self.left > 0
                && let Some(partition) = of.partitions.next()
            {
                let fetched = offsets.next().map(|(_, fetched)| fetched);
                let fetched = fetched.unwrap_or(FetchedOffset::Nothing);
                self.add(partition, &fetched, error)?;
            }
            if of.partitions.len() > 0 {
                wanted.push_front(of);
                found.push_front((topic, offsets.collect()));
                return Ok(Some(found));
            }
            if of.is_last {
                self.end_topic(&of.topic)?;
            }
        }
        Ok(None)
    }

    /// Writes those of all topics that there are, behind those that were written before. Returns what is left of them
    /// for another slice.
    fn add_all(
        &mut self,
        at: &mut Option<OffsetFetchResponseTopics>,
        mut found: Offsets,
    ) -> Result<Option<Offsets>, WireError> {
        while let Some((topic, offsets)) = found.pop_front() {
            // What is there for one that is gone is still to be deleted.
            let Some(id) = self.image.topic(&topic).map(|topic| topic.id) else {
                continue;
            };
            if at.as_ref().is_none_or(|at| at.name.as_str() != &*topic) {
                let mut next = OffsetFetchResponseTopics::default();
                next.name = text(&topic);
                if self.version >= TOPIC_IDS_SINCE {
                    next.topic_id = Uuid::from_bytes(id.0);
                }
                if let Some(before) = at.replace(next) {
                    self.end_found(&before)?;
                }
            }
            let mut offsets = offsets.into_iter();
            while self.left > 0
                && let Some((partition, fetched)) = offsets.next()
            {
                match fetched.is_of(id) {
                    true => self.add(partition, &fetched, None)?,
                    false => self.left -= 1,
                }
            }
            if offsets.len() > 0 {
                found.push_front((topic, offsets.collect()));
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Writes a partition of the topic at hand.
    fn add(
        &mut self,
        partition: i32,
        offset: &FetchedOffset,
        error: Option<ErrorCode>,
    ) -> Result<(), WireError> {
        self.left = self.left.saturating_sub(offset.things());
        let mut fetched = fetched_partition(partition, offset);
        if let Some(error) = error {
            fetched.error_code = error.code();
        }
        match self.version {
            GROUPS_SINCE.. => self.frame.add_piece(&fetched),
            _ => self.frame.add_part(&old_fetch_partition(fetched)),
        }
    }

    /// Writes the topic at hand, if anything of it was found.
    fn end_found(&mut self, topic: &OffsetFetchResponseTopics) -> Result<(), WireError> {
        let found = match self.version {
            GROUPS_SINCE.. => self.frame.pieces(),
            _ => self.frame.parts(),
        };
        match found {
            0 => Ok(()),
            _ => self.end_topic(topic),
        }
    }

    /// Writes the topic at hand around its partitions.
    fn end_topic(&mut self, topic: &OffsetFetchResponseTopics) -> Result<(), WireError> {
        if self.version >= GROUPS_SINCE {
            return self.frame.add_part_around(topic, 0);
        }
        let mut old = OffsetFetchResponseTopic::default();
        old.name = topic.name.clone();
        self.frame.add_around(&old, 0)
    }
}

/// OffsetDelete.
pub fn offset_delete(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: OffsetDeleteRequest = decode(body, header.version)?;
    let mut response = OffsetDeleteResponse::default();
    let mut targets: Vec<(Name, i32)> = Vec::new();
    let mut places = Vec::new();
    for (t, topic) in request.topics.iter().enumerate() {
        let known = cx.image.topic(&topic.name);
        let mut answer = OffsetDeleteResponseTopic::default();
        answer.name = topic.name.clone();
        for (p, partition) in topic.partitions.iter().enumerate() {
            let mut one = OffsetDeleteResponsePartition::default();
            one.partition_index = partition.partition_index;
            match known {
                Some(known) if has(known, partition.partition_index) => {
                    targets.push((Name::clone(&known.name), partition.partition_index));
                    places.push((t, p));
                }
                _ => one.error_code = ErrorCode::UnknownTopicOrPartition.code(),
            }
            answer.partitions.push(one);
        }
        response.topics.push(answer);
    }
    let ask = GroupAsk::DeleteOffsets(name(&request.group_id), targets);
    Ok(GroupPlan::ask(vec![ask], move |mut answers| {
        let deleted = match answers.next() {
            Some(GroupAnswer::OffsetsDeleted(deleted)) => deleted,
            other => Err(error_of(other)),
        };
        match deleted {
            Ok(errors) => {
                for ((t, p), error) in places.into_iter().zip(errors) {
                    response.topics[t].partitions[p].error_code = error.code();
                }
            }
            Err(error) => {
                response = OffsetDeleteResponse::default();
                response.error_code = error.code();
            }
        }
        response
    }))
}

/// The topic that a request names, and the error if there is none.
pub(super) fn find<'a>(
    image: &'a Image,
    version: i16,
    name: &str,
    id: Uuid,
) -> (Option<&'a Arc<Topic>>, ErrorCode) {
    if version >= TOPIC_IDS_SINCE {
        let id = TopicId(id.to_bytes());
        (image.topic_by_id(id), ErrorCode::UnknownTopicId)
    } else {
        (image.topic(name), ErrorCode::UnknownTopicOrPartition)
    }
}

pub(super) fn has(topic: &Topic, partition: i32) -> bool {
    topic.partition(partition).is_some()
}

fn fetched_partition(partition: i32, offset: &FetchedOffset) -> OffsetFetchResponsePartitions {
    let mut fetched = OffsetFetchResponsePartitions::default();
    let committed = match offset {
        FetchedOffset::At(committed) => Some(committed),
        FetchedOffset::Nothing => None,
        FetchedOffset::Unstable(_) => {
            fetched.error_code = ErrorCode::UnstableOffsetCommit.code();
            None
        }
    };
    fetched.partition_index = partition;
    fetched.committed_offset = committed.map_or(-1, |c| c.offset);
    fetched.committed_leader_epoch = committed.map_or(-1, |c| c.leader_epoch);
    fetched.metadata = Some(committed.map_or_else(StrBytes::default, |c| text(&c.metadata)));
    fetched
}

fn old_fetch_partition(fetched: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    let mut old = OffsetFetchResponsePartition::default();
    old.partition_index = fetched.partition_index;
    old.committed_offset = fetched.committed_offset;
    old.committed_leader_epoch = fetched.committed_leader_epoch;
    old.metadata = fetched.metadata;
    old.error_code = fetched.error_code;
    old
}

#[cfg(test)]
mod tests {
    use super::super::plan::ResponseShape;
    use super::*;
    use crate::base::{Mono, Now};
    use crate::broker::apis;
    use crate::controller::MetadataRecord;
    use crate::controller::testing::partition;
    use crate::group::Committed;
    use crate::wire::client::encode_request;
    use crate::wire::parse_header;

    const PARTITIONS: i32 = 2 * OFFSETS_TOLD_PER_SLICE as i32;
    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1,
    };

    fn image() -> Arc<Image> {
        let mut image = Image::default();
        let topic = MetadataRecord::Topic {
            name: "t".to_owned(),
            id: TopicId([7; 16]),
        };
        image.replay(&topic).unwrap();
        for index in 0..PARTITIONS {
            let record = partition(7, index, image.next_log);
            image.replay(&record).unwrap();
        }
        Arc::new(image)
    }

    /// What is committed: nothing for some partitions, and long metadata for some.
    fn committed(partition: i32) -> Option<Committed> {
        let long = if partition % 100 == 7 { 5_000 } else { 1 };
        (partition % 10 != 3).then(|| Committed {
            topic_id: TopicId([7; 16]),
            offset: partition.into(),
            leader_epoch: 1,
            metadata: Name::from("m".repeat(long)),
            commit_ms: 1,
            expire_ms: None,
            lacks_id: false,
        })
    }

    fn fetched(partition: i32) -> FetchedOffset {
        committed(partition).map_or(FetchedOffset::Nothing, FetchedOffset::At)
    }

    /// As a coordinator answers, three topics of which one is there.
    fn told(ask: &GroupAsk) -> GroupAnswer {
        let GroupAsk::Fetch(_, of, _) = ask else {
            panic!("{ask:?}");
        };
        let after = match of {
            FetchedOf::Some(topics) => {
                let found = topics.iter().map(|of| {
                    let has = |p: &i32| {
                        let found = committed(*p).filter(|c| c.is_of(of.id));
                        let found = found.map_or(FetchedOffset::Nothing, FetchedOffset::At);
                        (*p, found)
                    };
                    (of.name.clone(), of.partitions.iter().map(has).collect())
                });
                return GroupAnswer::Fetched(Ok((found.collect(), false)));
            }
            FetchedOf::AllAfter(after) => after.clone(),
        };
        let topics = ["gone", "t", "u"].map(Name::from);
        let all = topics
            .iter()
            .flat_map(|topic| (0..PARTITIONS).filter_map(move |p| Some((topic, p, committed(p)?))));
        let behind =
            |(topic, p): (&Name, i32)| after.as_ref().is_none_or(|(of, at)| (topic, p) > (of, *at));
        let mut all = all.filter(|(topic, p, _)| behind((topic, *p)));
        let mut some: Vec<TopicOffsets> = Vec::new();
        for (topic, p, committed) in all.by_ref().take(700) {
            let told = (p, FetchedOffset::At(committed));
            match some.last_mut() {
                Some((last, offsets)) if last == topic => offsets.push(told),
                _ => some.push((topic.clone(), vec![told])),
            }
        }
        GroupAnswer::Fetched(Ok((some, all.next().is_some())))
    }

    fn topic(version: i16, unknown: bool) -> OffsetFetchResponseTopics {
        let mut topic = OffsetFetchResponseTopics::default();
        if version >= TOPIC_IDS_SINCE {
            topic.topic_id = Uuid::from_bytes(if unknown { [9; 16] } else { [7; 16] });
        } else {
            topic.name = if unknown { "no" } else { "t" }.into();
        }
        topic
    }

    /// The request for all partitions of the topic that there is and one of another, or for all that there is; and its
    /// response.
    fn request(version: i16, named: bool) -> (OffsetFetchRequest, OffsetFetchResponse) {
        let mut found = topic(version, false);
        let partitions = (0..PARTITIONS).map(|p| fetched_partition(p, &fetched(p)));
        found.partitions = partitions
            .filter(|p| named || p.committed_offset >= 0)
            .collect();
        if version >= TOPIC_IDS_SINCE && !named {
            found.name = "t".into();
        }
        let mut unknown = topic(version, true);
        unknown.partitions = vec![fetched_partition(5, &FetchedOffset::Nothing)];
        if version >= TOPIC_IDS_SINCE {
            unknown.partitions[0].error_code = ErrorCode::UnknownTopicId.code();
        }
        let all = if named {
            vec![found, unknown]
        } else {
            vec![found]
        };
        let wanted = all.iter().map(|told| {
            let mut wanted = OffsetFetchRequestTopics::default();
            wanted.name = told.name.clone();
            wanted.topic_id = told.topic_id;
            let partitions = told.partitions.iter();
            wanted.partition_indexes = partitions.map(|p| p.partition_index).collect();
            wanted
        });
        let (mut request, mut response) = (
            OffsetFetchRequest::default(),
            OffsetFetchResponse::default(),
        );
        if version >= GROUPS_SINCE {
            let mut group = OffsetFetchRequestGroup::default();
            group.group_id = "g".into();
            group.topics = named.then(|| wanted.collect());
            request.groups = vec![group];
            let mut group = OffsetFetchResponseGroup::default();
            group.group_id = "g".into();
            group.topics = all;
            response.groups = vec![group];
            return (request, response);
        }
        request.group_id = "g".into();
        let wanted = wanted.map(|wanted| {
            let mut old = OffsetFetchRequestTopic::default();
            old.name = wanted.name;
            old.partition_indexes = wanted.partition_indexes;
            old
        });
        request.topics = named.then(|| wanted.collect());
        let old = all.into_iter().map(|topic| {
            let mut old = OffsetFetchResponseTopic::default();
            old.name = topic.name;
            let partitions = topic.partitions.into_iter();
            old.partitions = partitions.map(old_fetch_partition).collect();
            old
        });
        response.topics = old.collect();
        (request, response)
    }

    #[test]
    fn many_offsets_of_one_topic_are_asked_and_written_in_slices_and_are_the_same() {
        let image = image();
        let cx = PlanCx {
            now: NOW,
            image: &image,
            metadata_max: 0,
            client_host: String::new(),
        };
        for (version, named) in (1..=10).flat_map(|version| [(version, true), (version, false)]) {
            // Version 1 cannot ask for all.
            if version == 1 && !named {
                continue;
            }
            let (asked, whole) = request(version, named);
            let frame = encode_request(7, Some("c"), version, &asked).unwrap();
            let (header, body) = parse_header(frame.slice(4..), apis::api).unwrap();
            let plan = offset_fetch(&cx, &header, body).unwrap();
            let (Asks::Groups(asks), ResponseShape::Listed(mut response)) = (plan.asks, plan.shape)
            else {
                panic!("it is long");
            };
            let (mut asks, mut slices) = (VecDeque::from(asks), 0);
            while let Some(ask) = asks.pop_front() {
                let mut answer = told(&ask);
                loop {
                    let things = answer.things();
                    slices += 1;
                    let (mut next, mut rest) = (None, None);
                    match response.write(answer).unwrap() {
                        Written::Yes => {}
                        Written::Ask(ask) => next = Some(ask),
                        Written::Rest(answer) => rest = Some(answer),
                        other => panic!("{other:?}"),
                    }
                    let written = things - rest.as_ref().map_or(0, GroupAnswer::things);
                    assert!(written < OFFSETS_TOLD_PER_SLICE + 100, "{written}");
                    response.end_slice();
                    if let Some(next) = next {
                        asks.push_front(next);
                    }
                    let Some(rest) = rest else {
                        break;
                    };
                    answer = rest;
                }
            }
            assert!(slices > 3, "{slices}");
            let told = response.finish().unwrap().concat();
            let at_once = encode_response(7, version, &whole).unwrap();
            assert!(told == at_once, "version {version}, named: {named}");
        }
    }
}
