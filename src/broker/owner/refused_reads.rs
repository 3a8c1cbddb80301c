//! A disk that refuses to read (EIO), which says nothing of what is there: it is asked again for a while, where what
//! comes of the read decides whether something is lost.

use crate::store::DiskError;

/// How soon after a disk has refused to read it is asked again; twice as long each time.
const AGAIN_AFTER_MS: u64 = 100;
/// And at the latest.
const AGAIN_AFTER_MS_MAX: u64 = 10_000;
/// What was refused more often is damage: a disk that is away for some 40 s is waited for.
const REFUSALS_MAX: u32 = 10;

/// How often what is to be read now was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedReads(u32);

impl RefusedReads {
    /// Once more: after how many ms it is asked again. `None` if what is there is damaged, as the error says or because
    /// it was refused often enough; so is what comes next, until something is read.
    pub fn again_after(&mut self, error: &DiskError) -> Option<u64> {
        if error.is_damage() {
            return None;
        }
        self.0 = self.0.saturating_add(1);
        let doubled = AGAIN_AFTER_MS << (self.0 - 1).min(REFUSALS_MAX);
        (self.0 <= REFUSALS_MAX).then_some(doubled.min(AGAIN_AFTER_MS_MAX))
    }

    /// Whether that is to be said: not each time.
    pub const fn are_news(self) -> bool {
        self.0.is_power_of_two()
    }

    /// It could be read.
    pub fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_asked_again_less_and_less_often_and_not_for_ever() {
        let (eio, damage) = (DiskError { errno: 5 }, DiskError::EBADMSG);
        let mut refusals = RefusedReads::default();
        assert_eq!(refusals.again_after(&DiskError { errno: damage }), None);
        let pauses: Vec<u64> = std::iter::from_fn(|| refusals.again_after(&eio)).collect();
        assert_eq!(pauses[..3], [100, 200, 400]);
        assert_eq!(pauses[8..], [10_000, 10_000]);
        assert_eq!(refusals.again_after(&eio), None, "nor is what comes next");
        refusals.over();
        assert_eq!(refusals.again_after(&eio), Some(AGAIN_AFTER_MS));
    }
}
