//! What a replica has on its disk, as bytes. Each begins with its version; reading takes all of the bytes, or fails.
//! Terms of entries, and where they are in the log, are with whoever keeps them.
//!
//! ```text
//! state:    version u8 | term i32 | whether there is a vote u8, and the replica | commit u64     little-endian
//! mark:     version u8 | entry id | voters
//! payload:  of a leader change nothing, of records they themselves, of voters: voters
//! ```

use bytes::Bytes;

use super::codec::{
    LEADER_CHANGE, RECORDS, VOTERS, flag, mark, put_id, put_replica, put_voters, replica, voters,
};
use super::entry::{EntryIndex, HardState, Payload, SnapshotMark};
use crate::base::LeaderEpoch;
use crate::base::codec::{Put, Reader};
use crate::base::limits::QUORUM_ENTRY_BYTES_MAX;

/// The version that is written of state and mark, and the only one that is read.
const VERSION: u8 = 0;

/// Reads all of the bytes behind the version.
fn read<T>(bytes: &Bytes, read: impl FnOnce(&mut Reader) -> Option<T>) -> Option<T> {
    let mut from = Reader::new(bytes.clone());
    if from.u8()? != VERSION {
        return None;
    }
    read(&mut from).filter(|_| from.is_at_end())
}

impl HardState {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = vec![VERSION];
        to.i32(self.term.0);
        to.u8(self.vote.is_some().into());
        if let Some(vote) = self.vote {
            put_replica(&mut to, vote);
        }
        to.u64(self.commit.0);
        to
    }

    /// The state that these bytes are; `None` if they are none that this release writes.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        read(bytes, |from| {
            let term = LeaderEpoch(from.i32()?);
            let vote = match flag(from)? {
                true => Some(replica(from)?),
                false => None,
            };
            let commit = EntryIndex(from.size()?);
            (term.0 >= 0).then_some(Self { term, vote, commit })
        })
    }
}

impl SnapshotMark {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = vec![VERSION];
        put_id(&mut to, self.id);
        put_voters(&mut to, &self.voters);
        to
    }

    /// The mark that these bytes are; `None` if they are none that this release writes.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        read(bytes, mark).filter(|mark| mark.id.term.0 >= 0)
    }
}

impl Payload {
    /// Its kind, and what else it says.
    #[must_use]
    pub fn encode(&self) -> (u8, Bytes) {
        match self {
            Self::LeaderChange => (LEADER_CHANGE, Bytes::new()),
            Self::Records(records) => (RECORDS, records.clone()),
            Self::Voters(voters) => {
                let mut to = Vec::new();
                put_voters(&mut to, voters);
                (VOTERS, to.into())
            }
        }
    }

    /// The payload that these are; `None` if they are none that this release writes.
    #[must_use]
    pub fn decode(kind: u8, bytes: &Bytes) -> Option<Self> {
        match kind {
            LEADER_CHANGE => bytes.is_empty().then_some(Self::LeaderChange),
            RECORDS if bytes.len() > QUORUM_ENTRY_BYTES_MAX => None,
            // Memory of its own: entries live longer than what is read at a time.
            RECORDS => Some(Self::Records(Bytes::copy_from_slice(bytes))),
            VOTERS => {
                let mut from = Reader::new(bytes.clone());
                let voters = voters(&mut from)?;
                from.is_at_end().then_some(Self::Voters(voters))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry::EntryId;
    use super::super::testing::key;
    use super::super::voters::Voters;
    use super::*;

    fn states() -> Vec<HardState> {
        let state = |vote| HardState {
            term: LeaderEpoch(7),
            vote,
            commit: EntryIndex(9),
        };
        vec![state(None), state(Some(key(3))), HardState::default()]
    }

    fn snapshot() -> SnapshotMark {
        SnapshotMark {
            id: EntryId {
                term: LeaderEpoch(2),
                index: EntryIndex(5),
            },
            voters: Voters::new([key(1), key(4)]).unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_part_of_it_is_not() {
        for state in states() {
            let bytes = Bytes::from(state.encode());
            assert_eq!(HardState::decode(&bytes), Some(state));
            for cut in 0..bytes.len() {
                assert_eq!(HardState::decode(&bytes.slice(..cut)), None);
            }
            let more = [&bytes[..], &[0]].concat();
            assert_eq!(HardState::decode(&more.into()), None);
        }
        let bytes = Bytes::from(snapshot().encode());
        assert_eq!(SnapshotMark::decode(&bytes), Some(snapshot()));
        for cut in 0..bytes.len() {
            assert_eq!(SnapshotMark::decode(&bytes.slice(..cut)), None);
        }
        for payload in [
            Payload::LeaderChange,
            Payload::Records(Bytes::from_static(b"records")),
            Payload::Voters(snapshot().voters),
        ] {
            let (kind, bytes) = payload.encode();
            assert_eq!(Payload::decode(kind, &bytes), Some(payload));
            assert_eq!(Payload::decode(9, &bytes), None);
        }
        assert_eq!(
            Payload::decode(LEADER_CHANGE, &Bytes::from_static(b"x")),
            None
        );
    }

    #[test]
    fn the_format_stays_what_it_is() {
        let mut state = vec![0, 7, 0, 0, 0, 1, 3, 0, 0, 0];
        state.extend([3; 16]);
        state.extend([9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(states()[1].encode(), state);
        let mut mark = vec![0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0];
        mark.extend([1; 16]);
        mark.extend([4, 0, 0, 0]);
        mark.extend([4; 16]);
        assert_eq!(snapshot().encode(), mark);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(kind in 0u8..5, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let bytes = Bytes::from(bytes);
            if let Some(state) = HardState::decode(&bytes) {
                prop_assert_eq!(&state.encode()[..], &bytes[..]);
            }
            if let Some(mark) = SnapshotMark::decode(&bytes) {
                prop_assert_eq!(&mark.encode()[..], &bytes[..]);
            }
            if let Some(payload) = Payload::decode(kind, &bytes) {
                prop_assert_eq!(payload.encode(), (kind, bytes));
            }
        }
    }
}
