//! What tests break on purpose, to see that the model finds it.

/// A rule that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// An entry of an earlier term is committed as soon as a majority has it.
    CommitsOlderTerms,
    /// A vote is given to whoever asks first, whatever its log has.
    IgnoresLogs,
    /// What observers have counts for what is committed.
    CountsObservers,
    /// A follower takes a leader's word for what is committed, beyond what it has compared.
    CommitsUncompared,
    /// Voters are changed while the change before is not committed.
    ChangesAtOnce,
}
