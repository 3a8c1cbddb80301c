//! The start of the control shard: it reads what store-0 has of the metadata, one log after the other, and comes to
//! what the replica of this node starts with.
//!
//! Stores of releases before the quorum have metadata records in the metadata log and nothing else. They are read as
//! they were then; what they come to is written down as the first snapshot, and the log goes on behind them. As long as
//! no state is on the disk, and with it the snapshot, such a store is what it was. A new store is the same with no
//! records at all.

use super::logs;
use super::snapshot::SnapshotReader;
use crate::base::{LeaderEpoch, LogId, Offset};
use crate::broker::fx::Fx;
use crate::broker::own::reader::LogReader;
use crate::broker::own::run::{self, BatchRun};
use crate::broker::owner::work::Worker;
use crate::broker::owner::{OpenLog, Owner};
use crate::config::BrokerConfig;
use crate::controller::{
    Image, METADATA_LOG, METADATA_SNAPSHOT_LOG, METADATA_STATE_LOG, MetadataRecord,
};
use crate::quorum::{
    EntryId, EntryIndex, HardState, QuorumEntry, ReplicaKey, Restored, SnapshotMark, Voters,
};
use crate::record;

/// What was found.
#[derive(Debug)]
pub struct FoundMetadata {
    /// What the replica starts with.
    pub restored: Restored,
    /// What its snapshot is of.
    pub image: Image,
    /// The snapshot is still to be written down.
    pub is_new: bool,
}

/// What is being read.
#[derive(Debug)]
enum Phase {
    Snapshots(SnapshotReader),
    State(SnapshotReader, Option<HardState>),
    /// The metadata log as releases before the quorum wrote it.
    Old(Image),
    Entries(Restored, Image),
}

/// See the module.
#[derive(Debug)]
pub struct Load {
    pub reader: LogReader,
    me: ReplicaKey,
    phase: Option<Phase>,
    at: Offset,
    /// The image before there are any records.
    nothing: Image,
    /// What a state of this replica says already, if what follows is of a release before the quorum nevertheless.
    promised: LeaderEpoch,
}

impl Load {
    /// For a replica whose image is this one before there are any records.
    pub fn new(me: ReplicaKey, nothing: Image) -> Self {
        Self {
            reader: LogReader::new(Worker::Metadata),
            me,
            phase: Some(Phase::Snapshots(SnapshotReader::new(nothing.clone()))),
            at: Offset(0),
            nothing,
            promised: LeaderEpoch(0),
        }
    }

    /// Opens the logs, or makes them on the first start, and begins to read.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn start(
        &mut self,
        config: &BrokerConfig,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        logs::open_all(config, owner, fx)?;
        self.read_from_start(METADATA_SNAPSHOT_LOG, owner, fx);
        Ok(())
    }

    fn read_from_start(&mut self, log: LogId, owner: &mut Owner, fx: &mut Fx<'_>) {
        let open = owner.partitions.get(&log);
        let start = open.map_or(Offset(0), |open| open.log.start_offset());
        self.read_from(log, start, owner, fx);
    }

    fn read_from(&mut self, log: LogId, at: Offset, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.at = at;
        self.reader.load(owner, log, at, fx);
    }

    /// Takes what was read. Returns what was found when that was all.
    ///
    /// # Errors
    /// What is wrong with the metadata.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<Option<FoundMetadata>, String> {
        while let Some((log, result)) = self.reader.next() {
            let (at, topic) = (self.at, logs::label(log).topic);
            let read = result.map_err(|error| format!("errno {}", error.errno));
            if let Ok(bytes) = &read
                && self.is_old_after_all(bytes)
            {
                self.read_from_start(METADATA_LOG, owner, fx);
                continue;
            }
            let end = read.and_then(|bytes| self.take(&bytes));
            let end = end.map_err(|why| {
                let what = match log {
                    METADATA_LOG => "the metadata log",
                    METADATA_STATE_LOG => "the state of the metadata log",
                    _ => "the snapshots of the metadata",
                };
                format!(
                    "{what} ({topic}, log {log} of store-0) cannot be understood from offset {at} on: {why}"
                )
            })?;
            if end > at {
                self.read_from(log, end, owner, fx);
                continue;
            }
            let open = owner.partitions.get(&log);
            if let Some(last) = open.map(|open| open.log.end_offset())
                && last != end
            {
                // What is behind would be forgotten.
                return Err(format!(
                    "{topic} (log {log} of store-0) ends at {last} and cannot be read from offset {end} on"
                ));
            }
            if let Some(loaded) = self.next_phase(owner, fx)? {
                return Ok(Some(loaded));
            }
        }
        Ok(None)
    }

    /// Whether a release before the quorum has written behind the first snapshot: it was started again when no entry
    /// followed yet. Then all that there is was written by such ones, and is read so. An entry has a term.
    fn is_old_after_all(&mut self, bytes: &[u8]) -> bool {
        let Some(Phase::Entries(restored, _)) = &self.phase else {
            return false;
        };
        let first = restored.snapshot.id.index.next();
        let at_first = restored.entries.is_empty() && self.at == logs::offset_of(first);
        let is_old = at_first && record::parse(bytes).is_ok_and(|info| info.leader_epoch == 0);
        if is_old {
            self.promised = restored.state.term;
            self.phase = Some(Phase::Old(self.nothing.clone()));
        }
        is_old
    }

    /// Takes a part of the log that is being read; where it ends.
    fn take(&mut self, bytes: &[u8]) -> Result<Offset, String> {
        let mut run = BatchRun::new(bytes, self.at);
        match &mut self.phase {
            Some(Phase::Snapshots(snapshots)) => {
                run.each_batch(&mut |_, batch| snapshots.take(batch))?;
            }
            Some(Phase::State(_, state)) => run.each_batch(&mut |_, batch| {
                *state = Some(logs::state_of(batch)?);
                Ok(())
            })?,
            Some(Phase::Entries(restored, _)) => run.each_batch(&mut |info, batch| {
                restored.entries.push(logs::entry_of(info, batch)?);
                Ok(())
            })?,
            Some(Phase::Old(image)) => run.each_batch(&mut |_, batch| {
                run::feed(batch, &mut |_, value, _| {
                    let value = value.ok_or("a metadata record without a value")?;
                    let record =
                        MetadataRecord::decode(value).map_err(|error| error.to_string())?;
                    image.replay(&record).map_err(|error| error.to_string())
                })
            })?,
            None => {}
        }
        Ok(run.next)
    }

    /// A log was read to its end: begins with the next one.
    fn next_phase(
        &mut self,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<Option<FoundMetadata>, String> {
        match self.phase.take() {
            Some(Phase::Snapshots(snapshots)) => {
                self.phase = Some(Phase::State(snapshots, None));
                self.read_from_start(METADATA_STATE_LOG, owner, fx);
            }
            Some(Phase::State(snapshots, None)) => match snapshots.whole {
                // Of a quorum of several, which has an id before it has an entry: it had promised nothing yet.
                Some((snapshot, image)) if is_of_several(&snapshot, &image) => {
                    owner.begin_at(fx.now, METADATA_LOG, Offset(1));
                    self.read_entries(snapshot.id.index, false, owner, fx)?;
                    let restored = Restored {
                        state: HardState::default(),
                        snapshot,
                        entries: Vec::new(),
                    };
                    self.phase = Some(Phase::Entries(restored, image));
                }
                _ => {
                    self.phase = Some(Phase::Old(snapshots.nothing));
                    self.read_from_start(METADATA_LOG, owner, fx);
                }
            },
            Some(Phase::State(snapshots, Some(mut state))) => {
                let (whole, is_fetched) = (snapshots.whole, snapshots.is_fetched);
                let (snapshot, image) = whole.ok_or(
                    "store-0 has no whole snapshot of the metadata: restore the store from a copy",
                )?;
                let term = snapshot.id.term;
                if state.term < term {
                    // As below: it ended between a snapshot that was fetched and the state behind it.
                    (state.term, state.vote) = (term, None);
                }
                self.read_entries(snapshot.id.index, is_fetched, owner, fx)?;
                let restored = Restored {
                    state,
                    snapshot,
                    entries: Vec::new(),
                };
                self.phase = Some(Phase::Entries(restored, image));
            }
            Some(Phase::Old(image)) => return self.begin_anew(image, owner, fx).map(Some),
            Some(Phase::Entries(mut restored, image)) => {
                let last = restored.entries.last().map(|entry| entry.id.term);
                let state = &mut restored.state;
                if let Some(term) = last.filter(|term| *term > state.term) {
                    // The process ended between entries and the state that was to follow them: it had not promised
                    // anything in that term.
                    (state.term, state.vote) = (term, None);
                }
                return Ok(Some(FoundMetadata {
                    restored,
                    image,
                    is_new: false,
                }));
            }
            None => {}
        }
        Ok(None)
    }

    /// Begins to read the entries that follow a snapshot.
    fn read_entries(
        &mut self,
        behind: EntryIndex,
        is_fetched: bool,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let first = logs::offset_of(behind.next());
        let begins = |open: &OpenLog| open.log.start_offset() < first;
        if is_fetched && owner.partitions.get(&METADATA_LOG).is_some_and(begins) {
            // The process ended before the log began anew behind the snapshot, which stands for all of it that is
            // committed.
            owner.begin_anew(fx.now, METADATA_LOG, first);
        }
        let (start, end) = owner
            .partitions
            .get(&METADATA_LOG)
            .map_or((Offset(0), Offset(0)), |open| {
                (open.log.start_offset(), open.log.end_offset())
            });
        if start > first || end < first {
            return Err(format!(
                "the metadata log (log {METADATA_LOG} of store-0) has offsets {start} to {end}, and its snapshot ends \
                 before {first}: restore the store from a copy"
            ));
        }
        self.read_from(METADATA_LOG, first, owner, fx);
        Ok(())
    }

    /// What a store of an earlier release comes to, or a new one.
    fn begin_anew(
        &self,
        image: Image,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<FoundMetadata, String> {
        // The first entry of a quorum has number 1.
        let (start, end) = owner.begin_at(fx.now, METADATA_LOG, Offset(1));
        if image.version == 0 && end > Offset(1) {
            return Err(format!(
                "the metadata log (log {METADATA_LOG} of store-0) has offsets {start} to {end}, and no metadata in them"
            ));
        }
        let index = EntryIndex(end.0.unsigned_abs() - 1);
        // Terms begin with 1, and an entry has one: that of records from before there were any.
        let term = LeaderEpoch(i32::from(index > EntryIndex::ZERO));
        let newest = term.max(self.promised);
        let voters = Voters::new([self.me]).ok_or("a quorum without voters")?;
        let id = EntryId { term, index };
        Ok(FoundMetadata {
            restored: Restored {
                state: HardState {
                    term: newest,
                    vote: None,
                    commit: index,
                },
                snapshot: SnapshotMark { id, voters },
                entries: Vec::<QuorumEntry>::new(),
            },
            image,
            is_new: true,
        })
    }
}

/// Whether a snapshot is the one with which nodes form a quorum.
fn is_of_several(snapshot: &SnapshotMark, image: &Image) -> bool {
    snapshot.id.index == EntryIndex::ZERO && image.cluster_id.is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::base::NodeId;
    use crate::base::TopicId;
    use crate::broker::control::snapshot::{SnapshotWriter, SnapshotWritten};
    use crate::broker::control::testing::{NOW, Site, batch, directories, topic, unreadable};
    use crate::controller::testing::partition;
    use crate::controller::{FEATURE_LEVEL, METADATA_LOGS};
    use crate::log::LogConfig;
    use crate::quorum::Payload;
    use crate::record::{BatchBuilder, Codec};
    use crate::store::LogLabel;

    fn me() -> ReplicaKey {
        let directory = directories(1)[0].id;
        let node = BrokerConfig::default().node();
        ReplicaKey { node, directory }
    }

    /// A start: what is found.
    fn start(site: &mut Site) -> Result<FoundMetadata, String> {
        site.restart();
        let here = directories(1);
        let nothing = Image::of_node(here.iter().map(|directory| directory.id));
        let mut load = Load::new(me(), nothing);
        let config = Arc::new(BrokerConfig::default());
        site.act(|owner, fx| load.start(&config, owner, fx))?;
        let found = site.act(|owner, fx| load.read(owner, fx))?;
        Ok(found.expect("it is read in one go"))
    }

    fn write(site: &mut Site, log: LogId, batch: Bytes) {
        let written = site.act(|owner, fx| owner.append_internal(fx.now, log, batch));
        written.expect("written");
    }

    /// As releases before the quorum wrote it.
    fn decided(records: Vec<MetadataRecord>) -> Bytes {
        let mut batch = BatchBuilder::new(Codec::None, NOW.wall_ms);
        for record in records {
            let value = record.encode(FEATURE_LEVEL - 1);
            batch.push(NOW.wall_ms, None, Some(&value), &[]);
        }
        batch.build()
    }

    #[test]
    fn a_first_start_makes_the_logs_and_finds_nothing() {
        let mut site = Site::new();
        site.owner.partitions.clear();
        let found = start(&mut site).unwrap();
        assert_eq!((found.image.version, found.is_new), (0, true));
        assert_eq!(
            found.restored,
            Restored::empty(Voters::new([me()]).unwrap())
        );
        let open = &site.owner.partitions;
        assert!(METADATA_LOGS.iter().all(|log| open.contains_key(log)));
        assert_eq!(open[&METADATA_LOG].log.end_offset(), Offset(1));
    }

    #[test]
    fn what_an_earlier_release_decided_becomes_the_first_snapshot() {
        let mut site = Site::new();
        write(
            &mut site,
            METADATA_LOG,
            decided(vec![topic(1), partition(1, 0, 1)]),
        );
        write(&mut site, METADATA_LOG, decided(vec![topic(2)]));
        let found = start(&mut site).unwrap();
        let image = &found.image;
        assert_eq!((image.version, image.next_log, found.is_new), (3, 2, true));
        assert!(image.topic("topic-1").is_some() && image.topic("topic-2").is_some());
        let id = found.restored.snapshot.id;
        assert_eq!((id.term.0, id.index.0), (1, 2), "the last record of them");
        assert_eq!(found.restored.state.term, id.term);
    }

    #[test]
    fn metadata_that_cannot_be_understood_refuses_the_start() {
        let no_record = batch(b"", b"\xff what is this");
        // A removal of what is not there.
        let no_sense = decided(vec![MetadataRecord::RemoveTopic {
            id: TopicId([9; 16]),
        }]);
        let entry = logs::entry_batch(&Payload::LeaderChange, 0);
        for bad in [no_record, no_sense, unreadable(), entry] {
            for log in METADATA_LOGS {
                let mut site = Site::new();
                write(&mut site, METADATA_LOG, decided(vec![topic(1)]));
                write(&mut site, log, bad.clone());
                let why = start(&mut site).unwrap_err();
                assert!(why.contains("cannot be understood"), "{log}: {why}");
                assert!(why.contains(&format!("log {log} of store-0")), "{why}");
            }
        }
    }

    /// What a replica has promised is there, and not what it is about.
    #[test]
    fn a_state_without_its_snapshot_refuses_the_start() {
        let mut site = Site::new();
        let state = logs::state_batch(&HardState::default(), 0);
        write(&mut site, METADATA_STATE_LOG, state);
        let why = start(&mut site).unwrap_err();
        assert!(why.contains("no whole snapshot"), "{why}");
    }

    /// A process ends between the snapshot with which its quorum begins, or the first entries, and the first state.
    #[test]
    fn a_quorum_that_has_just_formed_is_not_forgotten() {
        for entries in 0..2 {
            let mut site = Site::new();
            let mut image = Image::of_node(directories(1).iter().map(|directory| directory.id));
            let id = "formed".to_owned();
            image.replay(&MetadataRecord::Cluster { id }).unwrap();
            let other = ReplicaKey {
                node: NodeId(9),
                ..me()
            };
            let mark = Restored::empty(Voters::new([me(), other]).unwrap()).snapshot;
            let mut writer = SnapshotWriter::new(mark.clone(), &image, false);
            site.act(|owner, fx| {
                let written = writer.go_on(&mut usize::MAX.clone(), owner, fx);
                assert!(matches!(written, Ok(SnapshotWritten::Whole { .. })));
                for index in 1..=entries {
                    owner.begin_at(fx.now, METADATA_LOG, Offset(1));
                    let batch = logs::entry_batch(&Payload::LeaderChange, 0);
                    let place = (Offset(index), LeaderEpoch(1));
                    owner.append_at(fx.now, METADATA_LOG, place, batch).unwrap();
                }
            });
            let found = start(&mut site).unwrap();
            assert!(!found.is_new && found.image.cluster_id == image.cluster_id);
            assert_eq!(found.restored.snapshot, mark);
            assert_eq!(found.restored.entries.len() as i64, entries);
            assert_eq!(found.restored.state.term.0 as i64, entries);
        }
    }

    #[test]
    fn a_start_without_a_log_for_the_metadata_is_refused() {
        for log in METADATA_LOGS {
            let mut other = Site::new();
            other.owner.partitions.remove(&log);
            let label = LogLabel::default();
            other
                .owner
                .open_own(NOW, 0, log, label, LogConfig::default());
            let why = start(&mut other).unwrap_err();
            assert!(
                why.contains(&format!("log {log} of store-0 is not")),
                "{why}"
            );
        }
        let mut none = Site::new();
        none.restart();
        none.owner.slots.clear();
        let why = start(&mut none).unwrap_err();
        assert!(why.contains("is missing"), "{why}");
    }
}
