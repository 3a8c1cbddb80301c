//! A fetch session (KIP-227): the broker remembers what is read, and a request only
//! tells it what has changed. Without one every request names every partition.

use millrace::base::ErrorCode;

/// The epoch that says "no session".
const NONE: i32 = -1;

/// What a request says about partitions, each by its place in the list of the caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// To be read, at the offset that is wanted now.
    pub told: Vec<usize>,
    /// Not to be read any more.
    pub forgotten: Vec<usize>,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    wanted: bool,
    id: i32,
    epoch: i32,
    /// By partition, the offset that the broker knows.
    known: Vec<Option<i64>>,
}

impl Session {
    /// A session for so many partitions, if it is `wanted`.
    pub fn new(wanted: bool, partitions: usize) -> Self {
        Self {
            wanted,
            id: 0,
            epoch: if wanted { 0 } else { NONE },
            known: vec![None; partitions],
        }
    }

    /// Id and epoch of the next request.
    pub const fn head(&self) -> (i32, i32) {
        (self.id, self.epoch)
    }

    /// What the next request has to say, if these offsets are wanted of the partitions.
    pub fn change(&mut self, offsets: impl Iterator<Item = Option<i64>>) -> Change {
        let mut change = Change::default();
        let everything = self.epoch <= 0;
        for (at, (known, wanted)) in self.known.iter_mut().zip(offsets).enumerate() {
            match wanted {
                Some(_) if everything || *known != wanted => change.told.push(at),
                None if !everything && known.is_some() => change.forgotten.push(at),
                _ => {}
            }
            *known = wanted;
        }
        change
    }

    /// What the broker says of the session. Whether its answer counts: if it has lost the session, the
    /// next request begins another.
    ///
    /// # Errors
    /// The error that has nothing to do with the session.
    pub fn answered(&mut self, error: ErrorCode, id: i32) -> Result<bool, ErrorCode> {
        match error {
            ErrorCode::None => {
                if self.wanted {
                    // Without an id the broker has no room for one more session.
                    self.epoch = match id {
                        0 => 0,
                        _ => self.epoch.checked_add(1).unwrap_or(1),
                    };
                    self.id = id;
                }
                Ok(true)
            }
            ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError
                if self.wanted =>
            {
                if error == ErrorCode::FetchSessionIdNotFound {
                    self.id = 0;
                }
                self.epoch = 0;
                Ok(false)
            }
            error => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(session: &mut Session, offsets: [Option<i64>; 3]) -> (Vec<usize>, Vec<usize>) {
        let change = session.change(offsets.into_iter());
        (change.told, change.forgotten)
    }

    #[test]
    fn without_a_session_everything_is_told_always() {
        let mut session = Session::new(false, 3);
        for _ in 0..2 {
            assert_eq!(session.head(), (0, -1));
            let told = change(&mut session, [Some(1), None, Some(3)]);
            assert_eq!(told, (vec![0, 2], vec![]));
            assert_eq!(session.answered(ErrorCode::None, 0), Ok(true));
        }
        let refused = session.answered(ErrorCode::FetchSessionIdNotFound, 0);
        assert_eq!(refused, Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn a_session_is_told_what_changed() {
        let mut session = Session::new(true, 3);
        let all = [Some(1), Some(2), Some(3)];
        assert_eq!(session.head(), (0, 0));
        assert_eq!(change(&mut session, all), (vec![0, 1, 2], vec![]));
        assert_eq!(session.answered(ErrorCode::None, 77), Ok(true));
        assert_eq!(session.head(), (77, 1));
        assert_eq!(change(&mut session, all), (vec![], vec![]));
        assert_eq!(session.answered(ErrorCode::None, 77), Ok(true));
        assert_eq!(session.head(), (77, 2));
        let some = [Some(9), None, Some(3)];
        assert_eq!(change(&mut session, some), (vec![0], vec![1]));
        assert_eq!(change(&mut session, all), (vec![0, 1], vec![]));
    }

    #[test]
    fn a_lost_session_begins_anew_and_a_full_broker_is_asked_again() {
        let mut session = Session::new(true, 3);
        let all = [Some(1), Some(2), Some(3)];
        change(&mut session, all);
        assert_eq!(session.answered(ErrorCode::None, 77), Ok(true));
        let lost = ErrorCode::FetchSessionIdNotFound;
        assert_eq!(session.answered(lost, 0), Ok(false));
        assert_eq!(session.head(), (0, 0));
        assert_eq!(change(&mut session, all), (vec![0, 1, 2], vec![]));
        assert_eq!(session.answered(ErrorCode::None, 0), Ok(true));
        assert_eq!(session.head(), (0, 0), "no room for a session");
        assert_eq!(change(&mut session, all), (vec![0, 1, 2], vec![]));
        assert_eq!(session.answered(ErrorCode::None, 5), Ok(true));
        let stale = ErrorCode::InvalidFetchSessionEpoch;
        assert_eq!(session.answered(stale, 0), Ok(false));
        assert_eq!(session.head(), (5, 0), "the old one is to be replaced");
    }
}
