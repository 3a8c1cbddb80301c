//! What an idempotent producer of the model knows of itself.

/// What an idempotent producer knows of itself: epoch, next sequence, and all its batches, with their epochs.
#[derive(Default)]
pub(super) struct Producer {
    pub(super) epoch: i16,
    pub(super) sequence: i32,
    pub(super) sent: Vec<(i16, i32, usize, i64)>,
}

impl Producer {
    /// Its batches of the epoch.
    pub(super) fn recent(&self) -> Vec<(i32, usize, i64)> {
        let recent = self.sent.iter().filter(|sent| sent.0 == self.epoch);
        recent.map(|sent| (sent.1, sent.2, sent.3)).collect()
    }

    /// It has sent its next batch.
    pub(super) fn has_sent(&mut self, records: usize, base: i64) {
        self.sent.push((self.epoch, self.sequence, records, base));
        self.sequence += records as i32;
    }

    /// What it has sent from this offset on is gone.
    pub(super) fn truncate(&mut self, end: i64) {
        self.sent.retain(|sent| sent.3 < end);
        if let Some((epoch, sequence, records, _)) = self.sent.last() {
            (self.epoch, self.sequence) = (*epoch, sequence + *records as i32);
        }
    }
}
