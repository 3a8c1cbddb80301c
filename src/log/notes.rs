//! What a log writes to the journal beside its batches: the few facts that its
//! batches do not tell.

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset};

use super::codec::{Malformed, Reader, Writer};

const LOG_START: u8 = 1;
const EPOCH: u8 = 2;
const EPOCHS_END: u8 = 3;
const GIVEN_UP: u8 = 4;
const TOMBSTONES: u8 = 5;

/// One note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The log start offset moved by DeleteRecords.
    LogStart(Offset),
    /// A leader epoch began, at this offset.
    Epoch { epoch: LeaderEpoch, start: Offset },
    /// Epochs that began at the log's end, which is this, have written nothing and are forgotten.
    EpochsEnd(Offset),
    /// Behind the log's end, which is this, nothing is known to be committed any more.
    GivenUp(Offset),
    /// Tombstones before this offset are gone from the log that this one follows.
    Tombstones(Offset),
}

impl Note {
    pub(super) fn encode(self) -> Bytes {
        let mut out = Writer::default();
        match self {
            Self::LogStart(offset) => {
                out.byte(LOG_START);
                out.signed(offset.0);
            }
            Self::Epoch { epoch, start } => {
                out.byte(EPOCH);
                out.signed(i64::from(epoch.0));
                out.signed(start.0);
            }
            Self::EpochsEnd(offset) => {
                out.byte(EPOCHS_END);
                out.signed(offset.0);
            }
            Self::GivenUp(offset) => {
                out.byte(GIVEN_UP);
                out.signed(offset.0);
            }
            Self::Tombstones(offset) => {
                out.byte(TOMBSTONES);
                out.signed(offset.0);
            }
        }
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let note = match input.byte()? {
            LOG_START => Self::LogStart(input.offset()?),
            EPOCH => Self::Epoch {
                epoch: LeaderEpoch(input.int()?),
                start: input.offset()?,
            },
            EPOCHS_END => Self::EpochsEnd(input.offset()?),
            GIVEN_UP => Self::GivenUp(input.offset()?),
            TOMBSTONES => Self::Tombstones(input.offset()?),
            _ => return Err(Malformed::KIND),
        };
        input.end()?;
        Ok(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive() {
        for note in [
            Note::LogStart(Offset(i64::MAX)),
            Note::Epoch {
                epoch: LeaderEpoch(7),
                start: Offset(9),
            },
            Note::EpochsEnd(Offset(8)),
            Note::GivenUp(Offset(7)),
            Note::Tombstones(Offset(6)),
        ] {
            assert_eq!(Note::decode(&note.encode()), Ok(note));
        }
        assert!(Note::decode(&[]).is_err());
        assert!(Note::decode(&[9, 0]).is_err());
        assert!(
            Note::decode(&[LOG_START, 2, 0]).is_err(),
            "something follows"
        );
    }
}
