//! Assignors: who of a group's members is to have which partitions. An assignor works in slices, so that no group is
//! too large for the core that it is coordinated on.

mod range;
mod spec;
mod uniform;

pub use range::RangeAssignor;
pub use spec::{Assigned, Assigning, Assignor, Spec, SpecMember};
pub use uniform::UniformAssignor;

/// Those of this release. Names are those of `group.consumer.assignors`.
pub static ASSIGNORS: [&dyn Assignor; 2] = [&UniformAssignor, &RangeAssignor];

/// The assignor of a name.
#[must_use]
pub fn assignor(name: &str) -> Option<&'static dyn Assignor> {
    let mut all = ASSIGNORS.iter().copied();
    all.find(|assignor| assignor.name() == name)
}

#[cfg(test)]
mod tests;
