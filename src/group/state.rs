//! The states of a classic group and the table of its transitions.

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nobody is a member. Offsets may be committed without membership.
    Empty,
    /// Waiting for the members to join (again).
    PreparingRebalance,
    /// The generation is fixed; waiting for the leader's assignment to come and be durable.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Being deleted: the tombstones are on their way.
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Empty,
        Self::PreparingRebalance,
        Self::CompletingRebalance,
        Self::Stable,
        Self::Dead,
    ];

    /// Kafka's name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// The whole table of transitions.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use State::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        match (self, next) {
            // Somebody joins.
            (Empty | CompletingRebalance | Stable, PreparingRebalance)
            // Everybody joined, or the time is up; the members are gone.
            | (PreparingRebalance, CompletingRebalance | Empty)
            // The assignment is durable.
            | (CompletingRebalance, Stable)
            // Deleted by a request or by retention; the deletion could not be written.
            | (Empty, Dead)
            | (Dead, Empty) => true,
            (Empty, Empty | CompletingRebalance | Stable)
            | (PreparingRebalance, PreparingRebalance | Stable | Dead)
            | (CompletingRebalance, CompletingRebalance | Empty | Dead)
            | (Stable, Stable | CompletingRebalance | Empty | Dead)
            | (Dead, Dead | PreparingRebalance | CompletingRebalance | Stable) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions() {
        let table = "
            Empty               -> PreparingRebalance Dead
            PreparingRebalance  -> CompletingRebalance Empty
            CompletingRebalance -> PreparingRebalance Stable
            Stable              -> PreparingRebalance
            Dead                -> Empty";
        let all = [
            State::Empty,
            State::PreparingRebalance,
            State::CompletingRebalance,
            State::Stable,
            State::Dead,
        ];
        for line in table.lines().filter(|l| !l.trim().is_empty()) {
            let (from, to) = line.split_once("->").unwrap();
            let from = all.iter().find(|s| s.name() == from.trim()).unwrap();
            for next in all {
                let listed = to.split_whitespace().any(|s| s == next.name());
                assert_eq!(from.may_become(next), listed, "{from:?} -> {next:?}");
            }
        }
    }
}
