//! A consumer that assigns itself its partitions and only commits offsets:
//! generation -1, no member id.

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::finding::{find_coordinator, found_coordinator, group_name, looks_again};
use super::frames::{error_of, frame, message, text, uuid};
use super::shared::{Phase, Whom};
use super::talk::{Next, Script};
use crate::base::ErrorCode;
use crate::sim::fact::{Address, Fact, Moment, Place, Use};
use crate::sim::what::What;
use crate::wire::client;

/// API keys.
const COMMIT: i16 = 8;
const FETCH: i16 = 9;

#[derive(Clone, Copy, Debug)]
enum Asked {
    Coordinator(i16),
    Commit(i16, Place, i64),
    Fetch(i16, Place),
}

/// See the module.
#[derive(Debug)]
pub struct Committer {
    group: u32,
    asked: Option<Asked>,
    /// What was asked right behind that.
    behind: Option<Asked>,
    rest: bool,
    coordinator_known: bool,
}

impl Committer {
    /// The only committer of this group.
    #[must_use]
    pub const fn new(group: u32) -> Self {
        Self {
            group,
            asked: None,
            behind: None,
            rest: false,
            coordinator_known: false,
        }
    }
}

/// Who commits: generation and member, or -1 and nobody.
pub type Identity<'a> = (i32, &'a str);

/// The next offset that a group commits for a partition, told to the oracle, and the request.
pub fn commit(
    ctx: &mut Ctx<'_>,
    version: i16,
    group: u32,
    (generation, member): Identity<'_>,
    at: Place,
) -> (i64, Bytes) {
    let next = ctx.shared.commits.entry((group, at)).or_default();
    *next += 1;
    let offset = *next;
    ctx.oracle.tell(Fact::Committing { group, at, offset });
    let mut partition = message!(kw::offset_commit_request::OffsetCommitRequestPartition {
        partition_index: at.partition,
        committed_offset: offset,
        committed_metadata: Some(text(&format!("m{offset}"))),
    });
    if version >= 6 {
        partition.committed_leader_epoch = 0;
    }
    let mut topic = message!(kw::offset_commit_request::OffsetCommitRequestTopic {
        partitions: vec![partition],
    });
    if let Some(known) = ctx.shared.topic(at.topic) {
        if version >= 10 {
            topic.topic_id = uuid(known.id);
        } else {
            topic.name = text(&known.name);
        }
    }
    let request = message!(kw::OffsetCommitRequest {
        group_id: text(&group_name(group)),
        generation_id_or_member_epoch: generation,
        member_id: text(member),
        topics: vec![topic],
    });
    (offset, frame(version, &request))
}

/// The error of the one partition of a commit.
pub fn committed(frame: Bytes, version: i16) -> Result<ErrorCode, String> {
    let (_, response) = client::decode_response::<kw::OffsetCommitRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let partition = response
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())
        .ok_or("no partition in the answer")?;
    Ok(error_of(partition.error_code))
}

/// Asks for the committed offset of a partition.
pub fn fetch_commit(
    ctx: &Ctx<'_>,
    version: i16,
    group: u32,
    (generation, member): Identity<'_>,
    at: Place,
) -> Bytes {
    frame(
        version,
        &commit_asked(ctx, version, group, (generation, member), at),
    )
}

/// The first version that can ask to be told of no offset while transactions may change it.
pub const STABLE_FROM: i16 = 7;

/// The same, unless a transaction that is not over may change it.
pub fn fetch_stable(ctx: &Ctx<'_>, version: i16, group: u32, at: Place) -> Bytes {
    let mut request = commit_asked(ctx, version, group, (-1, ""), at);
    request.require_stable = true;
    frame(version, &request)
}

fn commit_asked(
    ctx: &Ctx<'_>,
    version: i16,
    group: u32,
    (generation, member): Identity<'_>,
    at: Place,
) -> kw::OffsetFetchRequest {
    let name = ctx.shared.topic(at.topic).map_or("", |topic| &topic.name);
    let partitions = vec![at.partition];
    let group = text(&group_name(group));
    let mut request = kw::OffsetFetchRequest::default();
    if version < 8 {
        request.group_id = group;
        request.topics = Some(vec![message!(
            kw::offset_fetch_request::OffsetFetchRequestTopic {
                name: text(name),
                partition_indexes: partitions,
            }
        )]);
    } else {
        let mut topic = message!(kw::offset_fetch_request::OffsetFetchRequestTopics {
            partition_indexes: partitions,
        });
        match ctx.shared.topic(at.topic) {
            Some(known) if version >= 10 => topic.topic_id = uuid(known.id),
            _ => topic.name = text(name),
        }
        let mut asked = message!(kw::offset_fetch_request::OffsetFetchRequestGroup {
            group_id: group,
            topics: Some(vec![topic]),
        });
        if version >= 9 && generation >= 0 {
            asked.member_id = Some(text(member));
            asked.member_epoch = generation;
        }
        request.groups = vec![asked];
    }
    request
}

/// The committed offset of the one partition asked for.
pub fn fetched_commit(frame: Bytes, version: i16) -> Result<Result<i64, ErrorCode>, String> {
    let (_, response) = client::decode_response::<kw::OffsetFetchRequest>(frame, version)
        .map_err(|error| error.to_string())?;
    let (error, partition) = if version < 8 {
        let topic = response.topics.first();
        let partition = topic.and_then(|topic| topic.partitions.first());
        let partition = partition.map(|p| (p.error_code, p.committed_offset, &p.metadata));
        (response.error_code, partition)
    } else {
        let group = response.groups.first().ok_or("no group in the answer")?;
        let topic = group.topics.first();
        let partition = topic.and_then(|topic| topic.partitions.first());
        let partition = partition.map(|p| (p.error_code, p.committed_offset, &p.metadata));
        (group.error_code, partition)
    };
    if error != 0 {
        return Ok(Err(error_of(error)));
    }
    let (error, offset, metadata) = partition.ok_or("no partition in the answer")?;
    if error != 0 {
        return Ok(Err(error_of(error)));
    }
    let metadata = metadata.as_ref().map_or("", |text| text);
    if offset >= 0 && metadata != format!("m{offset}") {
        return Err(format!("offset {offset} with metadata {metadata:?}"));
    }
    Ok(Ok(offset))
}

impl Committer {
    fn answered(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) -> Result<(), String> {
        let group = self.group;
        let error = match self.asked {
            Some(Asked::Coordinator(version)) => {
                self.coordinator_known = found_coordinator(ctx, self.group, frame, version)?;
                return Ok(());
            }
            Some(Asked::Commit(version, at, offset)) => {
                let error = committed(frame, version)?;
                if error.is_none() {
                    ctx.oracle.tell(Fact::Committed { group, at, offset });
                }
                error
            }
            Some(Asked::Fetch(version, at)) => match fetched_commit(frame, version)? {
                Ok(offset) => {
                    let asked = ctx.as_of_group(&group_name(group), asked);
                    ctx.oracle.tell(Fact::CommitRead {
                        group,
                        at,
                        asked,
                        offset,
                    });
                    ErrorCode::None
                }
                Err(error) => error,
            },
            None => ErrorCode::None,
        };
        if looks_again(error) || ctx.passes(error) {
            ctx.oracle.saw(What::NoCoordinator);
            self.coordinator_known = false;
        } else if !error.is_none() {
            return Err(error.to_string());
        }
        Ok(())
    }
}

impl Script for Committer {
    fn next(&mut self, ctx: &mut Ctx<'_>) -> Next {
        if ctx.shared.phase != Phase::Busy {
            return Next::Done;
        }
        let places = ctx.shared.places(|topic| topic.used == Use::Kept);
        self.rest = !self.rest;
        if places.is_empty() || self.rest {
            self.asked = None;
            return Next::Pause(ctx.up_to_ms(20));
        }
        let at = ctx.pick(&places);
        let (asked, request) = if !self.coordinator_known {
            let (version, request) = find_coordinator(ctx, self.group);
            (Asked::Coordinator(version), request)
        } else if ctx.rng.chance(2, 3) {
            let version = ctx.version(COMMIT, 2);
            let (offset, request) = commit(ctx, version, self.group, (-1, ""), at);
            let asked = Asked::Commit(version, at, offset);
            if ctx.rng.chance(1, 2) {
                // As consumers do that commit without waiting and then ask.
                let version = ctx.version(FETCH, 1);
                let behind = fetch_commit(ctx, version, self.group, (-1, ""), at);
                self.asked = Some(asked);
                self.behind = Some(Asked::Fetch(version, at));
                return Next::AskBehind(request, behind);
            }
            (asked, request)
        } else {
            let version = ctx.version(FETCH, 1);
            let request = fetch_commit(ctx, version, self.group, (-1, ""), at);
            (Asked::Fetch(version, at), request)
        };
        self.asked = Some(asked);
        Next::Ask(request)
    }

    fn home(&self, ctx: &mut Ctx<'_>) -> Option<Address> {
        ctx.shared.coordinators.get(&self.group).copied()
    }

    fn whom(&self, _ctx: &Ctx<'_>) -> Whom {
        match self.coordinator_known {
            true => Whom::Coordinator(self.group),
            false => Whom::Anybody,
        }
    }

    fn answer(&mut self, ctx: &mut Ctx<'_>, frame: Bytes, asked: Moment) {
        if let Err(why) = self.answered(ctx, frame, asked) {
            let what = format!("{}: {:?}: {why}", group_name(self.group), self.asked);
            ctx.oracle.fail("GoodCommitsAreTaken", what);
        }
        if let Some(behind) = self.behind.take() {
            self.asked = Some(behind);
        }
    }

    fn lost(&mut self, _ctx: &mut Ctx<'_>) {
        self.coordinator_known = false;
        self.behind = None;
    }

    fn doing(&self) -> String {
        format!("committer of {}: {:?}", group_name(self.group), self.asked)
    }
}
